"""Transactions and snapshots at a server, for tasks. Each call is one round trip."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mako.client import counters
from mako.client.remote.asking import PAGE_ROWS, Known, check_limit
from mako.errors import Closed, Error
from mako.procedure import Procedure
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.async_database import AsyncDatabase


class AsyncSession:
    """What a transaction and a snapshot have in common: reads, at one connection."""

    def __init__(self, db: AsyncDatabase) -> None:
        self._db = db
        self._open = True
        self._number = 0
        self._bound = -1
        self.timestamp = 0
        self._value: Any = None

    async def _begin(self, operation: Operation, *arguments: Any) -> None:
        call = await self._db._ask(operation, *arguments)
        self._bound = self._db._core.connection or -1
        self.timestamp = call.timestamp
        self._started(call.value)

    def _started(self, value: Any) -> None:
        self._number = value

    async def _ask(self, operation: Operation, *arguments: Any) -> Any:
        if not self._open:
            raise Closed(f"this {type(self).__name__} has ended; begin another one")
        call = await self._db._ask(operation, self._number, *arguments, bound=self._bound)
        return call.value

    async def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        return (await self.get_many([key], table=table))[0]

    async def get_many(self, keys: Iterable[Any], *, table: Any = None) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        known = await self._db._find(table)
        found = await self._ask(Operation.GET, known.number, [known.key(key) for key in keys])
        return [known.shown(value) for value in found]

    async def get_int(self, key: Any, default: int = 0, *, table: Any = None) -> int:
        """The number in the counter `key`, or `default`."""
        counters.check_table((await self._db._find(table)).table)
        value = await self.get(key, table=table)
        return default if value is None else counters.number_in(key, value)

    async def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
        table: Any = None,
    ) -> list[tuple[Any, Any]]:
        """The rows with first <= key < end, in order, or from the greatest down."""
        check_limit(limit)
        known = await self._db._find(table)
        low, high, last = known.bounds(first, end)
        rows = await self._rows(known, low, high, limit, reverse=reverse)
        if last and (limit is None or len(rows) < limit or reverse):
            (value,) = await self._ask(Operation.GET, known.number, [high])
            if value is not None:
                greatest = [(known.shown_key(high), known.shown(value))]
                rows = greatest + rows if reverse else rows + greatest
        return rows if limit is None else rows[:limit]

    async def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> list[tuple[Any, Any]]:
        rows: list[tuple[Any, Any]] = []
        while limit is None or len(rows) < limit:
            wanted = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(rows))
            page, more = await self._ask(Operation.SCAN, known.number, low, high, wanted, reverse)
            rows += [(known.shown_key(key), known.shown(value)) for key, value in page]
            if not more or not page:
                break
            following = page[-1][0] if reverse else known.successor(page[-1][0])
            if following is None:
                break
            low, high = (low, following) if reverse else (following, high)
        return rows

    async def _end(self, operation: Operation) -> None:
        if self._open:
            with suppress(Error, TimeoutError):  # The server finds out by itself.
                await self._ask(operation)
            self._open = False


class AsyncTransaction(AsyncSession):
    """Reads and writes that commit together, serializably, or not at all."""

    commit_ts = 0

    async def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        known = await self._db._find(table)
        await self._ask(Operation.PUT, known.number, known.key(key), known.value(value), 1)

    async def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; Exists if the key is there."""
        known = await self._db._find(table)
        await self._ask(Operation.PUT, known.number, known.key(key), known.value(value), 0)

    async def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        known = await self._db._find(table)
        return bool(await self._ask(Operation.DELETE, known.number, known.key(key)))

    async def add(self, key: Any, n: int, *, table: Any = None) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        total = counters.sum_of(key, await self.get_int(key, table=table), n)
        await self.put(key, counters.value_of(total), table=table)
        return total

    async def commit(self) -> None:
        """Commit and wait until it is durable; Conflict if what was read has changed."""
        if not self._open:
            raise Closed("this transaction has ended; begin another one")
        self._open = False
        call = await self._db._ask(Operation.COMMIT, self._number, 0, bound=self._bound)
        self.commit_ts = call.timestamp

    async def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        await self._end(Operation.ABORT)


class AsyncSnapshot(AsyncSession):
    """The database as it was at `timestamp`, at one replica; `staleness` seconds old then."""

    staleness = 0.0

    def _started(self, value: Any) -> None:
        self._number, age = value
        self.staleness = age / 1000

    async def run(self, procedure: Procedure | str, *arguments: int) -> int:
        """Run a procedure of the server here; it may read and write nothing. Its result."""
        name = procedure if isinstance(procedure, str) else procedure.name
        number = self._db._asking.number_of(name, arguments)
        result, _ = await self._ask(Operation.RUN_AT, number, list(arguments), None)
        return int(result)
