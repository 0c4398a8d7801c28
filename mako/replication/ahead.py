"""One context for transactions of a leader, one after the other, and for reads at a snapshot."""

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from mako.engine.dump import SCAN_ROWS, dump_rows, key_at
from mako.engine.engine import Engine
from mako.engine.interactive import (
    COPIED_MAX,
    session_abort,
    session_begin,
    session_begin_snapshot,
    session_commit,
    session_delete,
    session_get,
    session_put,
    session_rest,
)
from mako.engine.layout import BYTES_KEYS, C_ARGUMENTS, C_RESULT, T_KIND, TABLE_BYTES, TABLES
from mako.engine.region import Region
from mako.ids import KEY_BYTES_MAX, Outcome

_RESULT: Final = C_RESULT + 8


class Ahead:
    """`with ahead as tx`: a transaction over the byte strings of one table.

    It commits at the end of the block, and aborts if the block raises. `at`: read at that
    timestamp instead, which somebody has pinned.
    """

    def __init__(self, engine: Engine, *, table: int = 0, at: int | None = None) -> None:
        self._engine = engine
        self._context = engine.take_context()
        self._at = at
        number = table or min(engine.tables)
        self._table = engine.base + TABLES + number * TABLE_BYTES

    def __enter__(self) -> Self:
        if self._at is None:
            session_begin(self._context)
        else:
            session_begin_snapshot(self._context, self._at)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._at is not None:
            session_rest(self._context)
            self.close()
            return
        if kind is not None:
            session_abort(self._context, int(Outcome.ROLLED_BACK))
            return
        self._check(-session_commit(self._context))

    def get(self, key: bytes) -> bytes | None:
        length = session_get(self._context, self._table, self._key(key))
        if length == -1:
            return None
        self._check(length + 2 if length < 0 else 0)
        if length <= COPIED_MAX:
            return self._engine.read(self._context + _RESULT, length)
        value = self._engine.read(self._engine.word(self._context + C_RESULT), length)
        session_rest(self._context)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        place = session_put(self._context, self._table, self._key(key), len(value), 1)
        self._check(place)
        self._engine.write(place, value)

    def delete(self, key: bytes) -> bool:
        done = session_delete(self._context, self._table, self._key(key))
        self._check(done)
        return bool(done)

    def scan(self, first: bytes, end: bytes, space: Region) -> Iterator[bytes]:
        """The rows with first <= key < end, as they are in a dump (docs/state-dump.md). As many at
        a time as `space` holds, which is larger than any of them."""
        while True:
            self._engine.write(self._context + C_ARGUMENTS, first + end)
            written, rows, found, last = dump_rows(
                self._context, self._table, len(first), len(end), space.base, space.size, SCAN_ROWS
            )
            assert written >= 0, "the space holds a row"
            self._check(found)
            if rows:
                yield space.read(space.base, written)
                first = self._behind(key_at(space.view, last))
            if rows == found < SCAN_ROWS or first >= end:
                return

    def _behind(self, key: bytes) -> bytes:
        """The least key above `key`; of a typed table, whose keys all have one length, too."""
        if self._engine.word(self._table + T_KIND) == BYTES_KEYS:
            return key + b"\0"
        following = int.from_bytes(key, "big") + 1
        if following >> 8 * len(key):
            return key + b"\0"  # There is none: it is above every end.
        return following.to_bytes(len(key), "big")

    def _key(self, key: bytes) -> int:
        assert len(key) <= KEY_BYTES_MAX, "the caller limits keys"
        self._engine.write(self._context + C_ARGUMENTS, key)
        return len(key)

    def _check(self, result: int) -> None:
        if result < 0:
            raise self._engine.failure(self._context, -result)

    def close(self) -> None:
        self._engine.give_context(self._context)
