"""The compiled shard map agrees with the one that clients and configuration go by."""

import random
import struct

import pytest

import mako
from mako.engine import layout
from mako.engine.engine import Engine, TableHandle
from mako.engine.owner import OWNER
from mako.engine.partitions import set_blocks, set_hash
from mako.errors import SchemaError
from mako.placement import Kind, Placement, blocks
from tests.test_placement import VECTORS

pytestmark = pytest.mark.interpreted

WORD = mako.Table("word", id=7, key={"place": 9, "number": 40}, row={"v": "i8"})
PAIR = mako.Table("pair", id=8, key={"place": 9, "a": 55, "b": 60}, row={"v": "i8"})
_SIGN = 1 << 63


@pytest.fixture
def engine() -> Engine:
    made = Engine(16 << 20, contexts=4, ring_bytes=1 << 16)
    for table in (WORD, PAIR):
        made.create_table(table)
    return made


def owner(engine: Engine, handle: TableHandle, key: bytes) -> int:
    """What compiled code says of a key as it is outside the engine."""
    kind = engine.word(handle.address + layout.T_KIND)
    if kind == layout.BYTES_KEYS:
        place = engine.context(0) + layout.C_KEY
        engine.write(place, struct.pack("<q", len(key)) + key)
        return int(OWNER[kind](handle.address, (0, place)))
    words = tuple(
        int.from_bytes((int.from_bytes(key[at : at + 8], "big") ^ _SIGN).to_bytes(8, "big"),
                       "big", signed=True)
        for at in range(0, len(key), 8)
    )  # fmt: skip
    return int(OWNER[kind](handle.address, words[0] if kind == layout.WORD_KEYS else words))


@pytest.mark.parametrize("partitions", [2, 3, 64])
def test_a_hash_is_the_same_for_all_kinds_of_keys(
    engine: Engine, seed: int, partitions: int
) -> None:
    chance = random.Random(seed)
    placement = Placement(Kind.HASH, partitions)
    strings = engine.create_named("strings")
    for handle, size in ((engine.tables[7], 8), (engine.tables[8], 16), (strings, None)):
        set_hash(engine, handle, partitions)
        for _ in range(50):
            key = chance.randbytes(chance.randrange(40) if size is None else size)
            assert owner(engine, handle, key) == placement.partition_of(key)
    for key, _, of_2, of_3, of_64 in VECTORS:
        wanted = {2: of_2, 3: of_3, 64: of_64}[partitions]
        assert owner(engine, strings, key) == wanted


@pytest.mark.parametrize("table", [WORD, PAIR], ids=["word", "pair"])
def test_blocks_are_the_same(engine: Engine, seed: int, table: mako.Table) -> None:
    chance = random.Random(seed)
    handle = engine.tables[int(table.id)]
    for partitions, size, first in ((2, 8, 1), (3, 5, 0), (5, 100, 3)):
        # The first field is at the top of the key here, as `mako.placement` expects it.
        placement = blocks(partitions, size=size, bits=64 - table.key_fields[0].shift, first=first)
        set_blocks(engine, handle, partitions, first=first, each=size)
        for place in [0, 1, first, first + size - 1, first + size, *range(500, 512)]:
            rest = [chance.randrange(1 << field.bits) for field in table.key_fields[1:]]
            key = table.pack_key((place, *rest))
            assert owner(engine, handle, key) == placement.partition_of(key)


def test_byte_strings_have_no_blocks(engine: Engine) -> None:
    with pytest.raises(SchemaError, match="has byte strings as keys; give it a hash"):
        set_blocks(engine, engine.create_named("strings"), 2, first=0, each=1)
