"""What training does to a file system: mapped arrays and tensors, checkpoints, caches of models.

numpy and safetensors are used as they are. For torch's distributed checkpoints and for Hugging
Face's cache it is the sequence of system calls that their source makes, without their weight.
Source: torch.distributed.checkpoint.filesystem (FileSystemWriter with sync_files, _metadata by
rename, overwrite); huggingface_hub.file_download (locks, .incomplete, blobs, symbolic links).
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.cases.doors import get, keys, md5, noise, put

WRITERS = 8
TENSORS = 6


def test_a_numpy_array_is_changed_in_place_through_its_mapping(
    s3: Any, bucket: str, box: Path
) -> None:
    path = box / "array.npy"
    wanted = np.arange(3_000_000, dtype=np.float32).reshape(3000, 1000)
    np.save(path, wanted)
    array = np.lib.format.open_memmap(path, mode="r+")
    array[::7, ::3] *= -1
    wanted[::7, ::3] *= -1
    # Another process sees it at once, before anything was written back.
    seen = subprocess.check_output(
        [
            *(sys.executable, "-c"),
            "import numpy, sys; print(numpy.load(sys.argv[1], mmap_mode='r')[7, 3])",
            str(path),
        ],
        text=True,
    )
    assert float(seen) == wanted[7, 3] < 0
    array.flush()
    np.save(box / "wanted.npy", wanted)
    assert get(s3, bucket, "array.npy") == get(s3, bucket, "wanted.npy")
    array[0, 0] = 5
    del array
    assert np.load(path)[0, 0] == 5


def test_what_s3_puts_is_mapped_and_stays_what_it_was_while_it_is(
    s3: Any, bucket: str, box: Path, work: Path
) -> None:
    arrays = [np.full((500, 1000), number, dtype=np.float64) for number in range(2)]
    for number, array in enumerate(arrays):
        np.save(work / f"{number}.npy", array)
    put(s3, bucket, "array.npy", (work / "0.npy").read_bytes())
    mapped = np.load(box / "array.npy", mmap_mode="r")
    assert mapped[0, 0] == 0
    put(s3, bucket, "array.npy", (work / "1.npy").read_bytes())
    assert (mapped == 0).all()
    assert (np.load(box / "array.npy", mmap_mode="r") == 1).all()


def test_safetensors_are_read_through_mappings(s3: Any, bucket: str, box: Path, work: Path) -> None:
    tensors = {
        f"layer.{number}": np.frombuffer(noise(400_000 + number * 8, number), np.uint8)
        for number in range(TENSORS)
    }
    save_file(tensors, work / "model.safetensors")
    s3.upload_file(str(work / "model.safetensors"), bucket, "model.safetensors")
    save_file(tensors, box / "again.safetensors")
    for name in ("model.safetensors", "again.safetensors"):
        with safe_open(box / name, framework="np") as file:
            assert sorted(file.keys()) == sorted(tensors)
            for key in reversed(list(tensors)):
                assert (file.get_tensor(key) == tensors[key]).all()
        assert load_file(box / name).keys() == tensors.keys()
    assert get(s3, bucket, "again.safetensors") == get(s3, bucket, "model.safetensors")


def test_checkpoints_by_many_writers_replace_one_another(s3: Any, bucket: str, box: Path) -> None:
    folder = box / "checkpoint"
    for step in range(3):
        save_checkpoint(folder, step)
        # S3 sees the whole of it as soon as the last rename has been answered.
        described = json.loads(get(s3, bucket, "checkpoint/.metadata"))
        assert described["step"] == step
        for name, digest in described["shards"].items():
            assert md5(get(s3, bucket, f"checkpoint/{name}")) == digest
        names = {f"checkpoint/{name}" for name in (".metadata", *described["shards"])}
        assert set(keys(s3, bucket)) == names


def save_checkpoint(folder: Path, step: int) -> None:
    """As torch does it: each rank its files, then one describes them all by a rename."""
    folder.mkdir(exist_ok=True)
    old = [path for path in folder.iterdir() if path.name.endswith(".distcp")]

    def write(rank: int) -> tuple[str, str]:
        content = noise(300_000 + 50_000 * rank, step * WRITERS + rank)
        name = f"__{rank}_{step}.distcp"
        with (folder / name).open("wb") as file:
            for start in range(0, len(content), 70_000):
                file.write(content[start : start + 70_000])
            file.flush()
            os.fsync(file.fileno())
        return name, md5(content)

    with ThreadPoolExecutor(WRITERS) as writers:
        shards = dict(writers.map(write, range(WRITERS)))
    temporary = folder / ".metadata.tmp"
    with temporary.open("w") as file:
        json.dump({"step": step, "shards": shards}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / ".metadata")
    for path in old:
        path.unlink()
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


@pytest.mark.parametrize("resumed", [False, True], ids=["at once", "in two parts"])
def test_a_cache_of_models_is_filled_by_many_at_once(
    s3: Any, bucket: str, box: Path, resumed: bool
) -> None:
    cache = box / "models--org--model"
    content = noise(900_000)
    if resumed:
        (cache / "blobs").mkdir(parents=True)
        (cache / "blobs" / f"{md5(content)}.incomplete").write_bytes(content[:400_000])
    with ThreadPoolExecutor(WRITERS) as programs:
        found = list(programs.map(lambda _: fetch(cache, "weights.bin", content), range(WRITERS)))
    assert sum(downloaded for downloaded, _ in found) == 1
    for _, path in found:
        assert path.read_bytes() == content
        assert os.readlink(path) == f"../../blobs/{md5(content)}"
    listed = [key for key in keys(s3, bucket) if "blobs" in key]
    assert listed == [f"models--org--model/blobs/{md5(content)}"]
    # The link is a key, since it stays in the bucket (rule R12).
    assert get(s3, bucket, "models--org--model/snapshots/main/weights.bin") == content


def fetch(cache: Path, name: str, content: bytes) -> tuple[bool, Path]:
    """As huggingface_hub does it. Whether it was us who downloaded, and the path."""
    blob, pointer = cache / "blobs" / md5(content), cache / "snapshots" / "main" / name
    lock = cache / ".locks" / f"{blob.name}.lock"
    for path in (blob, pointer, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    if pointer.exists():
        return False, pointer
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if pointer.exists():
            return False, pointer
        incomplete = blob.with_name(f"{blob.name}.incomplete")
        with incomplete.open("ab") as file:
            start = file.tell()
            for place in range(start, len(content), 100_000):
                file.write(content[place : place + 100_000])
        assert incomplete.stat().st_size == len(content)
        incomplete.chmod(0o644)
        incomplete.rename(blob)
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        return True, pointer
    finally:
        os.close(descriptor)
