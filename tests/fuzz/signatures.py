"""Who says to have sent it: signatures of versions 2 and 4, in all the places they may stand."""

from __future__ import annotations

from s3api import signing
from s3api.credentials import Credential, MemoryCredentials
from s3api.errors import Refusal
from s3api.httpstream import Header
from s3api.requests import decode_path
from s3api.sigv4 import Verifier
from tests.fuzz.registry import cut, target

NOW_S = 1_800_000_000.0
CREDENTIAL = Credential(access_key="AKIAFUZZ", secret_key="0123456789abcdef")
VERIFIER = Verifier(MemoryCredentials(CREDENTIAL), domains=(b"s3.example",))


def lines_of(raw: bytes) -> tuple[str, bytes, bytes, list[Header]]:
    """Method, path, query and headers from lines `METHOD path?query` and `name: value`."""
    first, *rest = raw.split(b"\n")
    method, _, address = first.partition(b" ")
    path, _, query = address.partition(b"?")
    headers = []
    for line in rest:
        name, colon, value = line.partition(b":")
        if colon and name:
            headers.append((name.lower(), value.strip(b" \t\r")))
    return method.decode("latin-1"), path, query, headers


@target(Refusal)
def signature(raw: bytes) -> None:
    """Versions 2 and 4, in headers and in the query."""
    VERIFIER.authenticate(*lines_of(raw), NOW_S)


@target(Refusal)
def signature_query(raw: bytes) -> None:
    """Of IAM and STS."""
    VERIFIER.authenticate_query(lines_of(raw)[3], "0" * 64, NOW_S)


@target(Refusal)
def signature_made(raw: bytes) -> None:
    """What is signed as it stands is believed; with one bit of it changed it is not."""
    place, raw = cut(raw)
    method, path, query, given = lines_of(raw)
    path = b"/" + path
    headers = [pair for pair in given if pair[0].isalnum()] + [(b"host", b"box.s3.example")]
    if place & 1:
        query = signing.presign(
            CREDENTIAL, method, path, query, headers, region="us-east-1", now_s=NOW_S, expires_s=60
        )
    else:
        headers += signing.sign_headers(
            CREDENTIAL, method, path, query, headers, region="us-east-1", now_s=NOW_S
        )
    auth = VERIFIER.authenticate(method, path, query, headers, NOW_S)
    assert auth.access_key == CREDENTIAL.access_key
    at = (place >> 4) % len(path)
    changed = path[:at] + bytes([path[at] ^ 1 << (place >> 1 & 7)]) + path[at + 1 :]
    try:
        same = decode_path(changed) == decode_path(path)
        VERIFIER.authenticate(method, changed, query, headers, NOW_S)
    except Refusal:
        return
    assert same
