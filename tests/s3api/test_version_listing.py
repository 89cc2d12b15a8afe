"""ListObjectVersions, against a plain definition of what S3 lists and in what order."""

from __future__ import annotations

import re

import pytest
from botocore.exceptions import ClientError

from tests.s3api import raw
from tests.s3api.test_objects import code_of

KEYS = sorted(["a", "a!", "a/b", "a/c/d", "a0", "b/", "c d", "z&<>", "🎈"], key=str.encode)
BUCKET = "full-of-versions"


@pytest.fixture(scope="module")
def history(endpoint):
    """(key, version id, is a marker) of all that is in BUCKET, as S3 lists them."""
    s3 = endpoint.client()
    s3.create_bucket(Bucket=BUCKET)
    found = {}
    # Before versioning, so that each has a null version; "a0" remains the only one of its key.
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        found[key] = [("null", False)]
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        for key in KEYS:
            if key == "a0":
                continue
            if (len(key) + number) % 3 == 0:
                made = s3.delete_object(Bucket=BUCKET, Key=key)
            else:
                made = s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
            found[key].append((made["VersionId"], "DeleteMarker" in made))
    return [(key, *one) for key in KEYS for one in reversed(found[key])]


def expected(history, prefix="", delimiter=""):
    """Entries in order: (key, version id, is a marker), or a common prefix."""
    entries = []
    for key, *rest in history:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, *rest) if cut < 0 else key[: cut + len(delimiter)]
        if entry not in entries:
            entries.append(entry)
    return entries


def entries_of(page):
    """A page's entries. Within a page boto3 tells versions, markers and prefixes apart."""
    found = [(one["Key"], one["VersionId"], False) for one in page.get("Versions", [])]
    found += [(one["Key"], one["VersionId"], True) for one in page.get("DeleteMarkers", [])]
    return found + [one["Prefix"] for one in page.get("CommonPrefixes", [])]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "zz"])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_pages_put_together_are_the_listing(s3, history, prefix, delimiter, size):
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=BUCKET, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    wanted = expected(history, prefix, delimiter)
    for number, page in enumerate(pages):
        part = wanted[number * size : (number + 1) * size]
        assert sorted(map(str, entries_of(page))) == sorted(map(str, part))
        assert page["IsTruncated"] is ((number + 1) * size < len(wanted))


def test_the_newest_of_each_key_is_the_latest(s3, history):
    page = s3.list_object_versions(Bucket=BUCKET)
    latest = {
        one["Key"]: one["VersionId"]
        for one in page["Versions"] + page["DeleteMarkers"]
        if one["IsLatest"]
    }
    assert latest == {key: next(v for k, v, _ in history if k == key) for key in KEYS}


def test_versions_and_markers_stand_in_one_order(endpoint, history):
    answer = raw.send(endpoint, "GET", f"/{BUCKET}?versions=")
    text = answer.body.decode()
    found = re.findall(r"<(Version|DeleteMarker)><Key>(.*?)</Key><VersionId>(.*?)<", text)
    assert [(version, kind == "DeleteMarker") for kind, _, version in found] == [
        (version, marker) for _, version, marker in history
    ]
    assert text.index("<Name>") < text.index("<KeyMarker>") < text.index("<MaxKeys>")


def test_entries_are_complete(s3, history):
    page = s3.list_object_versions(Bucket=BUCKET, MaxKeys=8)
    version, marker = page["Versions"][0], page["DeleteMarkers"][0]
    assert version["ETag"].startswith('"')
    assert (version["Size"], version["StorageClass"]) == (0, "STANDARD")
    for one in (version, marker):
        assert one["Owner"]["DisplayName"] == "root"
        assert one["LastModified"].year >= 2025
    assert "Size" not in marker


def test_frame_repeats_the_question_and_says_where_to_go_on(s3, history):
    page = s3.list_object_versions(Bucket=BUCKET, MaxKeys=2, Prefix="a", Delimiter="/")
    assert (page["Name"], page["Prefix"], page["Delimiter"]) == (BUCKET, "a", "/")
    assert (page["MaxKeys"], page["KeyMarker"], page["VersionIdMarker"]) == (2, "", "")
    assert (page["NextKeyMarker"], page["NextVersionIdMarker"]) == history[1][:2]
    following = s3.list_object_versions(
        Bucket=BUCKET,
        MaxKeys=2,
        KeyMarker=page["NextKeyMarker"],
        VersionIdMarker=page["NextVersionIdMarker"],
    )
    assert following["KeyMarker"] == page["NextKeyMarker"]
    assert following["VersionIdMarker"] == page["NextVersionIdMarker"]


def test_common_prefix_at_the_end_of_a_page_has_no_version(s3, history):
    wanted = expected(history, delimiter="/")
    size = wanted.index("a/") + 1
    page = s3.list_object_versions(Bucket=BUCKET, MaxKeys=size, Delimiter="/")
    assert page["NextKeyMarker"] == "a/"
    assert "NextVersionIdMarker" not in page


@pytest.mark.parametrize("key", KEYS)
def test_key_marker_alone_skips_the_whole_key(s3, history, key):
    page = s3.list_object_versions(Bucket=BUCKET, KeyMarker=key)
    rest = [entry for entry in history if entry[0].encode() > key.encode()]
    assert sorted(entries_of(page)) == sorted(rest)


def test_every_version_is_a_place_to_go_on_from(s3, history):
    for index, (key, version, _) in enumerate(history):
        page = s3.list_object_versions(Bucket=BUCKET, KeyMarker=key, VersionIdMarker=version)
        assert sorted(entries_of(page)) == sorted(history[index + 1 :]), (key, version)


def test_keys_are_url_encoded_where_asked(endpoint, history):
    answer = raw.send(endpoint, "GET", f"/{BUCKET}?encoding-type=url&prefix=z%26&versions=")
    assert b"<EncodingType>url</EncodingType>" in answer.body
    assert b"<Prefix>z%26</Prefix>" in answer.body
    assert b"<Key>z%26%3C%3E</Key>" in answer.body


def test_version_marker_needs_a_key_marker(s3, history):
    with pytest.raises(ClientError) as caught:
        s3.list_object_versions(Bucket=BUCKET, VersionIdMarker="null")
    assert code_of(caught) == (400, "InvalidArgument")


def test_max_keys_of_zero_lists_nothing(s3, history):
    page = s3.list_object_versions(Bucket=BUCKET, MaxKeys=0)
    assert (entries_of(page), page["IsTruncated"]) == ([], False)
