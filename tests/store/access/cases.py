"""Random policies and requests, of few words, so that they meet often.

Everything comes from one seeded generator: a case that fails is named by its seed.
"""

from __future__ import annotations

import random
from typing import Any

from tests.store.access.reference import Caller, Case, Context, Document

ACCOUNTS = ("111111111111", "222222222222")
BUCKETS = ("box", "box2", "bin")
KEYS = (
    "a",
    "home/ann/x",
    "home/bob/x",
    "home/a*b/x",
    "logs/2026/x",
    "home/",
    "a:b",
    "x/?",
    "q:s3:::box/x",
)
USERS = ("ann", "bob", "a*b")
ACTIONS = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:ListBucket",
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
)
ACTION_PATTERNS = (
    "*",
    "s3:*",
    "S3:get*",
    "s3:Get*",
    "s3:GetObject",
    "s3:getobject",
    "s3:?utObject",
    "s3:PutObject",
    "s3:*Bucket",
    "s3:*Policy",
    "s3:ListBucket",
    "s3:D*t?Obj*",
    "iam:*",
)
RESOURCES = (
    "*",
    "arn:aws:s3:::*",
    "arn:aws:s3:::box",
    "arn:aws:s3:::box/a",
    "arn:aws:s3:::box/home/ann/x",
    "arn:aws:s3:::box*",
    "arn:aws:s3:::box/*",
    "arn:aws:s3:::b*/*",
    "arn:aws:s3:::b?x/home/*",
    "arn:aws:s3:::box/home/${aws:username}/*",
    "arn:aws:s3:::*/home/${aws:username}/x",
    "arn:aws:s3:::box/home/${aws:username, 'ann'}/*",
    "arn:aws:s3:::${s3:prefix}",
    "arn:aws:s3:::bin/home/a${*}b/x",
    "arn:aws:s3:::box*/*/x",
    "arn:*:s3:::box/*",
    "arn:aws:s3:*:*:bin*",
    "arn:aws:*:*::box/*",
    "arn:aws:s3:::box/*/*/*",
    "arn:aws:s3::${jwt:groups}:box/*",
    "arn:aws:s3:::*b/?",
)
TEXTS = ("ann", "bob", "Ann", "a*b", "a?b", "*", "a*", "?nn", "${aws:username}", "home/", "x")
MORE_TEXTS = (
    "${aws:username}*",
    "${jwt:groups}",
    "${jwt:none, 'ann'}",
    "${*}",
    "a${?}b",
    "${$}{x}",
)
KEY_NAMES = (
    "aws:username",
    "AWS:UserName",
    "s3:prefix",
    "jwt:groups",
    "jwt:none",
    "s3:RequestObjectTagKeys",
)
STRING_OPERATORS = (
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
)
ARN_OPERATORS = ("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike")
ARNS = (
    "*",
    "arn:aws:iam::111111111111:user/*",
    "arn:aws:iam::*:user/ann",
    "arn:aws:iam::*:*/b?b",
    "arn:aws:sts::111111111111:assumed-role/*",
    "arn:aws:iam::111111111111:user/${aws:username}",
    "arn:aws:iam::${aws:PrincipalAccount}:*",
    "arn:*:*:*:*:*ann",
    "arn:*:iam:*:11*1:user/a*b",
)
ORDERS = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
NUMBERS = ("0", "1", "2.5", "10", "10.0", "-3", 10, 2.5)
DATES = (
    "2026-01-01T00:00:00Z",
    "2026-06-01T12:00:00Z",
    "2026-06-01T14:00:00+02:00",
    "2026-06-01",
    "1780315200",
    "2027-01-01T00:00:00.500Z",
)
ADDRESSES = ("10.0.0.1", "10.1.2.3", "192.0.2.7", "::ffff:10.0.0.1", "2001:db8::5", "nowhere")
NETWORKS = ("10.0.0.0/8", "10.0.0.1", "10.1.2.0/24", "0.0.0.0/0", "2001:db8::/32", "192.0.2.9/29")
BINARIES = ("QUJD", "QUJE", "")


