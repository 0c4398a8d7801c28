"""Reads in a context of the engine: what transactions and snapshots have in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mako.client import counters
from mako.client.mapping import Joinable, Readable
from mako.errors import Closed, ConfigError, KeyTooLarge, SchemaError
from mako.ids import KEY_BYTES_MAX
from mako.schema import BytesTable, Table
from mako.shown import shown

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.engine.engine import Engine, TableHandle
    from mako.engine.lending import Lease

#: Rows fetched by one call of a scan.
PAGE_ROWS: Final = 256
#: A page ends after so many bytes of values.
PAGE_BYTES: Final = 1 << 20
#: Above every key of bytes that is allowed.
LAST_KEY: Final = b"\xff" * (KEY_BYTES_MAX + 1)


class Session(Readable, Joinable):
    """A context of the engine, and reads in it."""

    #: The context is its own as long as it holds this, and whoever is interrupted may end it again.
    _lease: Lease | None = None
    _open = False
    #: A call is at work in the context.
    _busy = False

    def __init__(self, db: Database, engine: Engine) -> None:
        layout = engine.layout
        self._db = db
        self._engine = engine
        self._calls = engine.calls
        lease = engine.take()
        self._context = lease.context
        self._lease = lease
        self._arguments = self._context + layout.C_ARGUMENTS - engine.base
        self._result = self._context + layout.C_RESULT - engine.base
        self._scan_used = self._context + layout.C_SCAN_USED
        self._scan_base = self._context + layout.C_SCAN
        self._open = True

    def _end(self) -> None:
        """Give back the context, in which nothing is left open."""
        lease, self._lease, self._open = self._lease, None, False
        if lease is not None:
            self._engine.give(lease)

    def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        self._check()
        return self._get(self._db._handle(table), key)

    def get_many(self, keys: Iterable[Any], *, table: Any = None) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        self._check()
        handle = self._db._handle(table)
        return [self._get(handle, key) for key in keys]

    def get_int(self, key: Any, default: int = 0, *, table: Any = None) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        self._check()
        handle = self._db._handle(table)
        counters.check_table(handle.table)
        value = self._get(handle, key)
        return default if value is None else counters.number_in(key, value)

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

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)

    def _check(self) -> None:
        if not self._open:
            raise self._refused()
        if not self._db._open:
            raise self._db._refusal()

    def _refused(self) -> Exception:
        """What is raised by whoever finds it busy, or ended. To look at the flag and to set it is
        one step: threads take turns at calls only."""
        name = type(self).__name__.lower()
        if not self._open:
            return Closed(f"this {name} has ended; begin another one")
        return ConfigError(
            f"this {name} is used twice at once; it belongs to one thread, so begin one in each"
        )

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
                f"table {handle.table.name}: a key is bytes, not {shown(key)};"
                " mako.tuple.pack makes ordered bytes of tuples"
            )
        data = bytes(key)
        if len(data) > KEY_BYTES_MAX:
            raise KeyTooLarge(
                f"a key of {len(data)} bytes is over the limit of {KEY_BYTES_MAX}; shorten it"
            )
        return data

    def _get(self, handle: TableHandle, key: Any) -> Any:
        data = self._key(handle, key)
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
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
        finally:
            self._busy = False
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
            raise SchemaError(f"a limit of {shown(limit)} rows; give 0 or more, or None")
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
        self._check()
        if self._busy or not self._open:
            raise self._refused()
        self._busy = True
        try:
            page = self._read_page(handle, low, high, limit, reverse=reverse)
        finally:
            self._busy = False
        return page

    def _read_page(
        self, handle: TableHandle, low: bytes, high: bytes, limit: int, *, reverse: bool
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        engine = self._engine
        layout = engine.layout
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


class SessionTable(Readable):
    """One table in one transaction or at one snapshot."""

    def __init__(self, session: Session, handle: TableHandle) -> None:
        self._session = session
        self._db = session._db
        self.handle = handle

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._session.get(key, table=self)

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        return self._session.get_many(keys, table=self)

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key`, or `default`."""
        return self._session.get_int(key, default, table=self)

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        """(key, value) with first <= key < end, in order, or from the greatest down."""
        return self._session.scan(first, end, limit=limit, reverse=reverse, table=self)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)


def _successor(handle: TableHandle, key: bytes) -> bytes | None:
    """The least key above `key`."""
    if isinstance(handle.table, BytesTable):
        return key + b"\0"  # As a bound it may be longer than keys are.
    number = int.from_bytes(key, "big") + 1
    return number.to_bytes(len(key), "big") if number < 1 << 8 * len(key) else None
