"""Scans over partitions that ranges of keys are cut into find what one table would hold, for all
kinds of keys, and ask nobody who has none of the range."""

import random
import struct
from collections.abc import Iterator

import pytest

import mako
from mako.engine.atomics import ld8, st8
from mako.engine.builtin import access, address_of
from mako.engine.dump import ROW_BYTES, Dumper
from mako.engine.engine import Engine
from mako.engine.interactive import session_begin_snapshot
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    C_KEY,
    C_KEY_END,
    C_SCAN,
    C_SCAN_USED,
    SCAN_BYTES,
    T_ID,
    T_KIND,
    V_VALUE,
)
from mako.engine.scan import BYTES_SCANNING, PAIR_SCANNING, WORD_SCANNING
from mako.engine.transactions import stop
from mako.ids import Outcome
from mako.placement import Kind, Placement, blocks
from mako.schema import BytesTable, Table
from tests.engine.partitioned import Cluster, Done

pytestmark = pytest.mark.interpreted

WORD = mako.Table("word", id=7, key={"key": 64}, row={"v": "i8"})
PAIR = mako.Table("pair", id=8, key={"high": 64, "low": 64}, row={"v": "i8"})
STRINGS = BytesTable("strings", id=1000)
TABLES: tuple[Table | BytesTable, ...] = (WORD, PAIR, STRINGS)
PARTITIONS = 4

_up = (WORD_SCANNING.forward, PAIR_SCANNING.forward, BYTES_SCANNING.forward)
_down = (WORD_SCANNING.backward, PAIR_SCANNING.backward, BYTES_SCANNING.backward)
_word_up, _pair_up, _bytes_up = _up
_word_down, _pair_down, _bytes_down = _down
_word_decode, _pair_decode = WORD_KIND.decode, PAIR_KIND.decode
_bytes_decode = BYTES_KIND.decode
_PUT, _DELETE = 1, 3
_KEY_BYTES = 32
_ARGUMENTS = struct.Struct("<6q")


def write_and_scan(tx: int, arguments: int, result: int) -> int:
    """Put and delete keys, then scan; a number that tells what was found and in which order.

    table | puts and deletes | bytes of each key | limit | descending | bytes of the end
    first, end, key ..., each in 32 bytes
    """
    table = ld8(arguments)
    size = ld8(arguments + 16)
    first = arguments + 48
    end = first + 32
    for i in range(ld8(arguments + 8)):
        key = end + 32 * (i + 1)
        what = _PUT if ld8(key + 24) != 0 else _DELETE
        done = access(tx, table, key, ld8(key + 16), 8, what)
        if done < 0:
            return 0
        if what == _PUT:
            st8(done + V_VALUE, ld8(key + 24))
    limit = ld8(arguments + 24)
    down = ld8(arguments + 32)
    kind = ld8(table + T_KIND)
    if kind == 1:
        low = _word_decode(first, size, tx + C_KEY)
        high = _word_decode(end, size, tx + C_KEY_END)
        if down:
            found = _word_down(tx, table, low, high, limit)
        else:
            found = _word_up(tx, table, low, high, limit)
    elif kind == 2:
        lows = _pair_decode(first, size, tx + C_KEY)
        highs = _pair_decode(end, size, tx + C_KEY_END)
        if down:
            found = _pair_down(tx, table, lows, highs, limit)
        else:
            found = _pair_up(tx, table, lows, highs, limit)
    else:
        from_ = _bytes_decode(first, size, tx + C_KEY)
        to = _bytes_decode(end, ld8(arguments + 40), tx + C_KEY_END)
        if down:
            found = _bytes_down(tx, table, from_, to, limit)
        else:
            found = _bytes_up(tx, table, from_, to, limit)
    if found < 0:
        stop(tx, found, 0, ld8(table + T_ID))
        return 0
    rows = tx + C_SCAN + (ld8(tx + C_SCAN_USED) - found) * SCAN_BYTES
    total = found
    for i in range(found):
        total = (total * 131 + ld8(ld8(rows + i * SCAN_BYTES + 8) + V_VALUE)) % 1_000_000_007
    st8(result, total)
    return 0


Write = tuple[bytes, int]  #: Key, and value; 0: it is deleted.


class Model:
    """One table that has all rows."""

    def __init__(self) -> None:
        self.rows: dict[bytes, int] = {}

    def run(self, writes: list[Write], first: bytes, end: bytes, limit: int, *, down: bool) -> int:
        for key, value in writes:
            if value:
                self.rows[key] = value
            else:
                self.rows.pop(key, None)
        keys = sorted((key for key in self.rows if first <= key < end), reverse=down)[:limit]
        total = len(keys)
        for key in keys:
            total = (total * 131 + self.rows[key]) % 1_000_000_007
        return total


