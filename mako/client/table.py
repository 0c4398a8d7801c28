"""A table of a database, used without a transaction of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from mako.client.mapping import Writable
from mako.client.retry import retrying

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.client.transaction import Transaction
    from mako.engine.engine import TableHandle

R = TypeVar("R")


class TableView(Writable):
    """One table of a database; each call is a transaction of its own, retried on conflict."""

    def __init__(self, db: Database, handle: TableHandle) -> None:
        self._db = db
        self.handle = handle

    @property
    def name(self) -> str:
        return self.handle.table.name

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._once(lambda tx: tx.get(key, table=self))

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        wanted = list(keys)
        return self._once(lambda tx: tx.get_many(wanted, table=self))

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        return self._once(lambda tx: tx.get_int(key, default, table=self))

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""
        self._once(lambda tx: tx.put(key, value, table=self))

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._once(lambda tx: tx.insert(key, value, table=self))

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return self._once(lambda tx: tx.delete(key, table=self))

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now; see `Transaction.add`."""
        return self._once(lambda tx: tx.add(key, n, table=self))

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[Any, Any]]:
        """The rows with first <= key < end, at one snapshot."""
        return list(self._items(first, end, limit, reverse=reverse))

    def items(
        self, first: Any = None, end: Any = None, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        return self._items(first, end, None, reverse=reverse)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.items(first, end)

    def _delete_range(self, first: Any, end: Any) -> None:
        self._once(lambda tx: tx._delete_range(first, end, table=self))

    def _items(
        self, first: Any, end: Any, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[Any, Any]]:
        with self._db.snapshot() as snapshot:
            yield from snapshot.scan(first, end, limit=limit, reverse=reverse, table=self)

    def _once(self, act: Callable[[Transaction], R]) -> R:
        return retrying(self._db, act)
