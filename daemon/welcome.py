"""Text for people: what a newcomer reads when the daemon is ready, and `twofold status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from daemon.report import (
    BackupStatus,
    DriveReport,
    EventReport,
    HealStatus,
    RebalanceStatus,
    Report,
    ScrubStatus,
    duration_text,
    size_text,
)
from daemon.rootkey import RootKey

_EVENTS_SHOWN = 5


def welcome_text(report: Report, key: RootKey, region: str) -> str:
    """How to reach the store. The secret stands there only if it was made by this start."""
    endpoint = report.s3_endpoints[0]
    if key.made:
        secret = key.secret_key
    elif key.file is None:
        secret = "as in TWOFOLD_ROOT_PASSWORD"
    else:
        secret = f"in {key.file}"
    lines = [
        "",
        "twofold is ready.",
        "",
        f"  S3 endpoint  {endpoint}",
        f"  Access key   {key.access_key}",
        f"  Secret key   {secret}",
        f"  Mount        {_mount_text(report)}",
        *(f"  Status page  {url}" for url in report.console_urls),
        "",
        "Try it in another terminal:",
        "",
        f"  {_exports(endpoint, key, region)}",
        f"  {_program('aws')} s3 mb s3://hello; {_program('aws')} s3 cp /etc/hostname s3://hello/",
        f'  {_program("python3")} -c \'import boto3; s3 = boto3.client("s3"); '
        'print(s3.list_objects_v2(Bucket="hello")["Contents"])\'',
    ]
    if report.mount.state == "mounted":
        lines.append(f"  ls -l {report.mount.path}/hello")
    return "\n".join([*lines, ""])


def status_text(report: Report) -> str:
    """The report for a terminal."""
    lines = [
        f"twofold {report.version} is {report.phase}, up for {duration_text(report.uptime_s)}",
        "",
        f"  S3           {', '.join(report.s3_endpoints)}",
        f"  Console      {', '.join(report.console_urls) or 'off'}",
        f"  Mount        {_mount_text(report)}",
    ]
    pool = report.pool
    if pool is None:
        return "\n".join([*lines, "  Drives       not open yet"])
    code = f"{pool.k} data + {pool.m} parity" if pool.writable else "nothing can be written"
    lines += [
        f"  Space        {size_text(pool.free_bytes)} free of {size_text(pool.total_bytes)}",
        f"  Redundancy   {code}",
        f"  Damage       {pool.damaged_fragments} damaged fragments found while reading",
        f"  Heal         {heal_text(pool.heal)}",
        f"  Scrub        {_scrub_text(pool.scrub)}",
        f"  Rebalance    {rebalance_text(pool.rebalance)}",
        *([f"  Backup       {backup_text(pool.backup)}"] if pool.backup else []),
        f"  Restarts     {report.restarts}",
        "",
        *table(
            ("DRIVE", "STATE", "FREE", "TOTAL", "ERRORS", "DAMAGED"),
            [
                (
                    drive.path,
                    state_text(drive),
                    size_text(drive.free_bytes),
                    size_text(drive.total_bytes),
                    str(drive.read_errors + drive.write_errors),
                    str(drive.damaged_fragments),
                )
                for drive in pool.drives
            ],
        ),
        "",
        *table(
            ("METADATA", f"ROLE ({len(pool.copies)} of {pool.copies_wanted})"),
            [(copy.path, copy.role) for copy in pool.copies],
        ),
    ]
    happened = [event for event in report.events if event.what != "daemon"]
    if happened:
        lines += ["", "  LAST EVENTS (twofold events shows more)"]
        lines += [f"  {event_line(event)}" for event in happened[-_EVENTS_SHOWN:]]
    return "\n".join(lines)


def state_text(drive: DriveReport) -> str:
    """A drive's state, why, and whether it is on its way out."""
    parts = [drive.cause] if drive.cause else []
    if drive.draining:
        parts.append("draining")
    return f"{drive.state} ({', '.join(parts)})" if parts else drive.state


def event_line(event: EventReport) -> str:
    """When and what, in a line."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at_s))
    return f"{at}  {event.text()}"


def backup_text(backup: BackupStatus) -> str:
    """How far back a restore could go now, in a line."""
    if backup.fault:
        return f"failed: {backup.fault}"
    if not backup.taken_s:
        return f"none yet in {backup.target}"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(backup.taken_s))
    return f"changes up to {backup.sequence} at {at}, in {backup.target}"


def heal_text(heal: HealStatus | None) -> str:
    """What heal is doing, in a line."""
    if heal is None or (heal.state == "idle" and heal.heals_in_s is None and not heal.losses):
        return "nothing is left to be healed"
    parts = []
    if heal.state == "healing":
        left = f"{heal.segments_left} segments, about {size_text(heal.bytes_left)} left"
        parts.append(left if heal.eta_s is None else f"{left}, {duration_text(heal.eta_s)}")
    if heal.waiting_segments:
        parts.append(f"{heal.waiting_segments} segments wait for a drive to be healed on")
    if heal.given_up_segments:
        parts.append(f"{heal.given_up_segments} segments have stripes that can't be had")
    if heal.losses:
        parts.append(f"{heal.lost_stripes} stripes can't be had at present")
    if heal.heals_in_s is not None:
        parts.append(f"a drive that is away is given up in {duration_text(heal.heals_in_s)}")
    return "; ".join(parts) or heal.state


def rebalance_text(status: RebalanceStatus | None) -> str:
    """What is being moved or rewritten, in a line."""
    if status is None or status.state == "idle":
        return "nothing is left to be moved"
    parts = [f"{status.state}: {status.cause}" if status.cause else status.state]
    if status.bytes_left:
        parts.append(f"about {size_text(status.bytes_left)} left")
    if status.eta_s is not None:
        parts.append(duration_text(status.eta_s))
    return ", ".join(parts)


def _scrub_text(scrub: ScrubStatus | None) -> str:
    if scrub is None:
        return "-"
    parts = [scrub.state]
    if scrub.state != "resting":
        parts.append(f"{scrub.now.segments} of {scrub.segments} segments")
    found = scrub.now if scrub.last is None or scrub.now.segments else scrub.last
    parts.append(f"{found.repaired} of {found.damaged} damaged fragments repaired")
    if found.lost_stripes:
        parts.append(f"{found.lost_stripes} stripes are lost")
    return ", ".join(parts)


def _mount_text(report: Report) -> str:
    if report.mount.state == "mounted":
        return report.mount.path
    return (
        f"{report.mount.path} ({report.mount.state})" if report.mount.path else report.mount.state
    )


def _exports(endpoint: str, key: RootKey, region: str) -> str:
    """A line that points AWS clients here, with the secret left in its file where there is one."""
    where = f"AWS_ENDPOINT_URL={endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region}"
    if key.file is not None:
        return f"export {where} AWS_SHARED_CREDENTIALS_FILE={key.file}"
    return (
        f'export {where} AWS_ACCESS_KEY_ID="$TWOFOLD_ROOT_USER"'
        ' AWS_SECRET_ACCESS_KEY="$TWOFOLD_ROOT_PASSWORD"'
    )


def _program(name: str) -> str:
    """A program of our own environment if it is there, else whichever the reader has."""
    ours = Path(sys.prefix) / "bin" / name
    return str(ours) if ours.exists() else name


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with columns as wide as need be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
