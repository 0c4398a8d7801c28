"""The dump: every row once, in order, at its snapshot, the same bytes for the same rows."""

import hashlib
import io
import random
from itertools import pairwise
from typing import Any, Final

import pytest

import mako
from mako.client import Database
from mako.engine import dump as dumping
from mako.engine.buffers import addressed
from mako.engine.region import Region
from mako.ids import Outcome
from tests.conftest import INTERPRETED
from tests.engine.replaying import dump_of

pytestmark = pytest.mark.interpreted

ONE: Final = mako.Table("one", id=7, key={"a": 64}, row={"value": "i8"})
TWO: Final = mako.Table("two", id=2, key={"a": 64, "b": 64}, row={"value": "i8", "text": "S8"})
NOTHING: Final = mako.Table("nothing", id=5, key={"a": 32}, row={})
LARGEST: Final = (1 << 64) - 1
EMPTY: Final = hashlib.blake2b(digest_size=32).hexdigest()


@pytest.fixture
def db() -> Any:
    with mako.open(memory="64MiB", sessions=4) as made:
        made.create(ONE, TWO, NOTHING)
        yield made


def dumped(db: Database) -> bytes:
    file = io.BytesIO()
    with db.snapshot() as snapshot:
        state_hash = snapshot.dump(file)
    assert hashlib.blake2b(file.getvalue(), digest_size=32).hexdigest() == state_hash
    return file.getvalue()


def fill(db: Database, model: dict[tuple[int, bytes], bytes], table: Any, rows: Any) -> None:
    """Put rows of a table, in one transaction, into the database and into the model."""
    with db.transaction() as tx:
        for key, value in rows:
            tx.put(key, value, table=table)
            typed = isinstance(table, mako.Table)
            model[int(table.id), table.pack_key(key) if typed else key] = (
                table.pack_row(value) if typed else value
            )


def test_an_empty_database_has_the_hash_of_nothing(db: Database) -> None:
    assert dumped(db) == b""
    with db.snapshot() as snapshot:
        assert snapshot.state_hash() == EMPTY


def test_rows_come_by_table_and_key_whatever_the_order_of_writing(db: Database, seed: int) -> None:
    draw = random.Random(seed)
    model: dict[tuple[int, bytes], bytes] = {}
    words = [0, 1, 2**63 - 1, 2**63, LARGEST, *(draw.getrandbits(64) for _ in range(20))]
    draw.shuffle(words)
    strings = mako.BytesTable("strings", id=1001)
    db.create(strings)
    fill(db, model, strings, [(draw.randbytes(draw.randrange(9)), b"v") for _ in range(30)])
    fill(db, model, strings, [(b"", b""), (b"\xff" * 4096, b"last"), (b"\xff" * 4095, b"nearly")])
    fill(db, model, ONE, [((word,), {"value": word >> 1}) for word in words])
    fill(db, model, TWO, [((a, b), {"value": 1, "text": b"t"}) for a in words for b in words[:3]])
    fill(db, model, NOTHING, [((word & 0xFFFF,), {}) for word in words])
    assert dumped(db) == dump_of(model)


@pytest.mark.parametrize("scan_rows", [1, 2, 7])
def test_scans_lose_and_repeat_nothing(
    db: Database, scan_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumping, "SCAN_ROWS", scan_rows)
    model: dict[tuple[int, bytes], bytes] = {}
    fill(db, model, ONE, [((i,), {"value": i & 255}) for i in (0, 5, 6, LARGEST - 1, LARGEST)])
    fill(db, model, TWO, [((i, LARGEST), {"value": i}) for i in range(14)])
    assert dumped(db) == dump_of(model)


def test_more_rows_than_a_scan_and_rows_longer_than_a_block(db: Database) -> None:
    model: dict[tuple[int, bytes], bytes] = {}
    strings = mako.BytesTable("strings", id=1001)
    db.create(strings)
    count = dumping.SCAN_ROWS * (1 if INTERPRETED else 3)
    for first in range(0, count, 2048):
        fill(db, model, ONE, [((i,), {"value": i}) for i in range(first, first + 2048)])
    large = dumping.BLOCK_BYTES
    for number in range(4):
        fill(db, model, strings, [(b"%d" % number, bytes([number]) * (large - number))])
    fill(db, model, strings, [(b"after", b"it")])
    assert dumped(db) == dump_of(model)


def rows_of(block: dumping.Block) -> list[bytes]:
    """The rows of a block, each as its bytes."""
    rows, at = [], 0
    while at < len(block.data):
        key_end = at + 4 + int.from_bytes(block.data[at + 2 : at + 4], "little")
        end = key_end + 4 + int.from_bytes(block.data[key_end : key_end + 4], "little")
        rows.append(block.data[at:end])
        at = end
    assert len(rows) == block.rows
    return rows


