"""Interactive transactions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from mako.client import counters
from mako.client.mapping import Writable
from mako.client.session import Session, SessionTable
from mako.errors import LogFull, SchemaError, TransactionTooOld, ValueTooLarge
from mako.ids import VALUE_BYTES_MAX, Outcome
from mako.schema import Table
from mako.shown import shown

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.engine.engine import Engine, TableHandle

#: Seconds after which a transaction is aborted by its next call.
AGE_MAX: Final = 10.0


class Transaction(Session, Writable):
    """Reads and writes that commit together, serializably, or not at all.

    A transaction sees its own writes. It belongs to one thread: ConfigError for whoever uses it
    while another one does. After an error other than NotFound or Exists it can only be aborted.
    """

    def __init__(self, db: Database, engine: Engine) -> None:
        super().__init__(db, engine)
        #: Timestamp of the commit, once there is one.
        self.commit_ts = 0
        self._began = time.monotonic()
        self._calls.session_begin(self._context)

    def _fail(self, outcome: int) -> Exception:
        """The error for `outcome`; unless the user may go on after it, commit will not."""
        from mako.engine.layout import C_OUTCOME

        place = self._context + C_OUTCOME
        if outcome not in (Outcome.NOT_FOUND, Outcome.EXISTS) and self._engine.word(place) == 0:
            self._engine.set_word(place, outcome)
        return super()._fail(outcome)

    def _check(self) -> None:
        if not (self._open and self._db._open):  # Looked at here, to spare each call another one.
            super()._check()
        if time.monotonic() - self._began > AGE_MAX:
            self.abort()
            raise TransactionTooOld(
                f"this transaction is older than {AGE_MAX:g} s and is aborted; make it shorter,"
                " or read long at a snapshot"
            )

    def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        self._put(self._db._handle(table), key, value, replace=True)

    def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; Exists if the key is there."""
        self._put(self._db._handle(table), key, value, replace=False)

    def _put(self, handle: TableHandle, key: Any, value: Any, *, replace: bool) -> None:
        self._check()
        data = self._key(handle, key)
        if isinstance(handle.table, Table):
            value = handle.table.pack_row(value)
        elif not isinstance(value, bytes | bytearray | memoryview):
            raise SchemaError(f"table {handle.table.name}: a value is bytes, not {shown(value)}")
        else:
            value = _as_bytes(value)
        length = len(value)
        if length > VALUE_BYTES_MAX:
            raise ValueTooLarge(
                f"a value of {length} bytes is over the limit of {VALUE_BYTES_MAX}; split it"
            )
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            engine = self._engine
            size = len(data)
            engine.view[self._arguments : self._arguments + size] = data
            try:
                place = self._calls.session_put(
                    self._context, handle.address, size, length, int(replace)
                )
                if place >= 0:
                    start = place - engine.base
                    engine.view[start : start + length] = value
            except BaseException:  # It may be there, and empty: that must not be committed.
                self._fail(Outcome.ROLLED_BACK)
                raise
            if place < 0:
                raise self._fail(-place)
        finally:
            self._busy = False

    def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        self._check()
        handle = self._db._handle(table)
        data = self._key(handle, key)
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            engine = self._engine
            engine.view[self._arguments : self._arguments + len(data)] = data
            done = self._calls.session_delete(self._context, handle.address, len(data))
            if done < 0:
                raise self._fail(-done)
        finally:
            self._busy = False
        return bool(done == 1)

    def _delete_range(self, first: Any, end: Any, *, table: Any = None) -> None:
        for key, _ in self.scan(first, end, table=table):
            self.delete(key, table=table)

    def add(self, key: Any, n: int, *, table: Any = None) -> int:
        """Add `n` to the counter `key`, which begins at 0, and return what it is now.

        A counter is a value of eight bytes, signed and little-endian, in a table of byte
        strings. SchemaError if the value is no counter, or would leave its 64 bits.
        """
        total = counters.sum_of(key, self.get_int(key, table=table), n)
        self.put(key, counters.value_of(total), table=table)
        return total

    def table(self, table: Any) -> TransactionTable:
        """A table seen through this transaction."""
        return TransactionTable(self, self._db._handle(table))

    def commit(self) -> None:
        """Make the writes visible and durable; Conflict if what was read has changed.

        On disk it returns once what was written, and what was read, is synced. DatabaseFailed
        means that it may be there or not.
        """
        self._check()
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            stands_on = self._commit()
        finally:
            self._busy = False
        if self._db._replica is not None:
            self._db._replica.wait(stands_on)

    def _commit(self) -> int:
        """Commit; on disk, the timestamp up to which to wait for that."""
        engine = self._engine
        layout = engine.layout
        replica = self._db._replica
        writes = engine.word(self._context + layout.C_WRITES)
        if replica is not None and writes:
            try:
                replica.check_growth()
            except LogFull:
                self._forget()
                raise
        self._open = False  # Whoever is interrupted from here on cannot tell what has come of it.
        outcome = self._calls.session_commit(self._context)
        if outcome == Outcome.LOG_FULL:
            try:
                outcome = engine.commit_with_room(self._context)
            except BaseException:
                self._forget()
                raise
        stands_on = 0
        if outcome == Outcome.COMMITTED:
            self.commit_ts = engine.word(self._context + layout.C_TIMESTAMP)
            engine.settle()
            if replica is not None:
                stands_on = self.commit_ts if writes else self._newest_read()
        error = None if outcome == Outcome.COMMITTED else self._fail(outcome)
        self._end()
        if error is not None:
            raise error
        return stands_on

    def _newest_read(self) -> int:
        """The newest timestamp among the versions read: once that is durable, all of them are."""
        layout = self._engine.layout
        count = self._engine.word(self._context + layout.C_READS)
        start = self._context + layout.C_READSET - self._engine.base + 8 >> 3
        step = layout.READ_BYTES >> 3
        return max(self._engine.words[start : start + count * step : step], default=0)

    def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        if self._lease is not None:
            if self._busy and not self._engine.left:
                raise self._refused()
            self._busy = True
            try:
                self._forget()
            finally:
                self._busy = False

    def _forget(self) -> None:
        self._open = False
        if not self._engine.left:
            self._calls.session_abort(self._context, int(Outcome.ROLLED_BACK))
        self._end()

    def __del__(self) -> None:
        self.abort()


class TransactionTable(SessionTable, Writable):
    """One table in one transaction."""

    _session: Transaction

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""
        self._session.put(key, value, table=self)

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._session.insert(key, value, table=self)

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return self._session.delete(key, table=self)

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now; see `Transaction.add`."""
        return self._session.add(key, n, table=self)

    def _delete_range(self, first: Any, end: Any) -> None:
        self._session._delete_range(first, end, table=self)


def _as_bytes(value: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """A value whose length is that of its bytes, whatever its elements are."""
    if not isinstance(value, memoryview):
        return value
    # One without dimensions, or with nothing in it, cannot be cast.
    is_plain = value.c_contiguous and value.ndim and value.nbytes
    return value.cast("B") if is_plain else memoryview(bytes(value))
