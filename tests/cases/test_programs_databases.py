"""Databases on the mount, killed at their work: all that they said was committed is there."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import FULL, Shell
from tests.daemon.harness import DaemonHarness

KILLS = 12 if FULL else 4
WITHIN_S = 60.0
WRITER = """
import itertools, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)")
(start,) = database.execute("SELECT coalesce(max(n), -1) + 1 FROM t").fetchone()
for n in itertools.count(start):
    database.execute("INSERT INTO t VALUES (?, randomblob(1000 + ? % 7000))", (n, n))
    print(n, flush=True)
"""


def test_sqlite_in_wal_mode_loses_nothing_when_its_writer_is_killed(box: Path, work: Path) -> None:
    path = box / "database"
    last = -1
    for number in range(KILLS):
        told = work / "told"
        with told.open("wb") as output:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=output)
        # Killed somewhere in a transaction, each time after some more of them.
        deadline = time.monotonic() + WITHIN_S
        while told.read_bytes().count(b"\n") < 20 + 15 * number:
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        writer.kill()
        writer.wait()
        committed = int(told.read_text().rpartition("\n")[0].split()[-1])
        assert committed > last
        last = committed
        database = sqlite3.connect(path)
        try:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            count, highest = database.execute("SELECT count(*), max(n) FROM t").fetchone()
            assert count == highest + 1
            assert highest in (committed, committed + 1)
        finally:
            database.close()


# -- PostgreSQL ------------------------------------------------------------------------------


def programs() -> Path | None:
    """Where the newest PostgreSQL's programs are, as Debian installs them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    return found[-1] if found else None


PROGRAMS = programs()


class Postgres:
    """A cluster that listens on a socket in its own folder. Runs as `user`."""

    def __init__(self, cluster: Path, sockets: Path, user: str) -> None:
        assert PROGRAMS is not None
        self.cluster, self.sockets = cluster, sockets
        self.programs = PROGRAMS
        self.options: dict[str, Any] = {
            "user": user,
            "group": pwd.getpwnam(user).pw_gid,
            "extra_groups": [],
            "cwd": sockets,
            "env": {"LANG": "C.UTF-8", "PGHOST": str(sockets), "PGUSER": "tester"},
            "stdin": subprocess.DEVNULL,
        }

    def run(self, program: str, *arguments: str | Path) -> str:
        """One of PostgreSQL's programs to its end; what it said."""
        done = subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            **self.options,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}\n{self.log()}"
        return str(done.stdout)

    def log(self) -> str:
        path = self.sockets / "log"
        return path.read_text()[-5000:] if path.exists() else ""

    def start(self) -> None:
        options = ("-c", "listen_addresses=", "-c", "shared_buffers=16MB")
        with (self.sockets / "log").open("wb") as log:
            self.postmaster = subprocess.Popen(
                [self.programs / "postgres", "-D", self.cluster, "-k", self.sockets, *options],
                **self.options,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + WITHIN_S
        while "is ready to accept connections" not in self.log():
            assert self.postmaster.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self) -> None:
        """In order, and fast."""
        if self.postmaster.poll() is None:
            self.postmaster.send_signal(signal.SIGINT)
            assert self.postmaster.wait(WITHIN_S) == 0, self.log()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its children."""
        number = self.postmaster.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for process in (number, *map(int, children)):
            os.kill(process, signal.SIGKILL)
        self.postmaster.wait()
        deadline = time.monotonic() + WITHIN_S
        while any(is_alive(int(process)) for process in children):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ask(self, query: str) -> str:
        return self.run("psql", "-X", "-q", "-A", "-t", "-d", "postgres", "-c", query).strip()


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def postgres(box: Path, harness: DaemonHarness, shell: Shell) -> Iterator[Postgres]:
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed")
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL runs as another user: that takes root")
    harness.folder.chmod(0o755)
    sockets = harness.folder / "sockets"
    cluster = box / "cluster"
    for folder in (sockets, cluster):
        folder.mkdir(mode=0o700)
        shutil.chown(folder, "nobody", "nogroup")
    made = Postgres(cluster, sockets, "nobody")
    made.run("initdb", "-D", cluster, "-U", "tester", "-A", "trust", "--locale=C", "-E", "UTF8")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_postgresql_recovers_from_a_crash_with_all_it_committed(postgres: Postgres) -> None:
    postgres.run("pgbench", "-i", "-q", "-s", "1", "postgres")
    transactions = 500 if FULL else 100
    for _ in range(2):
        before = int(postgres.ask("SELECT count(*) FROM pgbench_history"))
        output = postgres.run("pgbench", "-n", "-c", "4", "-t", str(transactions), "postgres")
        assert f"actually processed: {4 * transactions}/" in output
        postgres.kill()
        postgres.start()
        assert "automatic recovery in progress" in postgres.log()
        sums = postgres.ask(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts),"
            " (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches),"
            " (SELECT sum(delta) FROM pgbench_history)"
        )
        assert len(set(sums.split("|"))) == 1
        after = int(postgres.ask("SELECT count(*) FROM pgbench_history"))
        assert after == before + 4 * transactions
    postgres.run("pg_amcheck", "--install-missing", "--heapallindexed", "postgres")
    postgres.ask("VACUUM FULL")
    postgres.stop()
    postgres.run("pg_controldata", "-D", postgres.cluster)
