"""Requests written byte by byte, for what no SDK would send."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

from s3api.credentials import Credential
from s3api.signing import presign, sign_headers
from tests.s3api.conftest import ACCESS_KEY, SECRET_KEY, Endpoint

ROOT = Credential(access_key=ACCESS_KEY, secret_key=SECRET_KEY)


@dataclass
class Answer:
    """status, headers (lower-case names), body; code: of the error document, "" without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        found = re.search(rb"<Code>(.*?)</Code>", self.body)
        return found[1].decode() if found else ""


def build(
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    sign: bool = True,
    size: int | None = -1,
    host: str = "",
    secret: str = SECRET_KEY,
    payload_hash: str = "UNSIGNED-PAYLOAD",
    now_s: float | None = None,
) -> bytes:
    """A request's bytes. size: Content-Length, -1 for the body's, None for none."""
    pairs = [(b"host", (host or f"127.0.0.1:{endpoint.port}").encode())]
    pairs += [(k.encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
    if size is not None and (body or size >= 0 or method in ("PUT", "POST")):
        pairs.append((b"content-length", str(len(body) if size < 0 else size).encode()))
    if sign:
        path, _, query = target.partition("?")
        pairs += sign_headers(
            Credential(access_key=ACCESS_KEY, secret_key=secret),
            method,
            path.encode("latin-1"),
            query.encode("latin-1"),
            pairs,
            region="us-east-1",
            now_s=time.time() if now_s is None else now_s,
            payload_hash=payload_hash,
        )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + lines + b"\r\n" + body


def exchange(endpoint: Endpoint, request: bytes, *, close: bool = False) -> Answer:
    """Send a request and read its answer. close: end our side after sending."""
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
        connection.sendall(request)
        if close:
            connection.shutdown(socket.SHUT_WR)
        return receive(connection, head_only=request.startswith(b"HEAD "))


def receive(connection: socket.socket, *, head_only: bool = False) -> Answer:
    """Read one whole answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    size = 0 if head_only else int(headers.get("content-length", "0"))
    while len(body) < size:
        piece = connection.recv(65536)
        assert piece, body
        body += piece
    return Answer(int(status_line.split()[1]), headers, body)


def send(endpoint: Endpoint, method: str, target: str, *args: object, **kwargs: object) -> Answer:
    """Build and exchange."""
    close = bool(kwargs.pop("close", False))
    return exchange(endpoint, build(endpoint, method, target, *args, **kwargs), close=close)  # type: ignore[arg-type]


def presigned(endpoint: Endpoint, method: str, path: str, query: bytes, age_s: float = 0) -> str:
    """The target of a URL that was presigned `age_s` ago and is good for a minute from then."""
    host = [(b"host", f"127.0.0.1:{endpoint.port}".encode())]
    signed = presign(
        ROOT,
        method,
        path.encode(),
        query,
        host,
        region="us-east-1",
        now_s=time.time() - age_s,
        expires_s=60,
    )
    return f"{path}?{signed.decode()}"
