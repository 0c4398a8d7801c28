"""The requests of a client that are no packed calls: done at once, in the event loop's thread.

Every operation returns (timestamp, value, whether the answer waits for the gate).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mako.engine.codec import Description
from mako.errors import Aborted, Error
from mako.ids import VALUE_BYTES_MAX, Status
from mako.row import Row
from mako.schema import Table
from mako.server.backend import Backend
from mako.server.deploy import described
from mako.server.drive import Drive
from mako.server.driving import DRIVES_MAX, Preparation, sample_of
from mako.server.gated import EVERYBODY, NOBODY
from mako.server.moving import check_move
from mako.server.sessions import (
    Refused,
    ServedSnapshot,
    ServedTransaction,
    Session,
    Sessions,
    Write,
    age_ms,
    check_key,
    check_value,
    table_of,
)
from mako.wire.requests import LATEST, Operation

if TYPE_CHECKING:
    from mako.engine.engine import TableHandle

#: Keys of one GET, writes of one WRITE.
KEYS_MAX: Final = 10_000
#: Bytes of the values of one GET; one of the largest values has room. See `mako.server.clients`.
GET_BYTES_MAX: Final = VALUE_BYTES_MAX
#: The partition that gives the numbers of tables that are only named: they are the same in all.
CATALOG: Final = 0
#: Times that a WRITE is tried before its conflict is the client's.
WRITE_TRIES: Final = 100

#: Timestamp, answer, and the mask of the partitions whose watermarks have to pass it before.
Done = tuple[int, Any, int]
#: Operations that any replica does; the others are the leader's.
ANYWHERE: Final = frozenset(
    {
        Operation.DESCRIBE,
        Operation.OPEN_TABLE,
        Operation.SNAPSHOT,
        Operation.MOVE_SNAPSHOT,
        Operation.CLOSE,
        Operation.RUN_AT,
        Operation.STATE_HASH,
        Operation.PING,
        Operation.STATUS,
        Operation.CANCEL,
        Operation.WAIT_WATERMARK,
        Operation.MEET,
        Operation.PREFER,
        Operation.TAKE_SNAPSHOT,
        Operation.NEWEST_SNAPSHOT,
        Operation.READ_SNAPSHOT,
        Operation.READ_LOG,
    }
)


class Job:
    """Something that takes long, for a thread of its own. The session is kept meanwhile."""

    def __init__(
        self,
        session: Session | Starting,
        act: Callable[[], Any],
        then: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        """`act()` is called in a thread, `then(what it returned)` back in the loop's."""
        self._session = session
        self._act = act
        self._then = then
        self.value: Any = None
        self.error: Exception | None = None
        session.busy = True

    def run(self) -> None:
        """Do it, in any thread."""
        try:
            self.value = self._act()
        except Exception as error:  # Whatever it is, the loop's thread gets it.
            self.error = error

    def drop(self) -> None:
        """It was not begun, and nobody waits for it any more: the session is given back."""
        self._session.rest()

    def ended(self) -> None:
        """Back in the loop's thread."""
        self._session.rest()
        if self.error is None:
            try:
                self.value = self._then(self.value)
            except (Refused, Error) as error:
                self.error = error


class Starting:
    """A drive while its workload is compiled, in the place of a session; it is one of `everyone`
    then, by the request that asked for it."""

    busy = False

    def __init__(self, request: int, everyone: dict[int, Starting]) -> None:
        self.cancelled = False
        self._request = request
        self._everyone = everyone
        everyone[request] = self

    def rest(self) -> None:
        """It is compiled, or cannot be."""
        self._everyone.pop(self._request, None)


