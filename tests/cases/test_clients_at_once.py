"""Many clients at once: what each is told holds, whatever the others do.

Clients are threads over boto3, each with connections of its own.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.cases.doors import get, keys, md5, noise, put


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """`work(index)` in `count` threads that begin at the same moment; the results in order."""
    gate = threading.Barrier(count)

    def begin(index: int) -> Any:
        gate.wait(30)
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_64_clients_with_keys_of_their_own(s3: Any, bucket: str) -> None:
    sizes = [0, 1, 4096, 16_384, 16_385, 100_000, 1 << 20, (1 << 20) + 1]

    def work(index: int) -> None:
        for turn in range(3):
            body = noise(sizes[(index + turn) % len(sizes)], 64 * turn + index)
            key = f"client-{index % 8}/{index}"
            assert put(s3, bucket, key, body) == md5(body)
            assert get(s3, bucket, key) == body

    together(64, work)
    assert keys(s3, bucket) == sorted(f"client-{index % 8}/{index}" for index in range(64))


def test_each_get_is_one_whole_version_of_what_16_clients_put(
    s3: Any, bucket: str, box: Path
) -> None:
    # Every version is its writer's number all through, at a length of its own.
    def version(index: int, turn: int) -> bytes:
        return b"%02d" % index * (150_000 if turn % 2 else 2_000 + index)

    versions = {version(index, turn) for index in range(16) for turn in range(2)}
    etags = {md5(one): one for one in versions}
    put(s3, bucket, "key", version(0, 0))
    ended = threading.Event()
    seen: Counter[str] = Counter()

    def read_s3() -> None:
        while not ended.is_set():
            answer = s3.get_object(Bucket=bucket, Key="key")
            body = answer["Body"].read()
            assert etags[answer["ETag"].strip('"')] == body
            seen["s3"] += 1

    def read_mount() -> None:
        while not ended.is_set():
            assert (box / "key").read_bytes() in versions
            seen["mount"] += 1

    def write(index: int) -> None:
        for turn in range(10):
            body = version(index, turn)
            assert put(s3, bucket, "key", body) == md5(body)

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for read in (read_s3, read_mount, read_s3, read_mount)]
        try:
            together(16, write)
        finally:
            ended.set()
        for reader in readers:
            reader.result()
    assert min(seen["s3"], seen["mount"]) > 10
    final = get(s3, bucket, "key")
    assert final in versions
    assert (box / "key").read_bytes() == final


def test_one_of_many_creates_wins(s3: Any, bucket: str) -> None:
    for turn in range(5):

        def create(index: int, key: str = f"key-{turn}") -> str:
            try:
                put(s3, bucket, key, b"%d" % index, IfNoneMatch="*")
            except ClientError as error:
                return str(error.response["Error"]["Code"])
            return "won"

        outcomes = together(16, create)
        assert Counter(outcomes) == {"won": 1, "PreconditionFailed": 15}
        assert get(s3, bucket, f"key-{turn}") == b"%d" % outcomes.index("won")


def test_one_of_many_swaps_of_the_same_etag_wins(s3: Any, bucket: str) -> None:
    current = put(s3, bucket, "counter", b"0")
    for turn in range(5):

        def swap(index: int, turn: int = turn, old: str = current) -> str:
            try:
                return put(s3, bucket, "counter", b"%d by %d" % (turn, index), IfMatch=old)
            except ClientError as error:
                return str(error.response["Error"]["Code"])

        outcomes = together(12, swap)
        winners = [outcome for outcome in outcomes if outcome != "PreconditionFailed"]
        assert len(winners) == 1, outcomes
        current = winners[0]
        assert md5(get(s3, bucket, "counter")) == current


def test_one_of_many_exclusive_creates_wins_over_both_doors(
    s3: Any, bucket: str, box: Path
) -> None:
    for turn in range(5):
        path = box / f"lock-{turn}"

        def create(index: int, path: Path = path) -> bool:
            try:
                if index % 2:
                    put(s3, bucket, path.name, b"s3", IfNoneMatch="*")
                else:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except (ClientError, FileExistsError):
                return False
            return True

        won = together(8, create)
        # A file that is created but was never closed is no key yet (rule R6), so one of each
        # door may win; never two of the same.
        assert sum(won[0::2]) <= 1
        assert sum(won[1::2]) <= 1
        assert sum(won) >= 1


def test_programs_at_both_doors_do_not_disturb_each_other(s3: Any, bucket: str, box: Path) -> None:
    def work(index: int) -> None:
        for turn in range(15):
            name = f"file-{index}-{turn}"
            body = noise(20_000 * (turn % 3) + index, index * 100 + turn)
            if (index + turn) % 2:
                put(s3, bucket, f"dir/{name}", body)
                assert (box / "dir" / name).read_bytes() == body
                (box / "dir" / name).unlink()
            else:
                (box / "dir").mkdir(exist_ok=True)
                (box / "dir" / name).write_bytes(body)
                assert get(s3, bucket, f"dir/{name}") == body
                s3.delete_object(Bucket=bucket, Key=f"dir/{name}")
            assert not (box / "dir" / name).exists()

    (box / "dir").mkdir()
    together(8, work)
    assert os.listdir(box / "dir") == []
    assert keys(s3, bucket) == []
