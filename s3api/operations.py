"""What an operation is: its name, the action that must be allowed, and the function that does it.

Concurrency: constants. Source: Amazon S3 API reference, "Operations"; service authorization
reference, "Actions, resources, and condition keys for Amazon S3".
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from s3api.face import Face
from s3api.requests import Request
from s3api.responses import Response

Run = Callable[[Face, Request], Awaitable[Response]]


class Target(enum.Enum):
    """What a path names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"
    ACCOUNT = "account"


class Operation(NamedTuple):
    """name: as S3 calls it. action: what must be allowed. hot: answered ahead of Quart.

    late: the operation itself asks for permission, once it has read what that depends on.
    """

    name: str
    action: str
    run: Run
    hot: bool = False
    late: bool = False
