"""Every way an S3 request is refused or fails, as the code and status that S3 uses for it.

Two sources meet here: `Refusal`s (the face's own, from `s3api.refusals` and below) and
`StoreError`s, mapped by `STORE_FAILURES`, which a test proves total over `store.errors.leaves()`.
Anything else that reaches the border is a fault of ours: logged there, told as InternalError.

Pure values. Source: Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from s3api.dates import http_date
from s3api.httpstream import BodyMalformed, BodyStalled, Header
from s3api.refusals import (
    AccessDenied,
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidDigest,
    InvalidRequest,
    MissingContentLength,
    Refusal,
    RequestTimeout,
)
from store import errors as store_errors
from store.errors import KeyDeleted, StoreError, VersionIsMarker

__all__ = [
    "AccessDenied",
    "BadDigest",
    "EntityTooLarge",
    "EntityTooSmall",
    "Failure",
    "IllegalVersioningConfiguration",
    "IncompleteBody",
    "InvalidArgument",
    "InvalidDigest",
    "InvalidLocationConstraint",
    "InvalidPart",
    "InvalidPartNumber",
    "InvalidRange",
    "InvalidRequest",
    "InvalidRetentionPeriod",
    "InvalidStorageClass",
    "InvalidTag",
    "InvalidURI",
    "KeyTooLong",
    "MalformedXML",
    "MetadataTooLarge",
    "MissingContentLength",
    "NoSuchObjectLockConfiguration",
    "NotImplementedYet",
    "ObjectLockConfigurationNotFound",
    "PreconditionFailed",
    "Refusal",
    "RequestError",
    "failure_of",
    "failure_of_head",
]


class RequestError(Refusal):
    """The request is authentic, and asks for what can't be or isn't done."""


class EntityTooSmall(RequestError):
    code, status = "EntityTooSmall", 400
    summary = "A part that is not the last has less than 5 MiB."


class IllegalVersioningConfiguration(RequestError):
    code, status = "IllegalVersioningConfigurationException", 400
    summary = "The Versioning element must be specified."


class InvalidLocationConstraint(RequestError):
    code, status = "InvalidLocationConstraint", 400
    summary = "The specified location constraint is not the region of this endpoint."


class InvalidPart(RequestError):
    code, status = "InvalidPart", 400
    summary = (
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag."
    )


class InvalidPartNumber(RequestError):
    """A read of a part that isn't there. Amazon S3: 416 InvalidPartNumber; ceph/s3-tests: this."""

    code, status = "InvalidPart", 400
    summary = "The requested part number is not satisfiable."


