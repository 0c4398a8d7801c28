"""The remote database for threads: `mako.connect`, with the methods of the embedded one."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from mako.client.batch import WriteBatch
from mako.client.mapping import Writable
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
from mako.client.remote.calls import Call
from mako.client.remote.drive import RemoteDrive
from mako.client.remote.gathered import items_of, needs_of
from mako.client.remote.lanes import Lane, Lanes
from mako.client.remote.link import Link
from mako.client.remote.sessions import RemoteSessionTable, RemoteSnapshot, RemoteTransaction
from mako.client.remote.submitted import RemoteSubmitted
from mako.client.remote.table import RemoteTable
from mako.errors import ConfigError, ConnectionLost, SchemaError
from mako.procedure import Procedure, Workload
from mako.schema import BytesTable, Table, check_tables
from mako.shown import shown
from mako.wire.requests import Operation

#: Seconds for everything that has no timeout of its own.
TIMEOUT: Final = 10.0
#: The same for a drive to begin.
DRIVE_SECONDS: Final = 120.0


def connect(
    addresses: str,
    *,
    timeout: float = TIMEOUT,
    once: bool = False,
    replica: bool = False,
    cluster: int = 0,
    partition: int | None = None,
) -> RemoteDatabase:
    """Connect to a cluster: `host:port` of one or more of its processes, with commas.

    `timeout` seconds bound the connecting and then each call. With `once` every write carries a
    number that is stored with it, so that the client can send it again after a lost connection
    and it still runs once; without it such a write raises `Unknown`. With `replica` the first
    process that answers is asked, leader or not: for snapshots near by. `cluster` is the id of
    the cluster, if another one must not be taken for it. With `partition` that one alone is talked
    to; without it keys are sent where they belong, and of a cluster of several partitions none
    needs to have a leader for this to return.

    ConnectionLost or NotLeader if there is nobody to talk to in time.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError(f"a timeout of {shown(timeout)}; give seconds, more than 0")
    if once:
        check_once(timeout)
    check_partition(partition)
    lanes = Lanes(
        addresses_of(addresses), Link, stay=replica, cluster=cluster, once=once, only=partition
    )
    database = RemoteDatabase(lanes, timeout=timeout)
    try:
        database._first()
    except BaseException:
        database.close()
        raise
    return database


