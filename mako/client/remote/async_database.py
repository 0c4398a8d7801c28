"""The remote database for tasks: `mako.aconnect`, on asyncio or trio.

The methods are those of the other databases, to be awaited. What is asked for by several tasks at
a time travels together.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import anyio

from mako.client.batch import WriteBatch
from mako.client.remote.addresses import addresses_of
from mako.client.remote.asking import (
    DEFAULT_TABLE,
    Known,
    check_once,
    check_partition,
    check_timestamp,
    describe,
    parts_of,
    tables_of,
    writes_of,
)
from mako.client.remote.async_link import AsyncLink
from mako.client.remote.async_sessions import AsyncSnapshot, AsyncTransaction
from mako.client.remote.async_table import AsyncTable
from mako.client.remote.calls import Call
from mako.client.remote.database import TIMEOUT
from mako.client.remote.gathered import items_of, needs_of
from mako.client.remote.lanes import Lane, Lanes
from mako.client.retry import check_retrying
from mako.errors import (
    Aborted,
    ConfigError,
    ConnectionLost,
    RemoteError,
    SchemaError,
)
from mako.procedure import Procedure
from mako.schema import BytesTable, Table, check_tables
from mako.shown import shown
from mako.wire.requests import Operation

R = TypeVar("R")


async def aconnect(
    addresses: str,
    *,
    timeout: float = TIMEOUT,  # noqa: ASYNC109  # Of every call, not of this one alone.
    once: bool = False,
    replica: bool = False,
    cluster: int = 0,
    partition: int | None = None,
) -> AsyncDatabase:
    """Connect to a cluster from a task; see `mako.connect`. Use `async with`, or close it."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError(f"a timeout of {shown(timeout)}; give seconds, more than 0")
    if once:
        check_once(timeout)
    check_partition(partition)
    lanes = Lanes(
        addresses_of(addresses), AsyncLink, stay=replica, cluster=cluster, once=once, only=partition
    )
    database = AsyncDatabase(lanes, timeout=timeout)
    try:
        await database._first()
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
        return int(self._call.value or 0)  # Of a long value that was put: nothing.


