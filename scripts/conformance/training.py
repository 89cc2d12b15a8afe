"""What torch, safetensors and huggingface_hub do themselves, on a folder of the mount.

    python training.py FOLDER

Run by `posix` with a Python that has these libraries (any build of torch: all of it is done on the
processor). Each step checks what it reads back, and raises when something is wrong. The last two
lines of the output are the libraries with their versions, and what was done.
The hub is a server of this process that answers as huggingface.co does, with one model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RANKS = 2
WORKERS = 4
SAMPLES = 2_000
STEPS = 3
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "twofold/model"
MODEL = {
    "config.json": b'{"layers": 2}',
    "model.safetensors": random.Random(1).randbytes(24 << 20),
    "tokenizer/vocabulary.txt": b"one\ntwo\n" * 1_000,
}


def same(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{str(found)[:200]} is not {str(wanted)[:200]}")


# -- torch -----------------------------------------------------------------------------------


def layers(seed: int) -> dict[str, Any]:
    import torch

    made = torch.Generator().manual_seed(seed)
    return {f"layer.{n}": torch.rand((512, 512 + n), generator=made) for n in range(8)}


def check_layers(found: dict[str, Any], seed: int) -> None:
    import torch

    wanted = layers(seed)
    same(sorted(found), sorted(wanted))
    for name, tensor in wanted.items():
        same(torch.equal(found[name], tensor), True)


def saved_and_loaded(folder: Path) -> None:
    """As trainers keep their last and best: beside it, then in its place, older ones removed."""
    import torch

    for step in range(6):
        beside = folder / f"step={step}.ckpt.tmp"
        torch.save({"step": step, "state": layers(step)}, beside)
        os.replace(beside, folder / f"step={step}.ckpt")
        link = folder / "last.ckpt.tmp"
        link.symlink_to(f"step={step}.ckpt")
        os.replace(link, folder / "last.ckpt")
        if step >= 2:
            (folder / f"step={step - 2}.ckpt").unlink()
        for mapped in (False, True):
            kept = torch.load(folder / "last.ckpt", mmap=mapped, weights_only=True)
            same(kept["step"], step)
            check_layers(kept["state"], step)
    same(len(list(folder.iterdir())), 3)


def replaced_while_mapped(folder: Path) -> None:
    """Who has mapped a checkpoint goes on with its bytes when another takes its place."""
    import torch

    torch.save(layers(1), folder / "model.pt")
    mapped = torch.load(folder / "model.pt", mmap=True, weights_only=True)
    torch.save(layers(2), folder / "new.pt")
    os.replace(folder / "new.pt", folder / "model.pt")
    check_layers(mapped, 1)
    check_layers(torch.load(folder / "model.pt", mmap=True, weights_only=True), 2)


def storage_shared_by_processes(folder: Path) -> None:
    """A tensor that is a file: what one process writes, another reads."""
    import torch

    path, count = str(folder / "shared.bin"), 1 << 20
    tensor = torch.from_file(path, shared=True, size=count, dtype=torch.float32)
    tensor.copy_(torch.arange(count))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        same(pool.apply(_sum_of, (path, count)), float(tensor.double().sum()))


def _sum_of(path: str, count: int) -> float:
    import torch

    found = torch.from_file(path, shared=False, size=count, dtype=torch.float32)
    return float(found.double().sum())


def distributed_checkpoints(folder: Path) -> None:
    """torch.distributed.checkpoint by several ranks at once, over and over into one folder."""
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(rank, str(folder))) for rank in range(RANKS)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
        same(each.exitcode, 0)


def _rank(rank: int, name: str) -> None:
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    folder = Path(name)
    meeting = f"file://{folder.parent / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    for step in range(STEPS):
        # Each rank has layers of its own beside those that all have.
        state = {**layers(step), f"own.{rank}": torch.full((300_000,), rank * 100.0 + step)}
        dcp.save(state, checkpoint_id=folder)
        empty = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
        dcp.load(empty, checkpoint_id=folder)
        same(bool((empty.pop(f"own.{rank}") == rank * 100.0 + step).all()), True)
        check_layers(empty, step)
        dist.barrier()
    dist.destroy_process_group()


def samples_by_workers(folder: Path) -> None:
    """A DataLoader with workers over many small files, shuffled, twice."""
    from torch.utils.data import DataLoader

    for number in range(SAMPLES):
        (folder / f"{number:05d}.bin").write_bytes(_sample(number))
    loader = DataLoader(
        _Samples(str(folder)),
        batch_size=32,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    for _ in range(2):
        numbers = [int(number) for batch in loader for number in batch]
        same(sorted(numbers), list(range(SAMPLES)))


def _sample(number: int) -> bytes:
    return number.to_bytes(4, "big") * (256 + number % 4096)


class _Samples:
    """A map-style dataset: the number in a file, once all of it is right."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> int:
        with open(f"{self.folder}/{number:05d}.bin", "rb") as file:
            body = file.read()
        same(body, _sample(number))
        return int.from_bytes(body[:4], "big")


