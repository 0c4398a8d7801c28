"""Transactions and snapshots at a server, for threads. Each call is one round trip."""

from __future__ import annotations

import heapq
import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mako.client import counters
from mako.client.mapping import Joinable, Readable, Writable
from mako.client.remote.asking import PAGE_ROWS, Known, check_limit, rest_of
from mako.client.remote.calls import Call
from mako.client.remote.gathered import Gathered
from mako.client.remote.lanes import Lane, everywhere, together
from mako.client.remote.link import Link
from mako.client.remote.moments import Moment, Parts, open_moment
from mako.errors import Closed, Error, Exists
from mako.placement import EVERYWHERE, split
from mako.procedure import Procedure
from mako.row import Row
from mako.wire.requests import LATEST, Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase


class _Part(NamedTuple):
    """A transaction or snapshot at one partition."""

    lane: Lane[Link]
    number: int
    bound: int


class RemoteSession(Readable, Joinable):
    """What a transaction and a snapshot have in common: reads, at a connection to each partition
    that is asked."""

    def __init__(self, db: RemoteDatabase) -> None:
        self._db = db
        self._open = True
        self._parts: dict[int, _Part] = {}

    @abstractmethod
    def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
        """The parts at the partitions `wanted` of a table, begun if they are not there."""

    def _note(self, lane: Lane[Link], call: Call) -> _Part:
        # By the connection that answered: each counts its sessions from 1, so with the one that is
        # there by now it could be somebody else's.
        part = self._parts[lane.partition] = _Part(lane, call.value, call.connection)
        return part

    def _check_open(self) -> None:
        if not self._open:
            raise Closed(f"this {type(self).__name__} has ended; begin another one")

    def _ask(self, part: _Part, operation: Operation, *arguments: Any) -> Any:
        self._check_open()
        lane, number, bound = part
        return self._db._ask(operation, number, *arguments, lane=lane, bound=bound).value

    def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        return self.get_many([key], table=table)[0]

    def get_many(self, keys: Iterable[Any], *, table: Any = None) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        self._check_open()
        known = self._db._find(table)
        packed = [known.key(key) for key in keys]
        return [known.shown(value) for value in self._values(known, packed)]

    def _values(self, known: Known, packed: Sequence[bytes]) -> list[bytes | None]:
        """The values of packed keys, as they are stored."""
        groups = split(known.placement, packed)
        values: list[bytes | None] = [None] * len(packed)
        for part, places in zip(self._at(list(groups), known), groups.values(), strict=True):
            found = self._values_at(part, known, [packed[i] for i in places])
            for place, value in zip(places, found, strict=True):
                values[place] = value
        return values

    def _values_at(self, part: _Part, known: Known, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys of one partition: an answer has room for so many."""
        found: list[bytes | None] = []
        while keys:
            more = self._ask(part, Operation.GET, known.number, keys)
            found += more
            keys = rest_of(keys, more)
        return found

    def get_int(self, key: Any, default: int = 0, *, table: Any = None) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        counters.check_table(self._db._find(table).table)
        value = self.get(key, table=table)
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
        check_limit(limit)
        known = self._db._find(table)
        low, high, last = known.bounds(first, end)
        rows = self._rows(known, low, high, limit, reverse=reverse)
        if last and self._db._lanes.reaches(known, high):
            # No bound of one or two words lies above the greatest key.
            greatest = self._row_at(known, high)
            rows = itertools.chain(greatest, rows) if reverse else itertools.chain(rows, greatest)
        shown = ((known.shown_key(key), known.shown(value)) for key, value in rows)
        return itertools.islice(shown, limit)

    def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows as they are stored, of all partitions that have some."""
        self._check_open()
        parts = self._at(self._db._lanes.touched(known, low, high), known)
        each = [
            self._rows_of(part, known, low, high, limit, reverse=reverse)
            for part in (reversed(parts) if reverse else parts)
        ]
        if known.placement.is_ordered:
            yield from itertools.chain.from_iterable(each)
        else:
            yield from heapq.merge(*each, key=itemgetter(0), reverse=reverse)

    def _rows_of(
        self,
        part: _Part,
        known: Known,
        low: bytes,
        high: bytes,
        limit: int | None,
        *,
        reverse: bool,
    ) -> Iterator[tuple[bytes, bytes]]:
        left = limit
        while left is None or left > 0:
            if self._has_moved(part):
                yield from self._rows(known, low, high, left, reverse=reverse)
                return
            wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            page, more = self._ask(part, Operation.SCAN, known.number, low, high, wanted, reverse)
            self._page_came(part, known, low, high, page, more=more, reverse=reverse)
            yield from page
            if not more or not page:
                return
            if left is not None:
                left -= len(page)
            if reverse:
                high = page[-1][0]
            else:
                following = known.successor(page[-1][0])
                if following is None:
                    return
                low = following

    def _has_moved(self, part: _Part) -> bool:
        """Whether what is left of a scan has to be asked for in another way."""
        return False

    def _page_came(
        self,
        part: _Part,
        known: Known,
        low: bytes,
        high: bytes,
        page: Sequence[tuple[bytes, bytes]],
        *,
        more: bool,
        reverse: bool,
    ) -> None:
        """Some rows of a range have come; with `more` there may be others behind them."""

    def _row_at(self, known: Known, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        (value,) = self._values(known, [key])
        if value is not None:
            yield key, value

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)

    def _end(self, operation: Operation) -> None:
        """Tell the servers that it is over; if that fails they find out by themselves."""
        if self._open:
            self._leave(operation)
            self._open = False

    def _leave(self, operation: Operation) -> None:
        """Give up what is at the servers, even if this is interrupted: nothing else ends there."""
        parts = list(self._parts.values())
        self._parts.clear()
        for part in parts:
            with suppress(Error, TimeoutError):
                RemoteSession._ask(self, part, operation)


class RemoteTransaction(RemoteSession, Writable):
    """Reads and writes that commit together, serializably, or not at all.

    A transaction sees its own writes. It belongs to one thread. It begins at one partition, the one
    that was given or that of the first key, and there it ends with its connection; when it touches
    another one it goes on over several (`mako.client.remote.gathered`).
    """

    def __init__(self, db: RemoteDatabase, partition: int | None) -> None:
        super().__init__(db)
        #: Timestamp of the commit, once there is one.
        self.commit_ts = 0
        self._gathered = Gathered() if db._lanes.is_divided else None
        if partition is not None or not db._lanes.is_divided:
            self._begin(db._lanes.of(db._lanes.first.partition if partition is None else partition))

    def _begin(self, lane: Lane[Link]) -> _Part:
        return self._note(lane, self._db._ask(Operation.BEGIN, lane=lane))

    @property
    def _over_several(self) -> Gathered | None:
        """What it has gathered, if it is over several partitions."""
        gathered = self._gathered
        return gathered if gathered is not None and gathered.gathers else None

    def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
        self._check_open()
        db, lanes = self._db, self._db._lanes
        for partition in wanted:
            lanes.of(partition)  # Rejected, if this database is of another one alone.
        gathered = self._gathered
        if gathered is None or not gathered.gathers:
            home, is_one = together(next(iter(self._parts), None), wanted)
            if home is None:  # It only read what is everywhere so far, and is where it read that.
                home = lanes.of(EVERYWHERE).partition
            if is_one:
                lane = db._lane_with(home, known)
                part = self._parts.get(home) or self._begin(lane)
                return [part for _ in wanted]
            assert gathered is not None, "of one partition alone"
            gathered.begin(home)
            self._leave(Operation.ABORT)
        places = [gathered.home if each == EVERYWHERE else each for each in wanted]
        return [_Part(db._lane_with(each, known), LATEST, 0) for each in places]

    def _at_key(self, known: Known, key: bytes) -> _Part:
        partition = known.placement.partition_of(key)
        if partition == EVERYWHERE:
            raise everywhere(known)
        return self._at([partition], known)[0]

    def _ask(self, part: _Part, operation: Operation, *arguments: Any) -> Any:
        try:
            return super()._ask(part, operation, *arguments)
        except (Error, TimeoutError) as error:
            if self._gathered is not None:
                self._gathered.note_failure(error)
            raise

    def _values(self, known: Known, packed: Sequence[bytes]) -> list[bytes | None]:
        gathered = self._gathered
        if gathered is None:
            return super()._values(known, packed)
        self._at([*split(known.placement, packed)], known)
        if not gathered.gathers:
            values = super()._values(known, packed)
            for key, value in zip(packed, values, strict=True):
                gathered.saw(known, key, value)
            return values
        missing = gathered.missing(known, packed)
        groups = split(known.placement, missing)
        parts = self._at([*groups], known)
        asked = [[missing[place] for place in places] for places in groups.values()]
        try:
            calls = self._db._ask_each(
                (part.lane.partition, Operation.GET, (LATEST, known.number, keys))
                for part, keys in zip(parts, asked, strict=True)
            )
        except (Error, TimeoutError) as error:
            gathered.note_failure(error)
            raise
        for part, call, keys in zip(parts, calls, asked, strict=True):
            rest = self._values_at(part, known, rest_of(keys, call.value))
            for key, value in zip(keys, [*call.value, *rest], strict=True):
                gathered.saw(known, key, value)
        return gathered.values(known, packed)

    def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        self._at(self._db._lanes.touched(known, low, high), known)
        gathered = self._over_several
        wanted = None if gathered is None else gathered.wanted(known, low, high, limit)
        if gathered is None:
            yield from super()._rows(known, low, high, limit, reverse=reverse)
        else:
            stored = self._stored(known, low, high, wanted, reverse=reverse)
            shown = gathered.over(known, low, high, stored, down=reverse)
            yield from itertools.islice(shown, limit)

    def _stored(
        self, known: Known, low: bytes, high: bytes, wanted: int | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """The stored rows of a range, `wanted` at a time: some may be deleted while they are shown,
        and more are needed then."""
        while True:
            count = 0
            found = super()._rows(known, low, high, wanted, reverse=reverse)
            # No further: each partition was asked for so many, and may have more before others'.
            for key, value in itertools.islice(found, wanted):
                count += 1
                yield key, value
            if not count or wanted is None or count < wanted:
                return
            following = None if reverse else known.successor(key)
            if following is None and not reverse:
                return
            low, high = (low, key) if reverse else (following or low, high)

    def _has_moved(self, part: _Part) -> bool:
        return part.number != LATEST and self._over_several is not None

    def _page_came(
        self,
        part: _Part,
        known: Known,
        low: bytes,
        high: bytes,
        page: Sequence[tuple[bytes, bytes]],
        *,
        more: bool,
        reverse: bool,
    ) -> None:
        if self._gathered is not None and part.number != LATEST:
            self._gathered.saw_page(known, low, high, page, more=more, down=reverse)

    def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        known = self._db._find(table)
        packed, data = known.key(key), known.value(value)
        part = self._at_key(known, packed)
        if self._over_several is None:
            self._ask(part, Operation.PUT, known.number, packed, data, 1)
        if self._gathered is not None:
            self._gathered.put(known, packed, data)

    def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; Exists if the key is there."""
        known = self._db._find(table)
        packed, data = known.key(key), known.value(value)
        part = self._at_key(known, packed)
        try:
            if self._over_several is None:
                self._ask(part, Operation.PUT, known.number, packed, data, 0)
            elif self._values(known, [packed]) != [None]:
                raise Exists
        except Exists:
            if self._gathered is not None:
                self._gathered.exists(known, packed)
            raise
        if self._gathered is not None:
            self._gathered.inserted(known, packed, data)

    def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        known = self._db._find(table)
        packed = known.key(key)
        part = self._at_key(known, packed)
        if self._over_several is None:
            found = bool(self._ask(part, Operation.DELETE, known.number, packed))
        else:
            found = self._values(known, [packed]) != [None]
        if self._gathered is not None:
            self._gathered.deleted(known, packed, found=found)
        return found

    def _delete_range(self, first: Any, end: Any, *, table: Any = None) -> None:
        for key, _ in self.scan(first, end, table=table):
            self.delete(key, table=table)

    def add(self, key: Any, n: int, *, table: Any = None) -> int:
        """Add `n` to the counter `key`, which begins at 0, and return what it is now."""
        total = counters.sum_of(key, self.get_int(key, table=table), n)
        self.put(key, counters.value_of(total), table=table)
        return total

    def table(self, table: Any) -> RemoteTransactionTable:
        """A table seen through this transaction."""
        return RemoteTransactionTable(self, self._db._find(table))

    def commit(self) -> None:
        """Commit and wait until it is durable; Conflict if what was read has changed."""
        if not self._open:
            raise Closed("this transaction has ended; begin another one")
        self._open = False
        gathered = self._over_several
        if gathered is not None:
            self.commit_ts = self._db._commit(gathered.home, gathered.needs(), gathered.items())
        for lane, number, bound in self._parts.values():  # One, or none that has done nothing.
            call = self._db._ask(Operation.COMMIT, number, 0, lane=lane, bound=bound)
            self.commit_ts = call.timestamp

    def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        self._end(Operation.ABORT)


class RemoteSnapshot(RemoteSession):
    """The database as it was at `timestamp`, at one replica of each partition: the same moment at
    all of them (`mako.client.remote.moments`)."""

    def __init__(
        self, db: RemoteDatabase, max_staleness: float | None, partitions: Sequence[int]
    ) -> None:
        """`partitions` are those that may be read."""
        super().__init__(db)
        self._parts = Parts()
        lanes = db._lanes
        moment = Moment(partitions, max_staleness, lanes.acknowledged, lanes.shards.partitions)
        open_moment(db, moment)
        for partition, each in moment.opened.items():
            lane = db._lanes.of(partition)
            self._parts[partition] = _Part(lane, each.number, each.connection)
        #: What was committed at or before it is seen, and nothing later.
        self.timestamp = moment.timestamp
        #: Seconds that it was old when it was opened, by the clock of the replica; of several that
        #: of the one where it was the oldest.
        self.staleness = moment.staleness

    def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
        self._check_open()
        anywhere = next(iter(self._parts), self._db._lanes.of(EVERYWHERE).partition)
        places = [anywhere if each == EVERYWHERE else each for each in wanted]
        for place in places:
            self._db._lane_with(place, known)
        return [self._parts[place] for place in places]

    def table(self, table: Any) -> RemoteSessionTable:
        """A table as it was."""
        return RemoteSessionTable(self, self._db._find(table))

    def run(
        self,
        procedure: Procedure | str,
        *arguments: int,
        out: Row | None = None,
        partition: int | None = None,
    ) -> Any:
        """Run a procedure of the server here; it may write nothing. Its result, or with `out` the
        result and the row that it hands back. With several partitions it runs at its home, or at
        `partition`."""
        name = procedure if isinstance(procedure, str) else getattr(procedure, "name", "")
        lane = self._db._lane_for(procedure, arguments, partition)
        number = lane.asking.number_of(name, arguments, outs=int(out is not None))
        layout = None if out is None else {field.name: field.code for field in out.fields}
        part = self._part(lane.partition)
        result, row = self._ask(part, Operation.RUN_AT, number, list(arguments), layout)
        return int(result) if out is None else (int(result), out.unpack(row))

    def state_hash(self, *, partition: int | None = None) -> str:
        """The hash of all rows of a partition: equal at two replicas if and only if all rows are.
        With several partitions one has to be given."""
        which = self._db._lanes.given(partition, "a hash is of one partition")
        return str(self._ask(self._part(which), Operation.STATE_HASH))

    def _part(self, partition: int) -> _Part:
        self._check_open()
        return self._parts[partition]

    def close(self) -> None:
        """Let go of the old versions."""
        self._end(Operation.CLOSE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RemoteSessionTable(Readable):
    """One table in one transaction or at one snapshot."""

    def __init__(self, session: RemoteSession, known: Known) -> None:
        self._session: Any = session
        self._db = session._db
        self.known = known

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._session.get(key, table=self)

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        found: list[Any] = self._session.get_many(keys, table=self)
        return found

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key`, or `default`."""
        return int(self._session.get_int(key, default, table=self))

    def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        """(key, value) with first <= key < end, in order, or from the greatest down."""
        rows: Iterator[tuple[Any, Any]] = self._session.scan(
            first, end, limit=limit, reverse=reverse, table=self
        )
        return rows

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.scan(first, end)


class RemoteTransactionTable(RemoteSessionTable, Writable):
    """One table in one transaction."""

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""
        self._session.put(key, value, table=self)

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._session.insert(key, value, table=self)

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return bool(self._session.delete(key, table=self))

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        return int(self._session.add(key, n, table=self))

    def _delete_range(self, first: Any, end: Any) -> None:
        self._session._delete_range(first, end, table=self)
