"""Interactive transactions and views of tables."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mako.errors import Closed, KeyTooLarge, SchemaError, TransactionTooOld, ValueTooLarge
from mako.ids import KEY_BYTES_MAX, VALUE_BYTES_MAX, Outcome
from mako.schema import BytesTable, Table

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.engine.engine import Engine, TableHandle

#: Seconds after which a transaction is aborted by its next call.
AGE_MAX: Final = 10.0
#: Rows fetched by one call of a scan.
PAGE_ROWS: Final = 256
#: A page ends after so many bytes of values.
PAGE_BYTES: Final = 1 << 20
#: Above every key of bytes that is allowed.
LAST_KEY: Final = b"\xff" * (KEY_BYTES_MAX + 1)


class Session:
    """What transactions and snapshots have in common: a context, and reads in it."""

    def __init__(self, db: Database, engine: Engine) -> None:
        from mako.engine import interactive, layout

        self._db = db
        self._engine = engine
        self._calls = interactive
        self._context = engine.take_context()
        self._arguments = self._context + layout.C_ARGUMENTS - engine.base
        self._result = self._context + layout.C_RESULT - engine.base
        self._scan_used = self._context + layout.C_SCAN_USED
        self._scan_base = self._context + layout.C_SCAN
        self._open = True

    def _check(self) -> None:
        if not self._open:
            raise Closed(f"this {type(self).__name__.lower()} has ended; begin another one")
        if not self._db._open:
            raise Closed("the database is closed; open it again")

    def _fail(self, outcome: int) -> Exception:
        return self._engine.failure(self._context, outcome)

    def _reads_again(self, outcome: int) -> bool:
        """Whether a read that ended so is tried again at once."""
        return False

    def _key(self, handle: TableHandle, key: Any) -> bytes:
        if isinstance(handle.table, Table):
            return handle.table.pack_key(key)
        if not isinstance(key, bytes | bytearray | memoryview):
            raise SchemaError(
                f"table {handle.table.name}: a key is bytes, not {key!r}; mako.tuple.pack makes"
                " ordered bytes of tuples"
            )
        data = bytes(key)
        if len(data) > KEY_BYTES_MAX:
            raise KeyTooLarge(
                f"a key of {len(data)} bytes is over the limit of {KEY_BYTES_MAX}; shorten it"
            )
        return data

    def _get(self, handle: TableHandle, key: Any) -> Any:
        data = self._key(handle, key)
        engine = self._engine
        size = len(data)
        engine.view[self._arguments : self._arguments + size] = data
        length = self._calls.session_get(self._context, handle.address, size)
        while length < -1 and self._reads_again(-2 - length):
            length = self._calls.session_get(self._context, handle.address, size)
        if length < 0:
            if length == -1:
                return None
            raise self._fail(-2 - length)
        value = self._value(length)
        return self._decode(handle, value)

    def _value(self, length: int) -> bytes:
        """What `session_get` found."""
        if length <= self._calls.COPIED_MAX:
            start = self._result + 8
            return bytes(self._engine.view[start : start + length])
        address = self._engine.word(self._result + self._engine.base)
        value = self._engine.read(address, length)
        self._calls.session_rest(self._context)
        return value

    def _decode(self, handle: TableHandle, value: bytes) -> Any:
        if isinstance(handle.table, BytesTable):
            return value
        return handle.table.unpack_row(value)

    def _bounds(self, handle: TableHandle, first: Any, end: Any) -> tuple[bytes, bytes]:
        table = handle.table
        if isinstance(table, Table):
            low = table.pack_bound(() if first is None else first)
            if end is None:
                return low, b"\xff" * table.key_size
            return low, table.pack_bound(end)
        low = b"" if first is None else self._key(handle, first)
        return low, LAST_KEY if end is None else self._key(handle, end)

    def _scan(
        self, handle: TableHandle, first: Any, end: Any, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[Any, Any]]:
        """Check now, read as the caller asks for rows."""
        if limit is not None and (type(limit) is not int or limit < 0):
            raise SchemaError(f"a limit of {limit!r} rows; give 0 or more, or None")
        low, high = self._bounds(handle, first, end)
        table = handle.table
        if end is not None or not isinstance(table, Table) or table.last_key != high:
            return self._rows(handle, low, high, limit, reverse=reverse)
        # No bound of one or two words lies above the greatest key.
        rows = self._rows(handle, low, high, limit, reverse=reverse)
        last = self._row_at(handle, high)
        both = (last, rows) if reverse else (rows, last)
        return itertools.islice(itertools.chain(*both), limit)

    def _rows(
        self, handle: TableHandle, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[Any, Any]]:
        """The rows from `low` to before `high`, page by page."""
        table = handle.table
        left = limit
        while left is None or left > 0:
            wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            page, more = self._page(handle, low, high, wanted, reverse=reverse)
            for key, value in page:
                shown = table.unpack_key(key) if isinstance(table, Table) else key
                yield shown, self._decode(handle, value)
            if not more:
                return
            if left is not None:
                left -= len(page)
            if reverse:
                high = page[-1][0]
            else:
                following = _successor(handle, page[-1][0])
                if following is None:
                    return
                low = following

    def _row_at(self, handle: TableHandle, key: bytes) -> Iterator[tuple[Any, Any]]:
        self._check()
        assert isinstance(handle.table, Table)
        shown = handle.table.unpack_key(key)
        value = self._get(handle, shown)
        if value is not None:
            yield shown, value

    def _page(
        self, handle: TableHandle, low: bytes, high: bytes, limit: int, *, reverse: bool
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Some rows, copied out, and whether there may be more."""
        from mako.engine import layout

        self._check()
        engine = self._engine
        at = self._arguments
        engine.view[at : at + len(low)] = low
        engine.view[at + len(low) : at + len(low) + len(high)] = high
        sizes = (len(low), len(high), limit, int(reverse))
        found = self._calls.session_scan(self._context, handle.address, *sizes)
        while found < 0 and self._reads_again(-found):
            found = self._calls.session_scan(self._context, handle.address, *sizes)
        rows = []
        scratch = self._context + layout.C_RESULT
        base = self._scan_base + engine.word(self._scan_used) * layout.SCAN_BYTES
        copied = 0
        for i in range(max(found, 0)):
            if copied > PAGE_BYTES:
                break
            record = engine.word(base + i * layout.SCAN_BYTES)
            version = engine.word(base + i * layout.SCAN_BYTES + 8)
            size = self._calls.record_key(handle.address, record, scratch)
            length = engine.word(version + layout.V_LENGTH) & layout.LENGTH_MASK
            copied += length
            rows.append((engine.read(scratch, size), engine.read(version + layout.V_VALUE, length)))
        self._calls.session_rest(self._context)
        if found < 0:
            raise self._fail(-found)
        return rows, found == limit or len(rows) < found


