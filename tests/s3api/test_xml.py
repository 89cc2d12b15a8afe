"""XML: what goes out can be read back, what comes in is not trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from s3api import xml
from s3api.errors import Failure, MalformedXML
from s3api.listing import encode_key
from s3api.tokens import decode_token, encode_token

# XML 1.0 can't hold control characters; parsers fold CR.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"))


@given(TEXT)
def test_escaped_text_is_read_back_as_it_was(text):
    document = xml.document("R", [xml.element("T", text)])
    root = etree.fromstring(document)
    assert (root[0].text or "") == text


@given(st.text())
def test_escape_never_lets_markup_or_raw_controls_through(text):
    escaped = xml.escape(text)
    assert not set(escaped) & {"<", ">", '"', *map(chr, range(0x20))}
    escaped.encode()


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_encoded_keys_and_tokens_come_back(text):
    from urllib.parse import unquote

    assert unquote(encode_key(text)) == text
    assert xml.escape(encode_key(text)) == encode_key(text)
    assert decode_token(encode_token(text)) == text


def test_namespace_of_a_request_does_not_matter():
    for opening in ("<D>", '<D xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'):
        root = xml.parse(f"{opening}<A> x </A><B/></D>".encode(), "D")
        assert xml.texts(root) == {"A": " x ", "B": ""}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"  ",
        b"<a>",
        b"<a/><a/>",
        b"<b/>",
        b"<!DOCTYPE a><a/>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        b"<a>&undefined;</a>",
        "<a/>".encode("utf-16"),
        b"<a>\xff</a>",
        b"<a>" * 300 + b"</a>" * 300,
    ],
)
def test_suspicious_documents_are_malformed(document):
    with pytest.raises(MalformedXML):
        xml.parse(document, "a")


def test_parse_declares_no_other_encoding():
    with pytest.raises(MalformedXML):
        xml.parse('<?xml version="1.0" encoding="UTF-16"?><a/>'.encode("utf-16-le"), "a")


def test_error_document_holds_all_its_parts():
    failure = Failure(code="C", status=400, message="m<", extras=(("E", "x&y"),))
    root = etree.fromstring(xml.error_document(failure, "/b/k", "id", "host"))
    assert {child.tag: child.text for child in root} == {
        "Code": "C",
        "Message": "m<",
        "E": "x&y",
        "Resource": "/b/k",
        "RequestId": "id",
        "HostId": "host",
    }


def test_timestamp_has_milliseconds():
    assert xml.timestamp(1_769_903_999_123_456_789) == "2026-01-31T23:59:59.123Z"


def test_a_document_of_far_too_many_tags_is_refused_before_it_is_parsed():
    with pytest.raises(MalformedXML):
        xml.parse(b"<Delete>" + b"<a/>" * xml.TAG_COUNT_MAX + b"</Delete>", "Delete")


def test_a_complete_of_as_many_parts_as_there_may_be_is_parsed():
    part = b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumCRC32>c</ChecksumCRC32></Part>"
    document = b"<CompleteMultipartUpload>" + part * 10_000 + b"</CompleteMultipartUpload>"
    assert len(xml.parse(document, "CompleteMultipartUpload")) == 10_000
