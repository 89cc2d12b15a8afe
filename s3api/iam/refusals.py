"""How IAM and STS refuse: their codes and statuses for what identity, policies and S3 say no with.

Concurrency: pure. Source: AWS IAM API reference and AWS STS API reference, "Errors" of the actions
and "Common errors".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from s3api.errors import failure_of
from store.access import errors as access_errors
from store.identity import errors as identity_errors
from store.identity.sessions import TokenTooLarge


class QueryRefusal(Exception):
    """What an action itself refuses. code, status, summary: as those of `s3api.refusals`."""

    code: ClassVar[str] = "ServiceFailure"
    status: ClassVar[int] = 400
    summary: ClassVar[str] = "Please try again."

    def __init__(self, message: str = "") -> None:
        self.message = message or self.summary
        super().__init__(f"{self.code}: {self.message}")


class ValidationError(QueryRefusal):
    code = "ValidationError"
    summary = "The input fails to satisfy the constraints of the action."


class InvalidAction(QueryRefusal):
    code = "InvalidAction"
    summary = "The action or operation requested is invalid."


class MissingAuthenticationToken(QueryRefusal):
    code, status = "MissingAuthenticationToken", 403
    summary = "Request must contain a valid access key id and signature."


class QueryDenied(QueryRefusal):
    code, status = "AccessDenied", 403
    summary = "User is not authorized to perform this action."


class InvalidIdentityToken(QueryRefusal):
    code = "InvalidIdentityToken"
    summary = "The web identity token is not valid."


class ExpiredTokenGiven(QueryRefusal):
    code = "ExpiredTokenException"
    summary = "The web identity token has expired."


class RejectedClaim(QueryRefusal):
    code, status = "IDPRejectedClaim", 403
    summary = "The web identity token is not meant for this provider's clients."


class ProviderSilent(QueryRefusal):
    code = "IDPCommunicationError"
    summary = "The identity provider can't be reached. Try again."


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFailure:
    """What an error document says. status: HTTP's."""

    code: str
    status: int
    message: str

    @property
    def by_sender(self) -> bool:
        return self.status < 500


_IDENTITY: Mapping[type[identity_errors.IdentityError], tuple[str, int]] = {
    identity_errors.NoSuchEntity: ("NoSuchEntity", 404),
    identity_errors.EntityExists: ("EntityAlreadyExists", 409),
    identity_errors.InUse: ("DeleteConflict", 409),
    identity_errors.LimitReached: ("LimitExceeded", 409),
    identity_errors.Invalid: ("ValidationError", 400),
    identity_errors.Unmodifiable: ("UnmodifiableEntity", 400),
}
_TOKENS: Mapping[str, type[QueryRefusal]] = {
    "expired": ExpiredTokenGiven,
    "audience": RejectedClaim,
    "unavailable": ProviderSilent,
}
# The words of S3 for what these two say otherwise.
_AS_QUERY_SAYS: Mapping[str, tuple[str, int]] = {
    "InvalidAccessKeyId": ("InvalidClientTokenId", 403),
    "InvalidToken": ("InvalidClientTokenId", 403),
    "ExpiredToken": ("ExpiredToken", 403),
    "RequestTimeTooSkewed": ("RequestExpired", 400),
    "AuthorizationHeaderMalformed": ("IncompleteSignature", 400),
    "InvalidRequest": ("IncompleteSignature", 400),
    "InternalError": ("ServiceFailure", 500),
}


def query_failure(error: Exception) -> QueryFailure | None:
    """What to tell of it; None for what is a fault of ours."""
    if isinstance(error, QueryRefusal):
        return QueryFailure(code=error.code, status=error.status, message=error.message)
    if isinstance(error, identity_errors.IdentityError):
        code, status = _IDENTITY[type(error)]
        return QueryFailure(code=code, status=status, message=error.sentence)
    if isinstance(error, access_errors.TokenRefused):
        made = _TOKENS.get(error.reason, InvalidIdentityToken)
        return QueryFailure(code=made.code, status=made.status, message=error.sentence)
    if isinstance(error, access_errors.MalformedPolicy):
        return QueryFailure(code="MalformedPolicyDocument", status=400, message=error.sentence)
    if isinstance(error, TokenTooLarge):
        message = "The session's policies and tags are too large for its token."
        return QueryFailure(code="PackedPolicyTooLarge", status=400, message=message)
    found = failure_of(error)
    if found is None:
        return None
    code, status = _AS_QUERY_SAYS.get(found.code, (found.code, found.status))
    return QueryFailure(code=code, status=status, message=found.message)
