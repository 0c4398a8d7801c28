"""The remote database for threads: `mako.connect`, with the methods of the embedded one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from mako.client.batch import WriteBatch
from mako.client.mapping import Writable
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
from mako.client.remote.calls import Call
from mako.client.remote.core import Core
from mako.client.remote.drive import RemoteDrive
from mako.client.remote.link import Link
from mako.client.remote.sessions import RemoteSessionTable, RemoteSnapshot, RemoteTransaction
from mako.client.remote.submitted import RemoteSubmitted
from mako.client.remote.table import RemoteTable
from mako.errors import ConfigError, ConnectionLost, SchemaError
from mako.procedure import Procedure, Workload
from mako.schema import BytesTable, Table
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
) -> RemoteDatabase:
    """Connect to a cluster: `host:port` of one or more of its processes, with commas.

    `timeout` seconds bound the connecting and then each call. With `once` every write carries a
    number that is stored with it, so that the client can send it again after a lost connection
    and it still runs once; without it such a write raises `Unknown`. With `replica` the first
    process that answers is asked, leader or not: for snapshots near by. `cluster` is the id of
    the cluster, if another one must not be taken for it.

    ConnectionLost or NotLeader if there is nobody to talk to in time.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError(f"a timeout of {timeout!r}; give seconds, more than 0")
    core = Core(
        addresses_of(addresses), chance=random.SystemRandom(), stay=replica, cluster=cluster
    )
    database = RemoteDatabase(core, timeout=timeout, once=once)
    try:
        database._first()
    except BaseException:
        database.close()
        raise
    return database


