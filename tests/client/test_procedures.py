"""Procedures run by `db.run` and at snapshots, and what is said about those that cannot."""

import pytest

import mako
from mako import Database, Procedure
from tests.client import procedures as p

pytestmark = pytest.mark.interpreted


@pytest.fixture
def db(db: Database) -> Database:
    db.create(p.COUNTER, p.NOTE)
    return db


def test_results_and_effects(db: Database) -> None:
    assert db.run(p.add, 1, 5) == 5
    assert db.run(p.add, 1, -7) == -2
    assert db.run(p.value_of, 1) == -2
    assert db.table(p.COUNTER).get((1,)) == {"value": -2}
    assert db.run(p.remove, 1) == 0
    assert db.table(p.COUNTER).get((1,)) is None


def test_scans_both_ways_and_writes_through_cursors(db: Database) -> None:
    for key in range(20):
        db.run(p.add, 2 * key, key)
    assert db.run(p.total, 10, 20) == 5 + 6 + 7 + 8 + 9
    assert db.run(p.last_key, 0, 19) == 18
    assert db.run(p.last_key, 100, 200) == -1
    assert db.run(p.double_and_prune, 0, 10) == 5
    kept = {key: row["value"] for (key,), row in db.table(p.COUNTER).scan(None, (10,))}
    assert kept == {2: 2, 6: 6}


def test_chars_and_arrays(db: Database) -> None:
    assert db.run(p.write_note, 1, 1, 32_766) == 32_769 - 65_536
    assert db.run(p.write_note, 1, 2, 5) == 8
    assert db.table(p.NOTE).get((1, 1)) == {
        "text": b"Hello, world",
        "size": 300 - 256,
        "marks": (32_766, 32_767, -32_768, -32_767),
    }
    assert db.run(p.compare_notes, 1, 1, 2) == ord("w")
    note = db.table(p.NOTE).get((1, 3))
    assert note["text"] == b"world"


def test_rolled_back_and_raised_leave_nothing(db: Database) -> None:
    db.run(p.add, 1, 5)
    with pytest.raises(mako.RolledBack):
        db.run(p.add_then_give_up, 1)
    with pytest.raises(mako.ProcedureError, match="ValueError: over the limit") as caught:
        db.run(p.add_then_raise, 1, 5)
    assert isinstance(caught.value.__cause__, ValueError)
    assert db.run(p.value_of, 1) == 5
    db.run(p.add_then_raise, 1, 6)
    assert db.run(p.value_of, 1) == 6


def test_missing_and_present_rows(db: Database) -> None:
    db.run(p.insert, 1)
    with pytest.raises(mako.Exists, match=r"insert: table counter.*put"):
        db.run(p.insert, 1)
    with pytest.raises(mako.NotFound, match=r"value_of: table counter.*find"):
        db.run(p.value_of, 2)
    with pytest.raises(mako.KeyTooLarge, match="counter"):
        db.run(p.value_of, 1 << 32)


def test_random_numbers_differ_and_the_clock_goes(db: Database) -> None:
    assert len({db.run(p.drawn, 1) for _ in range(50)}) == 50
    assert db.run(p.clock) > 1_500_000_000_000


REFUSED: list[tuple[Procedure, tuple[object, ...], str]] = [
    (p.uses_undeclared, (), "db.create"),
    (p.add, (1,), "takes 2 arguments"),
    (p.add, (1, 2, 3), "takes 2 arguments"),
    (p.add, (1, "2"), "amount is '2'"),
    (p.add, (1, 2.0), "amount is 2.0"),
    (p.add, (1 << 63, 1), "64-bit"),
    (p.add, (None, 1), "key is None"),
]


@pytest.mark.parametrize(("procedure", "arguments", "advice"), REFUSED)
@pytest.mark.parametrize("how", ["run", "submit"])
def test_refused(
    db: Database, procedure: Procedure, arguments: tuple[int, ...], advice: str, how: str
) -> None:
    with pytest.raises(mako.SchemaError, match=advice) as caught:
        getattr(db, how)(procedure, *arguments)
    assert "\n" not in str(caught.value)
    assert db.run(p.add, 1, 1) == 1


def test_out_rows_are_filled_at_a_snapshot(db: Database) -> None:
    for key in range(10):
        db.run(p.add, key, key)
    with db.snapshot() as snapshot:
        db.run(p.add, 3, 1000)
        result, row = snapshot.run(p.summary, 10, out=p.OUT)
        assert result == 10
        assert row == {"count": 10, "total": 45, "text": b"done"}
        assert snapshot.run(p.total, 0, 100) == 45


def test_a_procedure_that_fails_at_a_snapshot_leaves_it_as_it_was(db: Database) -> None:
    db.run(p.add, 1, 5)
    with db.snapshot() as snapshot:
        db.run(p.add, 1, 1)
        with pytest.raises(mako.errors.ReadOnly, match="use a transaction"):
            snapshot.run(p.write_at_snapshot, 1)
        with pytest.raises(mako.NotFound):
            snapshot.run(p.value_of, 2)
        assert snapshot.table(p.COUNTER).get((1,)) == {"value": 5}


@pytest.mark.parametrize(
    ("procedure", "key"),
    [(p.write_at_snapshot, 1), (p.insert, 1), (p.insert, 2), (p.drawn, 1), (p.remove, 1)],
    ids=["write", "insert again", "insert", "put", "delete"],
)
def test_nothing_is_written_at_a_snapshot(db: Database, procedure: Procedure, key: int) -> None:
    db.run(p.add, 1, 5)
    used = db.memory_bytes
    with db.snapshot() as snapshot:
        for _ in range(3):
            with pytest.raises(mako.ReadOnly, match="use a transaction"):
                snapshot.run(procedure, key)
        assert list(snapshot.table(p.COUNTER).scan()) == [((1,), {"value": 5})]
    assert db.table(p.COUNTER).scan() == [((1,), {"value": 5})]
    assert db.memory_bytes == used
