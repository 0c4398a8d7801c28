"""Many keys at once, ranges by slices: the same rows whoever is asked, in the order asked."""

from typing import Any

import pytest

import mako
from mako import Conflict, Database, SchemaError

pytestmark = pytest.mark.interpreted

ROW = mako.Table("row", id=7, key={"k": 16}, row={"v": "i2"})
ROWS = [(b"%02d" % i, b"v%d" % i) for i in range(10)]


@pytest.fixture
def full(db: Database) -> Database:
    batch = mako.WriteBatch()
    for key, value in ROWS:
        batch.put(key, value)
    db.write(batch)
    return db


def readers(db: Database, tx: Any, snapshot: Any) -> list[Any]:
    """All that can be read, with the default table in it."""
    parts = [db, tx, snapshot]
    return parts + [part.table("default") for part in parts]


def test_many_are_read_in_the_order_asked(full: Database) -> None:
    wanted = [b"07", b"no", b"01", b"07"]
    with full.transaction() as tx, full.snapshot() as snapshot:
        for reader in readers(full, tx, snapshot):
            assert reader.get_many(wanted) == [b"v7", None, b"v1", b"v7"]
            assert reader.get_many(key for key in wanted[:2]) == [b"v7", None]
            assert reader.get_many([]) == []


def test_many_rows_of_a_typed_table(db: Database) -> None:
    db.create(ROW)
    table = db.table(ROW)
    table[1] = {"v": -1}
    assert table.get_many([2, (1,)]) == [None, {"v": -1}]
    with db.transaction() as tx, db.snapshot() as snapshot:
        assert tx.get_many([1], table=ROW) == snapshot.get_many([1], table=table) == [{"v": -1}]


def test_many_reads_of_a_transaction_are_validated(full: Database) -> None:
    tx = full.begin()
    assert tx.get_many([b"01", b"no"]) == [b"v1", None]
    full[b"no"] = b"now"
    tx.put(b"x", b"1")
    with pytest.raises(Conflict):
        tx.commit()


def test_slices_are_ranges(full: Database) -> None:
    with full.transaction() as tx, full.snapshot() as snapshot:
        for reader in readers(full, tx, snapshot):
            assert list(reader[b"03":b"06"]) == ROWS[3:6]
            assert list(reader[b"08":]) == ROWS[8:]
            assert list(reader[:b"02"]) == ROWS[:2]
            assert list(reader[:]) == ROWS
            assert list(reader[b"06":b"03"]) == []
            assert reader[b"03"] == b"v3"
            assert b"03" in reader
            assert b"no" not in reader
            with pytest.raises(KeyError):
                reader[b"no"]


def test_a_slice_with_a_step_is_refused(full: Database) -> None:
    with full.transaction() as tx, full.snapshot() as snapshot:
        for reader in readers(full, tx, snapshot):
            with pytest.raises(SchemaError, match=r"a step of 2.*scan\(\) can go backwards"):
                reader[b"01":b"05":2]
        for writer in (full, tx, full.table("default"), tx.table("default")):
            with pytest.raises(SchemaError, match="a step of -1"):
                del writer[b"01":b"05":-1]
            with pytest.raises(SchemaError, match="cannot be assigned to"):
                writer[b"01":b"05"] = b""
    assert list(full[:]) == ROWS


@pytest.mark.parametrize("view", [False, True])
def test_a_range_is_deleted(full: Database, *, view: bool) -> None:
    writer: Any = full.table("default") if view else full
    del writer[b"03":b"06"]
    del writer[b"03":b"06"]  # Nothing is there any more, which is as well.
    assert list(full[:]) == ROWS[:3] + ROWS[6:]
    with full.transaction() as tx:
        part: Any = tx.table("default") if view else tx
        part[b"04"] = b"new"
        del part[b"02":b"05"]
        assert list(part[:]) == ROWS[:2] + ROWS[6:]
    assert list(full[:]) == ROWS[:2] + ROWS[6:]
    del writer[:]
    assert list(full[:]) == []


@pytest.mark.parametrize("count", [256, 700])
def test_a_range_of_many_pages_is_deleted(db: Database, count: int) -> None:
    with db.transaction() as tx:
        for i in range(count):
            tx.put(b"%05d" % i, b"v")
        del tx[b"00001":]
    assert list(db[:]) == [(b"00000", b"v")]
    with db.transaction() as tx:
        for i in range(count):
            tx.put(b"%05d" % i, b"v")
    del db[: b"%05d" % (count - 1)]
    assert list(db[:]) == [(b"%05d" % (count - 1), b"v")]


def test_a_range_to_delete_is_guarded(full: Database) -> None:
    tx = full.begin()
    del tx[b"03":b"06"]
    full[b"04x"] = b"new"
    with pytest.raises(Conflict):
        tx.commit()


def test_typed_tables_have_ranges_by_prefix(db: Database) -> None:
    db.create(ROW)
    table = db.table(ROW)
    for k in range(5):
        table[k] = {"v": k}
    assert list(table[1:3]) == [((1,), {"v": 1}), ((2,), {"v": 2})]
    del table[1:4]
    assert [key for key, _ in table[:]] == [(0,), (4,)]
    del table[4]
    assert 4 not in table
    with pytest.raises(KeyError):
        del table[4]


def test_items_stream_from_one_snapshot(full: Database) -> None:
    items = full.items(b"02", b"05")
    assert next(items) == ROWS[2]
    full[b"03"] = b"later"
    del full[b"04"]
    assert list(items) == ROWS[3:5]
    assert list(full.items(b"02", b"05", reverse=True)) == [(b"03", b"later"), ROWS[2]]
    assert list(full.table("default").items(end=b"01")) == ROWS[:1]
