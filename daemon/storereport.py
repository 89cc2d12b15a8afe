"""The part of the report that is about drives and metadata copies."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import asdict

from daemon.drives import copies_wanted
from daemon.report import (
    CopyReport,
    DriveReport,
    HealEpisode,
    HealStatus,
    LossReport,
    PoolReport,
    RebalanceEpisode,
    RebalanceStatus,
    ScrubPass,
    ScrubStatus,
)
from daemon.services import OpenStore
from store.chunks.geometry import choose_shards
from store.chunks.types import DriveId
from store.scrub import ScrubRecord

_LOSSES_SHOWN = 100


def pool_report(store: OpenStore) -> PoolReport:
    """From counters in memory; asks no drive."""
    pool = store.chunks.pool
    segments = store.chunks.members.segments()
    held = Counter(drive for segment in segments for drive in segment.members)
    drives = [
        DriveReport(
            path=status.path,
            id=status.id,
            state=status.state.value,
            cause=status.cause,
            epoch=status.epoch,
            total_bytes=status.total_bytes,
            free_bytes=status.free_bytes,
            read_errors=status.read_errors,
            write_errors=status.write_errors,
            damaged_fragments=status.damaged_fragments,
            draining=pool.by_id[status.id].draining,
            segments=held[status.id],
        )
        for status in store.chunks.status()
    ]
    online = sum(drive.placeable for drive in pool.drives)
    staying = sum(not drive.draining for drive in pool.drives)
    writable = online >= (1 if staying == 1 or store.allow_single_copy else 2)
    k, m = choose_shards(online, pool.parity) if writable else (0, 0)
    total_bytes, free_bytes = store.chunks.usable_bytes()
    return PoolReport(
        store=pool.store,
        epoch=pool.epoch,
        k=k,
        m=m,
        parity=pool.parity,
        writable=writable,
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        damaged_fragments=sum(drive.damaged_fragments for drive in drives),
        drives=drives,
        copies=_copies(store),
        copies_wanted=copies_wanted(pool),
        heal=_heal(store),
        scrub=_scrub(store),
        backup=store.backups.report(),
        rebalance=_rebalance(store),
    )


def _heal(store: OpenStore) -> HealStatus:
    report = store.healer.report()
    paths = {drive.id: str(drive.io.path) for drive in store.chunks.pool.drives}
    return HealStatus(
        state=report.state,
        causes=report.causes,
        segments_left=report.segments_left,
        bytes_left=report.bytes_left,
        bytes_per_s=round(report.bytes_per_s, 1),
        eta_s=None if report.eta_s is None else round(report.eta_s, 1),
        waiting_segments=report.waiting_segments,
        given_up_segments=report.given_up_segments,
        mended_fragments=report.mended_fragments,
        suspects=[paths.get(drive, drive) for drive in report.suspects],
        heals_in_s=None if report.heals_in_s is None else round(report.heals_in_s, 1),
        history=[HealEpisode(**asdict(record)) for record in report.history],
        lost_stripes=len(store.healer.losses.stripes()),
        losses=[
            LossReport(**asdict(loss), text=loss.text())
            for loss in store.healer.losses.report(_LOSSES_SHOWN)
        ],
    )


def _scrub(store: OpenStore) -> ScrubStatus:
    report = store.scrubber.report()
    return ScrubStatus(
        state=report.state,
        now=_scrub_pass(report.now),
        last=None if report.last is None else _scrub_pass(report.last),
        segments=report.segments,
        next_s=report.next_s,
    )


def _rebalance(store: OpenStore) -> RebalanceStatus:
    report = store.rebalancer.report()
    return RebalanceStatus(
        state=report.state,
        cause=report.cause,
        want=report.want,
        old_segments=report.old_segments,
        bytes_left=report.bytes_left,
        bytes_per_s=round(report.bytes_per_s, 1),
        eta_s=None if report.eta_s is None else round(report.eta_s, 1),
        moved_members=report.moved_members,
        rewritten_bytes=report.rewritten_bytes,
        spread_points=round(report.spread_points, 1),
        history=[RebalanceEpisode(**asdict(record)) for record in report.history],
    )


def _scrub_pass(record: ScrubRecord) -> ScrubPass:
    fields = asdict(record)
    del fields["segment"]
    return ScrubPass(**fields)


def _copies(store: OpenStore) -> list[CopyReport]:
    paths = {drive.id: str(drive.io.path) for drive in store.chunks.pool.drives}
    holders = [("primary", store.engine.primary_drive)]
    holders += [("copy", drive) for drive in store.engine.copy_drives]
    return [CopyReport(path=paths.get(DriveId(drive), drive), role=role) for role, drive in holders]
