"""A view of a table belongs to the database that it was made of, and to no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mako
from mako import Database, SchemaError, WriteBatch

pytestmark = pytest.mark.interpreted

WIDE = mako.Table("wide", id=7, key={"a": 64, "b": 64}, row={"x": "i8", "y": "S100"})
NARROW = mako.Table("narrow", id=7, key={"k": 64}, row={"x": "i8"})


def in_transaction(db: Database, view: Any) -> None:
    with db.transaction() as tx:
        tx.put(b"a", b"theirs", table=view)


def in_view_of_transaction(db: Database, view: Any) -> None:
    with db.transaction() as tx:
        tx.table(view).put(b"a", b"theirs")


def in_batch(db: Database, view: Any) -> None:
    batch = WriteBatch()
    batch.put(b"a", b"theirs", table=view)
    db.write(batch)


def at_snapshot(db: Database, view: Any) -> None:
    with db.snapshot() as snapshot:
        snapshot.get(b"a", table=view)


USES: list[Callable[[Database, Any], None]] = [
    in_transaction,
    in_view_of_transaction,
    in_batch,
    at_snapshot,
    lambda db, view: db.table(view).put(b"a", b"theirs"),
]


@pytest.mark.parametrize("use", USES)
def test_views_of_another_database_are_refused(db: Database, use: Any) -> None:
    db.table("notes")[b"a"] = b"ours"
    with mako.open(memory="64MiB") as other:
        notes = other.table("notes")
        notes[b"a"] = b"other's"
        views: list[Any] = [notes]
        with other.transaction() as tx:
            views.append(tx.table("notes"))
            for view in views:
                with pytest.raises(SchemaError, match="notes is another database's; ask this one"):
                    use(db, view)
        assert notes[b"a"] == b"other's"
    assert db.table("notes")[b"a"] == b"ours"


@pytest.mark.parametrize("use", USES)
def test_views_of_a_closed_database_are_refused_by_the_next(use: Any) -> None:
    """The next one's memory is at the same address, as often as not."""
    with mako.open(memory="64MiB") as first:
        notes = first.table("notes")
    with mako.open(memory="64MiB") as second:
        salaries = second.table("salaries")
        salaries[b"a"] = b"1000"
        with pytest.raises(SchemaError, match="another database's"):
            use(second, notes)
        assert dict(salaries.items()) == {b"a": b"1000"}


def test_a_folder_opened_again_takes_no_view_of_before(tmp_path: Path) -> None:
    """A row of another size in the log would end it for good."""
    with mako.open(tmp_path / "first", memory="64MiB") as db:
        db.create(NARROW)
        narrow = db.table(NARROW)
    with mako.open(tmp_path / "second", memory="64MiB") as db:
        db.create(WIDE)
        with pytest.raises(SchemaError, match="another database's"), db.transaction() as tx:
            tx.put(1, {"x": 99}, table=narrow)
        db.table(WIDE).put((1, 2), {"x": 5, "y": b"hello"})
    with mako.open(tmp_path / "second", memory="64MiB") as db:
        db.create(WIDE)
        assert db.table(WIDE).get((1, 2)) == {"x": 5, "y": b"hello"}
