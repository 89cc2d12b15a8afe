"""The composition root: which parts there are, in which order they start and stop.

    signals, watchdog            as long as the process lives
    control socket, console      so that health can be asked at any time
      drives -> metadata -> namespace
        mount
          S3 endpoint

Stopping goes the other way: S3 finishes its requests, the mount goes away, the namespace makes
everything durable, the metadata is checkpointed, the drives are let go.

When the drive of the primary database fails (PrimaryLost), the inner part is torn down and built
again in this process, on another copy. Not by exec(2): that has to wait for threads to end, and one
that hangs in I/O on the failed drive never does; and here the listening sockets stay open, so new
requests wait for the restart instead of being refused. Nothing that was answered is lost with it:
what the copy lacks is done on it again (`metadb.journal`). Where the loop itself hangs on a drive,
`daemon.loopwatch` ends the process.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import trio

from daemon import VERSION
from daemon.buckettalk import BucketTalk
from daemon.config import control_socket, master_key_file, root_key_file
from daemon.console import create_console, serve_console
from daemon.control import BUCKET, MOUNT, serve_control
from daemon.drivetalk import DRIVE, DriveTalk
from daemon.events import History
from daemon.fscktalk import FSCK, FsckTalk
from daemon.heldkeys import HeldKeys
from daemon.identitydesk import IdentityDesk
from daemon.identitytalk import IDENTITY, IdentityTalk
from daemon.lifecycle import StartError, StopRequest, locked_folder, prepare_process
from daemon.logs import start_logging
from daemon.loopwatch import LoopWatch, inherited_journal, leave_to_another
from daemon.masterkey import MasterKeyError, load_master_keys
from daemon.metatalk import META, MetaTalk
from daemon.mounting import Mount
from daemon.notify import Notifier
from daemon.report import MountReport, Phase, Report
from daemon.rootkey import RootKeyError, load_root_key
from daemon.services import (
    OpenStore,
    bind_all,
    create_application,
    opened_store,
    serving_s3,
    urls_of,
)
from daemon.settings import Settings
from daemon.storereport import pool_report
from daemon.undeletetalk import UNDELETE, UndeleteTalk
from daemon.userkeys import UserKeyError, load_users
from daemon.welcome import welcome_text
from metadb.errors import PrimaryLost
from metadb.sqlite import Journal
from s3api import http1
from s3api.credentials import Credential
from s3api.face import accounts_by_owner
from store.buckets import Buckets
from store.chunks.buffers import tune_allocator
from store.namespace import Namespace
from store.trash import Trash

__all__ = ["StartError", "serve_until_stopped"]

log = logging.getLogger(__name__)

_RESTARTS_MAX = 5
_RESTARTS_WITHIN_S = 60.0
_EVENTS_SHOWN = 100


def serve_until_stopped(
    settings: Settings, environment: Mapping[str, str], welcome: Callable[[str], None] | None
) -> int:
    """Run the daemon to its clean end; its exit code. Raises StartError.

    welcome: shown the text for newcomers when the daemon is ready.
    """
    prepare_process()
    tune_allocator()
    with locked_folder(Path(settings.state.folder)):
        try:
            key = load_root_key(root_key_file(settings), environment)
            users = load_users(settings.s3.users, key)
            master = load_master_keys(master_key_file(settings), environment)
        except (RootKeyError, UserKeyError, MasterKeyError) as error:
            raise StartError(str(error)) from error
        secrets = [key.secret_key, *(user.secret_key for user in users)]
        start_logging(settings.log.level, environment, secrets)
        if key.made:
            log.info("made the root key %s, kept in %s", key.access_key, key.file)
        if master.made:
            log.info("made the master key, kept in %s", master.file)
        keys = HeldKeys(key, users, master)
        daemon = Daemon(settings, keys, users, Notifier(environment), welcome)
        try:
            trio.run(daemon.run)
        except BaseExceptionGroup as group:
            # One reason is enough for people; whatever else fell with it is in the log.
            found = group.subgroup(StartError)
            if found is None:
                raise
            raise _first(found) from group
    return 0


class Daemon:
    """One process's worth of state: what it serves, and how it is."""

    def __init__(
        self,
        settings: Settings,
        keys: HeldKeys,
        users: Sequence[Credential],
        notifier: Notifier,
        welcome: Callable[[str], None] | None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._users = users
        self._notifier = notifier
        self._welcome = welcome
        self._stop = StopRequest()
        self._phase: Phase = "starting"
        self._started_s = time.monotonic()
        self._restarts: deque[float] = deque(maxlen=_RESTARTS_MAX)
        self._restart_count = 0
        # What was answered and only the primary has: the next one is given it when that is lost.
        self._journal = Journal()
        try:
            self._journal.unpack(inherited_journal(Path(settings.state.folder)))
        except (OSError, ValueError) as error:
            log.error("what the process before this one handed over is of no use: %s", error)
        self._store: OpenStore | None = None
        self._server: http1.HttpServer | None = None
        self._mount = Mount(settings.mount, settings.stop.deadline_s, control_socket(settings))
        self._s3_urls: list[str] = []
        self._console_urls: list[str] = []
        self._history = History(Path(settings.state.folder))

    async def run(self) -> None:
        """Start, serve, stop. Returns after a clean stop."""
        settings = self._settings
        async with trio.open_nursery() as nursery:
            await nursery.start(self._stop.listen)
            nursery.start_soon(self._notifier.watch)
            folder = Path(settings.state.folder)
            give_up = partial(leave_to_another, self._notifier, self._journal.pack, folder)
            await nursery.start(LoopWatch(settings.pool.io_deadline_s, give_up).run)
            s3 = await bind_all("s3.listen", settings.s3.listen)
            console = await bind_all("console.listen", settings.console.listen)
            self._s3_urls = urls_of(s3, "https" if settings.s3.tls_cert_file else "http")
            self._console_urls = urls_of(console, "http")
            await nursery.start(self._history.run)
            nursery.start_soon(self._serve_control)
            if console:
                await nursery.start(serve_console, create_console(self.report), console)
            await self._serve_store(s3)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    def report(self) -> Report:
        """How everything is, from memory alone."""
        server, store = self._server, self._store
        statistics = None if server is None else server.statistics()
        return Report(
            version=VERSION,
            pid=os.getpid(),
            phase=self._phase,
            uptime_s=round(time.monotonic() - self._started_s, 3),
            restarts=self._restart_count,
            s3_endpoints=self._s3_urls,
            console_urls=self._console_urls,
            mount=MountReport(path=self._mount.path, state=self._mount.state),
            s3_connections=0 if statistics is None else statistics.connection_count,
            s3_requests=0 if statistics is None else statistics.request_count,
            pool=None if store is None else pool_report(store),
            events=self._history.recent(_EVENTS_SHOWN),
        )

    async def _serve_control(self) -> None:
        path = control_socket(self._settings)
        try:
            buckets = BucketTalk(self._buckets, self._owners())
            drives = DriveTalk(lambda: self._store)
            desk = IdentityDesk(self._namespace, [user.account for user in self._users], self._keys)
            undelete = UndeleteTalk(self._trash)
            talks = {
                MOUNT: self._mount.talk,
                BUCKET: buckets.talk,
                DRIVE: drives.talk,
                UNDELETE: undelete.talk,
                IDENTITY: IdentityTalk(desk.answer).talk,
                META: MetaTalk(lambda: self._store).talk,
                FSCK: FsckTalk(lambda: self._store).talk,
            }
            await serve_control(path, self.report, talks)
        except OSError as error:
            raise StartError(f"{path}: can't be the control socket: {error.strerror}") from error

    def _namespace(self) -> Namespace | None:
        return None if self._store is None else self._store.namespace

    def _trash(self) -> Trash | None:
        return None if self._store is None else self._store.namespace.trash

    def _buckets(self) -> Buckets | None:
        return None if self._store is None else self._store.namespace.buckets

    def _owners(self) -> dict[str, str]:
        accounts = accounts_by_owner(user.account for user in self._users)
        return {owner: account.name for owner, account in accounts.items()}

    async def _serve_store(self, listeners: list[socket.socket]) -> None:
        """Serve until asked to stop, over losses of the primary database."""
        while True:
            try:
                await self._serve_once(listeners)
            except BaseExceptionGroup as group:
                lost, rest = group.split(PrimaryLost)
                if lost is None or not isinstance(rest, ExceptionGroup | None):
                    raise
                cause = str(_first(lost))
                log.error("the primary copy of the metadata is lost: %s; restarting", cause)
                self._history.note("metadata", f"the primary copy is lost: {cause}")
                if rest is not None:
                    log.error("what fell with it", exc_info=rest)
            else:
                return
            finally:
                self._store = self._server = None
            if self._stop.requested.is_set():
                # What was acknowledged is on the copies; the next start goes on from one.
                return
            self._note_restart()

    async def _serve_once(self, listeners: list[socket.socket]) -> None:
        settings, stop = self._settings, self._stop
        keyring = self._keys.master.keyring
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as watch:
                watch.start_soon(self._give_up_start, scope)
                history, journal = self._history, self._journal
                async with opened_store(settings, keyring, history, journal) as store:
                    self._store = store
                    async with self._mount.mounted(store.namespace):
                        application = create_application(
                            settings.s3, self._keys.fixed, self._users, store.namespace
                        )
                        async with serving_s3(application, listeners, settings, stop.hurry) as s3:
                            self._server = s3
                            self._become_ready()
                            await stop.requested.wait()
                            self._phase = "stopping"
                            self._notifier.stopping()
                            # Who comes now is refused instead of waiting for nobody.
                            for each in listeners:
                                each.close()
                watch.cancel_scope.cancel()

    async def _give_up_start(self, scope: trio.CancelScope) -> None:
        """A stop that comes before we are ready has nothing to finish."""
        await self._stop.requested.wait()
        # By now it may be "stopping": that is a stop in order, which finishes what is under way.
        if self._phase in ("starting", "restarting"):
            scope.cancel()

    def _become_ready(self) -> None:
        self._phase = "ready"
        self._history.note("daemon", "", after="ready")
        report = self.report()
        line = f"S3 at {', '.join(self._s3_urls)}; mount {report.mount.path} {report.mount.state}"
        log.info("ready: %s", line)
        self._notifier.ready(line)
        if self._welcome is not None:
            self._welcome(welcome_text(report, self._keys.root, self._settings.s3.region))
            self._welcome = None

    def _note_restart(self) -> None:
        """Count it; too many in a short time means that restarting does not help."""
        now = time.monotonic()
        self._phase = "restarting"
        self._notifier.status("restarting on another copy of the metadata")
        self._restart_count += 1
        self._restarts.append(now)
        if len(self._restarts) == _RESTARTS_MAX and now - self._restarts[0] < _RESTARTS_WITHIN_S:
            raise StartError(f"the metadata was lost {_RESTARTS_MAX} times in a minute: giving up")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that isn't a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
