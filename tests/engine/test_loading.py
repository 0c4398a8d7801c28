"""A snapshot's blocks into an empty engine: the same state, the same bytes, or nothing usable."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

import mako
from mako.client import Database
from mako.engine.described import description_of
from mako.engine.dump import Block, Dumper
from mako.engine.engine import Engine
from mako.engine.loading import load
from mako.engine.replayer import Replayer
from mako.errors import LogCorrupt

pytestmark = pytest.mark.interpreted

ONE: Final = mako.Table("one", id=7, key={"a": 64}, row={"value": "i8"})
TWO: Final = mako.Table("two", id=2, key={"a": 64, "b": 64}, row={"value": "i8", "text": "S8"})
STRINGS: Final = mako.BytesTable("strings", id=1001)
TABLES: Final = [description_of(table) for table in (ONE, TWO, STRINGS)]


@pytest.fixture
def origin() -> Iterator[Database]:
    with mako.open(memory="64MiB", sessions=4) as made:
        made.create(ONE, TWO, STRINGS)
        yield made


@pytest.fixture
def target() -> Iterator[Engine]:
    engine = Engine(64 << 20, contexts=4, ring_bytes=1 << 16, now_ms=0)
    yield engine
    engine.close()


def blocks_of(db: Database) -> tuple[int, list[Block]]:
    with db.snapshot() as snapshot, Dumper(db._engine, snapshot._context) as dumper:
        return snapshot.timestamp, list(dumper.blocks())


def loaded(engine: Engine, timestamp: int, blocks: Sequence[Block]) -> Database:
    replayer = Replayer(engine)
    load(replayer, TABLES, timestamp, blocks)
    assert replayer.closed == timestamp
    replayer.end()
    return Database(engine)


def fill(db: Database, draw: random.Random) -> None:
    with db.transaction() as tx:
        for _ in range(300):
            word = draw.getrandbits(64)
            tx.put((word,), {"value": word >> 2}, table=ONE)
            tx.put((word, 7), {"value": 7, "text": b"text"}, table=TWO)
            size = draw.choice((0, 3, 500, 5000))
            tx.put(draw.randbytes(draw.randrange(30)), bytes(size), table=STRINGS)
        tx.put(b"large", bytes(300_000), table=STRINGS)


def test_the_state_comes_back_to_the_byte(origin: Database, target: Engine, seed: int) -> None:
    fill(origin, random.Random(seed))
    timestamp, blocks = blocks_of(origin)
    assert len(blocks) > 2
    with loaded(target, timestamp, blocks) as copy, copy.snapshot() as there:
        assert blocks_of(copy)[1] == blocks
        with origin.snapshot() as here:
            assert there.state_hash() == here.state_hash()
            assert there.timestamp >= timestamp


def test_the_engine_goes_on_from_there(origin: Database, target: Engine) -> None:
    origin.table(ONE).put((1,), {"value": 1})
    timestamp, blocks = blocks_of(origin)
    with loaded(target, timestamp, blocks) as copy:
        copy.create(ONE)
        copy.table(ONE).put((1,), {"value": 2})
        copy.table(ONE).put((2,), {"value": 3})
        found: list[Any] = copy.table(ONE).scan()
    assert found == [((1,), {"value": 2}), ((2,), {"value": 3})]


def test_a_snapshot_without_rows_is_one(target: Engine) -> None:
    with loaded(target, 1 << 40, []) as copy:
        assert copy.table(STRINGS).scan() == []
        assert copy.watermark >= 1 << 40


def test_no_changed_length_gets_past(origin: Database) -> None:
    for number in range(3):
        origin.table(ONE).put((number,), {"value": number})
    origin.table(STRINGS).put(b"key", b"value")
    timestamp, (block,) = blocks_of(origin)
    engine = Engine(64 << 20, contexts=4, ring_bytes=1 << 16, now_ms=0)
    # Places of table, key length and value length of each row.
    at, places = 0, []
    while at < len(block.data):
        key = int.from_bytes(block.data[at + 2 : at + 4], "little")
        places += [*range(at, at + 4), *range(at + 4 + key, at + 8 + key)]
        at += 8 + key + int.from_bytes(block.data[at + 4 + key : at + 8 + key], "little")
    for place in places:
        changed = bytearray(block.data)
        changed[place] ^= 0x10
        with pytest.raises(LogCorrupt):
            loaded(engine, timestamp, [Block(block.rows, bytes(changed))])
        engine.close()
        engine = Engine(64 << 20, contexts=4, ring_bytes=1 << 16, now_ms=0)
    for size in range(1, len(block.data)):
        if size not in (24, 48, 72):  # Between two rows it is a shorter block, and a good one.
            with pytest.raises(LogCorrupt):
                loaded(engine, timestamp, [Block(block.rows, block.data[:size])])
            engine.close()
            engine = Engine(64 << 20, contexts=4, ring_bytes=1 << 16, now_ms=0)
    engine.close()
