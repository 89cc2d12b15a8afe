"""ACLs: the one that every bucket and object has, since access is decided by policy alone.

Tools ask for it and set it back; any other is refused rather than ignored.

Concurrency: pure but for reading a request's body. Source: Amazon S3 user guide, "Access control
list (ACL) overview".
"""

from __future__ import annotations

from s3api import xml
from s3api.body import read_document
from s3api.errors import NotImplementedYet
from s3api.face import OWNER_ID, OWNER_NAME
from s3api.requests import Request
from s3api.responses import Response, xml_response

_SIZE_BYTES = 64 * 1024
_KEEPS_PRIVATE = ("private", "bucket-owner-full-control", "bucket-owner-read")
OWNER = f"<ID>{OWNER_ID}</ID><DisplayName>{OWNER_NAME}</DisplayName>"


def acl_response() -> Response:
    """Full control for the owner, nothing for anybody else."""
    return xml_response(
        "AccessControlPolicy",
        [
            f"<Owner>{OWNER}</Owner><AccessControlList><Grant>"
            '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:type="CanonicalUser">{OWNER}</Grantee>'
            "<Permission>FULL_CONTROL</Permission></Grant></AccessControlList>"
        ],
    )


async def check_private(request: Request) -> None:
    """Accept an ACL that says what holds anyway. Raises NotImplementedYet for all others."""
    canned = request.text(b"x-amz-acl")
    if canned:
        if canned not in _KEEPS_PRIVATE:
            raise NotImplementedYet(extras=(("Header", "x-amz-acl"),))
        return
    root = xml.parse(await read_document(request, _SIZE_BYTES), "AccessControlPolicy")
    for grants in xml.children(root, "AccessControlList"):
        for grant in xml.children(grants, "Grant"):
            permission = xml.texts(grant).get("Permission")
            grantees = [xml.texts(one).get("ID", "") for one in xml.children(grant, "Grantee")]
            if permission != "FULL_CONTROL" or grantees not in ([OWNER_ID], [""]):
                raise NotImplementedYet()
