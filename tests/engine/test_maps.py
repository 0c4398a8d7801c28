"""A shard map is set for each table by its name, again without harm, and taken away whole."""

import struct

import pytest

import mako
from mako.engine import layout
from mako.engine.engine import Engine
from mako.engine.maps import apply, of_new, place, unset
from mako.engine.owner import BLOCKS, COUNT_SHIFT, HASH, RANGE
from mako.errors import ConfigError, OutOfMemory
from mako.placement import UNDIVIDED, Kind, Placement, ShardMap, blocks

pytestmark = pytest.mark.interpreted

PLACES = mako.Table("places", id=7, key={"place": 8, "number": 32}, row={"v": "i8"})
WIDE = mako.Table("wide", id=8, key={"place": 64, "number": 32}, row={"v": "i8"})
CUTS = Placement(Kind.RANGE, 3, (b"g", b"p"))
MAP = ShardMap(
    3,
    Placement(Kind.HASH, 3),
    {
        "places": blocks(3, size=4, bits=8, first=1),
        "wide": blocks(3, size=1 << 62, bits=64),
        "words": CUTS,
        "parts": Placement(Kind.EVERYWHERE, 3),
    },
)


@pytest.fixture
def engine() -> Engine:
    made = Engine(16 << 20, contexts=4, ring_bytes=1 << 16, partition=1)
    for table in (PLACES, WIDE):
        made.create_table(table)
    for name in ("words", "parts", "other", "mako.requests"):
        made.create_named(name)
    return made


def kinds(engine: Engine) -> dict[str, int]:
    found = {}
    for handle in engine.tables.values():
        word = engine.word(handle.address + layout.T_MAP)
        assert word == 0 or word >> COUNT_SHIFT == 3
        found[handle.table.name] = word & 255
    return found


def test_each_table_gets_its_own(engine: Engine) -> None:
    apply(engine, MAP, leave={"mako.requests"})
    assert kinds(engine) == {
        "places": BLOCKS,
        "wide": RANGE,  # A word of 64 bits may be negative, and is no number of a block.
        "words": RANGE,
        "parts": 0,
        "other": HASH,
        "mako.requests": 0,
    }
    apply(engine, ShardMap(3, Placement(Kind.EVERYWHERE, 3)))
    assert set(kinds(engine).values()) == {0}


def test_a_table_that_comes_later(engine: Engine) -> None:
    apply(engine, MAP)
    later = engine.create_named("later")
    assert kinds(engine)["later"] == 0
    of_new(engine, later, MAP, leave={"later"})
    assert kinds(engine)["later"] == 0
    of_new(engine, later, MAP)
    assert kinds(engine)["later"] == HASH


def test_a_map_of_fewer_partitions_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="partition 1 is none of the 1 of the shard map"):
        apply(engine, UNDIVIDED)


def test_setting_it_again_changes_nothing(engine: Engine) -> None:
    apply(engine, MAP)
    before, used = maps_of(engine), engine.memory_reserved
    for _ in range(3):
        apply(engine, MAP)
    assert maps_of(engine) == before
    assert engine.memory_reserved == used
    assert engine.retired == 0


def maps_of(engine: Engine) -> list[bytes]:
    return [
        engine.read(handle.address + layout.T_MAP, 32)
        for _, handle in sorted(engine.tables.items())
    ]


def test_boundaries_that_are_replaced_are_given_back(engine: Engine) -> None:
    words = engine.create_named("words")
    place(engine, words, CUTS)
    engine.tick(engine.now_ns() // 1_000_000 + 1)
    engine.reclaim_idle()
    used = engine.memory_bytes
    for number in range(100):
        place(engine, words, Placement(Kind.RANGE, 3, (b"g", b"p%d" % number)))
        place(engine, words, CUTS)
    assert engine.retired == 200
    engine.tick(engine.now_ns() // 1_000_000 + 100)
    engine.reclaim_idle()
    assert engine.retired == 0
    assert engine.memory_bytes - used <= layout.RETIRED_BLOCK
    unset(engine, words)
    assert engine.retired == 1
    assert maps_of(engine)[-4] == bytes(32)


def test_the_next_table_of_a_number_has_no_map(engine: Engine) -> None:
    words = engine.create_named("words")
    place(engine, words, CUTS)
    number = int(words.table.id)
    engine.forget_table(number)
    again = engine.create_named("again")
    assert int(again.table.id) == number
    assert engine.read(again.address + layout.T_MAP, 32) == bytes(32)
    assert engine.retired >= 1


def test_no_memory_for_boundaries_leaves_the_map_as_it_was(engine: Engine) -> None:
    words = engine.create_named("words")
    place(engine, words, CUTS)
    before = maps_of(engine)
    with engine.borrowed() as context:
        while engine.allocate(context, 1 << 16) or engine.allocate(context, 4096):
            pass
        while engine.allocate(context, 256):
            pass
    long = Placement(Kind.RANGE, 3, (b"g" * 4096, b"p" * 4096))
    with pytest.raises(OutOfMemory, match="no memory for the boundaries of table words"):
        place(engine, words, long)
    assert maps_of(engine) == before


@pytest.mark.parametrize(
    ("placement", "wanted"),
    [
        (blocks(2, size=8, bits=8, first=1), (56, 0, 9)),  # Alike: all below 9, and the rest.
        (blocks(3, size=8, bits=8, first=1), (56, 1, 8)),
        (blocks(4, size=1, bits=63), (1, 0, 1)),
    ],
)
def test_blocks_are_kept_as_numbers(
    engine: Engine, placement: Placement, wanted: tuple[int, int, int]
) -> None:
    handle = engine.tables[7]
    place(engine, handle, placement)
    kind, *found = struct.unpack("<4q", engine.read(handle.address + layout.T_MAP, 32))
    assert kind == BLOCKS | placement.partitions << COUNT_SHIFT
    assert tuple(found) == wanted


@pytest.mark.parametrize(
    "placement",
    [
        Placement(Kind.RANGE, 3, (b"\1" + bytes(7), b"\2" + bytes(7))),  # Of no field.
        Placement(Kind.RANGE, 3, (b"\1", b"\2"), 8),
        Placement(Kind.RANGE, 3, (b"\1" + bytes(7), b"\2" + bytes(6) + b"\1"), 8),
        Placement(Kind.RANGE, 4, (b"\1" + bytes(7), b"\2" + bytes(7), b"\4" + bytes(7)), 8),
        Placement(Kind.RANGE, 3, (b"\1" + bytes(7), b"\3" + bytes(7)), 8),  # From -1 on.
        Placement(Kind.RANGE, 2, (bytes(8),), 8),  # A block without values.
        blocks(3, size=5, bits=64),
    ],
)
def test_what_is_not_the_same_as_blocks_is_a_range(engine: Engine, placement: Placement) -> None:
    handle = engine.tables[7]
    place(engine, handle, placement)
    assert engine.word(handle.address + layout.T_MAP) & 255 == RANGE
