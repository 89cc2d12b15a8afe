"""A pytest plugin that has test_sts.py speak of accounts and clients as AWS does.

Ceph's ARNs of users and roles have no account (`arn:aws:iam:::role/R`), sessions are IAM's there
and not STS's, and a provider that is registered without a client's id believes tokens for
whomever. AWS has none of that, and neither have we. What a case wants to know behind it is seen
with this plugin: on the way to the server the account's number is put into such ARNs, and the
client's id where a provider is registered; on the way back the number is taken from a new role's
ARN. A provider that an earlier case left is removed before the next one registers it. Nothing
else is changed.

Environment: CONFORMANCE_ACCOUNT is the number, CONFORMANCE_CLIENT the client's id. Runs in the
suite's interpreter, so it imports nothing of ours.
"""

from __future__ import annotations

import os
from typing import Any

import botocore.client
from botocore.exceptions import ClientError

_ACCOUNT = os.environ["CONFORMANCE_ACCOUNT"]
_CLIENT = os.environ["CONFORMANCE_CLIENT"]
_SERVICES = ("iam", "sts")
_Client: Any = botocore.client.BaseClient
_call = _Client._make_api_call


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(item, change) for name, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, list) else value


def _numbered(text: str) -> str:
    text = text.replace("arn:aws:iam:::assumed-role/", "arn:aws:sts:::assumed-role/")
    for service in _SERVICES:
        text = text.replace(f"arn:aws:{service}:::", f"arn:aws:{service}::{_ACCOUNT}:")
    return text


def _unnumbered(text: str) -> str:
    return text.replace(f"arn:aws:iam::{_ACCOUNT}:", "arn:aws:iam:::")


def _forget(client: Any, url: str) -> None:
    """Remove a provider that an earlier case has left: they share one."""
    arn = f"arn:aws:iam::{_ACCOUNT}:oidc-provider/{url.partition('://')[2]}"
    try:
        _call(client, "DeleteOpenIDConnectProvider", {"OpenIDConnectProviderArn": arn})
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise


def call_as_aws(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
    """In the place of botocore's own."""
    given = _each(parameters, _numbered)
    if operation == "CreateOpenIDConnectProvider":
        _forget(self, given["Url"])
        given["ClientIDList"] = given.get("ClientIDList") or [_CLIENT]
    answer = _call(self, operation, given)
    is_nameless = operation == "CreateRole" and parameters.get("Path") == "/"
    return _each(answer, _unnumbered) if is_nameless else answer


_Client._make_api_call = call_as_aws
