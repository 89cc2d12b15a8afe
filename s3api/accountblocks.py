"""S3 Control, as far as it is here: the public access block of a whole account.

It is asked for at /v20180820/configuration/publicAccessBlock with the account's number in a header,
of the endpoint itself, or of the host `<number>.<domain>`, where clients put the number. What it
blocks is blocked in all of the account's buckets, whatever they say.

Concurrency: any task. Source: Amazon S3 Control API reference, GetPublicAccessBlock,
PutPublicAccessBlock, DeletePublicAccessBlock.
"""

from __future__ import annotations

from s3api.bucketpolicies import block_response, read_block
from s3api.errors import AccessDenied
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response
from s3api.settingrefusals import NoSuchPublicAccessBlock

ACCOUNT_HEADER = b"x-amz-account-id"
PATH = b"/v20180820/configuration/publicAccessBlock"


def is_control(request: Request) -> bool:
    """Whether the request is one of S3 Control's; a bucket may have that very name."""
    return ACCOUNT_HEADER in request.headers and request.stream.raw_path == PATH


async def get_account_block(face: Face, request: Request) -> Response:
    block = face.namespace.identity.access_block(_account(request))
    if block is None:
        raise NoSuchPublicAccessBlock()
    return block_response(block)


async def put_account_block(face: Face, request: Request) -> Response:
    account = _account(request)
    await face.namespace.identity.set_access_block(account, await read_block(request))
    return Response(200)


async def delete_account_block(face: Face, request: Request) -> Response:
    await face.namespace.identity.set_access_block(_account(request), None)
    return NO_CONTENT


def _account(request: Request) -> str:
    """The canonical id of the account that is named, which is the sender's. Raises AccessDenied."""
    account = request.auth.account
    if request.text(ACCOUNT_HEADER) != account.number:
        raise AccessDenied("The account that is named is another one than that of the key.")
    return account.id
