"""The S3 API as one Quart-Trio application, with a short way for the object plane.

Every HTTP request is taken apart once, ahead of Quart. Hot operations (GET, HEAD, PUT, DELETE of an
object, UploadPart, ListObjectsV2, ListObjectVersions) are answered at once on the server's own
stream; all others go through Quart to `S3App.serve`, which calls the same `answer`. Either way the
order is: signature, operation, permission, then the operation, which alone receives the body.

Invariants
  1. Nothing of a request is acted on, and no byte of its body asked for, before it is authentic.
  2. Every answer carries x-amz-request-id; every failure is an S3 error document (none to HEAD).
  3. Quart never receives a body: operations do, bounded, from the stream.

Concurrency: one task a request. Source: Amazon S3 API reference; ASGI 3.0.
"""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import trio
from quart import Response as QuartResponse
from quart import request as quart_request
from quart_trio import QuartTrio

from s3api.addressing import is_website
from s3api.cors import with_cors
from s3api.errors import INTERNAL, Refusal, failure_of
from s3api.face import Face
from s3api.httpstream import ClientDisconnected, RequestStream, stream_of
from s3api.iam.query import is_query
from s3api.operations import Operation
from s3api.proxies import client_address
from s3api.requests import (
    Request,
    adopt_query_headers,
    check_anonymous_query,
    open_request,
)
from s3api.responses import Response, error_response, identity_headers, next_request_id, send
from s3api.router import PAGE, PREFLIGHT, QUERY, find_operation
from s3api.signing import canonical_path

logger = logging.getLogger(__name__)

_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
_SLOT = "twofold.request"


class Call:
    """One request on its way: what is known of it before and after it was taken apart."""

    __slots__ = ("error", "id", "operation", "request", "stream")

    def __init__(self, stream: RequestStream) -> None:
        self.id = next_request_id()
        self.stream = stream
        self.request: Request | None = None
        self.operation: Operation | None = None
        self.error: Exception | None = None


