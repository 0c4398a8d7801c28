"""The remote database for tasks: `mako.aconnect`, on asyncio or trio.

The methods are those of the other databases, to be awaited. What is asked for by several tasks at
a time travels together.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import anyio

from mako.client.batch import WriteBatch
from mako.client.remote.addresses import addresses_of
from mako.client.remote.asking import (
    DEFAULT_TABLE,
    Asking,
    Known,
    check_timestamp,
    describe,
    tables_of,
    writes_of,
)
from mako.client.remote.async_link import AsyncLink
from mako.client.remote.async_sessions import AsyncSnapshot, AsyncTransaction
from mako.client.remote.async_table import AsyncTable
from mako.client.remote.calls import Call
from mako.client.remote.core import Core
from mako.client.remote.database import TIMEOUT
from mako.errors import (
    Aborted,
    ConfigError,
    ConnectionLost,
    RemoteError,
    SchemaError,
)
from mako.procedure import Procedure
from mako.schema import BytesTable, Table
from mako.wire.requests import Operation

R = TypeVar("R")


async def aconnect(
    addresses: str,
    *,
    timeout: float = TIMEOUT,  # noqa: ASYNC109  # Of every call, not of this one alone.
    once: bool = False,
    replica: bool = False,
    cluster: int = 0,
) -> AsyncDatabase:
    """Connect to a cluster from a task; see `mako.connect`. Use `async with`, or close it."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError(f"a timeout of {timeout!r}; give seconds, more than 0")
    core = Core(
        addresses_of(addresses), chance=random.SystemRandom(), stay=replica, cluster=cluster
    )
    database = AsyncDatabase(core, timeout=timeout, once=once)
    try:
        await database._ask(Operation.PING)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await database.close()
        raise
    return database


class AsyncSubmitted:
    """A transaction that a server runs, or has run."""

    __slots__ = ("_call", "_link")

    def __init__(self, link: AsyncLink, call: Call) -> None:
        self._link = link
        self._call = call

    @property
    def timestamp(self) -> int:
        """Timestamp of its commit; 0 as long as it is not known to have committed."""
        return self._call.timestamp

    @property
    def retries(self) -> int:
        """How often it was asked again so far: a server did not lead, had no room, undid it
        before anybody was told, or was lost with a call that runs once."""
        return self._call.tries

    def done(self) -> bool:
        """Whether it has ended, one way or the other, as far as was heard."""
        return self._call.committed

    async def result(self) -> int:
        """What the procedure returned, once it is committed, perhaps not durable yet."""
        await self._link.wait(self._call, lambda: self._call.committed)
        return self._value()

    async def wait_durable(self) -> int:
        """Wait until it is durable, too; its result. Discarded if a failover undid it."""
        await self._link.wait(self._call, lambda: self._call.ended)
        return self._value()

    def _value(self) -> int:
        if self._call.error is not None:
            raise self._call.error
        return int(self._call.value)


