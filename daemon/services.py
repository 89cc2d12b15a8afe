"""Each service as a context: entered it runs, left it has stopped.

`daemon.app` nests them, so the order of starting is the order on the page and the order of
stopping is its reverse. A service that fails cancels what is nested in it and raises.
Concurrency: each context owns the tasks it starts.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from daemon.addresses import Address, parse_address
from daemon.backups import Backups
from daemon.drives import Drives, copies_wanted, copy_place
from daemon.events import History
from daemon.lifecycle import StartError
from daemon.patience import PatientIO
from daemon.rejoin import take_drives_back
from daemon.settings import ProviderSettings, S3Settings, Settings
from daemon.witness import Witness
from metadb.errors import MetadataFull, NoUsableCopy, SchemaTooNew, UpgradeFailed
from metadb.sqlite import CopyPlace, Journal, MetadbConfig, SqliteEngine, open_engine
from metadb.trial import hanging, sync_whole
from s3api import http1
from s3api.app import S3App
from s3api.credentials import (
    ROOT,
    Credential,
    IdentityCredentials,
    MemoryCredentials,
    user_account,
)
from s3api.face import Face, accounts_by_owner
from s3api.lifespan import lifespan
from s3api.proxies import parse_networks
from s3api.responses import render_refused_head
from s3api.sigv4 import Verifier
from store.access.ownership import Ownership
from store.access.sealed import Keyring
from store.chunks.config import ChunkConfig
from store.chunks.errors import ChunkError, LabelError
from store.chunks.local import LocalChunks
from store.chunks.pool import Pool, open_drives
from store.chunks.types import DriveId, DriveState
from store.heal import HealConfig, Healer
from store.identity.records import POLICIES_TAG, POLICY_CLAIM_TAG, Provider
from store.namespace import Namespace
from store.rebalance import Rebalancer
from store.scrub import Scrubber, ScrubConfig
from store.state import StoreConfig

log = logging.getLogger(__name__)

_DAY_S = 86400.0
_FRESH_EPOCH = 1
"""Of a pool straight from `init`. It is raised once the database is made, so that the database
is never made a second time for a pool that merely lost sight of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """A store that is up: the namespace for the faces, the rest for reports."""

    namespace: Namespace
    chunks: LocalChunks
    engine: SqliteEngine
    healer: Healer
    scrubber: Scrubber
    rebalancer: Rebalancer
    drives: Drives
    backups: Backups
    allow_single_copy: bool