class InvalidRange(RequestError):
    """asked: the range, as the client wrote it. size_bytes: of the object."""

    code, status, summary = "InvalidRange", 416, "The requested range is not satisfiable."

    def __init__(self, asked: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(extras=(("RangeRequested", asked), ("ActualObjectSize", str(size_bytes))))


class InvalidRetentionPeriod(RequestError):
    code, status = "InvalidRetentionPeriod", 400
    summary = "The retention period is not a positive number of days or years."


class InvalidStorageClass(RequestError):
    code, status = "InvalidStorageClass", 400
    summary = "The storage class you specified is not valid; this store has STANDARD only."


class InvalidTag(RequestError):
    code, status, summary = "InvalidTag", 400, "The tag provided was not a valid tag."


class InvalidURI(RequestError):
    code, status, summary = "InvalidURI", 400, "Couldn't parse the specified URI."


class KeyTooLong(RequestError):
    code, status, summary = "KeyTooLongError", 400, "Your key is too long."


class MalformedXML(RequestError):
    code, status = "MalformedXML", 400
    summary = "The XML you provided was not well-formed or did not validate against our schema."


class MetadataTooLarge(RequestError):
    code, status = "MetadataTooLarge", 400
    summary = "Your metadata headers exceed the maximum allowed metadata size of 2 KB."


class NoSuchObjectLockConfiguration(RequestError):
    code, status = "NoSuchObjectLockConfiguration", 404
    summary = "The specified object does not have a ObjectLock configuration."


class NotImplementedYet(RequestError):
    code, status = "NotImplemented", 501
    summary = "A header, query parameter or operation you provided is not implemented."


class ObjectLockConfigurationNotFound(RequestError):
    code, status = "ObjectLockConfigurationNotFoundError", 404
    summary = "Object Lock configuration does not exist for this bucket."


class PreconditionFailed(RequestError):
    code, status = "PreconditionFailed", 412
    summary = "At least one of the pre-conditions you specified did not hold."


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an error document says, and its headers.

    status: HTTP's. extras: further (element, text) pairs.
    """

    code: str
    status: int
    message: str
    extras: tuple[tuple[str, str], ...] = ()
    headers: tuple[Header, ...] = ()


def _failure(code: str, status: int, message: str) -> Failure:
    return Failure(code=code, status=status, message=message)


INTERNAL = _failure("InternalError", 500, Refusal.summary)

STORE_FAILURES: dict[type[StoreError], Failure] = {
    store_errors.NoSuchBucket: _failure(
        "NoSuchBucket", 404, "The specified bucket does not exist."
    ),
    store_errors.NoSuchKey: _failure("NoSuchKey", 404, "The specified key does not exist."),
    store_errors.KeyDeleted: _failure("NoSuchKey", 404, "The specified key does not exist."),
    store_errors.VersionIsMarker: _failure(
        "MethodNotAllowed", 405, "The specified method is not allowed against this resource."
    ),
    store_errors.Locked: _failure(
        "AccessDenied", 403, "Access Denied because object protected by object lock."
    ),
    store_errors.LockNotEnabled: _failure(
        "InvalidRequest", 400, "Bucket is missing Object Lock Configuration."
    ),
    store_errors.BucketLocked: _failure(
        "InvalidBucketState",
        409,
        "Object lock needs versioning to be enabled, and keeps it from being suspended.",
    ),
    store_errors.QuotaExceeded: _failure(
        "QuotaExceeded", 403, "The bucket's quota does not leave room for this."
    ),
    store_errors.NoSuchVersion: _failure(
        "NoSuchVersion", 404, "The specified version does not exist."
    ),
    store_errors.NoSuchUpload: _failure(
        "NoSuchUpload",
        404,
        "The specified multipart upload does not exist. The upload id may be invalid, or the "
        "upload may have been aborted or completed.",
    ),
    store_errors.NoSuchEntry: _failure("NoSuchKey", 404, "The specified key does not exist."),
    store_errors.NoSuchAttribute: _failure("NoSuchKey", 404, "The attribute does not exist."),
    store_errors.BucketExists: _failure(
        "BucketAlreadyOwnedByYou", 409, "The bucket exists already, and it is yours."
    ),
    store_errors.BucketNotEmpty: _failure(
        "BucketNotEmpty", 409, "The bucket you tried to delete is not empty."
    ),
    store_errors.EntryExists: _failure("OperationAborted", 409, "The name is taken on the mount."),
    store_errors.DirectoryNotEmpty: _failure(
        "OperationAborted", 409, "The directory has entries on the mount."
    ),
    store_errors.IsDirectory: _failure(
        "OperationAborted", 409, "A directory of the mount stands in the way."
    ),
    store_errors.NotDirectory: _failure(
        "OperationAborted", 409, "A file of the mount stands in the way."
    ),
    store_errors.NotRegular: _failure(
        "OperationAborted", 409, "A FIFO, socket or device of the mount stands under this key."
    ),
    store_errors.AttributeExists: _failure(
        "OperationAborted", 409, "The attribute exists already."
    ),
    store_errors.PreconditionFailed: _failure(
        "PreconditionFailed", 412, PreconditionFailed.summary
    ),
    store_errors.InvalidBucketName: _failure(
        "InvalidBucketName", 400, "The specified bucket is not valid."
    ),
    store_errors.InvalidKey: _failure(
        "InvalidArgument", 400, "A key has at least one byte, and none of them is NUL."
    ),
    store_errors.InvalidName: _failure("InvalidArgument", 400, "The name is reserved."),
    store_errors.NameTooLong: _failure("KeyTooLongError", 400, KeyTooLong.summary),
    store_errors.KeyTooLong: _failure("KeyTooLongError", 400, KeyTooLong.summary),
    store_errors.InvalidPart: _failure("InvalidPart", 400, InvalidPart.summary),
    store_errors.InvalidPartOrder: _failure(
        "InvalidPartOrder", 400, "The list of parts was not in ascending order."
    ),
    store_errors.PartTooSmall: _failure("EntityTooSmall", 400, EntityTooSmall.summary),
    store_errors.TooLarge: _failure("EntityTooLarge", 400, EntityTooLarge.summary),
    store_errors.CrossBucket: _failure("InvalidRequest", 400, "This can't cross buckets."),
    store_errors.LinkLoop: _failure("OperationAborted", 409, "Too many symbolic links."),
    store_errors.TooManyLinks: _failure("InvalidRequest", 400, "Too many hard links."),
    store_errors.Denied: _failure("AccessDenied", 403, AccessDenied.summary),
    store_errors.InvalidArgument: _failure("InvalidArgument", 400, InvalidArgument.summary),
    store_errors.MetadataTooLarge: _failure("MetadataTooLarge", 400, MetadataTooLarge.summary),
    store_errors.NoSpace: _failure(
        "InsufficientStorage", 507, "The drives are full; delete something and try again."
    ),
    store_errors.Unavailable: _failure(
        "ServiceUnavailable", 503, "Too few drives can take this write, or we are stopping."
    ),
    store_errors.Unrecoverable: _failure(
        "InternalError", 500, "More of this object is damaged or gone than parity can mend."
    ),
}

_TOO_MUCH = _failure("SlowDown", 503, "The server is short of memory; ask again later.")
_MARKERS = (KeyDeleted, VersionIsMarker)
_SPOKEN_DETAIL = (store_errors.InvalidArgument, store_errors.InvalidPart, store_errors.Denied)


def _with_marker(failure: Failure, error: KeyDeleted | VersionIsMarker) -> Failure:
    """What tells a delete marker from a key that never was."""
    headers: tuple[Header, ...] = (
        (b"x-amz-delete-marker", b"true"),
        (b"x-amz-version-id", error.version_id.encode()),
    )
    if isinstance(error, KeyDeleted):
        return replace(failure, headers=headers)
    headers += (b"last-modified", http_date(error.modified_ns)), (b"allow", b"DELETE")
    return replace(failure, headers=headers, extras=(("ResourceType", "DeleteMarker"),))


def failure_of(error: BaseException) -> Failure | None:
    """What to tell the client about `error`; None for what is no answer but a fault of ours."""
    if isinstance(error, Refusal):
        headers: tuple[Header, ...] = ()
        if isinstance(error, InvalidRange):
            headers = ((b"content-range", b"bytes */%d" % error.size_bytes),)
        return Failure(
            code=error.code,
            status=error.status,
            message=error.message,
            extras=error.extras,
            headers=headers,
        )
    if isinstance(error, StoreError):
        failure = STORE_FAILURES.get(type(error))
        if failure is not None and error.detail and isinstance(error, _SPOKEN_DETAIL):
            return _failure(failure.code, failure.status, error.detail)
        if failure is not None and isinstance(error, _MARKERS):
            return _with_marker(failure, error)
        if failure is not None and isinstance(error, store_errors.PreconditionFailed):
            return replace(failure, extras=(("Condition", error.detail),))
        return failure
    if isinstance(error, BodyStalled):
        return Failure(
            code=RequestTimeout.code, status=RequestTimeout.status, message=RequestTimeout.summary
        )
    if isinstance(error, BodyMalformed):
        return Failure(
            code=IncompleteBody.code, status=IncompleteBody.status, message=IncompleteBody.summary
        )
    return _TOO_MUCH if isinstance(error, MemoryError) or _is_threadless(error) else None


def _is_threadless(error: BaseException) -> bool:
    """Whether there was no room for a thread: the system's limit, or memory."""
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


_HEAD_CODES = {
    408: "RequestTimeout",
    414: "URITooLong",
    431: "RequestHeaderSectionTooLarge",
    500: "InternalError",
    501: "NotImplemented",
}


def failure_of_head(status: int, reason: str) -> Failure:
    """What to tell of a request that the HTTP server turned away before we saw it."""
    return _failure(_HEAD_CODES.get(status, "InvalidRequest"), status, reason)