class AsyncDatabase:
    """A cluster, through whoever leads. For the tasks of one event loop."""

    def __init__(self, core: Core, *, timeout: float, once: bool) -> None:
        self._core = core
        self._link = AsyncLink(core)
        self._asking = Asking(core, once=once)
        self._timeout = timeout
        self._known: dict[Any, Known] = {}

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    async def _done(self, call: Call) -> Call:
        """Wait for a call; its error is raised."""
        try:
            await self._link.wait(call, lambda: call.ended)
        except BaseException:  # Cancelled: nobody will ask for the answer.
            self._core.give_up(call)
            raise
        error = call.error
        if isinstance(error, ConnectionLost) and self._core.trouble:
            raise ConnectionLost(f"{error} ({self._core.trouble})") from None
        if error is not None:
            raise error
        return call

    async def _ask(self, operation: Operation, *arguments: Any, **options: Any) -> Call:
        call = self._asking.request(operation, *arguments, deadline=self._deadline(), **options)
        return await self._done(call)

    # --- tables -------------------------------------------------------------------------

    async def create(self, *tables: Table | BytesTable) -> None:
        """Create typed tables; those that are there already stay as they are."""
        for table in tables:
            call = await self._ask(Operation.CREATE_TABLE, *describe(table))
            self._known[table] = Known(call.value, table)

    async def table(self, table: Any) -> AsyncTable:
        """A table by name (byte strings, created when first asked for) or by its description."""
        return AsyncTable(self, await self._find(table))

    async def _find(self, table: Any) -> Known:
        if isinstance(table, AsyncTable):
            return table.known
        if table is None:
            table = DEFAULT_TABLE
        known = self._known.get(table)
        if known is not None:
            return known
        if isinstance(table, str):
            known = Known((await self._ask(Operation.OPEN_TABLE, table)).value)
        elif isinstance(table, Table | BytesTable):
            about = (await self._ask(Operation.DESCRIBE)).value["tables"]
            found = [each for each in about if each[3] == table.name or each[0] == table.id]
            if not found:
                raise SchemaError(
                    f"table {table.name} is not in this database; await db.create(...) first"
                )
            known = Known(found[0], table)
        else:
            raise SchemaError(f"{table!r:.60} is no table; give a name, a table or a view of one")
        self._known[table] = known
        return known

    # --- transactions -------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncTransaction]:
        """A transaction for the length of an `async with` block: commits at its end, aborts if
        the block raises."""
        tx = await self.begin()
        try:
            yield tx
        except BaseException:
            with anyio.CancelScope(shield=True):
                await tx.abort()
            raise
        await tx.commit()

    async def begin(self) -> AsyncTransaction:
        """A transaction to be ended by its `commit` or `abort`."""
        tx = AsyncTransaction(self)
        await tx._begin(Operation.BEGIN)
        return tx

    @asynccontextmanager
    async def snapshot(self, *, max_staleness: float | None = None) -> AsyncIterator[AsyncSnapshot]:
        """Read at the stable timestamp of the server, for the length of an `async with` block."""
        snapshot = AsyncSnapshot(self)
        oldest = -1 if max_staleness is None else int(1000 * max_staleness)
        await snapshot._begin(Operation.SNAPSHOT, oldest)
        try:
            yield snapshot
        finally:
            with anyio.CancelScope(shield=True):
                await snapshot._end(Operation.CLOSE)

    async def transact(
        self,
        act: Callable[[AsyncTransaction], Awaitable[R]],
        *,
        max_retries: int = 100,
        limit: float | None = None,
    ) -> R:
        """`await act(tx)` in a transaction that commits; again on a conflict, with back-off."""
        deadline = None if limit is None else time.monotonic() + limit
        pause = 0.000_05
        for attempt in range(max_retries + 1):
            try:
                async with self.transaction() as tx:
                    return await act(tx)
            except (Aborted, RemoteError) as error:
                over = deadline is not None and time.monotonic() >= deadline
                if not error.retryable or attempt == max_retries or over:
                    raise
            await anyio.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 0.05)
        raise AssertionError("the loop returns or raises")

    async def write(self, batch: WriteBatch) -> int:
        """Commit all that is in `batch` at once, durably; the timestamp of the commit."""
        known = {id(table): await self._find(table) for table in tables_of(batch)}
        writes = writes_of(batch, lambda table: known[id(table)])
        return (await self._done(self._asking.write(writes, self._deadline()))).timestamp

    async def run(
        self, procedure: Procedure | str, *arguments: int, once: bool | None = None
    ) -> int:
        """Run a procedure of the server as a transaction; its result, once it is durable."""
        call = self._asking.procedure(
            procedure, arguments, self._deadline(), early=False, once=once
        )
        return int((await self._done(call)).value)

    async def submit(
        self, procedure: Procedure | str, *arguments: int, once: bool | None = None
    ) -> AsyncSubmitted:
        """Ask for a procedure; `result()` is there before it is durable."""
        call = self._asking.procedure(procedure, arguments, self._deadline(), early=True, once=once)
        await self._link.send()
        return AsyncSubmitted(self._link, call)

    # --- the default table ----------------------------------------------------------------

    async def get(self, key: bytes) -> Any:
        """The value in the default table, or None."""
        return await (await self.table(None)).get(key)

    async def get_many(self, keys: Iterable[bytes]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        return await (await self.table(None)).get_many(keys)

    async def put(self, key: bytes, value: bytes) -> None:
        """Insert or replace, durably."""
        await (await self.table(None)).put(key, value)

    async def delete(self, key: bytes) -> bool:
        """Delete; False if the key was not there."""
        return await (await self.table(None)).delete(key)

    async def get_int(self, key: bytes, default: int = 0) -> int:
        """The number in the counter `key`, or `default`."""
        return await (await self.table(None)).get_int(key, default)

    async def add(self, key: bytes, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        return await (await self.table(None)).add(key, n)

    async def items(
        self, first: Any = None, end: Any = None, *, reverse: bool = False
    ) -> AsyncIterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        for row in await (await self.table(None)).scan(first, end, reverse=reverse):
            yield row

    # --- the whole ------------------------------------------------------------------------

    async def watermark(self) -> int:
        """The timestamp up to which everything is durable at the server."""
        return int((await self.status())["watermark"])

    async def wait_watermark(self, timestamp: int) -> None:
        """Wait until everything up to `timestamp` is durable; not for early results of `submit`."""
        await self._ask(Operation.WAIT_WATERMARK, check_timestamp(timestamp))

    async def status(self) -> dict[str, Any]:
        """What the server says about itself."""
        return dict((await self._ask(Operation.STATUS)).value)

    async def close(self) -> None:
        """Close the connection. Who waits is told so."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