def test_a_block_ends_before_the_row_that_would_make_it_too_long(db: Database, seed: int) -> None:
    draw = random.Random(seed)
    strings = mako.BytesTable("strings", id=1001)
    db.create(strings)
    sizes = [draw.choice((0, 10, 3000, 60_000, 300_000)) for _ in range(60)]
    model: dict[tuple[int, bytes], bytes] = {}
    fill(db, model, strings, [(b"%03d" % i, bytes(size)) for i, size in enumerate(sizes)])
    fill(db, model, ONE, [((i,), {"value": i & 255}) for i in (*range(500), LARGEST)])
    with db.snapshot() as snapshot, dumping.Dumper(db._engine, snapshot._context) as dumper:
        blocks = list(dumper.blocks())
    assert b"".join(block.data for block in blocks) == dump_of(model)
    for block, following in pairwise(blocks):
        assert len(block.data) <= dumping.BLOCK_BYTES or block.rows == 1
        assert len(block.data) + len(rows_of(following)[0]) > dumping.BLOCK_BYTES


def test_a_dump_is_that_of_its_snapshot(db: Database) -> None:
    model: dict[tuple[int, bytes], bytes] = {}
    fill(db, model, ONE, [((i,), {"value": i}) for i in range(50)])
    with db.snapshot() as snapshot:
        for i in range(0, 50, 2):
            db.table(ONE).delete((i,))
            db.table(ONE).put((i + 1,), {"value": -1})
        file = io.BytesIO()
        snapshot.dump(file)
        assert file.getvalue() == dump_of(model)
        # It can be read from as before, and dumped again.
        assert snapshot.table(ONE).get((4,)) == {"value": 4}
        assert snapshot.state_hash() == snapshot.state_hash()
    assert dumped(db) != dump_of(model)


def test_a_closed_snapshot_is_not_dumped(db: Database) -> None:
    snapshot = db.snapshot()
    snapshot.close()
    with pytest.raises(mako.Closed):
        snapshot.state_hash()


def mixed(data: bytes) -> int:
    with addressed(data) as (address, size):
        return int(dumping.mixed(address, size, 0))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 24, 31])
def test_a_fingerprint_changes_with_every_bit_and_with_zeros_at_the_end(size: int) -> None:
    data = bytes(range(1, size + 1))
    changed = {data, data + b"\0", data + bytes(8)}
    for bit in range(8 * size):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.add(bytes(flipped))
    assert len({mixed(one) for one in changed}) == len(changed) == 3 + 8 * size
    assert mixed(bytes(bytearray(data))) == mixed(data)


def test_a_fingerprint_is_that_of_the_blocks_one_after_the_other(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumping, "BLOCK_BYTES", 256)
    fill(db, {}, ONE, [((i,), {"value": i & 255}) for i in range(30)])
    strings = mako.BytesTable("strings", id=1001)
    db.create(strings)
    fill(db, {}, strings, [(b"a", bytes(1000)), (b"b", b"after a row that is a block of its own")])
    space = Region(256)
    with db.snapshot() as snapshot:
        context = snapshot._context
        found = dumping.fingerprint(db._engine, context, snapshot.timestamp, space)
        with dumping.Dumper(db._engine, context) as dumper:
            blocks = list(dumper.blocks())
        state = 0
        for block in blocks:
            with addressed(block.data) as (address, size):
                state = dumping.mixed(address, size, state)
        assert len(blocks) > 3
        assert found == state & LARGEST
    space.write(space.base, b"the caller's still")
    space.close()


def test_who_holds_a_node_is_waited_for(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have lost its processor: a snapshot neither aborts nor leaves anything out."""
    with db.transaction() as tx:
        for key in (1, LARGEST):
            tx.put((key,), {"value": key % 7}, table=ONE)
    expected, left = dumped(db), {"rows": 3, "greatest": 3}
    rows, greatest = dumping.dump_rows, vars(dumping)["session_get"]

    def dump_rows(*given: Any) -> Any:
        left["rows"] -= 1
        return rows(*given) if left["rows"] < 0 else (0, 0, -int(Outcome.LOCKED), 0)

    def session_get(*given: Any) -> Any:
        left["greatest"] -= 1
        return greatest(*given) if left["greatest"] < 0 else -2 - int(Outcome.LOCKED)

    monkeypatch.setattr(dumping, "dump_rows", dump_rows)
    monkeypatch.setattr(dumping, "session_get", session_get)
    assert dumped(db) == expected
    assert all(count < 0 for count in left.values())
