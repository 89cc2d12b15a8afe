"""Where a server under test stands: a daemon of this checkout on folders and ports of its own.

1. Nothing is shared with another run, and nothing is left: the daemon is ended and its folders are
   removed when the block is left, however it is left.
2. Over https the certificate comes from an authority made for the run; clients are given its file.

What is brought from outside (the suite, virtual environments, Go programs) stays in the cache
folder, outside of the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twofold-conformance"


def with_our_packages() -> None:
    """Go on in the checkout's virtual environment, if this isn't it: the harness needs it."""
    python = ROOT / ".venv" / "bin" / "python"
    if Path(sys.prefix) != ROOT / ".venv" and python.exists():
        os.execv(python, [str(python), *sys.argv])
    sys.path.insert(0, str(ROOT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key pair."""

    access: str
    secret: str


MAIN = Key(access="conformance-main", secret="the-main-secret-of-conformance")
OTHER = Key(access="conformance-other", secret="the-other-secret-of-conformance")
"""Two users, each an account of its own, who may do nothing in the other's buckets."""
BUCKETS_OF_OLD: dict[str, object] = {"s3.object_ownership": "", "s3.block_public_access": False}
"""New buckets as they were on S3 before April 2023: tests that are older take them to be so."""
_USERS = {"main": MAIN, "other": OTHER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A running server. authority: the file of the certificate to trust, None over http."""

    host: str
    port: int
    authority: Path | None
    folder: Path
    root: Key
    main: Key
    other: Key

    @property
    def scheme(self) -> str:
        return "https" if self.authority else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@contextmanager
def running(
    *, tls: bool, settings: dict[str, object] | None = None, mount: bool = False
) -> Iterator[Site]:
    """A daemon with four drives on a real file system: /tmp may be memory, and small."""
    from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness

    with tempfile.TemporaryDirectory(prefix="twofold-conformance-", dir="/var/tmp") as name:
        folder = Path(name)
        given: dict[str, object] = {
            "s3.users": [
                {
                    "name": name,
                    "access_key": key.access,
                    "secret_key_file": f"{folder}/{name}.secret",
                }
                for name, key in _USERS.items()
            ],
            **(settings or {}),
        }
        for name, key in _USERS.items():
            _write_secret(folder / f"{name}.secret", key.secret)
        authority = _certify(folder, given) if tls else None
        root = Key(access=ACCESS_KEY, secret=SECRET_KEY)
        with DaemonHarness(folder, mount=mount, settings=given) as harness:
            try:
                yield Site(
                    host="127.0.0.1",
                    port=harness.s3_port,
                    authority=authority,
                    folder=folder,
                    root=root,
                    main=MAIN,
                    other=OTHER,
                )
                assert harness.process is not None
                if harness.process.poll() is not None:
                    raise RuntimeError(f"the daemon has ended:\n{harness.log_tail()}")
                harness.stop()
            finally:
                log = CACHE / "results" / f"daemon-{'https' if tls else 'http'}.log"
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(harness.log())


def _certify(folder: Path, settings: dict[str, object]) -> Path:
    """A certificate for this machine's loopback names, put into `settings`; its authority."""
    import trustme

    maker = trustme.CA()
    issued = maker.issue_cert("127.0.0.1", "localhost", "*.localhost")
    authority, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    maker.cert_pem.write_to_path(str(authority))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(certificate), append=True)
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    settings |= {"s3.tls_cert_file": str(certificate), "s3.tls_key_file": str(key)}
    return authority


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """A program's output; what it says goes with the error if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def environment(name: str, packages: Sequence[str]) -> Path:
    """The interpreter of a virtual environment in the cache with `packages`, made if missing."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    stamp = folder / "packages"
    wanted = "\n".join(packages)
    if not (stamp.exists() and stamp.read_text() == wanted):
        CACHE.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "venv", "--clear", folder)
        run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *packages)
        stamp.write_text(wanted)
    return python


def client_of(site: Site, key: Key, service: str = "s3") -> Any:
    """A boto3 client with its defaults."""
    import boto3

    make: Any = boto3.client
    return make(
        service,
        endpoint_url=site.url,
        aws_access_key_id=key.access,
        aws_secret_access_key=key.secret,
        region_name="us-east-1",
        verify=str(site.authority) if site.authority else None,
    )