class RemoteDatabase(Writable):
    """A cluster, through whoever leads. Threads may share it; a transaction belongs to one."""

    def __init__(self, lanes: Lanes[Link], *, timeout: float) -> None:
        self._lanes = lanes
        self._timeout = timeout
        self._known: dict[Any, Known] = {}

    def _first(self) -> None:
        """Wait for a server. The error says what was the trouble."""
        lane = self._lanes.first

        def is_divided() -> bool:
            return lane.core.about is not None and self._lanes.is_divided

        with lane.link.lock:
            call = lane.asking.request(Operation.PING, deadline=self._deadline())
            lane.link.wait(lambda: call.ended or is_divided())
            if not call.ended:
                lane.core.give_up(call)
                return
        self._raise(call, lane)

    def _raise(self, call: Call, lane: Lane[Link]) -> None:
        error = call.error
        if error is None:
            return
        if isinstance(error, ConnectionLost) and lane.core.trouble:
            raise ConnectionLost(f"{error} ({lane.core.trouble})") from None
        raise error

    def _deadline(self, timeout: float | None = None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _ended(self, call: Call, lane: Lane[Link]) -> Call:
        """Wait for a call that the holder of the lane's lock has made."""
        lane.link.wait(lambda: call.ended)
        return call

    def _ask(
        self,
        operation: Operation,
        *arguments: Any,
        lane: Lane[Link] | None = None,
        timeout: float | None = None,
        safe: bool = True,
        bound: int = 0,
    ) -> Call:
        """Do one request and wait for its answer."""
        lane = lane or self._lanes.first
        deadline = self._deadline(timeout)
        with lane.link.lock:
            call = lane.asking.request(
                operation, *arguments, deadline=deadline, safe=safe, bound=bound
            )
            lane.link.wait(lambda: call.ended)
        self._raise(call, lane)
        return call

    def _ask_each(
        self, asked: Iterable[tuple[int, Operation, Sequence[Any]]], timeout: float | None = None
    ) -> list[Call]:
        """Do a request at each of some partitions, all at a time."""
        deadline = self._deadline(timeout)
        made = []
        for partition, operation, arguments in asked:
            lane = self._lanes.of(partition)
            with lane.link.lock:
                call = lane.asking.request(operation, *arguments, deadline=deadline)
                lane.link.send()
            made.append((lane, call))
        for lane, call in made:
            with lane.link.lock:
                self._ended(call, lane)
        for lane, call in made:
            self._raise(call, lane)
        return [call for _, call in made]

    # --- tables -------------------------------------------------------------------------

    def create(self, *tables: Table | BytesTable) -> None:
        """Create typed tables; those that are there already stay as they are."""
        check_tables(tables)
        for table in tables:
            asked = [(p, Operation.CREATE_TABLE, describe(table)) for p in self._lanes.partitions]
            calls = self._ask_each(asked)
            known = self._known[table] = Known(calls[0].value, table, self._lanes.shards)
            for partition in self._lanes.partitions:
                self._lanes.of(partition).tables.add(known.number)

    def table(self, table: Any) -> RemoteTable:
        """A table by name (byte strings, created when first asked for) or by its description."""
        return RemoteTable(self, self._find(table))

    def _find(self, table: Any) -> Known:
        if isinstance(table, RemoteTable | RemoteSessionTable):
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
            known = Known(self._open(table), None, self._lanes.shards)
        elif isinstance(table, Table | BytesTable):
            about = self._ask(Operation.DESCRIBE).value["tables"]
            found = [each for each in about if each[3] == table.name or each[0] == table.id]
            if not found:
                raise SchemaError(
                    f"table {table.name} is not in this database; call db.create(...) first"
                )
            known = Known(found[0], table, self._lanes.shards)
        else:
            raise SchemaError(f"{shown(table)} is no table; give a name, a table or a view of one")
        self._known[table] = known
        return known

    def _open(self, name: str) -> Any:
        """A table by name, in the words of the protocol."""
        return self._lanes.described(name) or self._ask(Operation.OPEN_TABLE, name).value

    def _lane_with(self, partition: int, known: Known) -> Lane[Link]:
        """The way to a partition, which has the table from then on."""
        lane = self._lanes.of(partition)
        if known.number not in lane.tables:
            if self._lanes.is_divided and not lane.has(known):
                self._ask(*self._lanes.preparation(known), lane=lane)
            lane.tables.add(known.number)
        return lane

    def _lane_of(self, known: Known, key: bytes, *, writes: bool) -> Lane[Link]:
        """The way to whoever has a packed key."""
        return self._lane_with(self._lanes.of_key(known, key, writes=writes).partition, known)

    # --- transactions -------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, partition: int | None = None) -> Iterator[RemoteTransaction]:
        """A transaction for the length of a `with` block: commits at its end, aborts if the
        block raises. Raises Conflict if another transaction came first."""
        tx = self.begin(partition=partition)
        try:
            yield tx
        except BaseException:
            tx.abort()
            raise
        tx.commit()

    def begin(self, *, partition: int | None = None) -> RemoteTransaction:
        """A transaction to be ended by its `commit` or `abort`. Each call is one round trip.

        It begins at the partition of its first key, or at `partition`.
        """
        return RemoteTransaction(self, self._lanes.checked(partition))

    def snapshot(
        self, *, max_staleness: float | None = None, partitions: Iterable[int] | None = None
    ) -> RemoteSnapshot:
        """Read at the stable timestamp of the server. Close it, or use `with`.

        TooStale if that is more than `max_staleness` seconds ago. With several partitions all are
        read at one timestamp; each has to answer, or the error names the one that does not.

        It may be of some `partitions` only, and then no other one holds it up: what waits for one
        that makes nothing durable is Unavailable in it.
        """
        return RemoteSnapshot(self, max_staleness, self._lanes.chosen(partitions))

    def write(self, batch: WriteBatch) -> int:
        """Commit all that is in `batch` at once, durably; the timestamp of the commit."""
        for table in tables_of(batch):
            self._find(table)
        writes = writes_of(batch, self._find)
        lane, is_one = self._lanes.of_writes(writes)
        if is_one:
            return self._write(lane.partition, writes)
        home = lane.partition
        return self._commit(home, needs_of(writes, home), items_of(writes, home), "write")

    def _commit(
        self,
        home: int,
        needs: Iterable[tuple[int, Known]],
        items: Sequence[bytes],
        name: str = "commit",
    ) -> int:
        """Commit what is over several partitions; the timestamp."""
        lane = self._lanes.of(home)
        for partition, known in needs:
            self._lane_with(partition, known)
        with lane.link.lock:
            call = self._ended(lane.asking.gathered(items, self._deadline(), name), lane)
        self._raise(call, lane)
        return call.timestamp

    def _write(self, partition: int, writes: Sequence[tuple[Known, list[Any]]]) -> int:
        lane = self._lanes.of(partition)
        for known in {id(known): known for known, _ in writes}.values():
            self._lane_with(partition, known)
        deadline = self._deadline()
        with lane.link.lock:
            call = self._ended(lane.asking.write([each for _, each in writes], deadline), lane)
        self._raise(call, lane)
        return call.timestamp

    def load(self, batch: WriteBatch) -> None:
        """Write what is in `batch` where it belongs, durably: rows of tables that are everywhere to
        all partitions. No transaction: each partition commits its part by itself. After an error
        some have and some have not; with puts only, do it again.
        """
        for table in tables_of(batch):
            self._find(table)
        parts = parts_of(writes_of(batch, self._find), self._lanes.partitions)
        for partition, writes in parts.items():
            self._write(partition, writes)

    def run(
        self,
        procedure: Procedure | str,
        *arguments: int,
        once: bool | None = None,
        partition: int | None = None,
    ) -> int:
        """Run a procedure of the server as a transaction; its result, once it is durable.

        With several partitions its home does, or `partition`.
        """
        lane = self._lane_for(procedure, arguments, partition)
        with lane.link.lock:
            call = self._call(lane, procedure, arguments, early=False, once=once)
            lane.link.wait(lambda: call.ended)
        self._raise(call, lane)
        return int(call.value)

    def submit(
        self,
        procedure: Procedure | str,
        *arguments: int,
        timeout: float | None = None,
        once: bool | None = None,
        partition: int | None = None,
    ) -> RemoteSubmitted:
        """Ask for a procedure and return at once; `result()` is there before it is durable.

        If too much is under way it waits for room, at most `timeout` seconds: then TimeoutError.
        """
        lane = self._lane_for(procedure, arguments, partition)
        with lane.link.lock:
            if not lane.core.has_room:
                self._wait_for_room(lane, timeout)
            call = self._call(lane, procedure, arguments, early=True, once=once)
            lane.link.send_soon()
        return RemoteSubmitted(lane.link, call)

    def _wait_for_room(self, lane: Lane[Link], timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        if not lane.link.wait(lambda: lane.core.has_room, until):
            raise TimeoutError("too much is under way; wait longer or submit less")

    def _lane_for(
        self, procedure: Procedure | str, arguments: Sequence[int], partition: int | None
    ) -> Lane[Link]:
        """The way to whoever runs a procedure, whose procedures are known."""
        lane = self._lanes.of_procedure(procedure, arguments, partition)
        if lane.core.directory is None:
            self._ask(Operation.PING, lane=lane)
        return lane

    def _call(
        self,
        lane: Lane[Link],
        procedure: Procedure | str,
        arguments: tuple[int, ...],
        *,
        early: bool,
        once: bool | None,
    ) -> Call:
        return lane.asking.procedure(procedure, arguments, self._deadline(), early=early, once=once)

    def drive(
        self,
        workload: Workload,
        *,
        workers: int,
        states: Sequence[Mapping[str, Any]],
        seed: int = 1,
        rate: float = 0,
        partition: int | None = None,
    ) -> RemoteDrive:
        """Have workers of the leader run a workload that is deployed there, until it is stopped.

        See `Database.drive`. Compiling it for the first time may take a minute. With several
        partitions `partition` says whose leader.
        """
        if len(states) != workers:
            raise SchemaError(f"{workload.name}: {len(states)} states for {workers} workers")
        lane = self._lanes.of(self._lanes.given(partition, workload.name))
        return RemoteDrive(self, lane, workload, states, seed, rate, DRIVE_SECONDS)

    # --- one-shot access to the default table ---------------------------------------------

    def get(self, key: bytes) -> Any:
        """The value in the default table, or None."""
        return self._view().get(key)

    def get_many(self, keys: Iterable[bytes]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        return self._view().get_many(keys)

    def put(self, key: bytes, value: bytes) -> None:
        """Insert or replace, durably."""
        self._view().put(key, value)

    def delete(self, key: bytes) -> bool:
        """Delete; False if the key was not there."""
        return self._view().delete(key)

    def get_int(self, key: bytes, default: int = 0) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        return self._view().get_int(key, default)

    def add(self, key: bytes, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now; see `Transaction.add`."""
        return self._view().add(key, n)

    def items(
        self, first: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        return self._view().items(first, end, reverse=reverse)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.items(first, end)

    def _delete_range(self, first: Any, end: Any) -> None:
        self._view()._delete_range(first, end)

    def _view(self) -> RemoteTable:
        return self.table(DEFAULT_TABLE)

    # --- the whole ------------------------------------------------------------------------

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that there are, or the one that was connected to."""
        return self._lanes.partitions

    @property
    def watermark(self) -> int:
        """The timestamp up to which everything is durable at the server, or at all of several."""
        return min(int(each["watermark"]) for each in self._statuses())

    def wait_watermark(self, timestamp: int, timeout: float | None = None) -> None:
        """Wait until everything up to `timestamp`, such as a `commit_ts`, is durable.

        TimeoutError after `timeout` seconds. For the result of `submit` use its `wait_durable`:
        only that knows its leader, and of another one the watermark passes it whatever its fate.
        """
        wanted = [check_timestamp(timestamp)]
        asked = [(p, Operation.WAIT_WATERMARK, wanted) for p in self._lanes.partitions]
        self._ask_each(asked, timeout)

    def _statuses(self) -> list[dict[str, Any]]:
        calls = self._ask_each([(p, Operation.STATUS, ()) for p in self._lanes.partitions])
        return [dict(call.value) for call in calls]

    def status(self, *, partition: int | None = None) -> dict[str, Any]:
        """What the server says about itself: who leads, and where the watermark is. With several
        partitions that of `partition`, else of the first one."""
        which = self._lanes.checked(partition)
        lane = self._lanes.first if which is None else self._lanes.of(which)
        return dict(self._ask(Operation.STATUS, lane=lane).value)

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows, versions and indexes take at the server, of all partitions together."""
        return sum(int(each["memory"]) for each in self._statuses())

    def pretouch(self, size: int) -> int:
        """A server provides its own memory ahead: nothing to do."""
        del size
        return 0

    def close(self) -> None:
        """Close the connections. Who waits is told so."""
        for lane in self._lanes.closing():
            lane.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