class S3App(QuartTrio):
    """See the module's header. Serve it with `s3api.http1`, or any ASGI server."""

    def __init__(self, face: Face) -> None:
        super().__init__("s3api", static_folder=None)
        self.face = face
        # Keys are taken from the raw path; Werkzeug must neither merge nor redirect anything.
        self.url_map.merge_slashes = False
        self.url_map.strict_slashes = False
        for rule in ("/", "/<path:path>"):
            self.add_url_rule(
                rule, "serve", self.serve, methods=_METHODS, provide_automatic_options=False
            )

    async def __call__(self, scope: Any, receive: Any, send_message: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send_message)
            return
        stream = stream_of(scope, receive, send_message)
        call = Call(stream)
        try:
            self._prepare(call, scope)
        except Exception as exc:  # told to the client by answer
            call.error = exc
        operation = call.operation
        if operation is not None and not operation.hot:
            # Werkzeug sees a path it can't trip over; the true one is in the call.
            scope = {**scope, "path": "/", "raw_path": b"/", _SLOT: call}
            await super().__call__(scope, _no_body, send_message)
            return
        await self._answer_on_stream(call)

    def _prepare(self, call: Call, scope: Any) -> None:
        """Signature first, then what is asked for, then whether it is allowed."""
        stream, face, scheme = call.stream, self.face, scope["scheme"]
        as_website = face.website_domains and is_website(stream.headers, face.website_domains)
        if as_website or stream.method == "OPTIONS":
            domains = face.website_domains if as_website else face.domains
            request = call.request = open_request(stream, scheme, domains)
            request.peer = _peer(scope, request, face)
            call.operation = PREFLIGHT if stream.method == "OPTIONS" else PAGE
            return
        if stream.method == "POST" and is_query(stream):
            # Its body is signed, too: the operation verifies it when it has all of it.
            request = open_request(stream, scheme, face.domains)
            if not request.bucket:
                request.peer = _peer(scope, request, face)
                call.request, call.operation = request, QUERY
                return
        auth = face.verifier.authenticate(
            stream.method, stream.raw_path, stream.query_string, stream.headers, time.time()
        )
        face.namespace.identity.keys.uses.note(auth.access_key, "s3", face.region)
        request = call.request = open_request(stream, scheme, face.domains)
        request.auth = auth
        request.owner = auth.account.owner
        request.peer = _peer(scope, request, face)
        if auth.presigned:
            adopt_query_headers(request)
        operation = find_operation(request)
        if not operation.late:
            face.authorize(request, operation.action, request.bucket, request.key)
        face.check_owner(request.bucket, request.headers.get(b"x-amz-expected-bucket-owner"))
        if auth.anonymous:
            check_anonymous_query(request.query)
        call.operation = operation

    async def _answer_on_stream(self, call: Call) -> None:
        """Answer and send; a failure that shows up before the first byte is still told."""
        response = await self.answer(call)
        try:
            await send(call.stream, response, call.id)
        except ClientDisconnected:
            raise
        except Exception as exc:
            if call.stream.response_started:
                logger.exception("request %s broke off while it was answered", call.id)
                raise
            await send(call.stream, self._tell(call, exc), call.id)

    async def answer(self, call: Call) -> Response:
        """What to send for this request: the operation's response, or an error document.

        Raises only ClientDisconnected and Cancelled.
        """
        try:
            if call.error is not None:
                raise call.error
            assert call.operation is not None
            assert call.request is not None
            response = await call.operation.run(self.face, call.request)
        except ClientDisconnected:
            raise
        except Exception as exc:  # the border: whatever it is, the client gets an answer
            told = exc
            if call.error is None and call.request is not None:
                told = self.face.conceal(call.request, exc)
            response = self._tell(call, told)
        request = call.request or self._open_refused(call.stream)
        if request is not None and b"origin" in request.headers:
            return with_cors(self.face, request, response)
        return response

    def _open_refused(self, stream: RequestStream) -> Request | None:
        """A request that was refused before it was taken apart: pages may see that it was."""
        try:
            return open_request(stream, "", self.face.domains)
        except Refusal:
            return None

    def _tell(self, call: Call, error: Exception) -> Response:
        failure = failure_of(error)
        if failure is None:
            logger.error("request %s failed", call.id, exc_info=error)
            failure = INTERNAL
        elif failure.status >= 500 and failure.status != 501:
            logger.warning("request %s: %s", call.id, error)
        resource = canonical_path(call.stream.raw_path).decode("latin-1")
        response = error_response(failure, resource, call.id)
        if call.stream.method == "HEAD":
            size = b"%d" % len(response.body)
            return Response(response.status, [*response.headers, (b"content-length", size)])
        return response

    async def serve(self, path: str = "") -> QuartResponse:
        """The one view: all that is not hot."""
        call: Call = cast(dict[str, Any], quart_request.scope)[_SLOT]
        response = await self.answer(call)
        assert response.reader is None, "only hot operations stream"
        return _quart_response(response, call.id)


def _peer(scope: Any, request: Request, face: Face) -> str:
    peer = "" if scope["client"] is None else str(scope["client"][0])
    if not face.trusted_proxies:
        return peer
    return client_address(peer, request.text(b"x-forwarded-for"), face.trusted_proxies)


def _quart_response(response: Response, request_id: str) -> QuartResponse:
    body = response.body
    answer = QuartResponse(
        body if isinstance(body, bytes) else b"".join(map(bytes, body)), status=response.status
    )
    answer.headers.clear()
    for name, value in (*identity_headers(request_id), *response.headers):
        answer.headers.add(name.decode("latin-1"), value.decode("latin-1"))
    if "content-length" not in answer.headers and response.status not in (204, 304):
        answer.headers["content-length"] = str(len(response.body))
    return answer


async def _no_body() -> Any:
    """Quart's `receive`: the request has no body for it, and no end."""
    await trio.sleep_forever()
    raise AssertionError