def _as_bytes(value: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """A value whose length is that of its bytes, whatever its elements are."""
    if not isinstance(value, memoryview):
        return value
    return value.cast("B") if value.c_contiguous and value.ndim else memoryview(bytes(value))


def _successor(handle: TableHandle, key: bytes) -> bytes | None:
    """The least key above `key`."""
    if isinstance(handle.table, BytesTable):
        return key + b"\0"  # As a bound it may be longer than keys are.
    number = int.from_bytes(key, "big") + 1
    return number.to_bytes(len(key), "big") if number < 1 << 8 * len(key) else None


class Transaction(Session):
    """Reads and writes that commit together, serializably, or not at all.

    A transaction sees its own writes. It belongs to one thread. After an error other than
    NotFound or Exists it can only be aborted.
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
        super()._check()
        if time.monotonic() - self._began > AGE_MAX:
            self.abort()
            raise TransactionTooOld(
                f"this transaction is older than {AGE_MAX:g} s and is aborted; make it shorter,"
                " or read long at a snapshot"
            )

    def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        self._check()
        return self._get(self._db._handle(table), key)

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
            raise SchemaError(f"table {handle.table.name}: a value is bytes, not {value!r}")
        else:
            value = _as_bytes(value)
        length = len(value)
        if length > VALUE_BYTES_MAX:
            raise ValueTooLarge(
                f"a value of {length} bytes is over the limit of {VALUE_BYTES_MAX}; split it"
            )
        engine = self._engine
        size = len(data)
        engine.view[self._arguments : self._arguments + size] = data
        place = self._calls.session_put(self._context, handle.address, size, length, int(replace))
        if place < 0:
            raise self._fail(-place)
        start = place - engine.base
        engine.view[start : start + length] = value

    def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        self._check()
        handle = self._db._handle(table)
        data = self._key(handle, key)
        engine = self._engine
        engine.view[self._arguments : self._arguments + len(data)] = data
        done = self._calls.session_delete(self._context, handle.address, len(data))
        if done < 0:
            raise self._fail(-done)
        return bool(done == 1)

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
        self._check()
        return self._scan(self._db._handle(table), first, end, limit, reverse=reverse)

    def table(self, table: Any) -> TransactionTable:
        """A table seen through this transaction."""
        return TransactionTable(self, self._db._handle(table))

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return bytes(value)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def commit(self) -> None:
        """Make the writes visible and durable; Conflict if what was read has changed."""
        self._check()
        from mako.engine import layout

        engine = self._engine
        outcome = self._calls.session_commit(self._context)
        if outcome == Outcome.LOG_FULL:
            try:
                outcome = engine.commit_with_room(self._context)
            except BaseException:
                self._end()
                raise
        if outcome == Outcome.COMMITTED:
            self.commit_ts = engine.word(self._context + layout.C_TIMESTAMP)
            engine.settle()
        error = None if outcome == Outcome.COMMITTED else self._fail(outcome)
        self._end()
        if error is not None:
            raise error

    def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        if self._open:
            self._calls.session_abort(self._context, int(Outcome.ROLLED_BACK))
            self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._engine.give_context(self._context)

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.abort()


class TransactionTable:
    """One table in one transaction."""

    def __init__(self, tx: Transaction, handle: TableHandle) -> None:
        self._tx = tx
        self._handle = handle

    def get(self, key: Any) -> Any:
        self._tx._check()
        return self._tx._get(self._handle, key)

    def put(self, key: Any, value: Any) -> None:
        self._tx._put(self._handle, key, value, replace=True)

    def insert(self, key: Any, value: Any) -> None:
        self._tx._put(self._handle, key, value, replace=False)

    def delete(self, key: Any) -> bool:
        return self._tx.delete(key, table=self._handle.table)

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        self._tx._check()
        return self._tx._scan(self._handle, first, end, limit, reverse=reverse)


class TableView:
    """One table of a database; each call is a transaction of its own, retried on conflict."""

    def __init__(self, db: Database, handle: TableHandle) -> None:
        self._db = db
        self.handle = handle

    @property
    def name(self) -> str:
        return self.handle.table.name

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._once(lambda tx: tx._get(self.handle, key))

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""
        self._once(lambda tx: tx._put(self.handle, key, value, replace=True))

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._once(lambda tx: tx._put(self.handle, key, value, replace=False))

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return bool(self._once(lambda tx: tx.delete(key, table=self)))

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[Any, Any]]:
        """The rows with first <= key < end, at one snapshot."""
        return list(self._items(first, end, limit, reverse=reverse))

    def items(
        self, first: Any = None, end: Any = None, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        return self._items(first, end, None, reverse=reverse)

    def _items(
        self, first: Any, end: Any, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[Any, Any]]:
        with self._db.snapshot() as snapshot:
            yield from snapshot._scan(self.handle, first, end, limit, reverse=reverse)

    def _once(self, act: Any) -> Any:
        from mako.client.retry import retrying

        return retrying(self._db, act)
