"""A cluster of partitions that a test plays: it answers what transactions of either client ask.

Everything is in one dictionary; what tells the partitions apart is who is asked. A session keeps
what it has read, with own writes over it, and checks it when it commits; what was gathered is
taken apart by the words of the protocol alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Final

from mako import call_format as f
from mako.call_format import ITEM_BYTES
from mako.client.remote.asking import Known
from mako.client.remote.async_sessions import AsyncTransaction
from mako.client.remote.sessions import RemoteTransaction
from mako.errors import Conflict, Exists, Rejected
from mako.placement import EVERYWHERE, Kind, Placement, ShardMap
from mako.wire.requests import LATEST, Operation

PARTITIONS: Final = 3
SHARDS: Final = ShardMap(
    PARTITIONS,
    Placement(Kind.HASH, PARTITIONS),
    {
        "words": Placement(Kind.RANGE, PARTITIONS, (b"h", b"p")),
        "all": Placement(Kind.EVERYWHERE, PARTITIONS),
    },
)
#: By name: placed by hash, by range, everywhere.
TABLES: Final = {
    name: Known([number, 3, 0, name], None, SHARDS)
    for number, name in enumerate(("hashed", "words", "all"), 1000)
}
_ITEM: Final = struct.Struct("<BBHIII")
At = tuple[int, bytes]


class Lanes:
    """As much of `mako.client.remote.lanes.Lanes` as transactions use."""

    def __init__(self, only: int | None = None) -> None:
        self._lanes = [
            SimpleNamespace(partition=number, core=SimpleNamespace(connection=1))
            for number in range(PARTITIONS)
        ]
        self._only = only
        self.first: Any = self._lanes[0 if only is None else only]
        self.is_divided = only is None

    def of(self, partition: int) -> Any:
        if self._only not in (None, partition) and partition != EVERYWHERE:
            raise Rejected(f"connected to partition {self._only} only")
        return self.first if partition == EVERYWHERE else self._lanes[partition]

    def touched(self, known: Known, low: bytes, high: bytes) -> Sequence[int]:
        return known.placement.touched(low, high)


class Session:
    """A transaction at one partition."""

    def __init__(self, rows: dict[At, bytes], partition: int) -> None:
        self._rows = rows
        self.partition = partition
        self._own: dict[At, bytes | None] = {}
        self._seen: list[tuple[Any, Any]] = []

    def get(self, number: int, keys: list[bytes]) -> list[bytes | None]:
        return [self._get((number, key)) for key in keys]

    def _get(self, at: At) -> bytes | None:
        if at in self._own:
            return self._own[at]
        self._seen.append((at, self._rows.get(at)))
        return self._rows.get(at)

    def scan(self, *asked: Any) -> list[Any]:
        own = dict(self._own)
        page = page_of({**self._rows, **own}, *asked)
        self._seen.append(((*asked, own), page))
        return page

    def put(self, number: int, key: bytes, value: bytes, replace: int) -> None:
        if not replace and self._get((number, key)) is not None:
            raise Exists
        self._own[number, key] = value

    def delete(self, number: int, key: bytes) -> bool:
        found = self._get((number, key)) is not None
        if found:
            self._own[number, key] = None
        return found

    def commit(self) -> None:
        for asked, seen in self._seen:
            if len(asked) == 2:
                now: Any = self._rows.get(asked)
            else:
                *scanned, own = asked
                now = page_of({**self._rows, **own}, *scanned)
            if now != seen:
                raise Conflict
        for at, value in self._own.items():
            write(self._rows, at, value)


def write(rows: dict[At, bytes], at: At, value: bytes | None) -> None:
    if value is None:
        rows.pop(at, None)
    else:
        rows[at] = value


def page_of(rows: Any, number: int, *asked: Any) -> list[Any]:
    """The answer to a SCAN, of rows that may be None: deleted."""
    low, high, limit, reverse = asked
    found = [
        [key, value]
        for (table, key), value in sorted(rows.items(), reverse=reverse)
        if table == number and low <= key < high and value is not None
    ]
    return [found[:limit], len(found) >= limit]


class Played:
    """A database of the client for threads, as its transactions see it."""

    def __init__(self, only: int | None = None) -> None:
        self.rows: dict[At, bytes] = {}
        self._lanes = Lanes(only)
        self._sessions: dict[int, Session] = {}
        self._last = 0
        #: What was asked of whom.
        self.asked: list[tuple[int, Operation]] = []
        #: Raised by whatever is asked next.
        self.trouble: Exception | None = None
        self.home = -1
        #: Items of what was gathered last.
        self.items: list[Any] = []

    def begin(self, partition: int | None = None) -> RemoteTransaction:
        return RemoteTransaction(self, partition)  # type: ignore[arg-type]

    @property
    def open(self) -> int:
        """Sessions that nobody has ended."""
        return len(self._sessions)

    # --- what transactions ask ----------------------------------------------------------

    def _find(self, table: Any) -> Known:
        return TABLES[table or "hashed"]

    def _lane_with(self, partition: int, known: Known) -> Any:
        return self._lanes.of(partition)

    def _ask(self, operation: Operation, *arguments: Any, lane: Any = None, bound: int = 0) -> Any:
        self.asked.append((lane.partition, operation))
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        value = self._answer(lane.partition, operation, *arguments)
        return SimpleNamespace(value=value, timestamp=7, connection=1)

    def _ask_each(self, asked: Iterable[tuple[int, Operation, Sequence[Any]]]) -> list[Any]:
        return [
            self._ask(operation, *arguments, lane=self._lanes.of(partition))
            for partition, operation, arguments in asked
        ]

    def _answer(self, partition: int, operation: Operation, *arguments: Any) -> Any:
        if operation is Operation.BEGIN:
            self._last += 1
            self._sessions[self._last] = Session(self.rows, partition)
            return self._last
        number, *rest = arguments
        if number == LATEST:
            session = Session(self.rows, partition)
        else:
            session = self._sessions[number]
            assert session.partition == partition
        if operation in (Operation.ABORT, Operation.COMMIT):
            del self._sessions[number]
            return session.commit() if operation is Operation.COMMIT else None
        if operation is Operation.SCAN:
            table, low, high, limit, reverse = rest
            rows = {at: value for at, value in self.rows.items() if self._has(partition, *at)}
            session._rows = rows
            page = session.scan(table, low, high, limit, reverse)
            session._rows = self.rows
            return page
        keys = rest[1] if operation is Operation.GET else [rest[1]]
        assert all(self._has(partition, rest[0], key) for key in keys)
        act = {Operation.GET: session.get, Operation.PUT: session.put}
        return act.get(operation, session.delete)(*rest)  # type: ignore[operator]

    def _has(self, partition: int, number: int, key: bytes) -> bool:
        (known,) = [known for known in TABLES.values() if known.number == number]
        return known.placement.partition_of(key) in (EVERYWHERE, partition)

    # --- what was gathered --------------------------------------------------------------

    def _commit(self, home: int, needs: Any, packed: Sequence[bytes]) -> int:
        self.home = home
        for partition, _ in needs:
            assert 0 <= partition < PARTITIONS
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        self.items = items = taken_apart(b"".join(packed))
        at = 0
        while at < len(items):
            kind, place, number, key, value, rows = items[at]
            at += 1
            if kind == f.SEEN_RANGE:
                self._look_at_range(number, key, value, items[at : at + rows])
                at += rows
                continue
            assert self._has(home if place == f.PLACE_EVERYWHERE else place, number, key)
            now = self.rows.get((number, key))
            if kind == f.WRITE_PUT:
                self.rows[number, key] = value
            elif kind == f.WRITE_DELETE:
                self.rows.pop((number, key), None)
            elif kind == f.SEEN_ABSENT:
                _expect(now is None)
            else:
                _expect(now == value if kind == f.SEEN_VALUE else now is not None)
        return 9

    def _look_at_range(self, number: int, low: bytes, high: bytes, rows: list[Any]) -> None:
        found = {
            key: value
            for (table, key), value in self.rows.items()
            if table == number and low <= key < high
        }
        assert [row[3] for row in rows] == sorted({row[3] for row in rows}), "in order, each once"
        for kind, _, _, key, value, _ in rows:
            now = found.pop(key, None)
            assert kind in (f.RANGE_ROW, f.RANGE_ANY)
            _expect(kind == f.RANGE_ANY or now == value)
        _expect(not found)


def _expect(same: bool) -> None:  # noqa: FBT001
    if not same:
        raise Conflict


def taken_apart(body: bytes) -> list[Any]:
    """(kind, place, table, key, value, rows) of each item."""
    items = []
    at = 0
    while at < len(body):
        kind, place, size, table, length, rows = _ITEM.unpack_from(body, at)
        key_at = at + ITEM_BYTES
        value_at = key_at + size
        at = value_at + length + -(ITEM_BYTES + size + length) % 8
        items.append((kind, place, table, body[key_at:value_at], body[value_at:][:length], rows))
    assert at == len(body)
    return items


# --- the same for the client for tasks ------------------------------------------------------------


def done(act: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        act.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("there was nothing to wait for")


class _Awaited:
    def __init__(self, played: Played) -> None:
        self._played = played
        self._lanes = played._lanes

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._played, name)

        async def acted(*arguments: Any, **more: Any) -> Any:
            return act(*arguments, **more)

        return acted


class AsyncPlayed(Played):
    """The same; its transactions are those for tasks, each call of which is done at once."""

    def begin(self, partition: int | None = None) -> Any:
        tx = AsyncTransaction(_Awaited(self))  # type: ignore[arg-type]
        if partition is not None or not self._lanes.is_divided:
            lane = self._lanes.first if partition is None else self._lanes.of(partition)
            done(tx._begin(lane))
        return _Done(tx)


class _Done:
    def __init__(self, tx: AsyncTransaction) -> None:
        self._tx = tx

    @property
    def commit_ts(self) -> int:
        return self._tx.commit_ts

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._tx, name)
        return lambda *arguments, **more: done(act(*arguments, **more))
