"""The state at a snapshot as one string of bytes, for comparing replicas (docs/state-dump.md) and
for copying it (docs/snapshot-format.md).

    row   table u16 | key length u16 | key | value length u32 | value

Rows come in the order of table and key, in blocks of a size that is a function of the rows alone.
Compiled code scans and writes, Python takes a block and asks for the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from mako.engine.atomics import ld1, ld8, ldu8, lshr, memcpy, st2, st4, wmul
from mako.engine.buffers import addressed
from mako.engine.commit import rest
from mako.engine.engine import Engine, TableHandle
from mako.engine.interactive import (
    key_bytes,
    record_key,
    session_begin_snapshot,
    session_get,
    session_rest,
)
from mako.engine.interactive import session_scan as scan
from mako.engine.jit import compiled
from mako.engine.keys import MIX
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
from mako.engine.system import sleep_us
from mako.errors import Conflict, Unavailable
from mako.ids import Outcome
from mako.schema import Table

#: A block ends before the row that would make it longer; a longer row is a block of its own.
BLOCK_BYTES: Final = 256 << 10
#: Rows that one call scans at most.
SCAN_ROWS: Final = 4096
#: Looks at who holds a node, and microseconds between them: five seconds.
_PATIENCE: Final = 50_000
_PAUSE_US: Final = 100
#: A row without its key and value.
ROW_BYTES: Final = 8
HASH_BYTES: Final = 32


@compiled
def dump_rows(
    tx: int, table: int, first_size: int, end_size: int, target: int, room: int, limit: int
) -> tuple[int, int, int, int]:
    """Write rows with first <= key < end, both at C_ARGUMENTS, to `target`: (bytes, rows written,
    rows found, offset of the last one). Of the rows found, at most `limit`, those that fit into
    `room`; if not even the first does, its size is returned, negative. Rows found are negative
    for an Outcome.
    """
    found = scan(tx, table, first_size, end_size, limit, 0)
    number = ld8(table + T_ID)
    rows = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
    written = 0
    last = 0
    for i in range(max(found, 0)):
        record = ld8(rows + i * SCAN_BYTES)
        version = ld8(rows + i * SCAN_BYTES + 8)
        length = ld8(version + V_LENGTH) & LENGTH_MASK
        size = ROW_BYTES + key_bytes(table, record) + length
        if written + size > room:
            rest(tx)
            if i == 0:
                return -size, 0, found, 0
            return written, i, found, last
        last = written
        at = target + written
        st2(at, number)
        key_size = record_key(table, record, at + 4)
        st2(at + 2, key_size)
        st4(at + 4 + key_size, length)
        memcpy(at + 8 + key_size, version + V_VALUE, length)
        written += size
    rest(tx)
    return written, max(found, 0), found, last


@compiled
def mixed(data: int, size: int, state: int) -> int:
    """`state`, changed by every bit of the bytes and by how many they are."""
    state = wmul(state ^ size, MIX)
    words = size & -8
    for at in range(0, words, 8):
        state = wmul(state ^ ldu8(data + at), MIX)
        state ^= lshr(state, 29)
    for at in range(words, size):
        state = wmul(state ^ ld1(data + at), MIX)
        state ^= lshr(state, 29)
    return state


class Block(NamedTuple):
    """Rows one after the other, and how many they are."""

    rows: int
    data: bytes


class Dumper:
    """The blocks of one snapshot, in a context that reads at it.

    `space`: where blocks are put together, BLOCK_BYTES that stay the caller's; else its own.
    """

    def __init__(self, engine: Engine, context: int, space: Region | None = None) -> None:
        self._engine = engine
        self._context = context
        self._given = space
        self._space = Region(BLOCK_BYTES) if space is None else space
        self._used = 0
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_space()

    def blocks(self) -> Iterator[Block]:
        """All rows."""
        tables = dict(self._engine.tables)  # One of them may be forgotten meanwhile.
        for number in sorted(tables):
            yield from self._table(tables[number])
        if self._rows:
            yield self._take()

    def _take(self) -> Block:
        block = Block(self._rows, self._space.read(self._space.base, self._used))
        self._used = self._rows = 0
        return block

    def _table(self, handle: TableHandle) -> Iterator[Block]:
        table = handle.table
        typed = isinstance(table, Table)
        first = bytes(table.key_size) if isinstance(table, Table) else b""
        end = b"\xff" * len(first) if typed else b"\xff" * (KEY_MAX + 1)
        row_bytes = ROW_BYTES + 8  # A guess at the size of the next rows, from those before.
        while True:
            room = BLOCK_BYTES - self._used
            limit = min(room // row_bytes + 1, SCAN_ROWS)
            written, rows, found, last = self._scan(handle, first, end, room, limit)
            if written < 0:
                if self._rows:
                    yield self._take()
                else:
                    written, rows, found, last = self._large(handle, first, end, -written)
            if rows:
                key = key_at(self._space.view, self._used + last)
                self._used += written
                self._rows += rows
                row_bytes = written // rows
                # A typed key is not the greatest, for `end` is not in the scan.
                following = int.from_bytes(key, "big") + 1
                first = following.to_bytes(len(key), "big") if typed else key + b"\0"
            if self._used > BLOCK_BYTES or rows < found:
                if self._rows:
                    yield self._take()
            elif found < limit:
                break
        if typed:
            yield from self._greatest(handle, end)

    def _large(
        self, handle: TableHandle, first: bytes, end: bytes, size: int
    ) -> tuple[int, int, int, int]:
        """A row that no block holds: alone, in a larger space."""
        self._make_space(size)
        return self._scan(handle, first, end, size, 1)

    def _make_space(self, size: int) -> None:
        if size > self._space.size:
            self._close_space()
            self._space = Region(size + 7 & -8)

    def _close_space(self) -> None:
        if self._space is not self._given:
            self._space.close()

    def _scan(
        self, handle: TableHandle, first: bytes, end: bytes, room: int, limit: int
    ) -> tuple[int, int, int, int]:
        engine = self._engine
        for _ in range(_PATIENCE):
            engine.write(self._context + C_ARGUMENTS, first + end)
            written, rows, found, last = dump_rows(
                self._context,
                handle.address,
                len(first),
                len(end),
                self._space.base + self._used,
                room,
                limit,
            )
            if found >= 0:
                return written, rows, found, last
            self._give_way(-found)
        raise _too_fast()

    def _give_way(self, outcome: int) -> None:
        """Who holds a node of the tree has lost its processor: look again a little later, as a
        snapshot never aborts for that."""
        if outcome == Outcome.UNAVAILABLE:
            raise Unavailable
        if outcome != Outcome.LOCKED:
            raise _too_fast()
        sleep_us(_PAUSE_US)

    def _found(self, handle: TableHandle, key: bytes) -> int:
        """Have the row under a key at C_RESULT: the length of its value, or -1."""
        for _ in range(_PATIENCE):
            self._engine.write(self._context + C_ARGUMENTS, key)
            length = session_get(self._context, handle.address, len(key))
            if length >= -1 or length == -2 - Outcome.ELSEWHERE:
                return max(int(length), -1)
            self._give_way(-2 - length)
        raise _too_fast()

    def _greatest(self, handle: TableHandle, key: bytes) -> Iterator[Block]:
        """The row under the greatest key there can be, which no scan's end is above. If the shard
        map says that another partition has it, it is not here."""
        engine = self._engine
        length = self._found(handle, key)
        if length < 0:
            return
        place = engine.word(self._context + C_RESULT)
        row = int(handle.table.id).to_bytes(2, "little") + len(key).to_bytes(2, "little") + key
        row += length.to_bytes(4, "little") + engine.read(place, length)
        session_rest(self._context)
        if self._rows and self._used + len(row) > BLOCK_BYTES:
            yield self._take()
        self._make_space(len(row))
        self._space.write(self._space.base + self._used, row)
        self._used += len(row)
        self._rows += 1
        if self._used > BLOCK_BYTES:
            yield self._take()


def _too_fast() -> Conflict:
    return Conflict("the table changes too fast to be read; dump it again")


def key_at(space: memoryview, row: int) -> bytes:
    size = int.from_bytes(space[row + 2 : row + 4], "little")
    return bytes(space[row + 4 : row + 4 + size])


def dump(engine: Engine, context: int, timestamp: int, write: Callable[[bytes], object]) -> str:
    """Hand the dump at `timestamp`, which `context` has pinned, to `write`; its hash."""
    session_begin_snapshot(context, timestamp)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    with Dumper(engine, context) as dumper:
        for block in dumper.blocks():
            digest.update(block.data)
            write(block.data)
    return digest.hexdigest()


def fingerprint(engine: Engine, context: int, timestamp: int, space: Region) -> int:
    """64 bits of the dump at `timestamp`, which `context` has pinned: for those who compare many
    states, and whose states nobody forges. `space` as in Dumper."""
    session_begin_snapshot(context, timestamp)
    state = 0
    with Dumper(engine, context, space) as dumper:
        for block in dumper.blocks():
            with addressed(block.data) as (data, size):
                state = mixed(data, size, state)
    return int(state) & (1 << 64) - 1


def is_empty(engine: Engine, context: int, timestamp: int) -> bool:
    """Whether no table has a row at `timestamp`, which `context` has pinned."""
    session_begin_snapshot(context, timestamp)
    with Dumper(engine, context) as dumper:
        return next(dumper.blocks(), None) is None
