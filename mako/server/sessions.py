"""Transactions and snapshots of clients, driven call by call: keys and values are bytes.

Each has a context of the engine to itself from its beginning to its end. Whoever leaves one open
is cut off: a transaction after ten seconds, a snapshot after a minute without a call.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.errors import Aborted, ConfigError, SchemaError, Unavailable, error_of
from mako.ids import (
    KEY_BYTES_MAX,
    MILLISECOND_SHIFT,
    TABLE_ID_REQUESTS,
    VALUE_BYTES_MAX,
    Outcome,
    Status,
)
from mako.procedure import Procedure
from mako.row import Row
from mako.schema import Table
from mako.server.gated import EVERYBODY

if TYPE_CHECKING:
    from mako.engine.engine import Engine, TableHandle

#: Transactions and snapshots that a connection may have open.
SESSIONS_MAX: Final = 16
#: Seconds that a transaction may last at all.
AGE_MAX: Final = 10.0
#: Seconds without a call after which a transaction is aborted.
IDLE_MAX: Final = 10.0
#: Seconds without a call after which a snapshot is closed.
SNAPSHOT_IDLE_MAX: Final = 60.0
#: Rows and bytes of one answer to a scan.
SCAN_ROWS_MAX: Final = 1024
SCAN_BYTES_MAX: Final = 256 << 10
#: Times that somebody who holds a node of a tree is waited for.
_LOCKED_MAX: Final = 1000
_REQUEST_ROW: Final = struct.Struct("<qq")


class Refused(Exception):
    """A request that cannot be done: the status and the text of its reply. `saw`: a timestamp and
    the partitions that have to pass it before that may be told, if it depends on what was read."""

    def __init__(self, status: int, text: str, saw: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.saw = saw


class Write(NamedTuple):
    """One write of a batch: a put unless `insert` or `delete`."""

    table: int
    key: bytes
    value: bytes
    insert: bool = False
    delete: bool = False


def table_of(engine: Engine, number: object) -> TableHandle:
    """The table with a number that came from a client."""
    handle = engine.tables.get(number) if type(number) is int else None
    if handle is None or number == TABLE_ID_REQUESTS:
        raise Refused(Status.NO_TABLE, f"there is no table {number!r:.40}; open it first")
    return handle


def check_key(handle: TableHandle, key: object, *, bound: bool = False) -> bytes:
    """`key`, if it may be one of the table, or a bound of a scan."""
    table = handle.table
    if not isinstance(key, bytes):
        raise Refused(Status.BAD_KEY, f"table {table.name}: a key is bytes")
    if isinstance(table, Table):
        if len(key) != table.key_size:
            raise Refused(
                Status.BAD_KEY, f"table {table.name}: a packed key has {table.key_size} bytes"
            )
    elif len(key) > KEY_BYTES_MAX + int(bound):
        raise Refused(Status.BAD_KEY, f"a key is at most {KEY_BYTES_MAX} bytes; shorten it")
    return key


def age_ms(engine: Engine, timestamp: int) -> int:
    """How old a timestamp is by the clock of an engine, in milliseconds."""
    return max(engine.now_ns() // 1_000_000 - (timestamp >> MILLISECOND_SHIFT), 0)


def check_value(handle: TableHandle, value: object) -> bytes:
    """`value`, if it may be one of the table."""
    table = handle.table
    if not isinstance(value, bytes):
        raise Refused(Status.BAD_ROW, f"table {table.name}: a value is bytes")
    if isinstance(table, Table):
        if len(value) != table.row_size:
            raise Refused(Status.BAD_ROW, f"table {table.name}: a row has {table.row_size} bytes")
    elif len(value) > VALUE_BYTES_MAX:
        raise Refused(Status.BAD_ROW, f"a value is at most {VALUE_BYTES_MAX} bytes; split it")
    return value


class Session:
    """What a transaction and a snapshot have in common: a context, and reads in it."""

    idle_max = IDLE_MAX

    def __init__(self, engine: Engine, now: float) -> None:
        from mako.engine import interactive, layout

        self._engine = engine
        self._calls = interactive
        try:
            if engine.sessions >= engine.session_limit:
                raise ConfigError("workers, and the replica itself, need the other contexts")
            self._context = engine.take_context()
        except ConfigError:
            raise Refused(
                Status.BUSY, "the server has no room for another transaction; try again later"
            ) from None
        engine.sessions += 1
        self._arguments = self._context + layout.C_ARGUMENTS
        self._result = self._context + layout.C_RESULT
        self._scan_used = self._context + layout.C_SCAN_USED
        self._scan = self._context + layout.C_SCAN
        self._outcome = self._context + layout.C_OUTCOME
        self._timestamp = self._context + layout.C_TIMESTAMP
        self._masks = self._context + layout.C_OWN, self._context + layout.C_MASK
        self._open = True
        self.used = now
        #: A thread works in its context: it cannot be given back now.
        self.busy = False
        self._over = False

    def _failure(self, outcome: int) -> Aborted:
        error = self._engine.failure(self._context, outcome)
        return error if isinstance(error, Aborted) else error_of(outcome)

    def get(self, handle: TableHandle, key: bytes) -> bytes | None:
        """The value of `key`. Aborted if the transaction cannot go on."""
        engine = self._engine
        engine.write(self._arguments, key)
        length = self._calls.session_get(self._context, handle.address, len(key))
        tries = 0
        while length == -2 - Outcome.LOCKED and tries < _LOCKED_MAX:
            time.sleep(0)
            length = self._calls.session_get(self._context, handle.address, len(key))
            tries += 1
        if length == -1:
            return None
        if length < 0:
            raise self._failure(-2 - length)
        if length <= self._calls.COPIED_MAX:
            return engine.read(self._result + 8, length)
        value = engine.read(engine.word(self._result), length)
        self._calls.session_rest(self._context)
        return value

    def scan(
        self, handle: TableHandle, low: bytes, high: bytes, limit: int, *, reverse: bool
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Rows from `low` to before `high`, and whether there may be more."""
        from mako.engine import layout

        engine = self._engine
        limit = min(limit, SCAN_ROWS_MAX)
        engine.write(self._arguments, low + high)
        sizes = (len(low), len(high), limit, int(reverse))
        found = self._calls.session_scan(self._context, handle.address, *sizes)
        tries = 0
        while found == -Outcome.LOCKED and tries < _LOCKED_MAX:
            time.sleep(0)
            found = self._calls.session_scan(self._context, handle.address, *sizes)
            tries += 1
        rows: list[tuple[bytes, bytes]] = []
        base = self._scan + engine.word(self._scan_used) * layout.SCAN_BYTES
        copied = 0
        for i in range(max(found, 0)):
            if copied > SCAN_BYTES_MAX:
                break
            record = engine.word(base + i * layout.SCAN_BYTES)
            version = engine.word(base + i * layout.SCAN_BYTES + 8)
            size = self._calls.record_key(handle.address, record, self._result)
            length = engine.word(version + layout.V_LENGTH) & layout.LENGTH_MASK
            copied += size + length
            rows.append(
                (engine.read(self._result, size), engine.read(version + layout.V_VALUE, length))
            )
        self._calls.session_rest(self._context)
        if found < 0:
            raise self._failure(-found)
        return rows, found == limit or len(rows) < found

    def close(self) -> None:
        """Let go of the context, as soon as nobody works in it. Twice is harmless."""
        if self.busy:
            self._over = True
        elif self._open:
            self._open = False
            self._engine.sessions -= 1
            self._engine.give_context(self._context)

    def rest(self) -> None:
        """Nobody works in its context any more."""
        self.busy = False
        if self._over:
            self.close()


