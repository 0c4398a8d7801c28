"""Writes collected without a transaction, to be committed together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mako.client.transaction import Transaction

_Kind = Literal["put", "insert", "delete"]


class WriteBatch:
    """Puts, inserts and deletes that `db.write(batch)` commits all at once, in their order.

    A batch belongs to no database and holds no resources. What is given to it is copied, and
    checked when the batch is written. `table` is a name, a table, or a view of one in the
    database that it is written to; without it the default table is meant.

        batch = mako.WriteBatch()
        batch.put(b"a", b"1")
        batch.delete(b"b")
        db.write(batch)
    """

    def __init__(self) -> None:
        self._writes: list[tuple[_Kind, Any, Any, Any]] = []

    def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        self._writes.append(("put", _copied(key), _copied(value), table))

    def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; if the key is there, writing the batch raises Exists and writes nothing."""
        self._writes.append(("insert", _copied(key), _copied(value), table))

    def delete(self, key: Any, *, table: Any = None) -> None:
        """Delete, if the key is there."""
        self._writes.append(("delete", _copied(key), None, table))

    def clear(self) -> None:
        """Forget all of them."""
        self._writes.clear()

    def __len__(self) -> int:
        return len(self._writes)

    def _apply(self, tx: Transaction) -> Transaction:
        for kind, key, value, table in self._writes:
            if kind == "put":
                tx.put(key, value, table=table)
            elif kind == "insert":
                tx.insert(key, value, table=table)
            else:
                tx.delete(key, table=table)
        return tx


def _copied(value: Any) -> Any:
    """What the caller may change later, as it is now."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list):  # An array, inside a row.
        return tuple(value)
    if isinstance(value, Mapping):
        return {name: _copied(field) for name, field in value.items()}
    return value
