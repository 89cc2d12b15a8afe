"""`twofold fsck`: whether a store keeps what it promises, and repairs that take nothing away.

Of a running store the daemon looks, asked over its control socket; of a stopped one this process,
with the drives' locks. Exit codes are those of fsck(8).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from daemon.cli import fail
from daemon.control import NoDaemon

if TYPE_CHECKING:
    from daemon.stoppedstore import NamedStore
    from store.chunks.pool import Pool
    from store.fsck import Finding, Verdict

EXIT_REPAIRED = 1
EXIT_LEFT = 4
EXIT_FAILED = 8
EXIT_USAGE = 16
_SHOWN = 20

app = App(name="fsck", help="Check a store, running or stopped, and repair what can be.")


@app.default
def fsck(
    *store: str,
    repair: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Check a store, running or stopped. Without --repair nothing is changed.

    Rows are held against their invariants, labels and copies of the metadata against each
    other, and of every fragment that a row names the header is looked for on its drive. What
    stands behind headers is verified by `twofold scrub`.

    Exit codes: 0 all is well, 1 all that was wrong is repaired, 4 something is left, 8 it could
    not be checked, 16 its configuration is wrong.

    Parameters
    ----------
    store:
        The daemon's configuration file, or the drives of a stopped store; if not given,
        /etc/twofold/twofold.toml.
    repair:
        Repair what can be without taking anything away; on a running store, what its daemon
        needn't stop for, and have it heal the rest at once.
    json:
        Print it as JSON, for programs.
    """
    import msgspec

    from daemon.config import ConfigError
    from daemon.ellipses import RangeError
    from daemon.stoppedstore import named_store
    from metadb.errors import MetadbError, NoUsableCopy
    from store.chunks.errors import ChunkError
    from store.fsck import is_sound

    try:
        verdict = _verdict(named_store(store), repair=repair)
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except RangeError as error:
        fail(EXIT_USAGE, str(error))
    except NoUsableCopy as error:
        fail(
            EXIT_FAILED,
            f"no copy of the metadata can be used ({error}): see twofold meta restore, or salvage",
        )
    except (NoDaemon, ChunkError, MetadbError, OSError) as error:
        fail(EXIT_FAILED, str(error))
    if verdict.error:
        fail(EXIT_FAILED, verdict.error)
    if json:
        print(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode())
    else:
        print(_text(verdict))
    if not is_sound(verdict.left):
        return EXIT_LEFT
    return 0 if is_sound(verdict.repaired) else EXIT_REPAIRED


def _verdict(named: NamedStore, *, repair: bool) -> Verdict:
    from daemon.fscktalk import Wish, ask_fsck
    from daemon.stoppedstore import is_served, stopped_pool

    socket = named.socket()
    if socket is not None and is_served(socket):
        return ask_fsck(socket, Wish(repair=repair))
    import trio

    # To tell what is lost, as many drives as like may be away. To change something the newest
    # label and copy must be sure to be among those that are there.
    paths = named.paths()
    with stopped_pool(paths, allow_missing=None if repair else len(paths)) as pool:
        return trio.run(partial(look_while_stopped, pool, repair=repair))


async def look_while_stopped(pool: Pool, *, repair: bool) -> Verdict:
    """Look at a store whose drives are ours; with `repair` mend, and look again."""
    from daemon.fscktalk import settle
    from daemon.restore import reopened
    from daemon.stoppedstore import copy_places
    from metadb.offline import disown, opened_copy
    from store import inspection

    async def look() -> inspection.Inspection:
        places = copy_places(pool)
        with opened_copy(places) as copy:
            found = inspection.Inspection(copy, pool, copies=places, chosen=copy.place)
            await found.run()
            return found

    first = await look()
    after = first.findings
    if repair and first.findings:
        for place in first.differing:
            disown(place)
        async with reopened(pool) as engine:
            await inspection.repair(engine, pool, serving=False)
        after = (await look()).findings
    return settle(
        first.findings, after, segments=first.segment_count, fragments=first.fragment_count
    )


def _text(verdict: Verdict) -> str:
    from store.fsck import is_sound

    grave = [each for each in verdict.left if not is_sound([each])]
    harmless = [each for each in verdict.left if is_sound([each])]
    lines: list[str] = []
    for title, findings in (
        ("Repaired:", verdict.repaired),
        ("Left:", grave),
        ("By the way, nothing is wrong with:", harmless),
    ):
        if findings:
            lines += [title, *_paragraphs(findings)]
    counts = f"{len(verdict.repaired)} repaired, {len(grave)} left"
    looked = f"all rows, {verdict.segments} segments and {verdict.fragments} fragments"
    wrong = f"{counts}." if verdict.repaired or grave else "all is well."
    lines.append(f"Looked at {looked}: {wrong}")
    return "\n".join(lines)


def _paragraphs(findings: Iterable[Finding]) -> list[str]:
    from store.fsck import CHECKS

    by_check: defaultdict[str, list[str]] = defaultdict(list)
    for each in findings:
        by_check[each.check].append(each.what)
    lines: list[str] = []
    for check in CHECKS:
        places = by_check.get(check.name, [])
        if not places:
            continue
        lines += [f"  not so: {check.name} ({len(places)})"]
        lines += [f"    {place}" for place in places[:_SHOWN]]
        if len(places) > _SHOWN:
            lines.append("    ...")
        lines += [f"    What it means: {check.means}", f"    Repair: {check.repair}"]
    return lines
