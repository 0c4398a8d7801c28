"""Characters compare in a procedure as they do outside, where they are bytes."""

import itertools
from typing import Any, Final

import pytest

import mako
from mako import Database

pytestmark = pytest.mark.interpreted

TEXT: Final = mako.Table("text", id=31, key={"id": 32}, row={"wide": "S8", "narrow": "S4"})
RAW: Final = mako.BytesTable("raw", id=32)
VALUES: Final = (
    b"",
    b"bob",
    b"bo\0b",
    b"bobb",
    b"\0b",
    b"bo\xff",
    b"bobby",
    b"b\0\0b",
    b"12345678",
)


@mako.function
def orders(a: Any, b: Any) -> Any:
    """Which comparisons of the two are true, in bits."""
    found = 0
    if a == b:
        found += 1
    if a != b:
        found += 2
    if a < b:
        found += 4
    if a <= b:
        found += 8
    if a > b:
        found += 16
    if a >= b:
        found += 32
    return found


@mako.function
def constants(a: Any) -> Any:
    """The same with constants, on either side."""
    found = orders(a, b"bob") + 64 * orders(b"bob", a)
    return found * 4096 + orders(a, b"bob\0") + 64 * orders(b"bobby", a)


@mako.procedure
def wide_and_narrow(tx: Any, one: int, other: int) -> Any:
    a = tx.read(TEXT, (one,)).wide
    b = tx.read(TEXT, (other,)).narrow
    return orders(a, b) * 64 + orders(b, a)


@mako.procedure
def wide_and_written(tx: Any, one: int, other: int) -> Any:
    return orders(tx.read(TEXT, (one,)).wide, tx.write(TEXT, (other,)).wide)


@mako.procedure
def wide_and_constants(tx: Any, one: int) -> Any:
    return constants(tx.read(TEXT, (one,)).wide)


@mako.procedure
def parts_and_constant(tx: Any, one: int) -> Any:
    wide = tx.read(TEXT, (one,)).wide
    return orders(wide[0:6], b"bobby") * 64 + orders(wide[3:8], b"")


@mako.procedure
def wide_and_value(tx: Any, one: int) -> Any:
    _, value = tx.get_bytes(RAW, b"value")
    return orders(tx.read(TEXT, (one,)).wide, value) * 64 + orders(value, b"bob")


@pytest.fixture
def texts(db: Database) -> Database:
    db.create(TEXT, RAW)
    for number, value in enumerate(VALUES):
        db.table(TEXT).put((number,), {"wide": value, "narrow": value[:4]})
    return db


def test_fields_of_different_lengths(texts: Database) -> None:
    rows = {key[0]: row for key, row in texts.table(TEXT).items()}
    for one, other in itertools.product(rows, repeat=2):
        a, b = rows[one]["wide"], rows[other]["narrow"]
        assert texts.run(wide_and_narrow, one, other) == orders(a, b) * 64 + orders(b, a), (a, b)
        b = rows[other]["wide"]
        assert texts.run(wide_and_written, one, other) == orders(a, b), (a, b)


def test_constants(texts: Database) -> None:
    for number, value in enumerate(VALUES):
        assert texts.run(wide_and_constants, number) == constants(value), value


def test_parts(texts: Database) -> None:
    for number, value in enumerate(VALUES):
        expected = orders(value[0:6], b"bobby") * 64 + orders(value[3:8], b"")
        assert texts.run(parts_and_constant, number) == expected, value


def test_values_of_bytes_are_not_padded(texts: Database) -> None:
    for number, value in enumerate(VALUES):
        for raw in (value, value + b"\0", b"bob", b"bob\0"):
            texts.table(RAW).put(b"value", raw)
            expected = orders(value, raw) * 64 + orders(raw, b"bob")
            assert texts.run(wide_and_value, number) == expected, (value, raw)
