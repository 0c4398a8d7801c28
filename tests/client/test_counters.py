"""Counters: sums are exact or refused, and no addition is lost."""

import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest

import mako
from mako import Database, SchemaError

pytestmark = pytest.mark.interpreted

LAST = (1 << 63) - 1
ROW = mako.Table("row", id=7, key={"k": 16}, row={"v": "i8"})


def adders(db: Database, tx: Any) -> list[Any]:
    return [db, db.table("default"), tx, tx.table("default")]


def test_a_counter_begins_at_zero(db: Database) -> None:
    for at in range(4):
        db.delete(b"n")
        with db.transaction() as tx:
            adder = adders(db, tx)[at]
            assert adder.get_int(b"n") == 0
            assert adder.get_int(b"n", 7) == 7
            assert adder.add(b"n", 5) == 5
            assert adder.add(b"n", -12) == -7
            assert adder.get_int(b"n", 3) == -7
        assert db[b"n"] == struct.pack("<q", -7)
        with db.snapshot() as snapshot:
            assert snapshot.get_int(b"n") == snapshot.table("default").get_int(b"n") == -7


@pytest.mark.parametrize("end", [LAST, -LAST - 1])
def test_a_counter_has_64_bits(db: Database, end: int) -> None:
    one = 1 if end > 0 else -1
    assert db.add(b"n", end - one) == end - one
    assert db.add(b"n", one) == end
    with pytest.raises(SchemaError, match="64 bits"):
        db.add(b"n", one)
    with pytest.raises(SchemaError, match="64 bits"):
        db.add(b"m", 2 * end)
    assert db.get_int(b"n") == end
    assert db.add(b"n", -end) == 0


REFUSED: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("short value", "has 3 bytes", lambda db: db.add(b"short", 1)),
    ("short value read", "has 3 bytes", lambda db: db.get_int(b"short")),
    ("long value", "has 9 bytes", lambda db: db.get_int(b"long")),
    ("text", "give an integer", lambda db: db.add(b"n", "1")),
    ("truth", "give an integer", lambda db: db.add(b"n", n=True)),
    ("fraction", "give an integer", lambda db: db.add(b"n", 1.0)),
    ("typed table", "typed rows", lambda db: db.table(ROW).add((1,), 1)),
    ("typed table read", "typed rows", lambda db: db.table(ROW).get_int((1,))),
    ("long key", "64 bits", lambda db: [db.add(b"k" * 4000, LAST) for _ in range(2)]),
]


@pytest.mark.parametrize(("what", "advice", "act"), REFUSED, ids=[case[0] for case in REFUSED])
def test_refused(db: Database, what: str, advice: str, act: Callable[[Any], Any]) -> None:
    db.create(ROW)
    db[b"short"], db[b"long"] = b"123", b"123456789"
    with pytest.raises(SchemaError, match=advice) as caught:
        act(db)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 240
    assert db[b"short"] == b"123"


def test_a_transaction_goes_on_after_a_refusal(db: Database) -> None:
    with db.transaction() as tx:
        tx.add(b"n", LAST)
        with pytest.raises(SchemaError):
            tx.add(b"n", 1)
        tx.add(b"n", -1)
    assert db.get_int(b"n") == LAST - 1


def test_no_addition_is_lost(db: Database) -> None:
    together = threading.Barrier(4)

    def add() -> None:
        together.wait()  # The first addition of all creates the table.
        for _ in range(50):
            db.add(b"n", 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.get_int(b"n") == 200


@mako.transactional
def transfer(tx: mako.Transaction, source: bytes, target: bytes, n: int) -> None:
    if tx.get_int(source) < n:
        raise ValueError("funds")
    tx.add(source, -n)
    tx.add(target, n)


def test_a_transfer(db: Database) -> None:
    db.add(b"alice", 9)
    transfer(db, b"alice", b"bob", 5)
    with pytest.raises(ValueError, match="funds"):
        transfer(db, b"alice", b"bob", 5)
    assert db.get_many([b"alice", b"bob"]) == [struct.pack("<q", 4), struct.pack("<q", 5)]