class ServedTransaction(Session):
    """A transaction of a client."""

    def __init__(self, engine: Engine, now: float) -> None:
        super().__init__(engine, now)
        self.began = now
        #: Of a committed one: the partitions on which it depends.
        self.mask = 0
        self._failed = False
        engine.prepare(self._context)
        self._calls.session_begin(self._context)

    def _failure(self, outcome: int) -> Aborted:
        from mako.engine.layout import STALLED

        if outcome not in (Outcome.NOT_FOUND, Outcome.EXISTS) and not self._engine.word(
            self._outcome
        ):
            self._engine.set_word(self._outcome, outcome)
        failure = super()._failure(outcome)
        saw = failure.depends_on = self._calls.session_saw(self._context) & EVERYBODY
        stalled = self._engine.word(self._engine.base + STALLED)
        if failure.retryable or not saw & stalled:
            return failure
        # To be told so it would have to wait, too, which a conflict does not: and this is the end.
        self._engine.set_word(self._outcome, int(Outcome.UNAVAILABLE))
        return Unavailable()

    def put(self, handle: TableHandle, key: bytes, value: bytes, *, replace: bool) -> None:
        """Insert, or with `replace` put. Aborted (Exists) if it may not."""
        self._engine.write(self._arguments, key)
        place = self._calls.session_put(
            self._context, handle.address, len(key), len(value), int(replace)
        )
        if place < 0:
            raise self._failure(-place)
        self._engine.write(place, value)

    def delete(self, handle: TableHandle, key: bytes) -> bool:
        """Delete; False if the key was not there."""
        self._engine.write(self._arguments, key)
        done = self._calls.session_delete(self._context, handle.address, len(key))
        if done < 0:
            raise self._failure(-done)
        return bool(done)

    def note_request(self, client: int, number: int) -> int | None:
        """Write the row of a request that may be sent again. If it is there already: when it
        was written, as a timestamp, and this transaction has nothing to do. Refused if it comes by
        a connection that was given up, and its row has been forgotten (`builtin.forget`)."""
        handle = self._engine.tables[int(TABLE_ID_REQUESTS)]
        key = client.to_bytes(8, "big") + number.to_bytes(8, "big")
        row = self.get(handle, key)
        if row is not None:
            return int(_REQUEST_ROW.unpack(row)[1]) << MILLISECOND_SHIFT
        from_there = self.get(handle, client.to_bytes(8, "big") + bytes(8))
        if from_there is not None and number < _REQUEST_ROW.unpack(from_there)[0]:
            raise Refused(Status.REFUSED, "it comes too late: its client has had the answer")
        now = self._engine.now_ns() // 1_000_000
        self.put(handle, key, _REQUEST_ROW.pack(0, now), replace=True)
        return None

    def commit(self) -> int:
        """Commit; its timestamp. Aborted if it could not. It has ended then."""
        try:
            outcome = self._calls.session_commit(self._context)
            if outcome == Outcome.LOG_FULL:  # Nobody waits in the thread of the event loop.
                self._calls.session_abort(self._context, outcome)
            own, inherited = (self._engine.word(place) for place in self._masks)
            self.mask = (own | inherited) & EVERYBODY
            if outcome != Outcome.COMMITTED:
                failure = super()._failure(outcome)
                failure.depends_on = self.mask  # What it saw is forgotten by now, and this is not.
                raise failure
            return self._engine.word(self._timestamp)
        finally:
            self.close()

    def abort(self) -> None:
        if self._open:
            self._calls.session_abort(self._context, int(Outcome.ROLLED_BACK))
            self.close()


