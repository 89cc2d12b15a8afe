"""What is said on this machine: configuration, options, and the control socket's messages."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import msgspec

from daemon.addresses import parse_address
from daemon.buckettalk import BucketTalk, Question
from daemon.config import ConfigError, load_settings
from daemon.ellipses import NAME_COUNT_MAX, RangeError, expand
from daemon.mountoptions import OptionsError, options_text, parse_options
from daemon.mountwire import Handover, Outcome, Terms
from daemon.report import Report
from fusefs.mounttable import Mounted, _parsed
from tests.fuzz.registry import finished, target
from tests.fuzz.stored import _copies


@target(RangeError, size_max_bytes=300)
def ellipses(raw: bytes) -> None:
    """A name stands for no more names than it may."""
    names = expand([raw.decode("utf-8", "surrogateescape")])
    assert 0 < len(names) <= NAME_COUNT_MAX


@target(OptionsError, size_max_bytes=500)
def mount_options(raw: bytes) -> None:
    """What -o says; and the options of a mount that was made so say the same."""
    text = raw.decode("utf-8", "surrogateescape")
    with contextlib.suppress(OptionsError):
        parse_options(text, sloppy=True)
    wanted = parse_options(text)
    mounted = Mounted("0:1", f"/{wanted.subdir}", "/mnt", ("rw",), "fuse", "twofold")
    if '"' not in text:
        again = parse_options(options_text(mounted, wanted.owners.words))
        assert (again.subdir, again.owners) == (wanted.subdir, wanted.owners)


@target(ValueError, size_max_bytes=300)
def listen_address(raw: bytes) -> None:
    address = parse_address(raw.decode("utf-8", "surrogateescape"))
    assert parse_address(str(address)) == address


@target(ConfigError, rounds=3)
def configuration(raw: bytes) -> None:
    """A file of settings; and the same text in a variable of the environment."""
    path = _copies() / "twofold.toml"
    path.write_bytes(raw)
    path.chmod(0o600)
    with contextlib.suppress(ConfigError):
        load_settings(path, {})
    name, _, value = raw.partition(b"=")
    text = value.decode("utf-8", "surrogateescape")
    load_settings(None, {f"TWOFOLD_{name.decode('latin-1')}": text, "TWOFOLD_POOL__DRIVES": "/d"})


@target()
def control_messages(raw: bytes) -> None:
    """Each kind of line that either side of the control socket reads."""
    answer = finished(BucketTalk(lambda: None, {})._answer(raw))
    assert answer.error
    for kind in (Question, Handover, Terms, Outcome, Report):
        # As `control.asking` and the daemon's side take it.
        with contextlib.suppress(ValueError, RecursionError):
            message = msgspec.json.decode(raw, type=cast(Any, kind))
            assert msgspec.json.decode(msgspec.json.encode(message), type=kind) == message


@target(size_max_bytes=300)
def mount_table(raw: bytes) -> None:
    """A line of mountinfo that the kernel could have written, of names that anybody chose."""
    name = raw.decode("utf-8", "surrogateescape").replace("\n", " ")
    for char in "\\ \t":
        name = name.replace(char, f"\\{ord(char):03o}")
    line = f"29 1 0:25 /{name} /mnt/{name} ro,nosuid shared:1 - fuse.twofold {name or 'x'} rw\n"
    found = _parsed(line)
    assert found.type == "fuse.twofold" and found.path.startswith("/mnt/")
