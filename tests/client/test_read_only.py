"""Rows that were read stay as they are, and views that outlive their row harm nobody."""

from collections.abc import Callable
from typing import Any, Final

import pytest

import mako
from mako import Database
from tests.conftest import INTERPRETED

pytestmark = pytest.mark.interpreted

ITEM: Final = mako.Table(
    "item",
    id=21,
    key={"id": 32},
    row={"value": "i8", "text": "S8", "other": "S8", "marks": "i4*4"},
)
RAW: Final = mako.BytesTable("raw", id=22)
ROW: Final = {
    "value": 5,
    "text": b"original",
    "other": b"other",
    "marks": (1, 2, 3, 4),
}


@pytest.fixture
def items(db: Database) -> Database:
    db.create(ITEM, RAW)
    db.table(ITEM).put((1,), ROW)
    db.table(RAW).put(b"key", b"original")
    return db


# --- what may not be ------------------------------------------------------------------------------


@mako.procedure
def assigns_a_field(tx: Any) -> None:
    tx.read(ITEM, (1,)).value = 6


@mako.procedure
def assigns_chars(tx: Any) -> None:
    tx.read(ITEM, (1,)).text = b"changed"


@mako.procedure
def assigns_a_slice(tx: Any) -> None:
    tx.read(ITEM, (1,)).text[0:3] = b"BAD"


@mako.procedure
def assigns_a_byte(tx: Any) -> None:
    tx.read(ITEM, (1,)).text[3] = 33


@mako.procedure
def assigns_a_slice_of_a_slice(tx: Any) -> None:
    part = tx.read(ITEM, (1,)).text[1:7]
    part[2:4][0:1] = b"!"


@mako.procedure
def assigns_a_byte_of_a_slice(tx: Any) -> None:
    tx.read(ITEM, (1,)).text[1:7][0] = 33


@mako.procedure
def assigns_an_element(tx: Any) -> None:
    tx.read(ITEM, (1,)).marks[1] = 666


@mako.procedure
def assigns_what_it_found(tx: Any) -> None:
    _, row = tx.find(ITEM, (1,))
    row.text[0:3] = b"BAD"


@mako.procedure
def assigns_what_is_missing(tx: Any) -> None:
    _, row = tx.find(ITEM, (99,))
    row.marks[2] = 42


@mako.procedure
def assigns_a_row_of_a_scan(tx: Any) -> None:
    cursor = tx.scan(ITEM, (0,), (9,), 10)
    cursor.row(0).text[0] = 33


@mako.procedure
def assigns_a_number_of_a_scan(tx: Any) -> None:
    cursor = tx.scan_back(ITEM, (0,), (9,), 10)
    cursor.row(0).marks[0] = 33


@mako.procedure
def assigns_bytes_it_got(tx: Any) -> None:
    _, value = tx.get_bytes(RAW, b"key")
    value[0:3] = b"BAD"


@mako.procedure
def assigns_one_of_two(tx: Any) -> None:
    """A view of either kind can only be read."""
    view = tx.read(ITEM, (1,)).text
    row = tx.write(ITEM, (1,))
    if row.value > 100:
        view = row.text
    view[0] = 33


FORBIDDEN: Final = [
    assigns_a_field,
    assigns_chars,
    assigns_a_slice,
    assigns_a_byte,
    assigns_a_slice_of_a_slice,
    assigns_a_byte_of_a_slice,
    assigns_an_element,
    assigns_what_it_found,
    assigns_what_is_missing,
    assigns_a_row_of_a_scan,
    assigns_a_number_of_a_scan,
    assigns_bytes_it_got,
    assigns_one_of_two,
]


@mako.procedure
def missing_mark(tx: Any) -> Any:
    _, row = tx.find(ITEM, (98,))
    return row.marks[2]


@pytest.mark.parametrize("procedure", FORBIDDEN, ids=lambda procedure: procedure.name)
def test_what_was_read_cannot_be_changed(items: Database, procedure: mako.Procedure) -> None:
    with items.snapshot() as before:
        error = mako.ProcedureError if INTERPRETED else mako.SchemaError
        with pytest.raises(error, match=r"belongs to a row that was read; use tx\.write") as caught:
            items.run(procedure)
        assert "\n" not in str(caught.value)
        assert procedure.name in str(caught.value)
        if INTERPRETED:
            assert isinstance(caught.value.__cause__, TypeError)
        else:
            assert "test_read_only.py:" in str(caught.value)
        with pytest.raises((error, mako.errors.ReadOnly)):
            before.run(procedure)
        assert before.table(ITEM).get((1,)) == ROW
    assert items.table(ITEM).get((1,)) == ROW
    assert items.table(RAW).get(b"key") == b"original"
    assert items.run(missing_mark) == 0