class AsyncDatabase:
    """A cluster, through whoever leads. For the tasks of one event loop."""

    def __init__(self, lanes: Lanes[AsyncLink], *, timeout: float) -> None:
        self._lanes = lanes
        self._timeout = timeout
        self._known: dict[Any, Known] = {}

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    async def _first(self) -> None:
        """Wait for a server: the leader, unless there are several partitions."""
        lane = self._lanes.first

        def is_divided() -> bool:
            return lane.core.about is not None and self._lanes.is_divided

        call = lane.asking.request(Operation.PING, deadline=self._deadline())
        await self._done(call, lane, enough=is_divided)

    async def _done(
        self, call: Call, lane: Lane[AsyncLink], *, enough: Callable[[], bool] = lambda: False
    ) -> Call:
        """Wait for a call; its error is raised. Or until it is `enough`, and nobody asks for it."""
        try:
            await lane.link.wait(call, lambda: call.ended or enough())
        except BaseException:  # Cancelled: nobody will ask for the answer.
            lane.core.give_up(call)
            raise
        if not call.ended:
            lane.core.give_up(call)
            return call
        error = call.error
        if isinstance(error, ConnectionLost) and lane.core.trouble:
            raise ConnectionLost(f"{error} ({lane.core.trouble})") from None
        if error is not None:
            raise error
        return call

    async def _ask(
        self,
        operation: Operation,
        *arguments: Any,
        lane: Lane[AsyncLink] | None = None,
        bound: int = 0,
    ) -> Call:
        lane = lane or self._lanes.first
        deadline = self._deadline()
        call = lane.asking.request(operation, *arguments, deadline=deadline, bound=bound)
        return await self._done(call, lane)

    async def _ask_each(self, asked: Iterable[tuple[int, Operation, Sequence[Any]]]) -> list[Call]:
        """Do a request at each of some partitions, all at a time."""
        deadline = self._deadline()
        made = []
        for partition, operation, arguments in asked:
            lane = self._lanes.of(partition)
            made.append((lane, lane.asking.request(operation, *arguments, deadline=deadline)))
        try:
            for lane, _ in made:
                await lane.link.send()
            return [await self._done(call, lane) for lane, call in made]
        except BaseException:
            for lane, call in made:
                lane.core.give_up(call)
            raise

    # --- tables -------------------------------------------------------------------------

    async def create(self, *tables: Table | BytesTable) -> None:
        """Create typed tables; those that are there already stay as they are."""
        check_tables(tables)
        for table in tables:
            asked = [(p, Operation.CREATE_TABLE, describe(table)) for p in self._lanes.partitions]
            calls = await self._ask_each(asked)
            known = self._known[table] = Known(calls[0].value, table, self._lanes.shards)
            for partition in self._lanes.partitions:
                self._lanes.of(partition).tables.add(known.number)

    async def table(self, table: Any) -> AsyncTable:
        """A table by name (byte strings, created when first asked for) or by its description."""
        return AsyncTable(self, await self._find(table))

    async def _find(self, table: Any) -> Known:
        if isinstance(table, AsyncTable):
            if table._db is self:
                return table.known
            # Another database may number its tables otherwise: what counts is which one it is.
            table = table.known.declaration
        if table is None:
            table = DEFAULT_TABLE
        known = self._known.get(table) if isinstance(table, Hashable) else None
        if known is not None:
            return known
        if isinstance(table, str):
            about = self._lanes.described(table)
            if about is None:
                about = (await self._ask(Operation.OPEN_TABLE, table)).value
            known = Known(about, None, self._lanes.shards)
        elif isinstance(table, Table | BytesTable):
            about = (await self._ask(Operation.DESCRIBE)).value["tables"]
            found = [each for each in about if each[3] == table.name or each[0] == table.id]
            if not found:
                raise SchemaError(
                    f"table {table.name} is not in this database; await db.create(...) first"
                )
            known = Known(found[0], table, self._lanes.shards)
        else:
            raise SchemaError(f"{shown(table)} is no table; give a name, a table or a view of one")
        self._known[table] = known
        return known

    async def _lane_with(self, partition: int, known: Known) -> Lane[AsyncLink]:
        """The way to a partition, which has the table from then on."""
        lane = self._lanes.of(partition)
        if known.number not in lane.tables:
            if self._lanes.is_divided and not lane.has(known):
                await self._ask(*self._lanes.preparation(known), lane=lane)
            lane.tables.add(known.number)
        return lane

    async def _lane_of(self, known: Known, key: bytes, *, writes: bool) -> Lane[AsyncLink]:
        """The way to whoever has a packed key."""
        lane = self._lanes.of_key(known, key, writes=writes)
        return await self._lane_with(lane.partition, known)

    # --- transactions -------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self, *, partition: int | None = None) -> AsyncIterator[AsyncTransaction]:
        """A transaction for the length of an `async with` block: commits at its end, aborts if
        the block raises."""
        tx = await self.begin(partition=partition)
        try:
            yield tx
        except BaseException:
            with anyio.CancelScope(shield=True):
                await tx.abort()
            raise
        await tx.commit()

    async def begin(self, *, partition: int | None = None) -> AsyncTransaction:
        """A transaction to be ended by its `commit` or `abort`. It begins at the partition of its
        first key, or at `partition`."""
        tx = AsyncTransaction(self)
        which = self._lanes.checked(partition)
        if which is not None or not self._lanes.is_divided:
            await tx._begin(self._lanes.first if which is None else self._lanes.of(which))
        return tx

    @asynccontextmanager
    async def snapshot(
        self, *, max_staleness: float | None = None, partitions: Iterable[int] | None = None
    ) -> AsyncIterator[AsyncSnapshot]:
        """Read at the stable timestamp of the server, for the length of an `async with` block. With
        several partitions all are read at one timestamp, or `partitions` of them."""
        chosen = self._lanes.chosen(partitions)
        snapshot = AsyncSnapshot(self)
        await snapshot._begin(chosen, max_staleness)
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
        check_retrying(max_retries, limit)
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
        lane, is_one = self._lanes.of_writes(writes)
        if is_one:
            return await self._write(lane.partition, writes)
        home = lane.partition
        return await self._commit(home, needs_of(writes, home), items_of(writes, home), "write")

    async def _commit(
        self,
        home: int,
        needs: Iterable[tuple[int, Known]],
        items: Sequence[bytes],
        name: str = "commit",
    ) -> int:
        """Commit what is over several partitions; the timestamp."""
        lane = self._lanes.of(home)
        for partition, known in needs:
            await self._lane_with(partition, known)
        call = lane.asking.gathered(items, self._deadline(), name)
        return (await self._done(call, lane)).timestamp

    async def _write(self, partition: int, writes: Sequence[tuple[Known, list[Any]]]) -> int:
        lane = self._lanes.of(partition)
        for known in {id(known): known for known, _ in writes}.values():
            await self._lane_with(partition, known)
        call = lane.asking.write([each for _, each in writes], self._deadline())
        return (await self._done(call, lane)).timestamp

    async def load(self, batch: WriteBatch) -> None:
        """Write what is in `batch` where it belongs; see `RemoteDatabase.load`."""
        known = {id(table): await self._find(table) for table in tables_of(batch)}
        writes = writes_of(batch, lambda table: known[id(table)])
        for partition, part in parts_of(writes, self._lanes.partitions).items():
            await self._write(partition, part)

    async def run(
        self,
        procedure: Procedure | str,
        *arguments: int,
        once: bool | None = None,
        partition: int | None = None,
    ) -> int:
        """Run a procedure of the server as a transaction; its result, once it is durable. With
        several partitions its home does, or `partition`."""
        lane = await self._lane_for(procedure, arguments, partition)
        call = lane.asking.procedure(procedure, arguments, self._deadline(), early=False, once=once)
        return int((await self._done(call, lane)).value)

    async def submit(
        self,
        procedure: Procedure | str,
        *arguments: int,
        once: bool | None = None,
        partition: int | None = None,
    ) -> AsyncSubmitted:
        """Ask for a procedure; `result()` is there before it is durable."""
        lane = await self._lane_for(procedure, arguments, partition)
        call = lane.asking.procedure(procedure, arguments, self._deadline(), early=True, once=once)
        await lane.link.send()
        return AsyncSubmitted(lane.link, call)

    async def _lane_for(
        self, procedure: Procedure | str, arguments: Sequence[int], partition: int | None
    ) -> Lane[AsyncLink]:
        """The way to whoever runs a procedure, whose procedures are known."""
        lane = self._lanes.of_procedure(procedure, arguments, partition)
        if lane.core.directory is None:
            await self._ask(Operation.PING, lane=lane)
        return lane

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

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that there are, or the one that was connected to."""
        return self._lanes.partitions

    async def watermark(self) -> int:
        """The timestamp up to which everything is durable at the server, or at all of several."""
        asked = [(p, Operation.STATUS, ()) for p in self._lanes.partitions]
        return min(int(call.value["watermark"]) for call in await self._ask_each(asked))

    async def wait_watermark(self, timestamp: int) -> None:
        """Wait until everything up to `timestamp` is durable; not for early results of `submit`."""
        wanted = [check_timestamp(timestamp)]
        await self._ask_each(
            [(p, Operation.WAIT_WATERMARK, wanted) for p in self._lanes.partitions]
        )

    async def status(self, *, partition: int | None = None) -> dict[str, Any]:
        """What the server says about itself; of several partitions that of `partition`."""
        which = self._lanes.checked(partition)
        lane = self._lanes.first if which is None else self._lanes.of(which)
        return dict((await self._ask(Operation.STATUS, lane=lane)).value)

    async def close(self) -> None:
        """Close the connections. Who waits is told so."""
        for lane in self._lanes.closing():
            await lane.link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
