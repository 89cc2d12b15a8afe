"""A gibibyte through either door, and out of the other, byte for byte.

In CI 192 MiB, which is two dozen parts and many stripes; TWOFOLD_FULL=1 makes it the gibibyte.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any

from tests.cases.conftest import FULL, Shell
from tests.cases.doors import etag, sha256_of, write_pieces

SIZE = (1024 if FULL else 192) << 20
PIECE = 1 << 20


def test_a_boto3_multipart_upload_is_read_on_the_mount(
    s3: Any, bucket: str, box: Path, work: Path
) -> None:
    wanted = write_pieces(work / "source", SIZE)
    s3.upload_file(str(work / "source"), bucket, "large")
    assert (box / "large").stat().st_size == SIZE
    assert sha256_of(box / "large") == wanted
    parts = -(-SIZE // (8 << 20))
    assert etag(s3, bucket, "large").endswith(f"-{parts}"), "it was no multipart upload"


def test_a_file_written_by_dd_is_read_by_aws_s3_cp(
    bucket: str, box: Path, work: Path, shell: Shell
) -> None:
    wanted = write_pieces(work / "source", SIZE)
    shell("dd", f"if={work / 'source'}", f"of={box / 'large'}", "bs=1M", "conv=fsync")
    shell("aws", "s3", "cp", "--quiet", f"s3://{bucket}/large", work / "target")
    assert sha256_of(work / "target") == wanted


def test_a_file_written_at_random_offsets_is_read_by_aws_s3_cp(
    bucket: str, box: Path, work: Path, shell: Shell
) -> None:
    wanted = write_pieces(work / "source", SIZE)
    # Cuts at odd places, so that pieces share stripes and pages; then in any order.
    chance = random.Random(7)
    cuts = sorted({0, SIZE, *(chance.randrange(SIZE) for _ in range(SIZE // PIECE))})
    ranges = list(itertools.pairwise(cuts))
    chance.shuffle(ranges)
    target = os.open(box / "large", os.O_CREAT | os.O_WRONLY)
    source = os.open(work / "source", os.O_RDONLY)
    try:
        for start, stop in ranges:
            while start < stop:
                start += os.pwrite(target, os.pread(source, min(PIECE, stop - start), start), start)
    finally:
        os.close(source)
        os.close(target)
    shell("aws", "s3", "cp", "--quiet", f"s3://{bucket}/large", work / "target")
    assert sha256_of(work / "target") == wanted
    assert sha256_of(box / "large") == wanted
