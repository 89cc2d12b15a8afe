"""Reports to show, for tests of what shows them."""

from __future__ import annotations

from daemon.report import CopyReport, DriveReport, MountReport, Phase, PoolReport, Report


def make_drive(path: str = "/data/d1", state: str = "online", cause: str = "") -> DriveReport:
    return DriveReport(
        path=path,
        id="ab" * 16,
        state=state,
        cause=cause,
        epoch=3,
        total_bytes=4 << 40,
        free_bytes=1 << 40,
        read_errors=1,
        write_errors=2,
        damaged_fragments=3,
    )


def make_report(
    *,
    phase: Phase = "ready",
    drives: list[DriveReport] | None = None,
    writable: bool = True,
    mount: str = "mounted",
) -> Report:
    return Report(
        version="0.0.1",
        pid=4711,
        phase=phase,
        uptime_s=7260.5,
        restarts=0,
        s3_endpoints=["http://127.0.0.1:9000"],
        console_urls=["http://127.0.0.1:9001"],
        mount=MountReport(path="/mnt/tf", state=mount),
        s3_connections=2,
        s3_requests=1000,
        pool=PoolReport(
            store="cd" * 16,
            epoch=3,
            k=2 if writable else 0,
            m=2 if writable else 0,
            parity=2,
            writable=writable,
            total_bytes=8 << 40,
            free_bytes=2 << 40,
            damaged_fragments=3,
            drives=[make_drive()] if drives is None else drives,
            copies=[CopyReport(path="/data/d1", role="primary")],
            copies_wanted=3,
        ),
    )
