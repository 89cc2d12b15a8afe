"""The map between components of keys and names on the mount (rule R2)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.errors import InvalidName, NameTooLong
from store.names import NAME_BYTES_MAX, alias_of, component_of, name_of

RESERVED = ["%tf.", "%tf.lit.", "%tf.long.", "%tf.b.", "%tf.data", "%tf.empty", "%tf.dot", "%tf"]
COMPONENTS = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"])),
    st.tuples(st.sampled_from(RESERVED), st.text("abc.%-_=w4", max_size=8)).map("".join),
    st.sampled_from(["", ".", "..", "%tf.b._w", "%tf.b.gA", "%tf.b.YQ"]),
    st.text("xé", min_size=200, max_size=400),
).map(str.encode)
NAMES = st.one_of(
    st.binary(min_size=1, max_size=NAME_BYTES_MAX),
    st.tuples(st.sampled_from(RESERVED).map(str.encode), st.binary(max_size=20)).map(b"".join),
).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))


@given(COMPONENTS)
@example(b"%tf.b._w")
@example(b"%tf.lit.%tf.lit.x")
def test_every_component_has_a_name_the_kernel_takes(component: bytes) -> None:
    name = name_of(component)
    assert 0 < len(name) <= NAME_BYTES_MAX
    assert name not in (b".", b"..")
    assert b"/" not in name
    assert b"\0" not in name


@given(COMPONENTS)
@example(b"%tf.b._w")
@example(b"%tf.b.YQ")
def test_the_name_leads_back_to_the_component(component: bytes) -> None:
    if alias_of(component) is None:
        assert component_of(name_of(component)) == component
    else:
        assert component_of(name_of(component)) is None


@given(NAMES)
def test_a_name_either_stands_for_one_component_or_is_refused(name: bytes) -> None:
    try:
        component = component_of(name)
    except InvalidName:
        assert name.startswith(b"%tf.")
        return
    if component is None:
        assert name.startswith(b"%tf.long.")
        return
    assert b"/" not in component
    component.decode()
    if alias_of(component) is None:
        assert name_of(component) == name


@given(COMPONENTS, COMPONENTS)
def test_no_two_components_share_a_name(one: bytes, other: bytes) -> None:
    assert (name_of(one) == name_of(other)) == (one == other)


def test_a_name_of_over_255_bytes_is_refused() -> None:
    with pytest.raises(NameTooLong):
        component_of(b"x" * 256)
