"""Batches: all at once or not at all, in their order, whatever else commits meanwhile."""

from typing import Any

import pytest

import mako
from mako import Database, Exists, SchemaError, WriteBatch

pytestmark = pytest.mark.interpreted

ROW = mako.Table("row", id=7, key={"k": 16}, row={"v": "i2"})


def test_a_batch_is_written_in_its_order(db: Database) -> None:
    db[b"a"] = b"old"
    batch = WriteBatch()
    batch.delete(b"a")
    batch.insert(b"a", b"1")
    batch.put(b"b", b"1")
    batch.put(b"b", b"2")
    batch.put(b"c", b"1", table="other")
    batch.delete(b"not there")
    assert len(batch) == 6
    assert dict(db.items()) == {b"a": b"old"}
    timestamp = db.write(batch)
    assert 0 < timestamp <= db.watermark
    assert dict(db.items()) == {b"a": b"1", b"b": b"2"}
    assert db.table("other").get(b"c") == b"1"


def test_a_batch_may_be_written_again_or_cleared(db: Database) -> None:
    batch = WriteBatch()
    batch.put(b"a", b"1")
    first = db.write(batch)
    del db[b"a"]
    assert db.write(batch) > first
    assert db[b"a"] == b"1"
    batch.clear()
    assert len(batch) == 0
    db.write(batch)
    assert list(db[:]) == [(b"a", b"1")]


def test_a_batch_that_fails_writes_nothing(db: Database) -> None:
    db[b"b"] = b"1"
    batch = WriteBatch()
    batch.put(b"a", b"1")
    batch.insert(b"b", b"2")
    with pytest.raises(Exists):
        db.write(batch)
    batch = WriteBatch()
    batch.put(b"a", b"1")
    batch.put("text", b"2")
    with pytest.raises(SchemaError, match="is bytes"):
        db.write(batch)
    assert dict(db.items()) == {b"b": b"1"}


def test_what_a_batch_was_given_may_change(db: Database) -> None:
    db.create(ROW)
    key, value, row = bytearray(b"k"), bytearray(b"v"), {"v": 1}
    batch = WriteBatch()
    batch.put(key, memoryview(value))
    batch.put(1, row, table=ROW)
    key[:] = value[:] = b"x"
    row["v"] = 2
    db.write(batch)
    assert dict(db.items()) == {b"k": b"v"}
    assert db.table(ROW)[1] == {"v": 1}


def test_a_batch_is_written_again_after_a_conflict(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db[b"a"] = b"1"
    batch = WriteBatch()
    batch.delete(b"a")
    batch.put(b"b", b"2")
    apply = batch._apply
    attempts: list[mako.Transaction] = []

    def disturbed(tx: mako.Transaction) -> mako.Transaction:
        applied = apply(tx)
        if not attempts:
            db[b"a"] = b"faster"
        attempts.append(tx)
        return applied

    monkeypatch.setattr(batch, "_apply", disturbed)
    db.write(batch)
    assert len(attempts) == 2
    assert dict(db.items()) == {b"b": b"2"}


@pytest.mark.parametrize("batch", [None, [], [("put", b"a", b"1")]])
def test_only_batches_are_written(db: Database, batch: Any) -> None:
    with pytest.raises(SchemaError, match="WriteBatch"):
        db.write(batch)


def test_what_is_in_rows_is_copied_too(db: Database) -> None:
    table = mako.Table("deep", id=8, key={"k": 16}, row={"owner": "S8", "n": "i2*3"})
    db.create(table)
    numbers, owner = [1, 2, 3], bytearray(b"bob")
    batch = WriteBatch()
    batch.put(1, {"owner": owner, "n": numbers}, table=table)
    numbers[0], owner[:] = 99, b"eve"
    db.write(batch)
    assert db.table(table).get(1) == {"owner": b"bob", "n": (1, 2, 3)}
