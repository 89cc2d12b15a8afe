"""boto3 clients of IAM and STS, and policies for them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.s3api.conftest import ACCESS_KEY, SECRET_KEY, Endpoint

_numbers = itertools.count(1)


def fresh(prefix: str) -> str:
    """A name that no other test has."""
    return f"{prefix}-{next(_numbers)}"


def client_of(
    endpoint: Endpoint,
    service: str,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
    token: str | None = None,
    **config: Any,
) -> Any:
    """A client of any service, of root or of whose key is given."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=f"http://127.0.0.1:{endpoint.port}",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        region_name="us-east-1",
        config=Config(
            retries={"max_attempts": 1},
            max_pool_connections=1,
            s3={"addressing_style": "path"},
            **config,
        ),
    )


def client_with(endpoint: Endpoint, service: str, credentials: dict[str, Any]) -> Any:
    """A client with what STS or CreateAccessKey answered."""
    return client_of(
        endpoint,
        service,
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials.get("SessionToken"),
    )


def document(
    action: str | list[str] = "s3:*",
    resource: str | list[str] | None = "*",
    effect: str = "Allow",
    **more: Any,
) -> str:
    """A policy of one statement. resource: None for a trust policy."""
    statement: dict[str, Any] = {"Effect": effect, "Action": action, **more}
    if resource is not None:
        statement["Resource"] = resource
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(code: str, call: Callable[..., Any], **arguments: Any) -> ClientError:
    """Call it and have it refused with this code."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value.response
    return caught.value
