"""Procedures reach nothing beyond the fields and the rows that they name."""

from typing import Any, Final

import pytest

import mako
from mako import Database
from mako.engine import layout, scan
from tests.conftest import INTERPRETED

pytestmark = pytest.mark.interpreted

ITEM: Final = mako.Table(
    "item",
    id=24,
    key={"id": 32},
    row={"before": "i8", "text": "S8", "marks": "i2*4", "after": "i8"},
)
ROW: Final = {"before": 1, "text": b"original", "marks": (1, 2, 3, 4), "after": 2}
#: Of the rows 1 to 3 a scan finds the first two.
FOUND: Final = 2


@mako.procedure
def reads_a_byte(tx: Any, index: int) -> Any:
    return tx.read(ITEM, (1,)).text[index]


@mako.procedure
def writes_a_byte(tx: Any, index: int) -> None:
    tx.write(ITEM, (1,)).text[index] = 33


@mako.procedure
def reads_an_element(tx: Any, index: int) -> Any:
    return tx.read(ITEM, (1,)).marks[index]


@mako.procedure
def writes_an_element(tx: Any, index: int) -> None:
    tx.write(ITEM, (1,)).marks[index] = 33


@mako.procedure
def reads_a_row(tx: Any, index: int) -> Any:
    return tx.scan(ITEM, (1,), (3,), 10).row(index).before


@mako.procedure
def reads_a_key(tx: Any, index: int) -> Any:
    return tx.scan(ITEM, (1,), (3,), 10).key(index).id


@mako.procedure
def writes_a_row(tx: Any, index: int) -> None:
    tx.scan(ITEM, (1,), (3,), 10).write(index).before = 33


@mako.procedure
def deletes_a_row(tx: Any, index: int) -> None:
    tx.scan(ITEM, (1,), (3,), 10).delete(index)


COUNTS: Final = {
    reads_a_byte: 8,
    writes_a_byte: 8,
    reads_an_element: 4,
    writes_an_element: 4,
    reads_a_row: FOUND,
    reads_a_key: FOUND,
    writes_a_row: FOUND,
    deletes_a_row: FOUND,
}


@pytest.fixture
def items(db: Database) -> Database:
    db.create(ITEM)
    for number in (1, 2, 3):
        db.table(ITEM).put((number,), ROW)
    return db


@pytest.mark.parametrize("procedure", COUNTS, ids=lambda procedure: procedure.name)
def test_an_index_is_one_of_what_is_there(items: Database, procedure: mako.Procedure) -> None:
    count = COUNTS[procedure]
    # The rows and fields beside it, those of whoever was there before, and what is nowhere.
    for index in (-1, count, count + 1, -(1 << 40), 1 << 40):
        with pytest.raises(mako.ProcedureError, match=r"Index(Error|Outside)"):
            items.run(procedure, index)
    assert items.table(ITEM).scan() == [((number,), ROW) for number in (1, 2, 3)]
    for index in (count - 1, 0):
        items.run(procedure, index)


# --- Rows of many scans ---------------------------------------------------------------------------


@mako.procedure
def scans_often(tx: Any, times: int) -> Any:
    """The rows that so many scans find, all of them read."""
    total = 0
    for _ in range(times):
        cursor = tx.scan(ITEM, (1,), (3,), 10)
        for i in range(cursor.count):
            total += cursor.row(i).before
    return total


@mako.procedure
def scans_before_it_reads(tx: Any, before: int, between: int) -> Any:
    """The rows of the scan between so many others, read after all of them."""
    for _ in range(before):
        tx.scan(ITEM, (1,), (3,), 10)
    cursor = tx.scan(ITEM, (2,), (4,), 10)
    for _ in range(between):
        tx.scan(ITEM, (1,), (3,), 10)
    return cursor.key(0).id * 10 + cursor.key(1).id


@pytest.fixture
def scans(items: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many scans of two rows fill the buffer for rows of scans; one more begins it again."""
    most = 100 if INTERPRETED else layout.SCAN_MAX
    if INTERPRETED:
        monkeypatch.setattr(scan, "SCAN_MAX", most)
    return (most - 10) // FOUND


def test_a_snapshot_scans_without_end_and_a_transaction_does_not(
    items: Database, scans: int
) -> None:
    assert items.run(scans_often, scans) == FOUND * scans
    for times in (scans + 1, 3 * scans):
        with pytest.raises(mako.TransactionTooLarge):
            items.run(scans_often, times)
        with items.snapshot() as snapshot:
            assert snapshot.run(scans_often, times) == FOUND * times


def test_rows_that_later_scans_have_written_over_are_not_read(items: Database, scans: int) -> None:
    """They would be other rows."""
    with items.snapshot() as snapshot:
        # The first of all, and the last one before the buffer begins again.
        assert snapshot.run(scans_before_it_reads, 0, scans - 1) == 23
        assert snapshot.run(scans_before_it_reads, scans - 1, scans - 1) == 23
        for before, between in ((0, scans), (scans - 1, scans), (scans - 1, scans + 1)):
            with pytest.raises(mako.ProcedureError, match="given up for later scans"):
                snapshot.run(scans_before_it_reads, before, between)
        assert snapshot.run(scans_before_it_reads, 1, 1) == 23