@asynccontextmanager
async def running(service: Callable[..., Any]) -> AsyncIterator[Any]:
    """Run `service(task_status=...)` around the body; gives what it reported when it started."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(service)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened_store(
    settings: Settings, keyring: Keyring, history: History, journal: Journal | None = None
) -> AsyncIterator[OpenStore]:
    """Drives, then metadata on the trusted copies, then the namespace over both.

    keyring: what users' secrets are sealed under. history: is told what happens. journal: the same
    for each store that this process opens, one after the other. Raises StartError, and PrimaryLost
    (in a group) when the primary's drive fails.
    """
    witness = Witness(Path(settings.state.folder))
    pool = await _open_pool(settings, witness)
    try:
        history.begin(pool.drives)
        chunks = LocalChunks(pool, _chunk_config(settings), on_event=history.hear)
        async with running(chunks.run), _opened_engine(settings, pool, history, journal) as engine:
            config = StoreConfig(inline_max_bytes=settings.metadata.inline_max_bytes)
            namespace = Namespace(engine, chunks, pool.store, config, keyring)
            healer = Healer(engine, chunks, namespace.readers, _heal_config(settings))
            healer.losses.on_loss = lambda loss: history.note("lost", loss.text())
            scrub = ScrubConfig(pass_s=settings.scrub.pass_days * _DAY_S)
            scrubber = Scrubber(engine, chunks, namespace.readers, healer, scrub)
            adopt = settings.heal.adopt_empty
            rate_bytes_s = settings.heal.rate_bytes_s
            rebalancer = Rebalancer(namespace.state, chunks, healer, rate_bytes_s)
            drives = Drives(chunks, engine, healer, rebalancer)
            backups = Backups(engine, settings.backup, Path(settings.state.folder))
            rejoin = partial(take_drives_back, drives, adopt_empty=adopt)
            async with (
                running(engine.run),
                running(namespace.run),
                running(healer.run),
                running(scrubber.run),
                running(rebalancer.run),
                running(rejoin),
                running(backups.run),
            ):
                yield OpenStore(
                    namespace=namespace,
                    chunks=chunks,
                    engine=engine,
                    healer=healer,
                    scrubber=scrubber,
                    rebalancer=rebalancer,
                    drives=drives,
                    backups=backups,
                    allow_single_copy=settings.pool.allow_single_copy,
                )
    finally:
        pool.close()


@asynccontextmanager
async def serving_s3(
    application: http1.Application,
    listeners: Sequence[socket.socket],
    settings: Settings,
    hurry: trio.Event,
) -> AsyncIterator[http1.HttpServer]:
    """The S3 endpoint. Leaving lets requests under way finish, until the deadline or `hurry`."""
    config = http1.HttpConfig(
        stop_timeout_s=settings.stop.deadline_s, render_error=render_refused_head
    )
    # The server closes what it is given; ours stay open, so that over a restart of the store
    # clients wait in the listen queue instead of being refused.
    copies = [each.dup() for each in listeners]
    serve = partial(http1.serve, application, copies, config=config, tls=tls_context(settings.s3))
    async with trio.open_nursery() as watch:
        async with lifespan(application), trio.open_nursery() as serving:
            server: http1.HttpServer = await serving.start(serve)
            yield server
            server.stop()
            watch.start_soon(_cancel_when, hurry, serving.cancel_scope)
        watch.cancel_scope.cancel()


def create_application(
    settings: S3Settings,
    fixed: MemoryCredentials,
    users: Sequence[Credential],
    namespace: Namespace,
) -> http1.Application:
    """The S3 API for the holders of fixed keys, and for those whom the namespace knows."""
    accounts = accounts_by_owner(user.account for user in users)
    credentials = IdentityCredentials(fixed, namespace.identity, accounts.values())
    _fix_providers(settings.oidc, namespace)
    domains = _encoded(settings.domains)
    face = Face(
        namespace=namespace,
        verifier=Verifier(credentials, region=settings.region, domains=domains),
        region=settings.region,
        domains=domains,
        website_domains=_encoded(settings.website_domains),
        object_ownership=(
            Ownership(settings.object_ownership) if settings.object_ownership else None
        ),
        block_public_access=settings.block_public_access,
        trusted_proxies=parse_networks(settings.trusted_proxies),
        accounts=accounts,
    )
    return S3App(face)


def _fix_providers(providers: Sequence[ProviderSettings], namespace: Namespace) -> None:
    """Have the configured OpenID providers believed."""
    for each in providers:
        account = user_account(each.account) if each.account else ROOT
        tags = {POLICIES_TAG: ",".join(each.policies), POLICY_CLAIM_TAG: each.claim}
        provider = Provider(
            url=each.url,
            made_s=int(time.time()),
            clients=each.audiences,
            tags={name: text for name, text in tags.items() if text},
        )
        namespace.identity.providers.fix(account.id, provider)


def _encoded(domains: Sequence[str]) -> tuple[bytes, ...]:
    """As they stand in a Host header; the longest first, so that the closest one counts."""
    encoded = [domain.lower().encode("idna") for domain in domains]
    return tuple(sorted(encoded, key=len, reverse=True))


async def bind_all(name: str, listen: Sequence[str]) -> list[socket.socket]:
    """Listening sockets at all the addresses of a setting. Raises StartError."""
    sockets: list[socket.socket] = []
    for text in listen:
        address = parse_address(text)
        try:
            sockets += await http1.open_listeners(address.host or None, address.port)
        except OSError as error:
            for each in sockets:
                each.close()
            raise StartError(f"{name}: can't listen at {text}: {error.strerror}") from error
    return sockets


def urls_of(listeners: Sequence[socket.socket], scheme: str) -> list[str]:
    """How a program on this machine reaches these sockets."""
    addresses = [Address(host=name[0], port=name[1]) for name in map(_name, listeners)]
    return list(dict.fromkeys(f"{scheme}://{each.reachable()}" for each in addresses))


def tls_context(settings: S3Settings) -> ssl.SSLContext | None:
    """The certificate as configured, None for plain HTTP. Raises StartError."""
    if not settings.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"s3.tls_cert_file: {settings.tls_cert_file} and its key don't fit: {error}"
        ) from error
    return context


async def _open_pool(settings: Settings, witness: Witness) -> Pool:
    def open_and_judge() -> Pool:
        pool = open_drives(settings.pool.drives, io=PatientIO)
        seen = witness.seen()
        try:
            if not settings.pool.accept_missing:
                pool.refuse_doubtful(seen)
        except LabelError:
            pool.close()
            raise
        if seen != pool.standing:
            witness.note(pool.standing)
        pool.on_raise = witness.note
        return pool

    try:
        # A drive that hangs must not keep a stop from being heard.
        return await trio.to_thread.run_sync(open_and_judge, abandon_on_cancel=True)
    except LabelError as error:
        raise StartError(str(error)) from error


@asynccontextmanager
async def _opened_engine(
    settings: Settings, pool: Pool, history: History, journal: Journal | None
) -> AsyncIterator[SqliteEngine]:
    journal = journal or Journal()
    places = await _places_that_answer(pool, journal.hung_drives, settings.pool.io_deadline_s)
    if journal.bytes_unsynced:
        # Rows must not outlive the bytes they name, and whose process wrote those is over.
        for place in await sync_whole(places, settings.pool.flush_deadline_s):
            log.warning("%s: not all that was written here is durable", place.path)
        journal.bytes_unsynced = False
    config = MetadbConfig(
        copies=copies_wanted(pool),
        flush_interval_s=settings.metadata.flush_interval_s,
        cache_bytes=settings.metadata.cache_bytes,
    )

    # The drives that are missing get to know by their lower epoch that they missed something. On
    # the first start there is nothing yet to be missed.
    fresh = pool.epoch == _FRESH_EPOCH
    someone_missing = len(places) < len(pool.drives)

    async def note_ejected(drive: str) -> None:
        found = pool.by_id.get(DriveId(drive))
        if found is not None:  # Else another took its place before the copy was found missing.
            path = str(found.io.path)
            history.note("metadata", "its copy failed and is given up", path=path)
        await pool.raise_epoch(leave_out=DriveId(drive))

    serving = False
    try:
        if someone_missing and not fresh:
            await pool.raise_epoch()
        async with open_engine(
            places, config=config, on_eject=note_ejected, create=fresh, journal=journal
        ) as engine:
            if fresh:
                await pool.raise_epoch()
            serving = True
            yield engine
    except (NoUsableCopy, SchemaTooNew, UpgradeFailed, MetadataFull, ChunkError) as error:
        if serving:
            raise StartError(f"stopped, but not all was flushed at the end: {error}") from error
        raise StartError(f"the metadata can't be opened: {error}") from error


async def _places_that_answer(
    pool: Pool, known_hung: Set[str], deadline_s: float
) -> list[CopyPlace]:
    """Where copies may stand, on drives that are there; those that hang are fenced."""
    places = []
    for drive in pool.drives:
        if drive.id in known_hung:
            drive.note_hung("flush")
        elif drive.state is not DriveState.OFFLINE:
            places.append(copy_place(drive))
    for place in await hanging(places, deadline_s):
        pool.by_id[DriveId(place.drive)].note_hung("write")
        places.remove(place)
    return places


def _chunk_config(settings: Settings) -> ChunkConfig:
    pool = settings.pool
    return ChunkConfig(
        stripe_bytes=pool.stripe_bytes,
        segment_bytes=pool.segment_bytes,
        allow_single_copy=pool.allow_single_copy,
        io_deadline_s=pool.io_deadline_s,
        flush_deadline_s=pool.flush_deadline_s,
    )


def _heal_config(settings: Settings) -> HealConfig:
    heal = settings.heal
    return HealConfig(wait_s=heal.wait_s, rate_bytes_s=heal.rate_bytes_s)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _name(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return str(host), int(port)
