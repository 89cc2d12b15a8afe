"""Multipart uploads through the namespace."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence

import pytest

from store.errors import (
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    NoSuchUpload,
    PartTooSmall,
    PreconditionFailed,
)
from store.types import Buffer, Digests, ObjectMeta, PartClaim, Precondition
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened, until
from tests.store.posix import CALLER, box, broken
from tests.store.test_objects import get, put

BIG = 5 << 20
META = ObjectMeta(content_type="x/y")


def part_bytes(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


class Md5Digester:
    """What the face computes of a copied part."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def update(self, pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            self._md5.update(piece)

    def finish(self) -> Digests:
        return Digests(md5=self._md5.hexdigest(), checksums={})


async def start(opened: Opened, sizes: list[int]) -> tuple[str, list[PartClaim]]:
    uploads = opened.namespace.uploads
    upload_id = await uploads.create("box", "k/big", META)
    claims = []
    for number, size in enumerate(sizes, 1):
        body = BytesBody(part_bytes(number, size), checksums={"CRC32": f"sum{number}"})
        part = await uploads.put_part("box", "k/big", upload_id, number, body)
        claims.append(PartClaim(number=number, etag=part.etag, checksums={}))
    return upload_id, claims


async def test_complete_puts_the_parts_together_and_repeats_itself(opened: Opened) -> None:
    upload_id, claims = await start(opened, [BIG, BIG + 3, 17])
    uploads = opened.namespace.uploads
    md5s = b"".join(bytes.fromhex(claim.etag) for claim in claims)
    for _ in range(2):
        stat = await uploads.complete("box", "k/big", upload_id, claims)
        assert stat.etag == f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-3"
        assert stat.meta.part_sizes == (BIG, BIG + 3, 17)
        assert stat.meta.content_type == "x/y"
    value = part_bytes(1, BIG) + part_bytes(2, BIG + 3) + part_bytes(3, 17)
    assert await get(opened, "k/big") == value
    assert (await uploads.page("box")).entries == []


async def test_parts_are_replaced_and_unclaimed_ones_given_back(opened: Opened) -> None:
    upload_id, claims = await start(opened, [10, BIG, 10])
    uploads = opened.namespace.uploads
    new = await uploads.put_part("box", "k/big", upload_id, 3, BytesBody(b"new"))
    assert [part.number for part in uploads.parts("box", "k/big", upload_id)] == [1, 2, 3]
    claim = PartClaim(number=3, etag=new.etag, checksums={})
    await uploads.complete("box", "k/big", upload_id, [claims[1], claim])
    assert await get(opened, "k/big") == part_bytes(2, BIG) + b"new"
    assert opened.namespace.objects.stat("box", "k/big").meta.part_sizes == (BIG, 3)
    await until(lambda: len(opened.chunks.run_ids) == 2)


async def test_what_complete_refuses_changes_nothing(opened: Opened) -> None:
    upload_id, claims = await start(opened, [BIG, 10, 10])
    complete = opened.namespace.uploads.complete
    wrong = PartClaim(number=1, etag="0" * 32, checksums={})
    wrong_sum = PartClaim(number=1, etag=claims[0].etag, checksums={"CRC32": "other"})
    missing = PartClaim(number=9, etag=claims[0].etag, checksums={})
    for bad, error in [
        ([], InvalidArgument),
        ([wrong], InvalidPart),
        ([wrong_sum], InvalidPart),
        ([claims[0], missing], InvalidPart),
        ([claims[1], claims[0]], InvalidPartOrder),
        ([claims[0], claims[0]], InvalidPartOrder),
        (claims, PartTooSmall),
    ]:
        with pytest.raises(error):
            await complete("box", "k/big", upload_id, bad)
    await put(opened, "k/big", b"there")
    with pytest.raises(PreconditionFailed):
        await complete(
            "box", "k/big", upload_id, claims[:2], precondition=Precondition(if_none_match=("*",))
        )
    assert await get(opened, "k/big") == b"there"
    await complete("box", "k/big", upload_id, claims[:2])
    with pytest.raises(NoSuchUpload):
        await complete("box", "other", upload_id, claims[:2])


async def test_abort_gives_the_bytes_back(opened: Opened) -> None:
    upload_id, claims = await start(opened, [BIG, 10])
    uploads = opened.namespace.uploads
    await uploads.abort("box", "k/big", upload_id)
    await until(lambda: not opened.chunks.run_ids)
    with pytest.raises(NoSuchUpload):
        await uploads.put_part("box", "k/big", upload_id, 1, BytesBody(b"x"))
    with pytest.raises(NoSuchUpload):
        await uploads.complete("box", "k/big", upload_id, claims)
    with pytest.raises(NoSuchUpload):
        await uploads.abort("box", "k/big", upload_id)


@pytest.mark.parametrize("number", [0, -1, 10_001])
async def test_part_numbers_have_bounds(opened: Opened, number: int) -> None:
    upload_id, _ = await start(opened, [])
    with pytest.raises(InvalidArgument):
        await opened.namespace.uploads.put_part("box", "k/big", upload_id, number, BytesBody(b""))


