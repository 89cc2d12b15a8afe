"""Refusals: what the transport half of the S3 face says no to, with the code S3 uses for it.

    Refusal
    ├── AuthError      who is asking            raised by sigv4, and by chunked for chunk signatures
    └── PayloadError   what was sent            raised by chunked, checksums and payload

Every leaf fixes its S3 `code` and HTTP `status`; `message` is one sentence that is safe to show to
the client, `extras` are further elements of the XML error document. Nothing here knows connections
or the store.

Source: Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A request that is answered with an S3 error document.

    code, status: fixed by the class. message: one sentence for the client, the class's `summary`
    when empty. extras: (element, text) pairs for the document.
    """

    code: ClassVar[str] = "InternalError"
    status: ClassVar[int] = 500
    summary: ClassVar[str] = "We encountered an internal error. Please try again."

    def __init__(self, message: str = "", extras: tuple[tuple[str, str], ...] = ()) -> None:
        self.message = message or self.summary
        self.extras = extras
        super().__init__(f"{self.code}: {self.message}")


class AuthError(Refusal):
    """The request's identity could not be established; nothing of it may be acted on."""


class AccessDenied(AuthError):
    code, status, summary = "AccessDenied", 403, "Access Denied."


class AuthorizationHeaderMalformed(AuthError):
    code, status = "AuthorizationHeaderMalformed", 400
    summary = "The authorization header that you provided is not valid."


class AuthorizationQueryParametersError(AuthError):
    code, status = "AuthorizationQueryParametersError", 400
    summary = "The authorization query parameters that you provided are not valid."


class ExpiredToken(AuthError):
    code, status, summary = "ExpiredToken", 400, "The provided token has expired."


class InvalidAccessKeyId(AuthError):
    code, status = "InvalidAccessKeyId", 403
    summary = "The access key id you provided does not exist in our records."


class InvalidToken(AuthError):
    code, status = "InvalidToken", 400
    summary = "The provided token is malformed or otherwise not valid."


class MissingSecurityHeader(AuthError):
    code, status = "MissingSecurityHeader", 400
    summary = "Your request is missing a required header."


class RequestTimeTooSkewed(AuthError):
    code, status = "RequestTimeTooSkewed", 403
    summary = "The difference between the request time and the server's time is too large."


class SignatureDoesNotMatch(AuthError):
    code, status = "SignatureDoesNotMatch", 403
    summary = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )


class UnsupportedSignature(AuthError):
    code, status = "InvalidRequest", 400
    summary = (
        "The authorization mechanism you have provided is not supported. "
        "Please use AWS4-HMAC-SHA256."
    )


class SeveralAuthMechanisms(AuthError):
    code, status = "InvalidArgument", 400
    summary = (
        "Only one auth mechanism allowed; use the Authorization header or the query, not both."
    )


class PayloadError(Refusal):
    """The body, or what the headers promise about it, is wrong; nothing of it may be stored."""


class BadDigest(PayloadError):
    code, status = "BadDigest", 400
    summary = "The Content-MD5 or checksum value that you specified did not match what we received."


class EntityTooLarge(PayloadError):
    code, status = "EntityTooLarge", 400
    summary = "Your proposed upload exceeds the maximum allowed size."


class IncompleteBody(PayloadError):
    code, status = "IncompleteBody", 400
    summary = "You did not provide the number of bytes specified by the Content-Length HTTP header."


class InvalidArgument(PayloadError):
    code, status, summary = "InvalidArgument", 400, "Invalid argument."


class InvalidChunkSize(PayloadError):
    code, status = "InvalidChunkSizeError", 400
    summary = "No chunk may be larger than 16 MiB."


class InvalidDigest(PayloadError):
    code, status = "InvalidDigest", 400
    summary = "The Content-MD5 or checksum value that you specified is not valid."


class InvalidRequest(PayloadError):
    code, status, summary = "InvalidRequest", 400, "The request is not valid."


class MalformedTrailer(PayloadError):
    code, status = "MalformedTrailerError", 400
    summary = (
        "The request contained trailing content that was not well-formed or did not conform to "
        "what its headers declared."
    )


class MissingContentLength(PayloadError):
    code, status = "MissingContentLength", 411
    summary = "You must provide the Content-Length HTTP header."


class RequestTimeout(PayloadError):
    code, status = "RequestTimeout", 400
    summary = (
        "Your socket connection to the server was not read from or written to within the "
        "timeout period."
    )


class XAmzContentSHA256Mismatch(PayloadError):
    code, status = "XAmzContentSHA256Mismatch", 400
    summary = "The provided 'x-amz-content-sha256' header does not match what was computed."
