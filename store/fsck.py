"""fsck: what is promised of rows and drives, what a breach of it means, what a repair does.

`CHECKS` is the whole table, one sentence each. Rows are asked by `metadb.check` and mended by
`metadb.repair`; labels, copies and fragments are looked at by `store.inspection`.

Repairs take nothing away. What needs bytes (fragments that are missing or damaged) is given to
heal, which a running daemon does by itself; what only a person can decide is told and left.
Pure: values alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from metadb import check

DRIVES_THERE = "D1 every drive of the pool is there, with the pool's epoch"
LABELS_AGREE = "D2 labels of one epoch say the same"
COPIES_EQUAL = "D3 copies of the metadata are equal"
MEMBERS_THERE = "D4 every member is a file on its drive"
MEMBERS_PLACED = "D5 a member stands on the drive that its row names"
FRAGMENTS_THERE = "D6 every fragment that a row names has its header in its place"
STRIPES_WHOLE = "D7 of every stripe at least k fragments are there"
NOTHING_SPARE = "D8 every file and every fragment is named by a row"

_NONE = "None here: restore a backup of the metadata, or delete what it concerns."
_HEAL = "A running daemon heals it by itself; --repair while it runs does so at once."


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """means, repair: a sentence each.

    harmless: nothing is wrong for a client, and the daemon sees to it at its next start or soon.
    """

    name: str
    means: str
    repair: str
    harmless: bool = False


CHECKS: tuple[Check, ...] = (
    Check(
        name=check.NAMES_OF_INODES,
        means="A name leads nowhere: it is listed and can't be opened.",
        repair="A directory is made again under its number, with what is below; a file's name, "
        "which nothing is left of, goes.",
    ),
    Check(
        name=check.COUNTED_LINKS,
        means="A file's link count is wrong, so its content could go too early or never.",
        repair="Names are counted again.",
    ),
    Check(
        name=check.COUNTED_SUBDIRECTORIES,
        means="A directory's link count is wrong; find(1) and the like skip directories by it.",
        repair="Child directories are counted again.",
    ),
    Check(
        name=check.RUNS_OF_EXTENTS,
        means="A file names bytes that no row knows the place of: reading there fails.",
        repair="A run that waits for reclaim is a run again; of others the bytes are gone.",
    ),
    Check(
        name=check.COUNTED_REFERENCES,
        means="A run counts too many names, and is never reclaimed, or too few, and goes early.",
        repair="Extents are counted again; what none names goes to reclaim.",
    ),
    Check(
        name=check.SEGMENTS_OF_RUNS,
        means="It is unknown how and on which drives some bytes stand; the daemon won't start.",
        repair="None here: restore a backup of the metadata, or salvage the bytes.",
    ),
    Check(
        name=check.ONE_CONTENT,
        means="A file has two contents, and readers get the one in the database.",
        repair="None here: read it, then write it anew.",
    ),
    Check(
        name=check.APART_EXTENTS,
        means="A part of a file has two contents.",
        repair="None here: read it, then write it anew.",
    ),
    Check(
        name=check.INODES_OF_VERSIONS,
        means="An old version has no content, or its content is a file that has names too.",
        repair=_NONE,
    ),
    Check(
        name=check.ONE_VERSION,
        means="Two versions are one content: deleting one takes the other along.",
        repair=_NONE,
    ),
    Check(
        name=check.OWN_VERSION_IDS,
        means="Two versions of a key have the same id, and only one can be asked for.",
        repair=_NONE,
    ),
    Check(
        name=check.COUNTED_USAGE,
        means="A bucket's quota counts more or less than it holds.",
        repair="Its inodes are summed up again.",
    ),
    Check(
        name=check.NAMED_INODES,
        means="A content that nothing names any more takes room, and nobody can reach it.",
        repair="It gets the name lost+found/NUMBER in its bucket.",
    ),
    Check(
        name=DRIVES_THERE,
        means="A drive is away, or was: what was written meanwhile is on the others only.",
        repair="None here: bring it back or replace it; a running daemon takes it back and heals.",
    ),
    Check(
        name=LABELS_AGREE,
        means="Drives of the same epoch tell different pools or parities.",
        repair="None here: the daemon writes all labels alike at its next change of the pool.",
    ),
    Check(
        name=COPIES_EQUAL,
        means="A copy of the metadata is not what the one to go on from is.",
        repair="It is built anew from the one to go on from.",
    ),
    Check(
        name=MEMBERS_THERE,
        means="A drive lost a file of a segment: its stripes have one fragment less.",
        repair=_HEAL,
    ),
    Check(
        name=MEMBERS_PLACED,
        means="A file of a segment was moved, and its row, from a backup, names the old drive; "
        "the next start would remove the file.",
        repair="The row names the drive that it is on.",
    ),
    Check(
        name=FRAGMENTS_THERE,
        means="A fragment is missing or overwritten: its stripe has one less to spare.",
        repair=_HEAL,
    ),
    Check(
        name=STRIPES_WHOLE,
        means="Bytes of a file can't be had; they were reclaimed before a restore of older "
        "metadata, or more drives than parity allows have lost them.",
        repair="None here: bring drives back that are away, or delete or restore the file.",
    ),
    Check(
        name=NOTHING_SPARE,
        means="Room is taken by what nothing names, as after a crash.",
        repair="The next start, or scrub, gives it back.",
        harmless=True,
    ),
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One breach. check: its name; what: where, for people."""

    check: str
    what: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found: repaired meanwhile, or left.

    segments, fragments: how many were looked at. error: why it could not be looked at, else "".
    """

    repaired: list[Finding] = []
    left: list[Finding] = []
    segments: int = 0
    fragments: int = 0
    error: str = ""


_harmless = frozenset(each.name for each in CHECKS if each.harmless)


def is_sound(findings: Iterable[Finding]) -> bool:
    """Whether none of them is more than harmless."""
    return all(each.check in _harmless for each in findings)
