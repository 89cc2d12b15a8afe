"""Parity straight from ISA-L, out of the buffers that hold a stripe into those that are written.

pyeclib brings ISA-L along and is what says which code it is (`isa_l_rs_cauchy`); but it copies a
stripe three times on the way and zeroes what it is about to fill. Calling the library itself makes
2+2 of 1 MiB in 41 us instead of 151 (processor time). Where the library can't be found, or makes
anything but what pyeclib makes, `parity_maker` says None and pyeclib does it.

Concurrency: any thread. The GIL is kept: handing it over and getting it back costs more.
Source: isa-l, erasure_code.h (ec_encode_data, ec_init_tables, gf_gen_cauchy1_matrix).
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from store.chunks.buffers import blank_buffer
from store.chunks.types import Buffer

Make = Callable[[Buffer], list[Buffer]]
_TABLE_BYTES = 32  # for each of the k * m coefficients


def parity_maker(k: int, m: int) -> Make | None:
    """What makes the m parity shards of a payload of k shards, without copying it."""
    library = _library()
    if library is None:
        return None
    matrix = ctypes.create_string_buffer((k + m) * k)
    tables = ctypes.create_string_buffer(k * m * _TABLE_BYTES)
    library.gf_gen_cauchy1_matrix(matrix, k + m, k)
    library.ec_init_tables(k, m, ctypes.byref(matrix, k * k), tables)
    encode = library.ec_encode_data
    sources, targets = ctypes.c_void_p * k, ctypes.c_void_p * m

    def make(payload: Buffer) -> list[Buffer]:
        size = len(payload) // k
        parity = blank_buffer(m * size)
        first, start = _address(payload), _address(parity)
        encode(
            size,
            k,
            m,
            tables,
            sources(*range(first, first + k * size, size)),
            targets(*range(start, start + m * size, size)),
        )
        return [parity[i * size : (i + 1) * size] for i in range(m)]

    return make


def agrees(make: Make, k: int, expected: Callable[[bytes], Sequence[Buffer]]) -> bool:
    """Whether it makes of some bytes what `expected` does; 64 columns tell all coefficients."""
    pattern = random.Random(k).randbytes(k * 64)
    return [bytes(shard) for shard in make(pattern)] == [bytes(s) for s in expected(pattern)]


def _address(buffer: Buffer) -> int:
    """Where the bytes are. Of a `memoryview` only a writable one of a whole buffer can be asked."""
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@cache
def _library() -> ctypes.PyDLL | None:
    for name in _names():
        try:
            library = ctypes.PyDLL(name)
            symbols = (library.gf_gen_cauchy1_matrix, library.ec_init_tables)
        except (OSError, AttributeError):
            continue
        for symbol in (*symbols, library.ec_encode_data):
            symbol.restype = None
        return library
    return None


def _names() -> list[str]:
    """The library that pyeclib's wheel carries, or the system's."""
    found = find_spec("pyeclib")
    packages = [] if found is None else [Path(p) for p in found.submodule_search_locations or ()]
    carried = [str(path) for p in packages for path in p.parent.glob("pyeclib.libs/libisal*")]
    return [*carried, "libisal.so.2"]