class ServedSnapshot(Session):
    """A snapshot of a client, at the stable timestamp of this replica; or above it, where it is
    of the partitions `over` and another one, which stalls, is left out of it. What waits for that
    one is not shown: to read it is Unavailable."""

    idle_max = SNAPSHOT_IDLE_MAX

    def __init__(self, engine: Engine, now: float, over: int = EVERYBODY) -> None:
        super().__init__(engine, now)
        self.over = over
        engine.settle()
        self.timestamp = engine.open_snapshot(self._context)
        self._calls.session_begin_snapshot(self._context, self.timestamp)

    def move_to(self, timestamp: int) -> None:
        """Read at `timestamp` from now on: not before what it reads at now, and what the backend
        says is readable over its partitions. What is pinned lies in between all the time, so
        nothing that it reads is reclaimed."""
        from mako.engine.closing import set_word
        from mako.engine.layout import C_SNAPSHOT

        assert self.timestamp <= timestamp
        set_word(self._context + C_SNAPSHOT, timestamp)
        self.timestamp = timestamp
        self._calls.session_begin_snapshot(self._context, timestamp)

    def let_go(self) -> None:
        """A planted bug: what it reads may be reclaimed from now on."""
        from mako.engine.closing import close_snapshot

        close_snapshot(self._context)

    def run(self, procedure: Procedure, arguments: list[int], out: Row | None) -> tuple[int, bytes]:
        """Run a procedure that only reads; its result, and the row that it hands back."""
        try:
            return self._engine.run_at(
                procedure, arguments, context=self._context, timestamp=self.timestamp, out=out
            )
        except SchemaError as error:
            raise Refused(Status.WRONG_ARGUMENTS, str(error)) from None
        finally:
            self._calls.session_begin_snapshot(self._context, self.timestamp)

    def state_hash(self) -> str:
        """As `Snapshot.state_hash` of the embedded database."""
        from mako.engine.dump import dump

        return dump(self._engine, self._context, self.timestamp, len)

    def close(self) -> None:
        if self._open and not self.busy:
            from mako.engine.closing import close_snapshot

            close_snapshot(self._context)
        super().close()