class Asking:
    """What one connection asks for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._engine = backend.engine
        self.sessions = Sessions()
        self._now = 0.0
        self._operations: dict[Operation, Callable[..., Done]] = {
            Operation.DESCRIBE: self._describe,
            Operation.OPEN_TABLE: self._open_table,
            Operation.CREATE_TABLE: self._create_table,
            Operation.GET: self._get,
            Operation.SCAN: self._scan,
            Operation.BEGIN: self._begin,
            Operation.PUT: self._put,
            Operation.DELETE: self._delete,
            Operation.COMMIT: self._commit,
            Operation.ABORT: self._end,
            Operation.SNAPSHOT: self._snapshot,
            Operation.MOVE_SNAPSHOT: self._move_snapshot,
            Operation.CLOSE: self._end,
            Operation.WRITE: self._write,
            Operation.WAIT_WATERMARK: self._wait_watermark,
            Operation.PING: lambda: (0, None, NOBODY),
            Operation.STATUS: lambda: (0, self._backend.status(), NOBODY),
            Operation.RUN_AT: self._run_at,
            Operation.STATE_HASH: self._state_hash,
            Operation.DRIVE: self._drive,
            Operation.DRIVE_SAMPLE: self._sample,
            Operation.DRIVE_RESET: self._reset_drive,
            Operation.DRIVE_STOP: self._stop_drive,
        }
        administration = backend.administration
        if administration is not None:
            self._operations |= {
                operation: partial(_at_once, act)
                for operation, act in administration.operations().items()
            }
        self._drives = backend.drives
        self._starting: dict[int, Starting] = {}
        # Of the drives that run, by their numbers: the requests that asked for them.
        self._driven: dict[int, int] = {}
        self._request = 0
        self._closed = False

    def close(self) -> None:
        """The connection ends: so do its drives."""
        self._closed = True
        for number in self._driven:
            self._drives.end(number)
        self._driven.clear()

    def do(self, operation: Operation, arguments: list[Any], now: float, request: int = 0) -> Done:
        """Do it. Refused, Aborted or SchemaError say why it cannot be done."""
        self._now = now
        self._request = request
        act = self._operations.get(operation)
        if act is None:
            raise Refused(Status.REFUSED, "this database has no replicas to administer")
        return act(*arguments)

    # --- tables and procedures ----------------------------------------------------------

    def _describe(self) -> Done:
        lasting = self._backend.is_lasting
        handles = [handle for handle in list(self._engine.tables.values()) if lasting(handle)]
        tables = [_about(handle) for handle in handles]
        about = {
            "procedures": described(self._backend.procedures),
            "tables": tables,
            "leads": self._backend.leads,
            "leader": self._backend.leader,
            "partition": self._backend.partition,
            "hosted": True,
            **self._backend.whereabouts(),
        }
        return 0, about, NOBODY

    def _open_table(self, name: str) -> Done:
        if not isinstance(name, str):
            raise Refused(Status.REFUSED, "the name of a table is text")
        known = self._engine.table_named(name)
        if not self._backend.leads and (known is None or not self._backend.is_lasting(known)):
            # Only a leader creates one, and what it had created goes with its leadership.
            raise Refused(Status.NOT_LEADER, self._backend.leader)
        if known is None and self._backend.partition != CATALOG:
            raise Refused(
                Status.REFUSED,
                f"partition {CATALOG} gives tables their numbers; open {name!r:.60} there first",
            )
        return self._once_lasting(self._backend.open_table(name))

    def _create_table(self, number: int, kind: int, row_bytes: int, name: str) -> Done:
        for word in (number, kind, row_bytes):
            if type(word) is not int or not 0 <= word < 1 << 23:
                raise Refused(Status.REFUSED, "the numbers of a table are out of range")
        if not isinstance(name, str) or not 1 <= kind <= 3:
            raise Refused(Status.REFUSED, "that is no description of a table")
        description = Description(number, kind, row_bytes, name)
        return self._once_lasting(self._backend.create_table(description))

    def _once_lasting(self, handle: TableHandle) -> Done:
        """Tell of a table when it stays: until then the next leader may give its number to
        another one. What is drained after the clock has moved on has it before it."""
        lasts = self._backend.is_lasting(handle)
        if lasts:
            return 0, _about(handle), NOBODY
        return self._engine.clock + 1, _about(handle), 1 << self._backend.partition

    # --- reads --------------------------------------------------------------------------

    def _get(self, session: int, number: int, keys: list[bytes]) -> Done:
        if len(keys) > KEYS_MAX:
            raise Refused(Status.REFUSED, f"{len(keys)} keys at once; ask for {KEYS_MAX} at most")
        handle = table_of(self._engine, number)
        checked = [check_key(handle, key) for key in keys]
        if session not in (0, LATEST):
            return 0, _values(self.sessions.find(session, self._now), handle, checked), NOBODY

        def read(transaction: ServedTransaction) -> Done:
            values = _values(transaction, handle, checked)
            if session == LATEST:
                return 0, values, NOBODY
            gated = "read_only_not_gated" not in self._backend.planted
            timestamp = transaction.commit()
            mask = transaction.mask if gated else NOBODY
            if len(values) < len(checked):
                raise Refused(
                    Status.TOO_LONG,
                    f"the values of {len(checked)} keys have more than {GET_BYTES_MAX >> 20} MiB;"
                    " read them in a transaction or at a snapshot, or fewer at once",
                    (timestamp, mask),
                )
            return timestamp, values, mask

        return self._retrying(read)

    def _retrying(self, act: Callable[[ServedTransaction], Done]) -> Done:
        """Do it in a transaction of its own, which is over then; again after a conflict."""
        for tries in range(WRITE_TRIES):
            transaction = ServedTransaction(self._engine, self._now)
            try:
                return act(transaction)
            except Aborted as error:
                if not error.retryable or tries + 1 == WRITE_TRIES:
                    raise
            finally:
                transaction.abort()
        raise AssertionError("the loop returns or raises")

    def _scan(
        self, session: int, number: int, first: bytes, end: bytes, limit: int, reverse: int
    ) -> Done:
        handle = table_of(self._engine, number)
        if type(limit) is not int or limit < 0:
            raise Refused(Status.REFUSED, "the limit of a scan is a number of rows")
        low, high = check_key(handle, first, bound=True), check_key(handle, end, bound=True)
        if session == LATEST:
            return self._retrying(
                lambda tx: (0, tx.scan(handle, low, high, limit, reverse=bool(reverse)), NOBODY)
            )
        found = self.sessions.find(session, self._now)
        return 0, found.scan(handle, low, high, limit, reverse=bool(reverse)), NOBODY

    def _snapshot(self, oldest: int, over: int = EVERYBODY) -> Done:
        made: list[ServedSnapshot] = []
        if type(over) is not int or not 0 < over <= EVERYBODY:
            raise Refused(Status.REFUSED, "that names no partitions")
        if self._backend.leads:
            self._engine.tick()  # An idle leader's clock stands still; its age is none.

        def make() -> Session:
            snapshot = ServedSnapshot(self._engine, self._now, over)
            if (readable := self._backend.readable(over)) > snapshot.timestamp:
                snapshot.move_to(readable)
            made.append(snapshot)
            return snapshot

        number = self.sessions.add(make)
        if "reclaimed_ahead_of_snapshot" in self._backend.planted:
            made[0].let_go()
        timestamp = made[0].timestamp
        if timestamp == 0:  # It would be empty, and as old as the calendar.
            self.sessions.end(number)
            raise Refused(
                Status.BUSY, "this replica is being brought up, and has nothing to show; ask again"
            )
        told = "snapshot_said_to_be_new" not in self._backend.planted
        age = age_ms(self._engine, timestamp) if told else 0
        if 0 <= oldest < age:
            self.sessions.end(number)
            raise Refused(
                Status.STALE, f"this replica is {age} ms behind and {oldest} ms were asked for"
            )
        return timestamp, [number, age], NOBODY

    def _move_snapshot(self, session: int, timestamp: int) -> Done:
        found = self.sessions.find(session, self._now)
        return 0, check_move(found, session, timestamp, self._now), NOBODY

    def _run_at(
        self, session: int, number: int, arguments: list[int], layout: dict[str, str] | None
    ) -> Done:
        found = self.sessions.find(session, self._now)
        if not isinstance(found, ServedSnapshot):
            raise Refused(Status.REFUSED, "only a snapshot runs procedures")
        deployed = self._backend.procedures.values()
        procedure = next((each.procedure for each in deployed if each.number == number), None)
        if procedure is None:
            raise Refused(Status.NO_PROCEDURE, f"there is no procedure number {number!r:.20}")
        if not isinstance(arguments, list) or not all(map(_is_word, arguments)):
            raise Refused(Status.WRONG_ARGUMENTS, "arguments are a list of 64-bit integers")
        if layout is not None and not (
            isinstance(layout, dict)
            and all(isinstance(part, str) for field in layout.items() for part in field)
        ):
            raise Refused(Status.WRONG_ARGUMENTS, "a row is described by the codes of its fields")
        # Its name stands in messages only.
        out = None if layout is None else Row(layout, name="the row that is handed back")
        return 0, Job(found, lambda: found.run(procedure, arguments, out)), NOBODY

    def _state_hash(self, session: int) -> Done:
        found = self.sessions.find(session, self._now)
        if not isinstance(found, ServedSnapshot):
            raise Refused(Status.REFUSED, "only a snapshot has a hash")
        return 0, Job(found, found.state_hash), NOBODY

    # --- drives -------------------------------------------------------------------------

    def _drive(self, name: str, states: list[bytes], seed: int, rate: float) -> Done:
        prepared = self._drives.prepare(name, states, seed, rate)
        request = self._request
        if len(self._starting) >= DRIVES_MAX:
            raise Refused(Status.LIMIT, f"{DRIVES_MAX} drives are being compiled; wait for one")
        starting = Starting(request, self._starting)

        def start(_: object) -> int:
            if starting.cancelled:
                raise Refused(Status.TIMED_OUT, "it was cancelled before it began")
            return self._driving(prepared, request)

        return 0, Job(starting, prepared.compile, start), NOBODY

    def _driving(self, prepared: Preparation, request: int) -> int:
        if self._closed or not self._backend.leads:  # The text is where the leader is.
            raise Refused(Status.NOT_LEADER, self._backend.leader)
        number = self._drives.start(prepared)
        self._driven[number] = request
        return number

    def cancel_drive(self, request: object) -> bool:
        """Whoever asked for it has given up: it does not begin, or ends. Whether there was one."""
        if type(request) is not int:
            return False
        starting = self._starting.get(request)
        if starting is not None:
            starting.cancelled = True
            return True
        found = [number for number, asked in self._driven.items() if asked == request]
        for number in found:
            del self._driven[number]
            self._drives.end(number)
        return bool(found)

    def _driven_here(self, number: int) -> Drive:
        """A drive of this connection. The numbers are those of all."""
        if type(number) is not int or number not in self._driven:
            raise Refused(Status.NO_SESSION, "this connection has not started such a drive")
        return self._drives.find(number)

    def _sample(self, number: int) -> Done:
        return 0, sample_of(self._driven_here(number)), NOBODY

    def _reset_drive(self, number: int) -> Done:
        self._driven_here(number).reset()
        return 0, None, NOBODY

    def _stop_drive(self, number: int) -> Done:
        drive = self._driven_here(number)
        del self._driven[number]
        self._drives.end(number)
        row = drive.workload.state
        return 0, [sample_of(drive), [row.pack(state) for state in drive.states()]], NOBODY

    # --- transactions -------------------------------------------------------------------

    def _begin(self) -> Done:
        number = self.sessions.add(lambda: ServedTransaction(self._engine, self._now))
        return 0, number, NOBODY

    def _put(self, session: int, number: int, key: bytes, value: bytes, replace: int) -> Done:
        handle = table_of(self._engine, number)
        checked = check_key(handle, key), check_value(handle, value)
        found = self.sessions.transaction(session, self._now)
        found.put(handle, *checked, replace=bool(replace))
        return 0, None, NOBODY

    def _delete(self, session: int, number: int, key: bytes) -> Done:
        handle = table_of(self._engine, number)
        found = self.sessions.transaction(session, self._now)
        return 0, found.delete(handle, check_key(handle, key)), NOBODY

    def _commit(self, session: int, early: int) -> Done:
        found = self.sessions.transaction(session, self._now)
        try:
            timestamp = found.commit()
            return timestamp, None, NOBODY if early else found.mask
        finally:
            self.sessions.end(session)

    def _end(self, session: int) -> Done:
        self.sessions.end(session)
        return 0, None, NOBODY

    def _write(self, writes: list[list[Any]], early: int, client: int, once: int) -> Done:
        if len(writes) > KEYS_MAX:
            raise Refused(
                Status.REFUSED, f"{len(writes)} writes at once; split them, {KEYS_MAX} at most"
            )
        checked = [self._checked(*write) for write in writes]

        def write(transaction: ServedTransaction) -> Done:
            if not once or transaction.note_request(client, once) is None:
                for handle, write in checked:
                    if write.delete:
                        transaction.delete(handle, write.key)
                    else:
                        transaction.put(handle, write.key, write.value, replace=not write.insert)
            timestamp = transaction.commit()
            return timestamp, None, NOBODY if early else transaction.mask

        return self._retrying(write)

    def _checked(
        self, kind: str, number: int, key: bytes, value: bytes
    ) -> tuple[TableHandle, Write]:
        handle = table_of(self._engine, number)
        key = check_key(handle, key)
        if kind == "delete":
            return handle, Write(number, key, b"", delete=True)
        if kind not in ("put", "insert"):
            raise Refused(Status.REFUSED, f"{kind!r:.20} is no kind of write")
        return handle, Write(number, key, check_value(handle, value), insert=kind == "insert")

    def _wait_watermark(self, timestamp: int) -> Done:
        if type(timestamp) is not int or not 0 <= timestamp < 1 << 63:
            raise Refused(Status.REFUSED, "that is no timestamp")
        return timestamp, None, EVERYBODY


def _values(session: Session, handle: TableHandle, keys: list[bytes]) -> list[bytes | None]:
    """The values of the first keys: of all, or as many as may be in one answer; one always."""
    values: list[bytes | None] = []
    size = 0
    for key in keys:
        value = session.get(handle, key)
        size += len(value or b"")
        if size > GET_BYTES_MAX:
            break
        values.append(value)
    return values


def _at_once(act: Callable[..., Any], *arguments: Any) -> Done:
    """What an operator asks for is answered without looking at the gate."""
    return 0, act(*arguments), NOBODY


def _is_word(value: object) -> bool:
    """Whether it is an integer that a procedure can be given."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _about(handle: TableHandle) -> list[Any]:
    """Number, kind of key, bytes of a row, and name of a table."""
    table = handle.table
    if isinstance(table, Table):
        return [int(table.id), table.key_words, table.row_size, table.name]
    return [int(table.id), 3, 0, table.name]
