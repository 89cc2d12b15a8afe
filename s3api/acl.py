"""ACLs: the one that every bucket and object has, since access is decided by policy alone.

The owner of a bucket owns all that is in it (BucketOwnerEnforced). Tools ask for the ACL and set it
back; any other is refused rather than ignored.

Concurrency: pure but for reading a request's body. Source: Amazon S3 user guide, "Access control
list (ACL) overview", "Controlling ownership of objects".
"""

from __future__ import annotations

from s3api import xml
from s3api.body import read_document
from s3api.credentials import Account
from s3api.errors import InvalidArgument, NotImplementedYet
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import Response, xml_response

_SIZE_BYTES = 64 * 1024
_KEEPS_PRIVATE = ("private", "bucket-owner-full-control", "bucket-owner-read")
_LETS_OTHERS_IN = (
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "log-delivery-write",
)


def person(account: Account) -> str:
    """What stands inside Owner, Initiator and Grantee."""
    return xml.element("ID", account.id) + xml.element("DisplayName", account.name)


def owner_element(face: Face, bucket: str) -> str:
    """The Owner of a bucket and of everything in it. Raises NoSuchBucket."""
    return f"<Owner>{person(_owner(face, bucket))}</Owner>"


def _owner(face: Face, bucket: str) -> Account:
    return face.account_of(face.namespace.buckets.get(bucket).owner)


def acl_response(face: Face, bucket: str) -> Response:
    """Full control for the owner, nothing for anybody else."""
    owner = person(_owner(face, bucket))
    return xml_response(
        "AccessControlPolicy",
        [
            f"<Owner>{owner}</Owner><AccessControlList><Grant>"
            '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:type="CanonicalUser">{owner}</Grantee>'
            "<Permission>FULL_CONTROL</Permission></Grant></AccessControlList>"
        ],
    )


async def check_private(face: Face, request: Request) -> None:
    """Accept an ACL that says what holds anyway. Raises NotImplementedYet for all others."""
    if check_canned(request.text(b"x-amz-acl")):
        return
    owner = _owner(face, request.bucket).id
    root = xml.parse(await read_document(request, _SIZE_BYTES), "AccessControlPolicy")
    xml.only(root, "Owner", "AccessControlList")
    for grants in xml.children(root, "AccessControlList"):
        for grant in xml.only(grants, "Grant"):
            permission = xml.texts(xml.only(grant, "Grantee", "Permission")).get("Permission")
            if permission != "FULL_CONTROL" or _grantees(grant) not in ([owner], [""]):
                raise NotImplementedYet()


def _grantees(grant: xml.Element) -> list[str]:
    """Their ids; groups and e-mail addresses are others, whoever they are."""
    found = [xml.texts(grantee) for grantee in xml.children(grant, "Grantee")]
    return [
        fields.get("URI") or fields.get("EmailAddress") or fields.get("ID", "") for fields in found
    ]


def check_canned(name: str) -> bool:
    """Whether an ACL is named at all.

    Raises NotImplementedYet for one that lets others in, InvalidArgument for none that there is.
    """
    if name in _LETS_OTHERS_IN:
        raise NotImplementedYet(extras=(("Header", "x-amz-acl"),))
    if name and name not in _KEEPS_PRIVATE:
        raise InvalidArgument(extras=(("ArgumentName", "x-amz-acl"), ("ArgumentValue", name)))
    return bool(name)
