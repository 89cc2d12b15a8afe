"""Refusals of what settings of a bucket rule: CORS, websites, forms, and settings it doesn't have.

Beside `s3api.errors`, whose text about leaves holds here too.

Source: Amazon S3 API reference, "Error responses", and the operations' own pages.
"""

from __future__ import annotations

from s3api.errors import RequestError


class BucketNameTaken(RequestError):
    code, status = "BucketAlreadyExists", 409
    summary = "The bucket name is taken by another account; please choose another."


class PreflightMalformed(RequestError):
    code, status = "BadRequest", 400
    summary = "A preflight needs the headers Origin and Access-Control-Request-Method."


class PreflightRefused(RequestError):
    code, status = "AccessForbidden", 403
    summary = "No CORS rule of this bucket allows this origin, method and headers."


class NothingConfigured(RequestError):
    """Base of what is told of a setting that this bucket does not have."""

    status = 404


class NoSuchConfiguration(NothingConfigured):
    code, summary = "NoSuchConfiguration", "The specified configuration does not exist."


class NoSuchCors(NothingConfigured):
    code, summary = "NoSuchCORSConfiguration", "The CORS configuration does not exist."


class NoSuchEncryption(NothingConfigured):
    code = "ServerSideEncryptionConfigurationNotFoundError"
    summary = "The server side encryption configuration was not found."


class NoSuchLifecycle(NothingConfigured):
    code = "NoSuchLifecycleConfiguration"
    summary = "The lifecycle configuration does not exist."


class NoSuchPolicy(NothingConfigured):
    code, summary = "NoSuchBucketPolicy", "The bucket policy does not exist."


class NoSuchPublicAccessBlock(NothingConfigured):
    code = "NoSuchPublicAccessBlockConfiguration"
    summary = "The public access block configuration was not found."


class NoSuchReplication(NothingConfigured):
    code = "ReplicationConfigurationNotFoundError"
    summary = "The replication configuration was not found."


class NoSuchTagSet(NothingConfigured):
    code, summary = "NoSuchTagSet", "The TagSet does not exist."


class NoSuchWebsite(NothingConfigured):
    code = "NoSuchWebsiteConfiguration"
    summary = "The specified bucket does not have a website configuration."


class FormMalformed(RequestError):
    code, status = "MalformedPOSTRequest", 400
    summary = "The body of your POST request is not well-formed multipart/form-data."


class FormTooLarge(RequestError):
    code, status = "MaxPostPreDataLengthExceededError", 400
    summary = "Your POST request fields preceding the upload file were too large."


class NoForm(RequestError):
    code, status = "PreconditionFailed", 412
    summary = "A POST to a bucket must be of the enclosure-type multipart/form-data."


class InvalidPolicyDocument(RequestError):
    code, status = "InvalidPolicyDocument", 400
    summary = "The content of the form does not meet the conditions specified in the policy."


class FileTooSmall(RequestError):
    code, status = "EntityTooSmall", 400
    summary = "Your proposed upload is smaller than the minimum allowed size."


class AclMalformed(RequestError):
    code, status = "MalformedACLError", 400
    summary = "The ACL that you provided was not well formed or did not validate."


class AddressUnknown(RequestError):
    """Accounts have no e-mail addresses here."""

    code, status = "UnresolvableGrantByEmailAddress", 400
    summary = "The email address you provided does not match any account on record."


class AclNotSupported(RequestError):
    code, status = "AccessControlListNotSupported", 400
    summary = "The bucket does not allow ACLs."


class AclForbidsOwnership(RequestError):
    """ACLs grant something to others, and would not count any more."""

    code, status = "InvalidBucketAclWithObjectOwnership", 400
    summary = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting."


class NoSuchOwnership(NothingConfigured):
    code = "OwnershipControlsNotFoundError"
    summary = "The bucket ownership controls were not found."


class PolicyMalformed(RequestError):
    code, status = "MalformedPolicy", 400
    summary = "This policy contains invalid Json."
