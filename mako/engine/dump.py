"""The state at a snapshot as one string of bytes, for comparing replicas (docs/state-dump.md).

    row   table u16 | key length u16 | key | value length u32 | value

Rows come in the order of table and key. Compiled code scans and writes a page of them, Python
takes it and asks for the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Self

from mako.engine.atomics import ld8, memcpy, st2, st4
from mako.engine.commit import rest
from mako.engine.engine import Engine, TableHandle
from mako.engine.interactive import record_key, session_begin_snapshot, session_get, session_rest
from mako.engine.interactive import session_scan as scan
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ARGUMENTS,
    C_RESULT,
    C_SCAN,
    C_SCAN_USED,
    KEY_MAX,
    LENGTH_MASK,
    SCAN_BYTES,
    T_ID,
    V_LENGTH,
    V_VALUE,
)
from mako.engine.region import Region
from mako.errors import Conflict
from mako.schema import Table

PAGE_ROWS: Final = 4096
PAGE_BYTES: Final = 4 << 20
#: A row without its key and value.
ROW_BYTES: Final = 8
HASH_BYTES: Final = 32


@compiled
def dump_page(
    tx: int, table: int, first_size: int, end_size: int, target: int, room: int
) -> tuple[int, int, int, int]:
    """Write rows with first <= key < end, both at C_ARGUMENTS, to `target`: (bytes, rows written,
    rows found, offset of the last one). Of the rows found, those that fit into `room`; if not
    even the first does, its size is returned, negative. Rows found are negative for an Outcome.
    """
    found = scan(tx, table, first_size, end_size, PAGE_ROWS, 0)
    number = ld8(table + T_ID)
    rows = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
    written = 0
    last = 0
    for i in range(max(found, 0)):
        record = ld8(rows + i * SCAN_BYTES)
        version = ld8(rows + i * SCAN_BYTES + 8)
        length = ld8(version + V_LENGTH) & LENGTH_MASK
        if written + ROW_BYTES + KEY_MAX + length > room:
            rest(tx)
            if i == 0:
                return -(ROW_BYTES + KEY_MAX + length), 0, found, 0
            return written, i, found, last
        last = written
        at = target + written
        st2(at, number)
        size = record_key(table, record, at + 4)
        st2(at + 2, size)
        st4(at + 4 + size, length)
        memcpy(at + 8 + size, version + V_VALUE, length)
        written += ROW_BYTES + size + length
    rest(tx)
    return written, max(found, 0), found, last


class Dumper:
    """Pages of the dump of one snapshot, in a context that reads at it."""

    def __init__(self, engine: Engine, context: int) -> None:
        self._engine = engine
        self._context = context
        self._page = Region(PAGE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._page.close()

    def pages(self) -> Iterator[bytes]:
        """The dump, piece by piece."""
        for number in sorted(self._engine.tables):
            yield from self._table(self._engine.tables[number])

    def _table(self, handle: TableHandle) -> Iterator[bytes]:
        table = handle.table
        typed = isinstance(table, Table)
        first = bytes(table.key_size) if isinstance(table, Table) else b""
        end = b"\xff" * len(first) if typed else b"\xff" * (KEY_MAX + 1)
        while True:
            written, rows, found, last = self._scan(handle, first, end)
            if written < 0:
                self._page.close()
                self._page = Region(-written + 7 & -8)
                continue
            if rows:
                yield self._page.read(self._page.base, written)
            if rows == found < PAGE_ROWS:
                break
            key = _key_at(self._page.view, last)
            # A typed key is not the greatest, for `end` is not in the scan.
            following = int.from_bytes(key, "big") + 1
            first = following.to_bytes(len(key), "big") if typed else key + b"\0"
        if typed:
            yield from self._greatest(handle, end)

    def _scan(self, handle: TableHandle, first: bytes, end: bytes) -> tuple[int, int, int, int]:
        engine = self._engine
        engine.write(self._context + C_ARGUMENTS, first + end)
        written, rows, found, last = dump_page(
            self._context,
            handle.address,
            len(first),
            len(end),
            self._page.base,
            self._page.size,
        )
        if found < 0:
            raise Conflict("the table changes too fast to be read; dump it again")
        return written, rows, found, last

    def _greatest(self, handle: TableHandle, key: bytes) -> Iterator[bytes]:
        """The row under the greatest key there can be, which no scan's end is above."""
        engine = self._engine
        engine.write(self._context + C_ARGUMENTS, key)
        length = session_get(self._context, handle.address, len(key))
        if length < 0:
            return
        place = engine.word(self._context + C_RESULT)
        row = int(handle.table.id).to_bytes(2, "little") + len(key).to_bytes(2, "little") + key
        row += length.to_bytes(4, "little") + engine.read(place, length)
        session_rest(self._context)
        yield row


def _key_at(page: memoryview, row: int) -> bytes:
    size = int.from_bytes(page[row + 2 : row + 4], "little")
    return bytes(page[row + 4 : row + 4 + size])


def dump(engine: Engine, context: int, timestamp: int, write: Callable[[bytes], object]) -> str:
    """Hand the dump at `timestamp`, which `context` has pinned, to `write`; its hash."""
    session_begin_snapshot(context, timestamp)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    with Dumper(engine, context) as dumper:
        for page in dumper.pages():
            digest.update(page)
            write(page)
    return digest.hexdigest()


def is_empty(engine: Engine, context: int, timestamp: int) -> bool:
    """Whether no table has a row at `timestamp`, which `context` has pinned."""
    session_begin_snapshot(context, timestamp)
    with Dumper(engine, context) as dumper:
        return next(dumper.pages(), None) is None