def safetensors_of_torch(folder: Path) -> None:
    """save_file and load_file, and one tensor at a time through the mapping."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    save_file(layers(7), folder / "model.safetensors", metadata={"format": "pt"})
    check_layers(load_file(folder / "model.safetensors"), 7)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        check_layers({name: file.get_tensor(name) for name in file.keys()}, 7)  # noqa: SIM118


# -- huggingface_hub -------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """One model at one commit, with ranges."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{REPOSITORY}"):
            names = [{"rfilename": name} for name in MODEL]
            told = {"id": REPOSITORY, "sha": COMMIT, "siblings": names, "private": False}
            body, start = json.dumps(told).encode(), 0
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in MODEL.items()
            ]
            if "/tree/" in path:
                body = json.dumps(tree).encode()
            headers = {"Content-Type": "application/json"}
        else:
            name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
            if name not in MODEL:
                self.send_error(404)
                return
            body = MODEL[name]
            start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
            headers = {"ETag": f'"{_etag(body)}"', "X-Repo-Commit": COMMIT}
            headers["Accept-Ranges"] = "bytes"
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(206 if start else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if with_body:
            self.wfile.write(body[start:])


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cache_of_models(folder: Path) -> None:
    """Several processes ask for one model at once; then one does without the hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_DISABLE_XET"] = "1"
    kept = folder / f"models--{REPOSITORY.replace('/', '--')}"
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS) as pool:
        found = pool.starmap(_snapshot, [(str(folder), False)] * WORKERS)
        server.shutdown()
        found += pool.starmap(_snapshot, [(str(folder), True)])
    same(set(found), {str(kept / "snapshots" / COMMIT)})
    for name, content in MODEL.items():
        path = Path(found[0]) / name
        same(path.is_symlink(), True)
        same(path.read_bytes() == content, True)
    left = [each.name for each in (kept / "blobs").iterdir()]
    same(sorted(left), sorted(_etag(content) for content in MODEL.values()))


def _snapshot(folder: str, offline: bool) -> str:
    import huggingface_hub

    return str(
        huggingface_hub.snapshot_download(REPOSITORY, cache_dir=folder, local_files_only=offline)
    )


STEPS_DONE = (
    saved_and_loaded,
    replaced_while_mapped,
    storage_shared_by_processes,
    distributed_checkpoints,
    samples_by_workers,
    safetensors_of_torch,
    cache_of_models,
)
DID = (
    f"save, load and load(mmap=True) with renames between, checkpoints of {RANKS} ranks by"
    f" torch.distributed.checkpoint, a DataLoader of {WORKERS} workers over {SAMPLES:,} files,"
    f" tensors in shared mappings, safetensors, snapshot_download by {WORKERS} processes at once"
)


def main() -> None:
    folder = Path(sys.argv[1])
    for step in STEPS_DONE:
        place = folder / step.__name__
        place.mkdir()
        step(place)
    libraries = ("torch", "safetensors", "huggingface_hub")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries))
    print(DID)


if __name__ == "__main__":
    main()
