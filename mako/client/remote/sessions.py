"""Transactions and snapshots at a server, for threads. Each call is one round trip."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from mako.client import counters
from mako.client.mapping import Readable, Writable
from mako.client.remote.asking import PAGE_ROWS, Known, check_limit
from mako.client.remote.calls import Call
from mako.errors import Closed, Error
from mako.procedure import Procedure
from mako.row import Row
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase


class RemoteSession(Readable):
    """What a transaction and a snapshot have in common: reads, at one connection."""

    def __init__(self, db: RemoteDatabase) -> None:
        self._db = db
        self._open = True
        self._number = 0
        self._bound = 0

    def _begin(self, operation: Operation, *arguments: Any) -> Call:
        call = self._db._ask(operation, *arguments)
        # It was answered by the connection that is there now, or by one that is gone, and then
        # the next call finds nothing.
        self._bound = self._db._core.connection
        return call

    def _ask(self, operation: Operation, *arguments: Any) -> Any:
        if not self._open:
            raise Closed(f"this {type(self).__name__} has ended; begin another one")
        return self._db._ask(operation, self._number, *arguments, bound=self._bound or -1).value

    def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        return self.get_many([key], table=table)[0]

    def get_many(self, keys: Iterable[Any], *, table: Any = None) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        known = self._db._find(table)
        found = self._ask(Operation.GET, known.number, [known.key(key) for key in keys])
        return [known.shown(value) for value in found]

    def get_int(self, key: Any, default: int = 0, *, table: Any = None) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        counters.check_table(self._db._find(table).table)
        value = self.get(key, table=table)
        return default if value is None else counters.number_in(key, value)

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
        table: Any = None,
    ) -> Iterator[tuple[Any, Any]]:
        """(key, value) with first <= key < end, in order, or from the greatest down."""
        check_limit(limit)
        known = self._db._find(table)
        low, high, last = known.bounds(first, end)
        rows = self._rows(known, low, high, limit, reverse=reverse)
        if not last:
            return rows
        # No bound of one or two words lies above the greatest key.
        greatest = self._row_at(known, high)
        both = (greatest, rows) if reverse else (rows, greatest)
        return itertools.islice(itertools.chain(*both), limit)

    def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[Any, Any]]:
        left = limit
        while left is None or left > 0:
            wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            page, more = self._ask(Operation.SCAN, known.number, low, high, wanted, reverse)
            for key, value in page:
                yield known.shown_key(key), known.shown(value)
            if not more or not page:
                return
            if left is not None:
                left -= len(page)
            if reverse:
                high = page[-1][0]
            else:
                following = known.successor(page[-1][0])
                if following is None:
                    return
                low = following

    def _row_at(self, known: Known, key: bytes) -> Iterator[tuple[Any, Any]]:
        (value,) = self._ask(Operation.GET, known.number, [key])
        if value is not None:
            yield known.shown_key(key), known.shown(value)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)

    def _end(self, operation: Operation) -> None:
        """Tell the server that it is over; if that fails it finds out by itself."""
        if self._open:
            with suppress(Error, TimeoutError):
                self._ask(operation)
            self._open = False


class RemoteTransaction(RemoteSession, Writable):
    """Reads and writes that commit together, serializably, or not at all.

    A transaction sees its own writes. It belongs to one thread, and ends with its connection.
    """

    def __init__(self, db: RemoteDatabase) -> None:
        super().__init__(db)
        #: Timestamp of the commit, once there is one.
        self.commit_ts = 0
        self._number = self._begin(Operation.BEGIN).value

    def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        known = self._db._find(table)
        self._ask(Operation.PUT, known.number, known.key(key), known.value(value), 1)

    def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; Exists if the key is there."""
        known = self._db._find(table)
        self._ask(Operation.PUT, known.number, known.key(key), known.value(value), 0)

    def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        known = self._db._find(table)
        return bool(self._ask(Operation.DELETE, known.number, known.key(key)))

    def _delete_range(self, first: Any, end: Any, *, table: Any = None) -> None:
        for key, _ in self.scan(first, end, table=table):
            self.delete(key, table=table)

    def add(self, key: Any, n: int, *, table: Any = None) -> int:
        """Add `n` to the counter `key`, which begins at 0, and return what it is now."""
        total = counters.sum_of(key, self.get_int(key, table=table), n)
        self.put(key, counters.value_of(total), table=table)
        return total

    def table(self, table: Any) -> RemoteTransactionTable:
        """A table seen through this transaction."""
        return RemoteTransactionTable(self, self._db._find(table))

    def commit(self) -> None:
        """Commit and wait until it is durable; Conflict if what was read has changed."""
        if not self._open:
            raise Closed("this transaction has ended; begin another one")
        try:
            call = self._db._ask(Operation.COMMIT, self._number, 0, bound=self._bound or -1)
        finally:
            self._open = False
        self.commit_ts = call.timestamp

    def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        self._end(Operation.ABORT)


class RemoteSnapshot(RemoteSession):
    """The database as it was at `timestamp`, at one replica."""

    def __init__(self, db: RemoteDatabase, max_staleness: float | None) -> None:
        super().__init__(db)
        oldest = -1 if max_staleness is None else int(1000 * max_staleness)
        call = self._begin(Operation.SNAPSHOT, oldest)
        self._number, age = call.value
        #: What was committed at or before it is seen, nothing later.
        self.timestamp = call.timestamp
        #: Seconds that it was old when it was opened, by the clock of the replica.
        self.staleness: float = age / 1000

    def table(self, table: Any) -> RemoteSessionTable:
        """A table as it was."""
        return RemoteSessionTable(self, self._db._find(table))

    def run(self, procedure: Procedure | str, *arguments: int, out: Row | None = None) -> Any:
        """Run a procedure of the server here; it may write nothing. Its result, or with `out` the
        result and the row that it hands back."""
        name = procedure if isinstance(procedure, str) else getattr(procedure, "name", "")
        number = self._db._asking.number_of(name, arguments, outs=int(out is not None))
        layout = None if out is None else {field.name: field.code for field in out.fields}
        result, row = self._ask(Operation.RUN_AT, number, list(arguments), layout)
        return int(result) if out is None else (int(result), out.unpack(row))

    def state_hash(self) -> str:
        """The hash of all rows: equal at two replicas if and only if all rows are."""
        return str(self._ask(Operation.STATE_HASH))

    def close(self) -> None:
        """Let go of the old versions."""
        self._end(Operation.CLOSE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RemoteSessionTable(Readable):
    """One table in one transaction or at one snapshot."""

    def __init__(self, session: RemoteSession, known: Known) -> None:
        self._session: Any = session
        self.known = known

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._session.get(key, table=self)

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        found: list[Any] = self._session.get_many(keys, table=self)
        return found

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key`, or `default`."""
        return int(self._session.get_int(key, default, table=self))

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        """(key, value) with first <= key < end, in order, or from the greatest down."""
        rows: Iterator[tuple[Any, Any]] = self._session.scan(
            first, end, limit=limit, reverse=reverse, table=self
        )
        return rows

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)


class RemoteTransactionTable(RemoteSessionTable, Writable):
    """One table in one transaction."""

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""
        self._session.put(key, value, table=self)

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._session.insert(key, value, table=self)

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return bool(self._session.delete(key, table=self))

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        return int(self._session.add(key, n, table=self))

    def _delete_range(self, first: Any, end: Any) -> None:
        self._session._delete_range(first, end, table=self)
