"""What can go wrong with the metadata. `store` translates these; no face sees them.

MetadbError
|- NoUsableCopy     no copy of the database can be opened at start
|- PrimaryLost      the primary's drive failed: the daemon must start again on a copy
|- SchemaTooNew     the file was written by a newer version
|- UpgradeFailed    it was written by an older one, and could not be brought up to date
|- MetadataFull     the drives that hold the metadata are full (SQLITE_FULL, ENOSPC)
"""

from __future__ import annotations


class MetadbError(Exception):
    """Base of all errors of `metadb`."""


class NoUsableCopy(MetadbError):
    """No copy of the database can be opened. The text names each copy and what is wrong."""


class PrimaryLost(MetadbError):
    """The drive of the primary database failed; what was synced is whole on the copies."""


class SchemaTooNew(MetadbError):
    """The database was written by a newer version of twofold."""


class UpgradeFailed(MetadbError):
    """The schema could not be brought up to date. All is as the older version left it."""


class MetadataFull(MetadbError):
    """No room to commit; the transaction was rolled back and reads go on."""