# --- what may -------------------------------------------------------------------------------------


@mako.procedure
def changes_what_it_writes(tx: Any) -> Any:
    row = tx.write(ITEM, (1,))
    row.value += 1
    row.text[0:3] = b"ORI"
    row.text[3] = 71
    row.text[4:8][1:3] = b"NA"
    row.marks[1] += 20
    cursor = tx.scan(ITEM, (0,), (9,), 10)
    cursor.write(0).other[0] = 79
    return row.other[0]


@mako.procedure
def changes_what_it_inserts(tx: Any) -> None:
    read = tx.read(ITEM, (1,))
    row = tx.insert(ITEM, (2,))
    row.text = read.text
    row.text[0:2] = read.other[0:2]
    row.marks[3] = read.marks[3]
    again = tx.put(ITEM, (3,))
    again.other[2:8] = row.text


def test_what_is_written_can_be_changed(items: Database) -> None:
    assert items.run(changes_what_it_writes) == ord("O")
    assert items.table(ITEM).get((1,)) == {
        "value": 6,
        "text": b"ORIGiNAl",
        "other": b"Other",
        "marks": (1, 22, 3, 4),
    }
    items.run(changes_what_it_inserts)
    two = items.table(ITEM).get((2,))
    assert (two["text"], two["marks"]) == (b"OtIGiNAl", (0, 0, 0, 4))
    assert items.table(ITEM).get((3,))["other"] == b"\0\0OtIGiN"


@mako.procedure
def chars_of_two_kinds(tx: Any, limit: int) -> Any:
    row = tx.write(ITEM, (1,))
    view = row.text
    if row.value > limit:
        view = tx.read(ITEM, (1,)).other
    part = view[0:2] if row.value > limit else row.text[1:3]
    if part < view:
        return part[0]
    return view[0]


def test_chars_of_both_kinds_meet_in_one_variable(items: Database) -> None:
    assert items.run(chars_of_two_kinds, 4) == ord("o")
    assert items.run(chars_of_two_kinds, 6) == ord("o")


# --- views that outlive their row -----------------------------------------------------------------


@mako.procedure
def writes_what_it_deleted(tx: Any) -> Any:
    old = tx.write(ITEM, (1,))
    tx.delete(ITEM, (1,))
    new = tx.insert(ITEM, (2,))
    new.value = 1
    old.value = 77
    old.text[0:4] = b"MINE"
    return new.value


@mako.procedure
def writes_what_it_replaced(tx: Any) -> Any:
    old = tx.write(ITEM, (1,))
    tx.put(ITEM, (1,)).value = 2
    new = tx.put(ITEM, (2,))
    new.value = 1
    old.value = 77
    old.text[0:4] = b"MINE"
    return new.value


@mako.procedure
def writes_an_insert_it_replaced(tx: Any) -> Any:
    old = tx.insert(ITEM, (5,))
    tx.put(ITEM, (5,))
    new = tx.put(ITEM, (2,))
    new.value = 1
    old.value = 77
    old.text[0:4] = b"MINE"
    tx.delete(ITEM, (5,))
    return new.value


@mako.procedure
def writes_an_insert_it_deleted(tx: Any) -> Any:
    old = tx.insert(ITEM, (5,))
    tx.delete(ITEM, (5,))
    new = tx.put(ITEM, (2,))
    new.value = 1
    old.value = 77
    old.text[0:4] = b"MINE"
    return new.value


DANGLING: Final[list[Callable[..., Any]]] = [
    writes_what_it_deleted,
    writes_what_it_replaced,
    writes_an_insert_it_replaced,
    writes_an_insert_it_deleted,
]


@pytest.mark.parametrize("procedure", DANGLING, ids=lambda procedure: procedure.name)
def test_a_view_of_a_row_that_is_gone_harms_no_other(
    items: Database, procedure: mako.Procedure
) -> None:
    assert items.run(procedure) == 1
    assert items.table(ITEM).get((2,)) == ROW | {
        "value": 1,
        "text": b"",
        "other": b"",
        "marks": (0, 0, 0, 0),
    }
    assert items.table(ITEM).get((5,)) is None
    one = items.table(ITEM).get((1,))
    if procedure is writes_what_it_deleted:
        assert one is None
    else:
        assert one["value"] == (2 if procedure is writes_what_it_replaced else 5)
    # What was put aside for the view comes back.
    used = items.memory_bytes
    for _ in range(50):
        items.table(ITEM).delete((2,))
        items.table(ITEM).put((1,), ROW)
        items.run(procedure)
    assert items.memory_bytes < used + 20_000