def ask(
    cluster: Cluster,
    home: int,
    table: Table | BytesTable,
    writes: list[Write],
    first: bytes,
    end: bytes,
    limit: int,
    *,
    down: bool,
) -> Done:
    handle = cluster.engines[home].tables[int(table.id)]
    words = _ARGUMENTS.pack(handle.address, len(writes), len(first), limit, down, len(end))
    words += first.ljust(_KEY_BYTES, b"\0") + end.ljust(_KEY_BYTES, b"\0")
    for key, value in writes:
        words += key.ljust(16, b"\0") + struct.pack("<2q", len(key), value)
    return cluster.finish(cluster.post_entry(home, address_of(write_and_scan), words))


def key_of(chance: random.Random, table: Table | BytesTable) -> bytes:
    """One of a few hundred keys over the whole order of keys."""
    size = table.key_size if isinstance(table, Table) else chance.randrange(1, 4)
    key = bytes([chance.choice([0, 1, 0x7F, 0x80, 0xFF]) for _ in range(min(size, 3))])
    return key + bytes([chance.choice([0, 0xFF])]) * (size - len(key))


def cuts(chance: random.Random, table: Table | BytesTable) -> Placement:
    """Where the keys of a table are: between keys, at them, and behind the beginnings of some."""
    found: set[bytes] = set()
    while len(found) < PARTITIONS - 1:
        key = key_of(chance, table)
        found.add(chance.choice([key, key[:1], key[:2], key + b"\0"]))
    return Placement(Kind.RANGE, PARTITIONS, tuple(sorted(found)))


@pytest.fixture
def placements(seed: int) -> dict[str, Placement]:
    chance = random.Random(seed)
    return {table.name: cuts(chance, table) for table in TABLES}


@pytest.fixture
def cluster(placements: dict[str, Placement]) -> Iterator[Cluster]:
    made = Cluster(TABLES, partitions=PARTITIONS, placements=placements)
    yield made
    made.close()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_scans_find_what_one_table_would_hold(
    cluster: Cluster, placements: dict[str, Placement], seed: int, table: Table | BytesTable
) -> None:
    chance = random.Random(seed + 1)
    placement = placements[table.name]
    model = Model()
    number = 0
    for _ in range(60):
        home = chance.randrange(PARTITIONS)
        writes = []
        for _ in range(chance.choice([0, 1, 2, 6])):
            number += 1
            gone = model.rows and chance.random() < 0.4
            key = chance.choice(list(model.rows)) if gone else key_of(chance, table)
            writes.append((key, 0 if gone else number))
        first, end = key_of(chance, table), key_of(chance, table)
        if chance.random() < 0.9:
            first, end = min(first, end), max(first, end)
        limit, down = chance.choice([1, 2, 3, 100]), chance.random() < 0.5
        done = ask(cluster, home, table, writes, first, end, limit, down=down)
        what = (placement, sorted(model.rows), home, writes, first, end, limit, down)
        assert done.outcome is Outcome.COMMITTED, what
        assert done.value == model.run(writes, first, end, limit, down=down), what
        concerned = {home, *placement.touched(first, end)}
        concerned |= {placement.partition_of(key) for key, _ in writes}
        assert done.mask & ~sum(1 << each for each in concerned) == 0, what
    for partition, engine in enumerate(cluster.engines):
        own = {key for key in model.rows if placement.partition_of(key) == partition}
        assert keys_of(engine, table) == own


def keys_of(engine: Engine, table: Table | BytesTable) -> set[bytes]:
    """The keys of the rows that a partition has, all of which the table's map gives it."""
    found: set[bytes] = set()
    with engine.borrowed() as context:
        session_begin_snapshot(context, engine.stable)
        with Dumper(engine, context) as dumper:
            for block in dumper.blocks():
                at = 0
                while at < len(block.data):
                    number, size = struct.unpack_from("<2H", block.data, at)
                    assert number == int(table.id)
                    found.add(block.data[at + 4 : at + 4 + size])
                    at += ROW_BYTES + size + 8
    return found


def test_a_scan_that_ends_where_the_next_partition_begins_does_not_ask_it() -> None:
    table = mako.Table("blocked", id=9, key={"place": 8, "number": 64}, row={"v": "i8"})
    placements = {"blocked": blocks(3, size=2, bits=8)}
    cluster = Cluster([table], partitions=3, placements=placements)
    try:
        first, end = table.pack_bound(2), table.pack_bound(4)
        for down in (False, True):
            done = ask(cluster, 1, table, [], first, end, 9, down=down)
            assert (done.outcome, done.mask) == (Outcome.COMMITTED, 0b010)
        end = table.pack_key((4, 1))
        done = ask(cluster, 1, table, [], first, end, 9, down=True)
        assert (done.outcome, done.mask) == (Outcome.COMMITTED, 0b110)
    finally:
        cluster.close()
