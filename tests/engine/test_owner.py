"""The compiled shard map agrees with the one that clients and configuration go by."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mako
from mako.engine import layout
from mako.engine.engine import Engine, TableHandle
from mako.engine.maps import place
from mako.engine.owner import HASH, LAST_OWNER, OWNER
from mako.placement import Kind, Placement, blocks
from tests.test_placement import VECTORS

pytestmark = pytest.mark.interpreted

WORD = mako.Table("word", id=7, key={"place": 9, "number": 40}, row={"v": "i8"})
PAIR = mako.Table("pair", id=8, key={"place": 9, "a": 55, "b": 60}, row={"v": "i8"})
NAMES = ("word", "pair", "strings")
_SIGN = 1 << 63

#: Few different bytes, so that keys and boundaries begin alike.
BYTES = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF])
STRINGS = st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 17, 20]).flatmap(
    lambda size: st.lists(BYTES, min_size=size, max_size=size).map(bytes)
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(16 << 20, contexts=4, ring_bytes=1 << 16)
    for table in (WORD, PAIR):
        made.create_table(table)
    made.create_named("strings")
    yield made
    made.close()


def key_of(engine: Engine, handle: TableHandle, key: bytes) -> Any:
    """A key as compiled code has it."""
    kind = engine.word(handle.address + layout.T_KIND)
    if kind == layout.BYTES_KEYS:
        there = engine.context(0) + layout.C_KEY
        engine.write(there, struct.pack("<q", len(key)) + key)
        prefix = int.from_bytes(key[:8].ljust(8, b"\0"), "big") - _SIGN
        return prefix, there
    words = [int.from_bytes(key[at : at + 8], "big") - _SIGN for at in range(0, len(key), 8)]
    return words[0] if kind == layout.WORD_KEYS else tuple(words)


def owner(engine: Engine, handle: TableHandle, key: bytes) -> int:
    """What compiled code says of a key as it is outside the engine."""
    made = OWNER[engine.word(handle.address + layout.T_KIND)]
    return int(made(handle.address, key_of(engine, handle, key)))


def last_owner(engine: Engine, handle: TableHandle, end: bytes) -> int:
    made = LAST_OWNER[engine.word(handle.address + layout.T_KIND)]
    return int(made(handle.address, key_of(engine, handle, end)))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Any over two partitions or more that does not put all keys everywhere."""
    kind = draw(st.sampled_from(["hash", "range", "blocks"]))
    if kind == "hash":
        return Placement(Kind.HASH, draw(st.integers(2, 64)))
    if kind == "range":
        most = draw(st.sampled_from([1, 3, 63]))
        cuts = sorted(draw(st.sets(STRINGS.filter(bool), min_size=1, max_size=most)))
        return Placement(Kind.RANGE, len(cuts) + 1, tuple(cuts))
    bits = draw(st.sampled_from([1, 8, 9, 63, 64]))
    room = (1 << bits) - 1
    first = draw(st.integers(0, min(room - 1, 1 << draw(st.sampled_from([2, 62])))))
    size = draw(st.integers(1, room - first))
    partitions = draw(st.integers(2, min(1 + (room - first) // size, 64)))
    return blocks(partitions, size=size, bits=bits, first=first)


@st.composite
def keys(draw: st.DrawFn, placement: Placement, size: int | None) -> bytes:
    """A key, of so many bytes if it has no choice: near a boundary if there are any."""
    near = st.sampled_from(placement.boundaries) if placement.boundaries else STRINGS
    key = draw(STRINGS | near | st.tuples(near, STRINGS).map(b"".join))
    if size is None:
        return key
    number = int.from_bytes(key[:size].ljust(size, b"\0"), "big") + draw(st.integers(-1, 1))
    return (number % (1 << 8 * size)).to_bytes(size, "big")


SIZES = {"word": 8, "pair": 16, "strings": None}


@given(data=st.data(), placement=placements(), name=st.sampled_from(NAMES))
def test_every_key_is_where_its_placement_says(
    engine: Engine, data: st.DataObject, placement: Placement, name: str
) -> None:
    handle = engine.table_named(name)
    assert handle is not None
    place(engine, handle, placement)
    for key in data.draw(st.lists(keys(placement, SIZES[name]), min_size=1, max_size=12)):
        assert owner(engine, handle, key) == placement.partition_of(key), key


@given(data=st.data(), placement=placements(), name=st.sampled_from(NAMES))
def test_a_scan_asks_the_partitions_that_may_have_keys(
    engine: Engine, data: st.DataObject, placement: Placement, name: str
) -> None:
    handle = engine.table_named(name)
    assert handle is not None
    place(engine, handle, placement)
    if engine.word(handle.address + layout.T_MAP) & 255 == HASH:
        return  # All of them are asked.
    size = SIZES[name]
    for first, end in data.draw(
        st.lists(st.tuples(keys(placement, size), keys(placement, size)), min_size=1, max_size=6)
    ):
        low = owner(engine, handle, first)
        found = range(low, max(low, last_owner(engine, handle, end)) + 1)
        touched = placement.touched(first, end)
        if size is None:
            assert found == touched
            continue
        # A boundary that is the beginning of `end` is below it, but no key of words is between.
        assert set(found) <= set(touched)
        before = int.from_bytes(end, "big") - 1
        last = placement.partition_of(before.to_bytes(size, "big")) if before >= 0 else 0
        assert found[-1] == max(low, last)


@pytest.mark.parametrize("name", NAMES)
def test_boundaries_may_be_shorter_and_longer_than_keys(engine: Engine, name: str) -> None:
    handle = engine.table_named(name)
    assert handle is not None
    zeros = bytes(SIZES[name] or 8)
    cuts = (b"\1", zeros.replace(b"\0", b"\2"), zeros.replace(b"\0", b"\2") + b"\0", b"\xff" * 40)
    place(engine, handle, Placement(Kind.RANGE, 5, cuts))
    ends = [(b"\0" * 8, 0), (b"\1" + bytes(7), 1), (b"\2" * 8, 2), (b"\2" * 7 + b"\3", 3)]
    for key, partition in [*ends, (b"\xff" * 8, 3)]:
        whole = key + key[-1:] * (len(zeros) - 8)
        assert owner(engine, handle, whole) == partition, whole
    assert last_owner(engine, handle, b"\2" * len(zeros)) == 1


@pytest.mark.parametrize("partitions", [2, 3, 64])
def test_a_hash_is_that_of_the_vectors(engine: Engine, partitions: int) -> None:
    strings = engine.create_named("strings")
    place(engine, strings, Placement(Kind.HASH, partitions))
    for key, _, of_2, of_3, of_64 in VECTORS:
        assert owner(engine, strings, key) == {2: of_2, 3: of_3, 64: of_64}[partitions]


def test_63_long_boundaries(engine: Engine) -> None:
    cuts = tuple(bytes([number]) * 4096 for number in range(1, 64))
    placement = Placement(Kind.RANGE, 64, cuts)
    for name, size in SIZES.items():
        handle = engine.table_named(name)
        assert handle is not None
        place(engine, handle, placement)
        for number in range(65):
            key = bytes([number]) * (size or 4096)
            assert owner(engine, handle, key) == placement.partition_of(key)
