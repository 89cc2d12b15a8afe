"""Managed policies that are always there, by their ARNs: ours, and those of AWS that clients name.

Concurrency: constants. Source: AWS managed policy reference guide (names, and what they permit
among the services that there are here).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from store.access import canned
from store.access.policy import VERSION_2
from store.identity.records import ManagedPolicy, PolicyVersion

PREFIX = "arn:aws:iam::aws:policy/"
_MADE_S = 1_420_070_400  # 2015-01-01, so that the text of an answer never changes.


def _document(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": VERSION_2, "Statement": [statement]})


_DOCUMENTS: Mapping[str, str] = {
    **canned.DOCUMENTS,
    "AdministratorAccess": _document("*"),
    "AmazonS3FullAccess": _document("s3:*"),
    "AmazonS3ReadOnlyAccess": _document("s3:Get*", "s3:List*"),
    "IAMFullAccess": _document("iam:*"),
    "IAMReadOnlyAccess": _document("iam:Get*", "iam:List*", "iam:Simulate*"),
}


def _policy(name: str, document: str) -> ManagedPolicy:
    return ManagedPolicy(
        name=name,
        id="ANPA" + name.upper().ljust(16, "A")[:16],
        made_s=_MADE_S,
        changed_s=_MADE_S,
        description=f"Always there: {name}",
        versions=(PolicyVersion(number=1, document=document, made_s=_MADE_S),),
    )


MANAGED: Mapping[str, ManagedPolicy] = {
    PREFIX + name: _policy(name, document) for name, document in _DOCUMENTS.items()
}
