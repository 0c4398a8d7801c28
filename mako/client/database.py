"""The embedded database: one partition in this process, in memory alone or on disk, too."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from mako.client.batch import WriteBatch
from mako.client.mapping import Writable
from mako.client.requests import Requests, Submitted, wait_closed
from mako.client.retry import retrying
from mako.client.session import SessionTable
from mako.client.snapshot import Snapshot
from mako.client.table import TableView
from mako.client.transaction import Transaction
from mako.errors import Aborted, Closed, ConfigError, DatabaseFailed, Error, SchemaError
from mako.forks import LEFT, leave_in_child
from mako.ids import TIMESTAMP_MASK
from mako.procedure import Procedure, Workload
from mako.schema import BytesTable, Table, check_tables
from mako.server.drive import Drive
from mako.server.workers import PROCEDURE_SECONDS_MAX, Crew
from mako.shown import shown
from mako.size import parse_memory

if TYPE_CHECKING:
    from mako.client.log import Recording
    from mako.engine.engine import Engine, TableHandle
    from mako.server.embedded import EmbeddedReplica

DEFAULT_TABLE: Final = "default"
#: Seconds of any limit, at most: some thirty years.
_LONGEST: Final = 1e9
#: What names a table in a call.
AnyTable = str | Table | BytesTable | TableView | SessionTable


def open(  # noqa: A001
    path: str | os.PathLike[str] = ":memory:",
    *,
    memory: str | int = "1GiB",
    sessions: int = 24,
    procedure_timeout: float = PROCEDURE_SECONDS_MAX,
    snapshot_bytes: str | int = "256MiB",
) -> Database:
    """Open the database in the folder `path`, made if it is not there, or one in `:memory:`.

    On disk, whatever returns has been synced: commits, `db.run`, and reads of what others have
    just committed. In memory everything is gone when the database is closed.

    `memory` (512MiB, 4GiB, 1.5TiB, or bytes) bounds what rows and indexes take, and is
    reserved, not used, at once. `sessions` bounds transactions, snapshots and workers that are
    open at a time. A procedure that runs for more than `procedure_timeout` seconds is ended
    with ProcedureTimeout. Once the log on disk has grown by `snapshot_bytes`, the rows are
    written to a snapshot and the log is cut; opening replays at most about as much.

    ConfigError: the folder is in use, another's, damaged, or of another version; the message
    says what to do. FileError: there can be no such folder.
    """
    if type(sessions) is not int or not 1 <= sessions <= 4096:
        raise ConfigError(f"{shown(sessions)} sessions; give a number from 1 to 4096")
    limit = procedure_timeout
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < _LONGEST:
        raise ConfigError(f"a procedure_timeout of {shown(limit)}; give seconds, more than 0")
    if path == ":memory:":
        from mako.engine.engine import Engine

        return Database(Engine(parse_memory(memory), contexts=sessions), float(limit))
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ConfigError(f"cannot open {shown(path)}; give the path of a folder, or ':memory:'")
    from mako.server.alone import EmbeddedSettings
    from mako.server.embedded import open_replica

    settings = EmbeddedSettings(
        memory_bytes=parse_memory(memory),
        sessions=sessions,
        snapshot_bytes=_parse_snapshot(snapshot_bytes),
    )
    replica = open_replica(path, settings)
    return Database(replica.engine, float(limit), replica)


def _parse_snapshot(given: str | int) -> int:
    size = parse_memory(given)
    if size < 1 << 20:
        raise ConfigError(f"snapshot_bytes of {shown(given)}; give at least 1MiB")
    return size


class Database(Writable):
    """One partition in this process. Threads may share it; a transaction belongs to one. Of what a
    child gets by a fork nothing is to be had: every call raises Closed."""

    def __init__(
        self,
        engine: Engine,
        procedure_timeout: float = PROCEDURE_SECONDS_MAX,
        replica: EmbeddedReplica | None = None,
    ) -> None:
        self._engine = engine
        self._crew = Crew(engine, procedure_timeout)
        #: Brings what is committed to the disk; None: the database is in memory alone.
        self._replica = replica
        self._requests = Requests(self._crew, replica)
        self._open = True
        self._closed = False
        #: It is the parent's: this process was forked when it was open.
        self._left = False
        self._default: TableView | None = None
        if replica is not None:
            replica.works = self._crew.works
            replica.on_failure = _ending(self)
            self._open = replica.failure is None  # It may have ended meanwhile.
        self._letting_go: weakref.finalize[..., Database] | None = None
        # Before that: no child is to let go of the folder.
        leave_in_child(self, Database._leave)
        # Recordings and drives keep these, when nobody has the database any more.
        leave_in_child(engine, lambda engine: engine.leave())
        leave_in_child(self._crew, Crew.leave)
        if replica is not None:
            # A database that is forgotten, or not closed at the exit, lets go of its folder.
            self._letting_go = weakref.finalize(self, _let_go, self._crew, replica)

    # --- tables -------------------------------------------------------------------------

    def create(self, *tables: Table | BytesTable) -> None:
        """Create typed tables; those that are there already stay as they are."""
        self._check_open()
        before = len(self._engine.tables)
        check_tables(tables)
        for table in tables:
            self._engine.create_table(table)
        if self._replica is not None and len(self._engine.tables) != before:
            self._replica.sync()

    def table(self, table: AnyTable) -> TableView:
        """A table by name (byte strings, created when first asked for) or by its description."""
        return TableView(self, self._handle(table))

    def _handle(self, table: AnyTable | None) -> TableHandle:
        self._check_open()
        if isinstance(table, TableView | SessionTable):
            # A handle is an address in the memory of one database.
            if table._db is not self:
                raise SchemaError(
                    f"this view of table {table.handle.table.name} is another database's; ask"
                    " this one for the table"
                )
            return table.handle
        if isinstance(table, Table | BytesTable):
            known = self._engine.tables.get(int(table.id))
            if known is None or known.table.fingerprint != table.fingerprint:
                raise SchemaError(
                    f"table {table.name} is not in this database; call db.create(...) first"
                )
            return known
        if table is None:
            table = DEFAULT_TABLE
        if not isinstance(table, str):
            raise SchemaError(f"{shown(table)} is no table; give a name, a table or a view of one")
        return self._engine.table_named(table) or self._engine.create_named(table)

    # --- transactions -------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction for the length of a `with` block: commits at its end, aborts if the
        block raises. Raises Conflict if another transaction came first."""
        tx = self.begin()
        try:
            yield tx
        except BaseException:
            tx.abort()
            raise
        tx.commit()

    def begin(self) -> Transaction:
        """A transaction to be ended by its `commit` or `abort`."""
        self._check_open()
        return Transaction(self, self._engine)

    def snapshot(self) -> Snapshot:
        """Read at the present watermark; never waits, never aborts. Close it, or use `with`."""
        self._check_open()
        return Snapshot(self, self._engine)

    def write(self, batch: WriteBatch) -> int:
        """Commit all that is in `batch` at once; the timestamp of the commit.

        Conflicts are retried. The batch stays as it is: clear it to use it again.
        """
        if not isinstance(batch, WriteBatch):
            raise SchemaError(f"{shown(batch)} is not a batch; fill a mako.WriteBatch()")
        return retrying(self, batch._apply).commit_ts

    def load(self, batch: WriteBatch) -> None:
        """The same as `write`: what a cluster has everywhere is here."""
        self.write(batch)

    def run(self, procedure: Procedure, *arguments: int) -> int:
        """Run a procedure as a transaction and return its result; conflicts are retried."""
        self._check_procedure(procedure)
        self._check_growth()
        self._crew.watch()
        try:
            result, timestamp = self._engine.run(procedure, arguments)
        except Aborted:
            self._wait_for_call(None)
            raise
        self._wait_for_call(timestamp)
        return result

    def _wait_for_call(self, timestamp: int | None) -> None:
        if self._replica is not None:
            self._replica.wait_for_call(timestamp)

    def submit(
        self, procedure: Procedure, *arguments: int, timeout: float | None = None
    ) -> Submitted:
        """Hand a procedure to a worker and return at once; see `Submitted`.

        If no worker has room for another request it waits for one, at most `timeout` seconds:
        then TimeoutError. One worker is started if there is none.
        """
        self._check_procedure(procedure)
        self._check_growth()
        return self._requests.submit(procedure, arguments, timeout)

    def start_workers(self, workers: int) -> Workers:
        """Bring the number of workers that run what is submitted to `workers`."""
        self._check_open()
        self._requests.start(workers)
        return Workers(self._requests)

    def stop_workers(self) -> None:
        """Stop the workers, once all that was submitted has ended."""
        self._requests.stop(drain=True)

    def drive(
        self,
        workload: Workload,
        *,
        workers: int,
        states: Sequence[Mapping[str, Any]],
        seed: int = 1,
        rate: float = 0,
    ) -> Drive:
        """Run a workload on `workers` threads inside the engine until it is stopped.

        `rate` 0 is a closed loop; otherwise so many transactions per second become due over
        all workers, and latency counts from when one was due.
        """
        self._check_open()
        drive = Drive(self._crew, workload, workers=workers, states=states, seed=seed, rate=rate)
        if self._replica is not None:
            try:
                self._replica.stir()
            except BaseException:  # Nobody else can stop it.
                drive.stop()
                raise
        return drive

    # --- the log --------------------------------------------------------------------------

    def record_log(self, target: str | os.PathLike[str] | BinaryIO) -> Recording:
        """Write the log to a file (by path, or open for writing) until the result is closed.

        Begin with a database without rows: what is there already would be missing in the log.
        `mako.replay` makes a database of the file. A database on disk has its log in its folder
        (`mako inspect wal`), and cannot record another one.
        """
        self._check_open()
        if self._replica is not None:
            raise ConfigError(
                "a database on disk cannot record its log to a second file; copy its folder when"
                " it is closed, or open ':memory:'"
            )
        from mako.client.log import record

        return record(self, target)

    # --- one-shot access to the default table ---------------------------------------------

    def get(self, key: bytes) -> Any:
        """The value in the default table, or None."""
        return self._view().get(key)

    def get_many(self, keys: Iterable[bytes]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        return self._view().get_many(keys)

    def put(self, key: bytes, value: bytes) -> None:
        """Insert or replace."""
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

    def _view(self) -> TableView:
        if self._default is None:
            self._default = self.table(DEFAULT_TABLE)
        return self._default

    # --- the whole ------------------------------------------------------------------------

    @property
    def watermark(self) -> int:
        """The timestamp up to which everything is durable."""
        self._check_open()
        return self._engine.stable

    def wait_watermark(self, timestamp: int, timeout: float | None = None) -> None:
        """Wait until everything up to `timestamp`, such as a `commit_ts`, is durable.

        TimeoutError after `timeout` seconds.
        """
        if type(timestamp) is not int or not 0 <= timestamp <= TIMESTAMP_MASK:
            raise SchemaError(f"{shown(timestamp)} is no timestamp; give the commit_ts of one")
        self._check_open()
        late = f"the watermark has not reached {timestamp}; wait longer"
        if self._replica is not None:
            self._replica.wait(timestamp, timeout, late)
        else:
            wait_closed(self._engine, timestamp, timeout, late)

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows, versions and indexes take now."""
        self._check_open()
        return self._engine.memory_bytes

    @property
    def memory_reserved(self) -> int:
        """Bytes that they have taken at most so far. What is free again among them is kept for rows
        of its own size: a larger one needs memory beyond it."""
        self._check_open()
        return self._engine.memory_reserved

    def pretouch(self, size: int) -> int:
        """Have the system back `size` bytes of memory now, or what is left of it; how many.

        Memory is reserved when a database is opened and found and cleared by the system when
        it is first written, which on some machines takes as long as the transaction that
        waits for it. Before a measurement, or a rush, it can be done ahead.
        """
        self._check_open()
        if type(size) is not int:
            raise ConfigError(f"{shown(size)} is no number of bytes; give an integer")
        return self._engine.touch(size)

    def close(self) -> None:
        """Stop what runs and give the memory back: of a database in memory everything is gone.

        What was submitted and has not begun fails with Closed, and so does every use of an
        open transaction or snapshot. On disk, everything that was committed is synced before;
        only where the disk is full is that limited to what was acknowledged.

        Harmless the second time; if the first one was interrupted, this goes on. In a process that
        was forked when it was open, it does nothing.
        """
        if self._left:
            return
        self._open, self._closed = False, True
        self._requests.close()
        self._crew.close()
        if self._replica is None:
            self._engine.close()
        else:
            self._replica.close()

    def _leave(self) -> None:
        """See `mako.forks`."""
        self._open = False
        self._left = True
        self._crew.leave()
        self._requests.leave(self._refusal)
        self._engine.leave()
        if self._letting_go is not None:
            self._letting_go.detach()
        if self._replica is not None:
            self._replica.leave()

    def _check_procedure(self, procedure: Procedure) -> None:
        self._check_open()
        if not isinstance(procedure, Procedure):
            raise SchemaError(
                f"{shown(procedure)} is not a procedure; decorate it with @mako.procedure"
            )

    def _check_open(self) -> None:
        if not self._open:
            raise self._refusal()

    def _check_growth(self) -> None:
        if self._replica is not None:
            self._replica.check_growth()

    def _refusal(self) -> Error:
        """Why nothing can be done with it any more."""
        if self._left and not self._closed:
            return Closed(LEFT)
        if self._replica is not None and not self._closed:
            failure = self._replica.failure
            assert failure is not None, "only what has failed is neither open nor closed"
            return DatabaseFailed(failure)
        return Closed("the database is closed; open it again")

    def _end_failed(self) -> None:
        """Its replica has ended by itself: whoever waits for a worker waits no more."""
        self._open = False
        self._crew.close()
        self._requests.fail(self._refusal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ending(db: Database) -> Callable[[], None]:
    """What ends `db`, without holding on to it."""
    held = weakref.ref(db)

    def end() -> None:
        found = held()
        if found is not None:
            found._end_failed()

    return end


def _let_go(crew: Crew, replica: EmbeddedReplica) -> None:
    crew.close()
    replica.close(drain=False)


class Workers:
    """The workers of a database, for the length of a `with` block."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    @property
    def count(self) -> int:
        return self._requests.count

    def stop(self) -> None:
        """Stop them, once all that was submitted has ended."""
        self._requests.stop(drain=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
