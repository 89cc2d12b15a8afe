"""`twofold salvage`: files out of drives whose metadata is lost on all of them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from daemon.cli import EXIT_FAILED, EXIT_USAGE, fail
from daemon.report import size_text

if TYPE_CHECKING:
    from store.chunks.salvage import Salvaged

app = App(name="salvage", help="Files out of drives whose metadata is lost on all of them.")

_LISTING = "salvage.json"


@app.default
def salvage(*drives: str, into: Annotated[Path, Parameter(negative="")]) -> int:
    """Rebuild files from what stands on drives, when every copy of the metadata is lost.

    The last resort: with a backup of the metadata take `twofold meta restore`. Drives are only
    read. Files get the numbers of their inodes as names; their true names, attributes, and
    contents of up to 16 KiB were in the metadata. Parts of multipart uploads are a file each.
    What was deleted lately may be among them. The folder's salvage.json tells of each file which
    of its bytes could be had.

    Exit codes: 0 all that stands there could be had, 1 some stripes could not, or failed, 2 wrong
    usage.

    Parameters
    ----------
    drives:
        Folders of the drives, as "/data/d{1...4}".
    into:
        An empty or new folder on another drive.
    """
    from daemon.ellipses import RangeError, expand
    from store.chunks.salvage import NothingFound, salvage

    try:
        paths = [Path(os.path.abspath(drive)) for drive in expand(drives)]
    except RangeError as error:
        fail(EXIT_USAGE, str(error))
    if not paths:
        fail(EXIT_USAGE, "name the drives, as twofold salvage /data/d{1...4} --into /mnt/saved")
    _prepare(paths, into)
    try:
        with contextlib.ExitStack() as locks:
            _lock(paths, locks)
            salvaged = salvage(paths, into, _progress)
    except NothingFound as error:
        fail(EXIT_FAILED, str(error))
    except OSError as error:
        fail(EXIT_FAILED, f"{error.filename or into}: {error.strerror}")
    _list(salvaged, into)
    lost = sum(bool(each.lost) for each in salvaged.files.values())
    size = sum(stop - start for each in salvaged.files.values() for start, stop in each.written)
    print(f"{len(salvaged.files)} files with {size_text(size)} of store {salvaged.store}.")
    if salvaged.foreign:
        print(f"{salvaged.foreign} fragments are of other stores and were left out.")
    for each in salvaged.unreadable:
        print(f"not read to its end: {each}")
    if not lost:
        return 0
    print(f"{lost} files lack bytes that too few drives have: see {into / _LISTING}.")
    return EXIT_FAILED


def _prepare(drives: list[Path], into: Path) -> None:
    target = Path(os.path.abspath(into))
    if any(target.is_relative_to(drive) for drive in drives):
        fail(EXIT_USAGE, f"{into}: is on a drive that is to be read only")
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        if any(target.iterdir()):
            fail(EXIT_USAGE, f"{into}: is not empty")
    except OSError as error:
        fail(EXIT_FAILED, f"{into}: {error.strerror}")


def _lock(drives: list[Path], locks: contextlib.ExitStack) -> None:
    """Keep daemons away, as far as there are labels to lock by."""
    from store.chunks.drive_io import DriveIO
    from store.chunks.errors import DriveBusy, LabelError

    for path in drives:
        io = DriveIO(path)
        try:
            io.attach()
        except DriveBusy as error:
            fail(EXIT_FAILED, str(error))
        except (LabelError, OSError):
            continue
        locks.callback(io.detach)


def _list(salvaged: Salvaged, into: Path) -> None:
    import msgspec

    listing = msgspec.json.format(msgspec.json.encode(salvaged), indent=1)
    (into / _LISTING).write_bytes(listing + b"\n")


def _progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done + 1 == count else ""
        print(f"\rsegment {done + 1} of {count}", end=end, file=sys.stderr, flush=True)
