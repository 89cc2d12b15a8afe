"""The rows of `s3`: which requests they send, and what must come back.

Every row is a generator per client, which yields requests and checks the bodies it asked for.
Keys and bodies follow from the row, the round and the client's number alone, so all targets get
exactly the same requests. Keys hold only unreserved characters, as `Signer` wants.

Concurrency: the generators run in the client processes, one connection each, no shared state.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape, unescape

from client import Client, Pool, Request, run_clients
from measure import Measurement, Tally, summarise
from signing import Endpoint, Signer

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "": 1}
LIST_SIZE_BYTES = 4096  # The listed keys are those that get-4k reads.
PAGE_KEYS = 1000
READ_KEYS = 2048  # A client reads so many keys again and again; signing them twice is waste.
LARGE_TOTAL_BYTES = 256 << 20  # How much there is to GET, of objects above 4 KiB.
SETUP_CLIENTS = 16
SETUP_LIMIT_S = 36_000.0
KEY = re.compile(rb"<Key>([^<]*)</Key>")
TOKEN = re.compile(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    verb: str
    size_bytes: int
    clients: int

    @classmethod
    def parse(cls, name: str, scale: float) -> Row:
        """Raises ValueError for a name that isn't of the form that the help shows."""
        match = re.fullmatch(r"(put|get|head)-(\d+)([kmg]?)-(\d+)|(list|page)-(\d+)", name)
        if match is None:
            raise ValueError(f"{name!r} is not a row: try put-4k-16 or list-4")
        verb, number, unit, clients, list_verb, list_clients = match.groups()
        return cls(
            name=name,
            verb=verb or list_verb,
            size_bytes=int(number) * UNITS[unit] if verb else LIST_SIZE_BYTES,
            clients=max(1, round(int(clients or list_clients) * scale)),
        )

    @property
    def unit(self) -> str:
        if self.verb in ("list", "page"):
            return "keys/s"
        return "MiB/s" if self.size_bytes >= 1 << 20 and self.verb != "head" else "/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all targets have in common."""

    bucket: str
    prefix: str
    objects: int
    processes: int
    warmup_s: float
    seconds: float
    pool: Pool

    def object_count(self, size_bytes: int) -> int:
        if size_bytes <= LIST_SIZE_BYTES:
            return self.objects
        return max(8, min(self.objects, LARGE_TOTAL_BYTES // size_bytes))

    def folder(self, size_bytes: int) -> str:
        return f"{self.prefix}{size_bytes}/"

    def key(self, size_bytes: int, index: int) -> str:
        return f"{self.folder(size_bytes)}{index:08}"


class Target:
    """One endpoint, and the objects of this run on it."""

    def __init__(self, label: str, endpoint: Endpoint, run: Run) -> None:
        self.label = label
        self.endpoint = endpoint
        self._run = run
        self._path = f"/{run.bucket}/"

    def prepare(self, rows: Sequence[Row]) -> None:
        """Make the bucket, and put what the rows will read."""
        self._all([functools.partial(self._once, "PUT", f"/{self._run.bucket}")], accept=b"409")
        sizes = {row.size_bytes for row in rows if row.verb != "put"}
        for size_bytes in sorted(sizes):
            started = time.perf_counter()
            count = self._run.object_count(size_bytes)
            lanes = range(SETUP_CLIENTS)
            self._all([functools.partial(self._fill, size_bytes, lane, count) for lane in lanes])
            spent_s = time.perf_counter() - started
            print(f"{self.label}: {count:,} objects of {size_bytes:,} bytes in {spent_s:.1f} s",
                  file=sys.stderr)  # fmt: skip

    def measure(self, row: Row, round_index: int, pids: Sequence[int]) -> Measurement:
        makers: dict[str, Callable[[Signer, Row, int, int], Client]] = {
            "put": self._put, "get": self._get, "head": self._get,
            "list": self._list, "page": self._page,
        }  # fmt: skip
        signer = Signer(self.endpoint)
        clients = [
            functools.partial(makers[row.verb], signer, row, round_index, lane)
            for lane in range(row.clients)
        ]
        # What earlier rows left dirty must not be written back at this one's expense.
        os.sync()
        tallies = self._run_clients(clients, self._run.warmup_s, self._run.seconds, pids)
        for tally in tallies:
            if row.unit == "MiB/s":
                tally.amount *= row.size_bytes / (1 << 20)
        return summarise(
            tallies,
            row=row.name,
            target=self.label,
            round_index=round_index,
            clients=row.clients,
            unit=row.unit,
        )

    def clean(self) -> None:
        """Delete every key of this run."""
        self._all([self._clean])

    def _all(self, clients: Sequence[Callable[[], Client]], accept: bytes = b"") -> None:
        """Run clients to their end, for their effect. Any error ends the program."""
        for tally in self._run_clients(clients, 0.0, SETUP_LIMIT_S):
            if tally.errors and not (accept and f"status {accept.decode()}" in tally.first_error):
                sys.exit(f"{self.label}: {tally.first_error}")

    def _run_clients(
        self,
        clients: Sequence[Callable[[], Client]],
        warmup_s: float,
        seconds: float,
        pids: Sequence[int] = (),
    ) -> list[Tally]:
        run = self._run
        return run_clients(
            self.endpoint, run.pool, clients,
            processes=run.processes, warmup_s=warmup_s, seconds=seconds, server_pids=pids,
        )  # fmt: skip

    def _once(self, method: str, path: str) -> Client:
        yield Request(head=Signer(self.endpoint).head(method, path, extra=_length(0)))

    def _upload(self, signer: Signer, key: str, index: int, size_bytes: int) -> Request:
        return Request(
            head=signer.head("PUT", self._path + key, extra=_length(size_bytes)),
            body=self._run.pool.body(index, size_bytes),
        )

    def _fill(self, size_bytes: int, lane: int, count: int) -> Client:
        signer, signed_s = Signer(self.endpoint), time.monotonic()
        for index in range(lane, count, SETUP_CLIENTS):
            if time.monotonic() - signed_s > 60:
                signer, signed_s = Signer(self.endpoint), time.monotonic()
            yield self._upload(signer, self._run.key(size_bytes, index), index, size_bytes)

    def _put(self, signer: Signer, row: Row, round_index: int, lane: int) -> Client:
        folder = f"{self._run.prefix}{row.name}/{round_index}-{lane:03}"
        index = lane * 1009
        while True:
            index += 1
            yield self._upload(signer, f"{folder}-{index:08}", index, row.size_bytes)

    def _get(self, signer: Signer, row: Row, round_index: int, lane: int) -> Client:
        """GET or HEAD, of keys drawn in the same random order on every target."""
        method = row.verb.upper()
        draw = random.Random(round_index * 1000 + lane)
        count = self._run.object_count(row.size_bytes)
        indexes = draw.sample(range(count), k=min(count, READ_KEYS))
        requests: dict[int, Request] = {}
        while True:
            for index in indexes:
                request = requests.get(index)
                if request is None:
                    key = self._run.key(row.size_bytes, index)
                    request = requests[index] = Request(
                        head=signer.head(method, self._path + key),
                        length=row.size_bytes,
                        pool_start=Pool.start(index) if method == "GET" else None,
                        bodiless=method == "HEAD",
                    )
                yield request

    def _listing(self, prefix: str, **more: str) -> str:
        query = {"list-type": "2", "max-keys": str(PAGE_KEYS), "prefix": prefix, **more}
        return "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))

    def _list(self, signer: Signer, row: Row, round_index: int, lane: int) -> Client:
        prefix = self._run.folder(row.size_bytes)
        total = self._run.object_count(row.size_bytes)
        query, seen = self._listing(prefix), 0
        while True:
            page_keys = min(PAGE_KEYS, total - seen)
            request = Request(
                head=signer.head("GET", self._path[:-1], query), keep=True, amount=page_keys
            )
            body = yield request
            if body is None:
                query, seen = self._listing(prefix), 0
                continue
            count = body.count(b"<Key>")
            first = KEY.search(body)
            expected = self._run.key(row.size_bytes, seen).encode()
            if count != page_keys or first is None or first[1] != expected:
                raise ValueError(f"a page of {count} keys at {seen}, expected {page_keys}")
            seen += count
            token = TOKEN.search(body)
            if (token is None) != (seen == total):
                raise ValueError(f"the listing ends after {seen} of {total} keys")
            if token is None:
                query, seen = self._listing(prefix), 0
            else:
                text = unescape(token[1].decode(), {"&quot;": '"', "&#34;": '"', "&#39;": "'"})
                query = self._listing(prefix, **{"continuation-token": text})

    def _page(self, signer: Signer, row: Row, round_index: int, lane: int) -> Client:
        prefix = self._run.folder(row.size_bytes)
        total = self._run.object_count(row.size_bytes)
        draw = random.Random(round_index * 1000 + lane)
        while True:
            after = draw.randrange(max(1, total - PAGE_KEYS))
            page_keys = min(PAGE_KEYS, total - after - 1)
            start = self._run.key(row.size_bytes, after)
            query = self._listing(prefix, **{"start-after": start})
            body = yield Request(
                head=signer.head("GET", self._path[:-1], query), keep=True, amount=page_keys
            )
            if body is not None and body.count(b"<Key>") != page_keys:
                raise ValueError(f"a page of {body.count(b'<Key>')} keys, not {page_keys}")

    def _clean(self) -> Client:
        while True:
            signer = Signer(self.endpoint)
            query = self._listing(self._run.prefix)
            body = yield Request(head=signer.head("GET", self._path[:-1], query), keep=True)
            keys = KEY.findall(body or b"")
            if not keys:
                return
            names = "".join(f"<Object><Key>{escape(key.decode())}</Key></Object>" for key in keys)
            order = f"<Delete><Quiet>true</Quiet>{names}</Delete>".encode()
            digest = base64.b64encode(hashlib.md5(order).digest()).decode()
            extra = f"Content-MD5: {digest}\r\n{_length(len(order))}"
            head = signer.head("POST", self._path[:-1], "delete=", extra)
            yield Request(head=head, body=order)


def _length(size_bytes: int) -> str:
    return f"Content-Length: {size_bytes}\r\n"
