"""Which partition has a key: vectors that must never change, and what always holds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.errors import SchemaError
from mako.placement import (
    EVERYWHERE,
    UNDIVIDED,
    Home,
    HomeField,
    Kind,
    Placement,
    ShardMap,
    blocks,
    by_hash,
    check_field,
    check_home,
    hash_of,
    mix,
    split,
)
from mako.schema import Table

#: Key, hash, and partition of 2, 3 and 64. Rows that are stored lie where this says.
VECTORS = [
    (b"", 0xE220A8397B1DCDAF, 1, 0, 23),
    (b"a", 0x5E025F9ADE9EAF3E, 1, 1, 31),
    (b"12345678", 0x83DBEC76B33F9CA3, 1, 2, 17),
    (b"123456789", 0x7CF46F00F45FA22A, 1, 1, 21),
    (bytes(8), 0x4442E4266C0AC966, 1, 1, 51),
    (bytes(16), 0xE032DCB999E67F99, 0, 0, 12),
    ((7 << 40).to_bytes(8, "big"), 0xA9B7B1607E9638EB, 1, 0, 53),
    (bytes(range(40)), 0xEF65336E8DE0BD3C, 0, 1, 30),
]

KEYS = st.binary(max_size=24)


@pytest.mark.parametrize(("key", "wanted", "of_2", "of_3", "of_64"), VECTORS)
def test_the_hash_is_the_one_that_rows_were_placed_by(
    key: bytes, wanted: int, of_2: int, of_3: int, of_64: int
) -> None:
    assert hash_of(key) == wanted
    for partitions, partition in ((2, of_2), (3, of_3), (64, of_64)):
        assert Placement(Kind.HASH, partitions).partition_of(key) == partition


def test_the_mixer_is_that_of_splitmix64() -> None:
    # The first outputs of the generator for the seed 0.
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_the_hash_spreads_keys_that_are_alike() -> None:
    placement = Placement(Kind.HASH, 8)
    counts = [0] * 8
    for number in range(8000):
        counts[placement.partition_of(number.to_bytes(8, "big"))] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    kind = draw(st.sampled_from(Kind))
    boundaries: list[bytes] = []
    if kind is Kind.RANGE:
        boundaries = sorted(draw(st.sets(st.binary(min_size=1, max_size=6), max_size=8)))
        return Placement(kind, len(boundaries) + 1, tuple(boundaries))
    return Placement(kind, draw(st.integers(1, 64)))


@given(placement=placements(), keys=st.lists(KEYS, max_size=6), first=KEYS, end=KEYS)
def test_who_is_asked_for_a_range_has_all_of_it(
    placement: Placement, keys: list[bytes], first: bytes, end: bytes
) -> None:
    touched = list(placement.touched(first, end))
    assert touched == sorted(set(touched))
    assert touched
    for key in [*keys, first]:
        where = placement.partition_of(key)
        assert where in range(placement.partitions) or (
            where == EVERYWHERE and placement.is_everywhere
        )
        if first <= key < end:
            assert where in touched


@given(placement=placements(), keys=st.lists(KEYS, min_size=2, max_size=6))
def test_ordered_partitions_are_in_the_order_of_keys(
    placement: Placement, keys: list[bytes]
) -> None:
    if placement.is_ordered:
        found = [placement.partition_of(key) for key in sorted(keys)]
        assert found == sorted(found)


@given(placement=placements(), keys=st.lists(KEYS, max_size=20))
def test_splitting_loses_no_key(placement: Placement, keys: list[bytes]) -> None:
    groups = split(placement, keys)
    assert sorted(place for places in groups.values() for place in places) == [*range(len(keys))]
    for partition, places in groups.items():
        assert places == sorted(places)
        assert {placement.partition_of(keys[place]) for place in places} == {partition}


def test_no_more_partitions_than_needed_are_asked() -> None:
    placement = Placement(Kind.RANGE, 3, (b"h", b"p"))
    assert list(placement.touched(b"a", b"b")) == [0]
    assert list(placement.touched(b"a", b"h")) == [0]  # It ends where partition 1 begins.
    assert list(placement.touched(b"h", b"i")) == [1]
    assert list(placement.touched(b"a", b"h\0")) == [0, 1]
    assert list(placement.touched(b"o", b"z")) == [1, 2]
    assert list(placement.touched(b"z", b"a")) == [2], "somebody has to say that it is empty"
    assert list(Placement(Kind.EVERYWHERE, 3).touched(b"a", b"b")) == [EVERYWHERE]


def test_one_partition_has_everything() -> None:
    for kind in Kind:
        alone = Placement(kind, 1)
        assert alone.partition_of(b"k") == 0
        assert list(alone.touched(b"", b"z")) == [0]
        assert not alone.is_everywhere
    assert UNDIVIDED.partitions == 1


# --- Blocks ------------------------------------------------------------------------------------

DISTRICT = Table("district", id=3, key={"w": 16, "d": 8}, row={})
WIDE = Table("wide", id=4, key={"w": 16, "o": 64}, row={})


@pytest.mark.parametrize("table", [DISTRICT, WIDE])
def test_blocks_cut_between_values_of_the_first_field(table: Table) -> None:
    placement = blocks(3, size=4, bits=16, first=1)
    largest = table.key_fields[1].value_max
    for value, partition in ((0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (12, 2), (65535, 2)):
        assert placement.partition_of(table.pack_key((value, 0))) == partition
        assert placement.partition_of(table.pack_key((value, largest))) == partition
    first, end = table.key_range(5)
    assert end is not None
    assert list(placement.touched(first, end)) == [1]


def test_blocks_that_do_not_fit_their_field_are_refused() -> None:
    assert blocks(4, size=5, bits=4).boundaries[-1] == b"\xf0" + bytes(7)
    with pytest.raises(SchemaError, match="block of partition 3 begins at 18, and 4 bits hold 15"):
        blocks(4, size=6, bits=4)
    assert blocks(1, size=100, bits=4).boundaries == ()


def test_a_field_of_another_width_is_told_of() -> None:
    check_field("district", 16, blocks(2, size=4, bits=16))
    check_field("district", 16, Placement(Kind.HASH, 2))
    with pytest.raises(SchemaError, match="table district: its first key field has 16 bits"):
        check_field("district", 16, blocks(2, size=4, bits=32))


# --- The map -----------------------------------------------------------------------------------


@given(default=placements(), data=st.data())
def test_a_map_goes_over_the_wire(default: Placement, data: st.DataObject) -> None:
    others = placements().filter(lambda each: each.partitions == default.partitions)
    tables = data.draw(st.dictionaries(st.text(max_size=5), st.just(default) | others, max_size=2))
    known = ShardMap(default.partitions, default, tables)
    assert ShardMap.of_plain(known.plain()) == known
    for name in tables:
        assert known.of(name) == tables[name]
    assert known.of("some other table") == default


@pytest.mark.parametrize(
    "plain",
    [
        [],
        [0, [1, [], 0], {}],
        [65, [1, [], 0], {}],
        ["2", [1, [], 0], {}],
        [2, [4, [], 0], {}],
        [2, [2, [], 0], {}],
        [2, [2, [b"a", b"b"], 0], {}],
        [3, [2, [b"b", b"a"], 0], {}],
        [3, [2, [b"a", b"a"], 0], {}],
        [2, [2, ["a"], 0], {}],
        [2, [1, [b"a"], 0], {}],
        [2, [1, [], "x"], {}],
        [2, [1, [], 0], []],
        [2, [1, [], 0], {"t": [2, [], 0]}],
    ],
)
def test_what_is_no_map_is_refused(plain: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        ShardMap.of_plain(plain)


# --- Homes -------------------------------------------------------------------------------------

HOME = Home("district", 1, (HomeField(1, 0, 48, 16), HomeField(0, 0, 40, 8)), is_whole=True)


def test_a_home_is_a_key_of_its_table() -> None:
    assert HOME.key([7, 5, 99]) == DISTRICT.pack_key((5, 7))
    assert Home.of_plain(HOME.plain(), 2) == HOME
    with pytest.raises(
        SchemaError, match=r"argument 2 is 65536, and the home is a key of district"
    ):
        HOME.key([7, 1 << 16, 99])


@pytest.mark.parametrize(
    "fields",
    [
        [[2, 0, 48, 16]],
        [[-1, 0, 48, 16]],
        [[0, 1, 48, 16]],
        [[0, -1, 48, 16]],
        [[0, 0, 49, 16]],
        [[0, 0, -1, 16]],
        [[0, 0, 48, 0]],
        [[0]],
    ],
)
def test_what_is_no_home_is_refused(fields: list[list[int]]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Home.of_plain(["district", 1, fields, True], 2)


def test_a_home_must_tell_the_partition() -> None:
    part = Home("district", 1, HOME.fields[:1], is_whole=False)
    check_home(part, Placement(Kind.HASH, 1), "pay")
    check_home(part, blocks(2, size=1, bits=16), "pay")
    check_home(HOME, by_hash(2).default, "pay")
    with pytest.raises(SchemaError, match="procedure pay: table district is placed by the hash"):
        check_home(part, by_hash(2).default, "pay")
    with pytest.raises(SchemaError, match="procedure pay: table district is everywhere"):
        check_home(HOME, Placement(Kind.EVERYWHERE, 2), "pay")