async def test_a_part_can_be_a_range_of_another_object(opened: Opened) -> None:
    value = random.Random(7).randbytes(6 << 20)
    etag = await put(opened, "source", value)
    upload_id, _ = await start(opened, [])
    uploads = opened.namespace.uploads
    before = set(opened.chunks.run_ids)
    part = await uploads.copy_part(
        "box",
        "k/big",
        upload_id,
        1,
        ("box", "source"),
        100,
        100 + BIG,
        source_etag=etag,
        digester=Md5Digester(),
    )
    assert set(opened.chunks.run_ids) == before
    assert part.etag == hashlib.md5(value[100 : 100 + BIG], usedforsecurity=False).hexdigest()
    await uploads.complete(
        "box", "k/big", upload_id, [PartClaim(number=1, etag=part.etag, checksums={})]
    )
    assert await get(opened, "k/big") == value[100 : 100 + BIG]
    with pytest.raises(PreconditionFailed):
        await uploads.copy_part(
            "box",
            "k/big",
            upload_id,
            1,
            ("box", "source"),
            0,
            1,
            source_etag="old",
            digester=Md5Digester(),
        )


@pytest.mark.slow
async def test_parts_copied_from_a_file_with_holes_and_edits_share_its_runs(
    opened: Opened,
) -> None:
    chance = random.Random(9)
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"edited", 0o644, os.O_WRONLY, CALLER)
    size = 24 << 20
    value = bytearray(size)
    for _ in range(40):
        at, piece = chance.randrange(size - 300_000), chance.randbytes(chance.randrange(1, 300_000))
        await handle.write(at, piece)
        value[at : at + len(piece)] = piece
        if chance.random() < 0.3:
            await handle.flush()
    await handle.write(size - 1, b"!")
    value[-1:] = b"!"
    await handle.flush()
    await handle.release()
    etag = opened.namespace.objects.stat("box", "edited").etag
    before = set(opened.chunks.run_ids)
    upload_id, _ = await start(opened, [])
    uploads = opened.namespace.uploads
    claims, expected = [], b""
    for number in range(1, 12):
        first = chance.randrange(size - 6 * (1 << 20))
        stop = first + chance.randrange(BIG, 6 << 20)
        part = await uploads.copy_part(
            "box",
            "k/big",
            upload_id,
            number,
            ("box", "edited"),
            first,
            stop,
            source_etag=etag,
            digester=Md5Digester(),
        )
        assert part.etag == hashlib.md5(value[first:stop], usedforsecurity=False).hexdigest()
        claims.append(PartClaim(number=number, etag=part.etag, checksums={}))
        expected += value[first:stop]
    assert not broken(opened.namespace)
    await opened.namespace.objects.delete("box", "edited")
    await uploads.complete("box", "k/big", upload_id, claims)
    assert await get(opened, "k/big") == expected
    assert set(opened.chunks.run_ids) <= before
    assert not broken(opened.namespace)
    await opened.namespace.objects.delete("box", "k/big")
    await until(lambda: not opened.chunks.run_ids)


@pytest.mark.parametrize("size", [6 << 20, 100])
async def test_a_copied_part_has_its_bytes_if_the_source_goes_meanwhile(
    opened: Opened, size: int
) -> None:
    value = random.Random(8).randbytes(size)
    etag = await put(opened, "source", value)
    upload_id, _ = await start(opened, [])
    uploads = opened.namespace.uploads

    class Deleting(Md5Digester):
        async def update(self, pieces: Sequence[Buffer]) -> None:
            await super().update(pieces)
            await opened.namespace.objects.delete("box", "source")

    part = await uploads.copy_part(
        "box",
        "k/big",
        upload_id,
        1,
        ("box", "source"),
        0,
        size,
        source_etag=etag,
        digester=Deleting(),
    )
    await uploads.complete(
        "box", "k/big", upload_id, [PartClaim(number=1, etag=part.etag, checksums={})]
    )
    assert await get(opened, "k/big") == value
    await opened.namespace.objects.delete("box", "k/big")
    await until(lambda: not opened.chunks.run_ids)


async def test_uploads_are_listed_by_key_then_time_in_pages(opened: Opened) -> None:
    uploads = opened.namespace.uploads
    made = []
    for key in ("b", "a/1", "a/2", "b", "c/d/e", "c"):
        made.append((key, await uploads.create("box", key, ObjectMeta())))
    wanted = sorted(made)
    after = ("", "")
    seen: list[tuple[str, str]] = []
    while True:
        page = await uploads.page("box", after=after, limit=2)
        seen += [(u.key, u.id) for u in page.entries if not isinstance(u, str)]
        if page.next is None:
            break
        after = page.next
    assert seen == wanted
    rolled = await uploads.page("box", delimiter="/")
    shown = [entry if isinstance(entry, str) else entry.key for entry in rolled.entries]
    assert shown == ["a/", "b", "b", "c", "c/"]
    below = await uploads.page("box", prefix="c/", delimiter="/")
    assert below.entries == ["c/d/"]
    first = await uploads.page("box", delimiter="/", limit=1)
    assert first.entries == ["a/"]
    assert first.next is not None
    rest = await uploads.page("box", delimiter="/", after=first.next)
    assert len(rest.entries) == 4
    await opened.namespace.buckets.delete("box")
