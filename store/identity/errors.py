"""What this package refuses with. IAM's face maps each to the code of the same name.

IdentityError
|- NoSuchEntity        nothing of this name
|- EntityExists        the name is taken
|- InUse               something hangs on it still
|- LimitReached        an account may not have more
|- Invalid             a name, path, tag or duration that can't be
|- Unmodifiable        one of the policies that are always there

They are no `StoreError`s: no operation on buckets, keys or files raises them. Malformed policy
documents raise `store.access.errors.MalformedPolicy`.
"""

from __future__ import annotations


class IdentityError(Exception):
    """Base of all. `sentence` is fit to be shown to who asked."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class NoSuchEntity(IdentityError):
    """Nothing of this name."""


class EntityExists(IdentityError):
    """The name is taken."""


class InUse(IdentityError):
    """Something hangs on it still: it can't be deleted."""


class LimitReached(IdentityError):
    """An account, user or policy may not have more of these."""


class Invalid(IdentityError):
    """A name, path, tag or duration that can't be."""


class Unmodifiable(IdentityError):
    """One of the policies that are always there, or what the configuration fixes."""