class RemoteDatabase(Writable):
    """A cluster, through whoever leads. Threads may share it; a transaction belongs to one."""

    def __init__(self, core: Core, *, timeout: float, once: bool) -> None:
        self._link = Link(core)
        self._core = core
        self._asking = Asking(core, once=once)
        self._timeout = timeout
        self._known: dict[Any, Known] = {}

    def _first(self) -> None:
        """Wait for a server. The error says what was the trouble."""
        deadline = self._deadline()
        with self._link.lock:
            call = self._asking.request(Operation.PING, deadline=deadline)
            self._link.wait(lambda: call.ended)
        self._raise(call)

    def _raise(self, call: Call) -> None:
        error = call.error
        if error is None:
            return
        if isinstance(error, ConnectionLost) and self._core.trouble:
            raise ConnectionLost(f"{error} ({self._core.trouble})") from None
        raise error

    def _deadline(self, timeout: float | None = None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _ended(self, call: Call) -> Call:
        """Wait for a call that the lock's holder has made; the lock is held."""
        self._link.wait(lambda: call.ended)
        return call

    def _ask(self, operation: Operation, *arguments: Any, **options: Any) -> Call:
        """Do one request and wait for its answer."""
        deadline = self._deadline(options.pop("timeout", None))
        with self._link.lock:
            call = self._asking.request(operation, *arguments, deadline=deadline, **options)
            self._link.wait(lambda: call.ended)
        self._raise(call)
        return call

    # --- tables -------------------------------------------------------------------------

    def create(self, *tables: Table | BytesTable) -> None:
        """Create typed tables; those that are there already stay as they are."""
        for table in tables:
            call = self._ask(Operation.CREATE_TABLE, *describe(table))
            self._known[table] = Known(call.value, table)

    def table(self, table: Any) -> RemoteTable:
        """A table by name (byte strings, created when first asked for) or by its description."""
        return RemoteTable(self, self._find(table))

    def _find(self, table: Any) -> Known:
        if isinstance(table, RemoteTable | RemoteSessionTable):
            return table.known
        if table is None:
            table = DEFAULT_TABLE
        known = self._known.get(table)
        if known is not None:
            return known
        if isinstance(table, str):
            known = Known(self._ask(Operation.OPEN_TABLE, table).value)
        elif isinstance(table, Table | BytesTable):
            about = self._ask(Operation.DESCRIBE).value["tables"]
            found = [each for each in about if each[3] == table.name or each[0] == table.id]
            if not found:
                raise SchemaError(
                    f"table {table.name} is not in this database; call db.create(...) first"
                )
            known = Known(found[0], table)
        else:
            raise SchemaError(f"{table!r:.60} is no table; give a name, a table or a view of one")
        self._known[table] = known
        return known

    # --- transactions -------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[RemoteTransaction]:
        """A transaction for the length of a `with` block: commits at its end, aborts if the
        block raises. Raises Conflict if another transaction came first."""
        tx = self.begin()
        try:
            yield tx
        except BaseException:
            tx.abort()
            raise
        tx.commit()

    def begin(self) -> RemoteTransaction:
        """A transaction to be ended by its `commit` or `abort`. Each call is one round trip."""
        return RemoteTransaction(self)

    def snapshot(self, *, max_staleness: float | None = None) -> RemoteSnapshot:
        """Read at the stable timestamp of the server; never aborts. Close it, or use `with`.

        TooStale if that is more than `max_staleness` seconds ago.
        """
        return RemoteSnapshot(self, max_staleness)

    def write(self, batch: WriteBatch) -> int:
        """Commit all that is in `batch` at once, durably; the timestamp of the commit."""
        for table in tables_of(batch):
            self._find(table)
        writes = writes_of(batch, self._find)
        deadline = self._deadline()
        with self._link.lock:
            call = self._ended(self._asking.write(writes, deadline))
        self._raise(call)
        return call.timestamp

    def run(self, procedure: Procedure | str, *arguments: int, once: bool | None = None) -> int:
        """Run a procedure of the server as a transaction; its result, once it is durable."""
        with self._link.lock:
            call = self._call(procedure, arguments, early=False, once=once)
            self._link.wait(lambda: call.ended)
        self._raise(call)
        return int(call.value)

    def submit(
        self,
        procedure: Procedure | str,
        *arguments: int,
        timeout: float | None = None,
        once: bool | None = None,
    ) -> RemoteSubmitted:
        """Ask for a procedure and return at once; `result()` is there before it is durable.

        If too much is under way it waits for room, at most `timeout` seconds: then TimeoutError.
        """
        with self._link.lock:
            if not self._core.has_room:
                self._wait_for_room(timeout)
            call = self._call(procedure, arguments, early=True, once=once)
            self._link.send_soon()
        return RemoteSubmitted(self._link, call)

    def _wait_for_room(self, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        if not self._link.wait(lambda: self._core.has_room, until):
            raise TimeoutError("too much is under way; wait longer or submit less")

    def _call(
        self,
        procedure: Procedure | str,
        arguments: tuple[int, ...],
        *,
        early: bool,
        once: bool | None,
    ) -> Call:
        return self._asking.procedure(
            procedure, arguments, self._deadline(), early=early, once=once
        )

    def drive(
        self,
        workload: Workload,
        *,
        workers: int,
        states: Sequence[Mapping[str, Any]],
        seed: int = 1,
        rate: float = 0,
    ) -> RemoteDrive:
        """Have workers of the leader run a workload that is deployed there, until it is stopped.

        See `Database.drive`. Compiling it for the first time may take a minute.
        """
        if len(states) != workers:
            raise SchemaError(f"{workload.name}: {len(states)} states for {workers} workers")
        return RemoteDrive(self, workload, states, seed, rate, DRIVE_SECONDS)

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
    def watermark(self) -> int:
        """The timestamp up to which everything is durable at the server."""
        return int(self._ask(Operation.STATUS).value["watermark"])

    def wait_watermark(self, timestamp: int, timeout: float | None = None) -> None:
        """Wait until everything up to `timestamp`, such as a `commit_ts`, is durable.

        TimeoutError after `timeout` seconds. For the result of `submit` use its `wait_durable`:
        only that knows its leader, and of another one the watermark passes it whatever its fate.
        """
        self._ask(Operation.WAIT_WATERMARK, check_timestamp(timestamp), timeout=timeout)

    def status(self) -> dict[str, Any]:
        """What the server says about itself: who leads, and where the watermark is."""
        return dict(self._ask(Operation.STATUS).value)

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows, versions and indexes take at the server."""
        return int(self._ask(Operation.STATUS).value["memory"])

    def pretouch(self, size: int) -> int:
        """A server provides its own memory ahead: nothing to do."""
        del size
        return 0

    def close(self) -> None:
        """Close the connection. Who waits is told so."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