class Sessions:
    """The open transactions and snapshots of one connection."""

    def __init__(self) -> None:
        self._open: dict[int, Session] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, make: Callable[[], Session]) -> int:
        """The number of a new one. Refused if there are too many."""
        if len(self._open) >= SESSIONS_MAX:
            raise Refused(
                Status.LIMIT,
                f"{SESSIONS_MAX} transactions and snapshots are open; end some first",
            )
        session = make()
        self._last += 1
        self._open[self._last] = session
        return self._last

    def find(self, number: object, now: float) -> Session:
        session = self._open.get(number) if type(number) is int else None
        if session is None:
            raise Refused(
                Status.NO_SESSION, "the transaction or snapshot has ended, or was idle for too long"
            )
        if session.busy:
            raise Refused(Status.BUSY, "the snapshot runs a procedure; wait for it")
        session.used = now
        return session

    def transaction(self, number: object, now: float) -> ServedTransaction:
        session = self.find(number, now)
        if not isinstance(session, ServedTransaction):
            raise Refused(Status.REFUSED, "a snapshot cannot be written; use a transaction")
        return session

    def is_snapshot(self, number: object) -> bool:
        return type(number) is int and isinstance(self._open.get(number), ServedSnapshot)

    def end(self, number: object) -> None:
        """End one, if it is there."""
        session = self._open.pop(number, None) if type(number) is int else None
        if isinstance(session, ServedTransaction):
            session.abort()
        elif session is not None:
            session.close()

    def expire(self, now: float) -> None:
        """End those that were idle, or open, for too long."""
        for number, session in list(self._open.items()):
            old = isinstance(session, ServedTransaction) and now - session.began > AGE_MAX
            if not session.busy and (old or now - session.used > session.idle_max):
                self.end(number)

    def abort_transactions(self) -> None:
        """Leadership is lost: what would be committed here cannot be."""
        for number, session in list(self._open.items()):
            if isinstance(session, ServedTransaction):
                self.end(number)

    def close_all(self) -> None:
        for number in list(self._open):
            self.end(number)