class CaseMaker:
    """Makes cases from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def case(self) -> Case:
        pick = self._random
        caller = self._caller()
        owner = pick.choices(ACCOUNTS, (4, 1))[0]
        bucket = pick.choice(BUCKETS)
        return Case(
            caller=caller,
            action=pick.choice(ACTIONS),
            resource=self._resource(bucket),
            context=self._context(caller),
            identity=None if caller.kind in ("anonymous", "root") else self._documents(0, 3),
            boundary=self._documents(1, 1) if caller.account and self._chance(0.2) else None,
            session=self._documents(1, 1) if caller.account and self._chance(0.2) else None,
            key=self._documents(1, 1) if caller.account and self._chance(0.15) else None,
            resource_policy=self._document(caller) if self._chance(0.6) else None,
            owner=owner,
            restricted=self._chance(0.1),
            binds_root=self._chance(0.3),
            acl=pick.choices(("none", "account", "direct"), (8, 1, 1))[0],
        )

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _resource(self, bucket: str) -> str:
        key = self._random.choice(("", *KEYS))
        return f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"

    def _caller(self) -> Caller:
        pick = self._random
        kind = pick.choices(("user", "session", "root", "anonymous", "federated"), (5, 3, 1, 2, 1))[
            0
        ]
        account = pick.choices(ACCOUNTS, (4, 1))[0]
        name = pick.choice(USERS)
        if kind == "anonymous":
            return Caller(kind)
        if kind == "federated":
            return Caller(kind, federated="https://op.example")
        if kind == "root":
            return Caller(kind, account, f"arn:aws:iam::{account}:root", canonical_id=f"c{account}")
        if kind == "user":
            arn = f"arn:aws:iam::{account}:user/{name}"
            return Caller(kind, account, arn, canonical_id=f"c{account}")
        return Caller(
            kind,
            account,
            f"arn:aws:sts::{account}:assumed-role/job/{name}",
            source_arn=f"arn:aws:iam::{account}:role/job",
        )

    def _context(self, caller: Caller) -> Context:
        pick = self._random
        context: Context = {}
        if caller.kind == "user":
            context["aws:username"] = caller.arn.rpartition("/")[2]
        if caller.account:
            context["aws:principalarn"] = caller.arn
            context["aws:principalaccount"] = caller.account
        for key, values in (
            ("s3:prefix", ("", "home/", "ann", "box", "a*b")),
            ("s3:max-keys", ("1", "2.5", "10", "many")),
            ("aws:currenttime", DATES),
            ("aws:sourceip", ADDRESSES),
            ("aws:securetransport", ("true", "false", "True")),
            ("jwt:blob", BINARIES),
        ):
            if self._chance(0.7):
                context[key] = pick.choice(values)
        for key in ("jwt:groups", "s3:requestobjecttagkeys"):
            if self._chance(0.7):
                several = tuple(
                    pick.choices(("ann", "bob", "Ann", "x", "", "a:b"), k=pick.randint(0, 3))
                )
                context[key] = several[0] if len(several) == 1 and self._chance(0.7) else several
        return context

    def _documents(self, least: int, most: int) -> list[Document]:
        return [self._document() for _ in range(self._random.randint(least, most))]

    def _document(self, of: Caller | None = None) -> Document:
        """of: whom a resource policy should name now and then; None for other policies."""
        count = self._random.choices((1, 2, 3), (3, 2, 1))[0]
        statements = [self._statement(of) for _ in range(count)]
        document: Document = {
            "Statement": statements[0] if count == 1 and self._chance(0.3) else statements
        }
        version = self._random.choices(("2012-10-17", "2008-10-17", None), (8, 1, 1))[0]
        if version:
            document["Version"] = version
        return document

    def _statement(self, of: Caller | None) -> Document:
        allow = self._chance(0.75)
        statement: Document = {"Effect": "Allow" if allow else "Deny"}
        action = "NotAction" if self._chance(0.12) else "Action"
        statement[action] = self._some(ACTION_PATTERNS, 2)
        place = "NotResource" if self._chance(0.12) else "Resource"
        statement[place] = self._some(RESOURCES, 3)
        if of is not None:
            exempt = not allow and self._chance(0.25)
            statement["NotPrincipal" if exempt else "Principal"] = self._principal(of)
        if self._chance(0.45 if allow else 0.7):
            statement["Condition"] = self._conditions()
        return statement

    def _some(self, words: tuple[Any, ...], most: int) -> Any:
        found = self._random.choices(words, k=self._random.randint(1, most))
        return found[0] if len(found) == 1 and self._chance(0.5) else found

    def _principal(self, of: Caller) -> Any:
        pick = self._random
        if self._chance(0.35):
            return pick.choice(("*", {"AWS": "*"}, {"AWS": ["*"]}))
        if of.arn and "*" not in of.arn and self._chance(0.4):
            return {"AWS": of.arn}
        account = pick.choice(ACCOUNTS)
        choices: list[tuple[str, str]] = [
            ("AWS", account),
            ("AWS", f"arn:aws:iam::{account}:root"),
            ("AWS", f"arn:aws:iam::{account}:user/{pick.choice(('ann', 'bob'))}"),
            ("AWS", f"arn:aws:iam::{account}:role/job"),
            ("AWS", f"arn:aws:sts::{account}:assumed-role/job/{pick.choice(('ann', 'bob'))}"),
            ("CanonicalUser", f"c{account}"),
            ("Federated", "https://op.example"),
        ]
        element: dict[str, list[str]] = {}
        for kind, value in pick.choices(choices, k=pick.randint(1, 3)):
            element.setdefault(kind, []).append(value)
        return element

    def _conditions(self) -> Document:
        found: Document = {}
        for _ in range(self._random.choices((1, 2), (3, 1))[0]):
            operator, key, values = self._condition()
            found.setdefault(operator, {})[key] = values
        return found

    def _condition(self) -> tuple[str, str, Any]:
        pick = self._random
        kind = pick.choices(
            ("string", "arn", "number", "date", "bool", "address", "binary", "null"),
            (10, 3, 2, 2, 2, 2, 1, 2),
        )[0]
        if kind == "null":
            key = pick.choice(KEY_NAMES)
            return "Null", key, self._some(("true", "false", True, False), 1)
        quantifier = pick.choices(("", "ForAllValues:", "ForAnyValue:"), (3, 1, 1))[0]
        suffix = "IfExists" if self._chance(0.2) else ""
        operator, key, words = self._operator(kind)
        return f"{quantifier}{operator}{suffix}", key, self._some(words, 3)

    def _operator(self, kind: str) -> tuple[str, str, tuple[Any, ...]]:
        pick = self._random
        match kind:
            case "string":
                return pick.choice(STRING_OPERATORS), pick.choice(KEY_NAMES), TEXTS + MORE_TEXTS
            case "arn":
                return pick.choice(ARN_OPERATORS), "aws:PrincipalArn", ARNS
            case "number":
                return f"Numeric{pick.choice(ORDERS)}", "s3:max-keys", NUMBERS
            case "date":
                return f"Date{pick.choice(ORDERS)}", "aws:CurrentTime", DATES
            case "bool":
                return "Bool", "aws:SecureTransport", ("true", "false", True, False)
            case "address":
                return pick.choice(("IpAddress", "NotIpAddress")), "aws:SourceIp", NETWORKS
        return "BinaryEquals", "jwt:blob", BINARIES
