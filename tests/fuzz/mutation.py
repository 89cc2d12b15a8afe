"""Bytes that are nearly right: small changes to a seed, the same at every run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

# What parsers stumble over: signs, ends of lines, nothing, too much, other alphabets.
_BITS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"%", b"%2", b"%00", b"%zz", b"+", b"-", b"_"),
    *(b":", b";", b",", b"=", b"&", b"/", b"..", b"*", b"?", b"#", b"@", b"[", b"]", b"{", b"}"),
    *(b'"', b"'", b"<", b">", b"&amp;", b"&x;", b"<!--", b"<![CDATA[", b"\\u0000", b"\\ud800"),
    *(b"0", b"-1", b"00", b"9" * 19, b"9" * 400, b"1e999", b"NaN", b"null", b"true", b"[]", b"{}"),
    *("\u0661".encode(), "é".encode(), b"\xff", b"\xed\xa0\x80", "\U0001f600".encode(), b"A" * 300),
)


def mutations(seeds: Sequence[bytes], rounds: int, name: str) -> Iterator[bytes]:
    """`rounds` inputs for each seed. name: the same name and seeds give the same inputs."""
    chance = random.Random(name)
    for seed in seeds:
        for _ in range(rounds):
            made = bytearray(seed)
            for _ in range(chance.choice((1, 1, 2, 4))):
                _change(made, seeds, chance)
            yield bytes(made)


def _change(made: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(made) + 1)
    stop = min(len(made), start + chance.choice((0, 1, 1, 2, 4, 16, 64)))
    match chance.randrange(5):
        case 0:
            made[start:stop] = chance.choice(_BITS)
        case 1:
            made[start:start] = chance.choice(_BITS)
        case 2:
            made[start:stop] = made[start:stop] * 2
        case 3:
            made[start:stop] = chance.randbytes(stop - start)
        case _:
            other = chance.choice(seeds)
            at = chance.randrange(len(other) + 1)
            made[start:stop] = other[at : at + chance.choice((1, 8, 64))]
