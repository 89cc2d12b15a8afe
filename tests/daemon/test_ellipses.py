"""Ranges in drive names."""

from __future__ import annotations

import pytest

from daemon.ellipses import RangeError, expand


@pytest.mark.parametrize(
    ("name", "expanded"),
    [
        ("/data/d", ["/data/d"]),
        ("/data/d{1...3}", ["/data/d1", "/data/d2", "/data/d3"]),
        ("/d{3...3}", ["/d3"]),
        ("/d{0...2}x", ["/d0x", "/d1x", "/d2x"]),
        ("/d{9...11}", ["/d9", "/d10", "/d11"]),
        ("/d{09...11}", ["/d09", "/d10", "/d11"]),
        ("/d{001...2}", ["/d001", "/d002"]),
        ("/d{a...c}", ["/da", "/db", "/dc"]),
        ("/r{1...2}/d{1...2}", ["/r1/d1", "/r1/d2", "/r2/d1", "/r2/d2"]),
        ("/{a...b}{8...9}", ["/a8", "/a9", "/b8", "/b9"]),
    ],
)
def test_a_range_is_written_out_in_order(name: str, expanded: list[str]) -> None:
    assert expand([name]) == expanded


def test_several_names_keep_their_order() -> None:
    assert expand(["/z", "/d{1...2}", "/a"]) == ["/z", "/d1", "/d2", "/a"]


@pytest.mark.parametrize(
    "name",
    [
        "/d{4...1}",
        "/d{c...a}",
        "/d{1...b}",
        "/d{1..4}",
        "/d{1,2}",
        "/d{...4}",
        "/d{1...}",
        "/d{1...2",
        "/d1...2}",
        "/d{-1...2}",
        "/d{1...99999}",
        "/d{1...100}/{1...100}",
        "/d{1...10000000000000000000000}",
    ],
)
def test_what_is_no_range_is_refused_by_name(name: str) -> None:
    with pytest.raises(RangeError, match="/d") as caught:
        expand([name])
    assert name in str(caught.value)
