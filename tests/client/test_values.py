"""Keys and values are bytes, whatever gives them: views of arrays, parts, matrices, scalars."""

import array
from typing import Any

import numpy as np
import pytest

import mako
from mako import Database

pytestmark = pytest.mark.interpreted

INTEGERS = memoryview(array.array("i", [1, 2, 3]))
VIEWS: dict[str, memoryview] = {
    "bytes": memoryview(b"abc"),
    "integers": INTEGERS,
    "every second byte": memoryview(b"abcdef")[::2],
    "backwards": memoryview(b"abcdef")[::-1],
    "every second integer": INTEGERS[::2],
    "a matrix": memoryview(bytes(range(12))).cast("B", (3, 4)),
    "a matrix of integers": memoryview(bytes(range(24))).cast("i", (2, 3)),
    "no dimension": memoryview(array.array("i", [7])).cast("B").cast("i", ()),
    "nothing": memoryview(b""),
    "a matrix of nothing": np.zeros((0, 3)).data,
    "no integers": INTEGERS[3:],
    "what can be written": memoryview(bytearray(b"abc")),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_a_view_is_stored_as_its_bytes(db: Database, view: Any) -> None:
    stored = view.tobytes()
    db[b"one shot"] = view
    with db.transaction() as tx:
        tx.put(b"put", view)
        tx.insert(b"insert", view)
        tx.put(view, b"by its key")
        assert tx.get(b"put") == stored
        assert tx.get(view) == b"by its key"
    assert db[b"one shot"] == stored
    assert db[b"insert"] == stored
    assert (stored, b"by its key") in list(db.items())
    assert db[view] == b"by its key"
    assert db.delete(view)
    assert db.get(stored) is None


def test_lengths_are_counted_in_bytes(db: Database) -> None:
    def words(count: int) -> Any:
        return memoryview(array.array("q", bytes(8 * count)))

    db[b"longest"] = words(512 << 10)
    assert len(db[b"longest"]) == 4 << 20
    with pytest.raises(mako.ValueTooLarge, match="4194312 bytes"):
        db[b"longer"] = words((512 << 10) + 1)
    db[words(512)] = b"longest key"
    assert db[bytes(4096)] == b"longest key"
    with pytest.raises(mako.KeyTooLarge, match="4104 bytes"):
        db[words(513)] = b""
    with pytest.raises(mako.KeyTooLarge, match="4104 bytes"):
        db.get(words(513))


def test_a_value_that_was_refused_leaves_the_transaction_as_it_was(db: Database) -> None:
    with db.transaction() as tx:
        tx.put(b"a", b"1")
        with pytest.raises(mako.ValueTooLarge):
            tx.put(b"a", memoryview(array.array("q", bytes((4 << 20) + 8))))
        assert tx.get(b"a") == b"1"
    assert list(db.items()) == [(b"a", b"1")]
