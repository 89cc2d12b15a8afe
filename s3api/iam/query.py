"""POST / of the endpoint: an action of IAM or STS, from its form to its XML.

Order: the whole form (bounded), since it is part of what is signed; the signature; the action; the
permission; then the action.

Invariants
  1. Nothing is acted on before the signature over this very body held; without one, only what a
     provider's token vouches for.
  2. Which service is asked follows from the scope that was signed, where there is one; a name that
     the other service has is unknown here.
  3. Answers are never kept by anybody on the way: they may hold secrets.

Concurrency: one task a request. Source: AWS IAM API reference, "Making query requests".
"""

from __future__ import annotations

import hashlib
import logging
import time
from urllib.parse import parse_qsl

from s3api.errors import EntityTooLarge
from s3api.face import Face
from s3api.httpstream import ClientDisconnected, RequestStream
from s3api.iam import table
from s3api.iam.answers import answer, error_answer
from s3api.iam.calls import Parameters, QueryCall, subject
from s3api.iam.refusals import (
    InvalidAction,
    MissingAuthenticationToken,
    QueryDenied,
    QueryFailure,
    ValidationError,
    query_failure,
)
from s3api.requests import Request
from s3api.responses import Response
from store.access.actions import ACTIONS
from store.access.principals import Kind

log = logging.getLogger(__name__)

FORM_BYTES_MAX = 256 * 1024
FIELDS_MAX = 2000
VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
_FORM = b"application/x-www-form-urlencoded"

assert all(f"iam:{name}" in ACTIONS for name in table.IAM), "every action has its permission"


def is_query(stream: RequestStream) -> bool:
    """Whether this is for IAM or STS, and not for S3: a form to the service itself."""
    if stream.method != "POST" or stream.raw_path not in (b"/", b""):
        return False
    kind = next((value for name, value in stream.headers if name == b"content-type"), b"")
    return kind.partition(b";")[0].strip().lower() == _FORM


async def answer_query(face: Face, request: Request) -> Response:
    """The one operation: whatever is asked, and every failure, in the XML of these services."""
    service = "iam"
    try:
        form = await _read_form(request.stream)
        digest = hashlib.sha256(form).hexdigest()
        headers = request.stream.headers
        auth = face.verifier.authenticate_query(headers, digest, time.time())
        request.auth = auth
        fields = _fields(form)
        action, service = fields.get("Action", ""), _service(auth.scope)
        call = QueryCall(
            face=face,
            request=request,
            service=service,
            action=action,
            parameters=Parameters(fields),
        )
        response = await _act(call)
    except ClientDisconnected:
        raise
    except Exception as error:  # the border: whatever it is, the client gets an answer
        response = error_answer(service, _told(error))
    response.headers = [*response.headers, (b"cache-control", b"no-store")]
    return response


async def _act(call: QueryCall) -> Response:
    action, auth = call.action, call.request.auth
    run = (table.IAM if call.service == "iam" else table.STS).get(action)
    if run is None:
        raise InvalidAction(f"The action {action[:100]} is not valid for this endpoint.")
    version = call.parameters.text("Version", VERSIONS[call.service])
    if version != VERSIONS[call.service]:
        raise InvalidAction(f"Could not find operation {action} for version {version[:20]}")
    if auth.anonymous and action not in table.ANONYMOUS:
        raise MissingAuthenticationToken()
    if call.service == "iam":
        # What GetSessionToken gave must not outlive itself in keys that it makes.
        if call.is_session and call.principal.kind in (Kind.ROOT, Kind.USER):
            raise QueryDenied("Sessions of GetSessionToken can't call IAM.")
        call.authorize(subject(call))
    if not auth.anonymous:
        region = auth.scope.split("/")[1]
        call.identity.keys.uses.note(auth.access_key, call.service, region)
    result = await run(call)
    if call.service == "iam" and action.startswith(_CHANGES):
        log.info("%s by %s", action, auth.access.principal.arn)
    return answer(call.service, action, result)


_CHANGES = ("Create", "Update", "Delete", "Put", "Attach", "Detach", "Add", "Remove", "Set")


def _told(error: Exception) -> QueryFailure:
    failure = query_failure(error)
    if failure is None:
        log.error("an action of IAM or STS failed", exc_info=error)
        return QueryFailure(code="ServiceFailure", status=500, message="Please try again.")
    return failure


async def _read_form(stream: RequestStream) -> bytes:
    if stream.content_length is not None and stream.content_length > FORM_BYTES_MAX:
        raise EntityTooLarge()
    form = bytearray()
    while (piece := await stream.receive_body()) is not None:
        form += piece
        if len(form) > FORM_BYTES_MAX:
            raise EntityTooLarge()
    return bytes(form)


def _fields(form: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            form.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except (ValueError, UnicodeDecodeError):
        raise ValidationError("The form is malformed.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValidationError("A parameter is given twice.")
    return fields


def _service(scope: str) -> str:
    """By the signature's scope; a form without one is for STS."""
    return scope.split("/")[2] if scope else "sts"
