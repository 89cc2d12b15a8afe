"""What this package refuses with. Faces map these to the codes of S3, IAM and STS.

AccessError
|- MalformedPolicy    a policy document that is no policy
|- MalformedGrants    an ACL, canned ACL or grant header that can't be
|- TokenRefused       a token of an OpenID provider that is not believed
|- SealBroken         a sealed secret that no known master key opens

They are no `StoreError`s: the namespace never raises them.
"""

from __future__ import annotations


class AccessError(Exception):
    """Base of all refusals of this package. `sentence` is fit to be shown to who asked."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class MalformedPolicy(AccessError):
    """A document is not a valid policy.

    statement: index from 0 of the statement at fault, None where the document as a whole is.
    element: what is at fault in it, as "Condition.StringEquals.s3:prefix"; "" for all of it.
    line, column: from 1, where the JSON itself is broken; else 0.
    """

    def __init__(
        self,
        sentence: str,
        *,
        statement: int | None = None,
        element: str = "",
        line: int = 0,
        column: int = 0,
    ) -> None:
        place = ""
        if statement is not None:
            place = f"Statement[{statement}]" + (f".{element}" if element else "") + ": "
        elif element:
            place = f"{element}: "
        elif line:
            place = f"line {line}, column {column}: "
        super().__init__(place + sentence)
        self.statement = statement
        self.element = element
        self.line = line
        self.column = column


class MalformedGrants(AccessError, ValueError):
    """Grants that can't be: an unknown canned ACL, permission, group or form of grantee.

    A ValueError too, so that msgspec tells a row with one as it tells any other that is damaged.
    """


class TokenRefused(AccessError):
    """A token is not believed. `reason` is one word for tests and metrics ("expired", ...)."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class SealBroken(AccessError):
    """A sealed secret doesn't open: another master key, another owner, or changed bytes."""
