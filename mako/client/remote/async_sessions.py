"""Transactions and snapshots at a server, for tasks. Each call is one round trip."""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from mako.client import counters
from mako.client.mapping import Joinable
from mako.client.remote.asking import PAGE_ROWS, Known, check_limit, rest_of
from mako.client.remote.async_link import AsyncLink
from mako.client.remote.calls import Call
from mako.client.remote.gathered import Gathered
from mako.client.remote.lanes import Lane, everywhere, together
from mako.client.remote.moments import Moment, Parts, open_moment_of_task
from mako.errors import Closed, Error, Exists
from mako.placement import EVERYWHERE, split
from mako.procedure import Procedure
from mako.wire.requests import LATEST, Operation

if TYPE_CHECKING:
    from mako.client.remote.async_database import AsyncDatabase


class _Part(NamedTuple):
    """A transaction or snapshot at one partition."""

    lane: Lane[AsyncLink]
    number: int
    bound: int


class AsyncSession(Joinable, ABC):
    """What a transaction and a snapshot have in common: reads, at a connection to each partition
    that is asked."""

    def __init__(self, db: AsyncDatabase) -> None:
        self._db = db
        self._open = True
        self._parts: dict[int, _Part] = {}

    @abstractmethod
    async def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
        """The parts at the partitions `wanted` of a table, begun if they are not there."""

    def _note(self, lane: Lane[AsyncLink], call: Call) -> _Part:
        # By the connection that answered: each counts its sessions from 1, so with the one that is
        # there by now it could be somebody else's.
        part = self._parts[lane.partition] = _Part(lane, call.value, call.connection)
        return part

    def _check_open(self) -> None:
        if not self._open:
            raise Closed(f"this {type(self).__name__} has ended; begin another one")

    async def _ask(self, part: _Part, operation: Operation, *arguments: Any) -> Any:
        self._check_open()
        lane, number, bound = part
        call = await self._db._ask(operation, number, *arguments, lane=lane, bound=bound)
        return call.value

    async def get(self, key: Any, *, table: Any = None) -> Any:
        """The value of `key`, or None."""
        return (await self.get_many([key], table=table))[0]

    async def get_many(self, keys: Iterable[Any], *, table: Any = None) -> list[Any]:
        """The values of `keys` in their order, with None for each that is not there."""
        self._check_open()
        known = await self._db._find(table)
        packed = [known.key(key) for key in keys]
        return [known.shown(value) for value in await self._values(known, packed)]

    async def _values(self, known: Known, packed: Sequence[bytes]) -> list[bytes | None]:
        """The values of packed keys, as they are stored."""
        groups = split(known.placement, packed)
        values: list[bytes | None] = [None] * len(packed)
        parts = await self._at(list(groups), known)
        for part, places in zip(parts, groups.values(), strict=True):
            found = await self._values_at(part, known, [packed[i] for i in places])
            for place, value in zip(places, found, strict=True):
                values[place] = value
        return values

    async def _values_at(
        self, part: _Part, known: Known, keys: Sequence[bytes]
    ) -> list[bytes | None]:
        """The values of keys of one partition: an answer has room for so many."""
        found: list[bytes | None] = []
        while keys:
            more = await self._ask(part, Operation.GET, known.number, keys)
            found += more
            keys = rest_of(keys, more)
        return found

    async def get_int(self, key: Any, default: int = 0, *, table: Any = None) -> int:
        """The number in the counter `key`, or `default`."""
        counters.check_table((await self._db._find(table)).table)
        value = await self.get(key, table=table)
        return default if value is None else counters.number_in(key, value)

    async def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
        table: Any = None,
    ) -> list[tuple[Any, Any]]:
        """The rows with first <= key < end, in order, or from the greatest down."""
        check_limit(limit)
        self._check_open()
        known = await self._db._find(table)
        low, high, last = known.bounds(first, end)
        rows = await self._rows(known, low, high, limit, reverse=reverse)
        last = last and self._db._lanes.reaches(known, high)
        if last and (limit is None or len(rows) < limit or reverse):
            (value,) = await self._values(known, [high])
            if value is not None:
                rows = [(high, value), *rows] if reverse else [*rows, (high, value)]
        shown = [(known.shown_key(key), known.shown(value)) for key, value in rows]
        return shown if limit is None else shown[:limit]

    async def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        """The rows as they are stored, of all partitions that have some."""
        parts = await self._at(self._db._lanes.touched(known, low, high), known)
        each: list[list[tuple[bytes, bytes]]] = []
        is_ordered = known.placement.is_ordered
        left = limit
        for part in reversed(parts) if reverse else parts:
            rows = await self._rows_of(part, known, low, high, left, reverse=reverse)
            each.append(rows)
            if is_ordered and left is not None:
                left -= len(rows)
        if is_ordered:
            return list(itertools.chain.from_iterable(each))
        return list(heapq.merge(*each, key=itemgetter(0), reverse=reverse))

    async def _rows_of(
        self,
        part: _Part,
        known: Known,
        low: bytes,
        high: bytes,
        limit: int | None,
        *,
        reverse: bool,
    ) -> list[tuple[bytes, bytes]]:
        rows: list[tuple[bytes, bytes]] = []
        while limit is None or len(rows) < limit:
            wanted = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(rows))
            asked = (known.number, low, high, wanted, reverse)
            page, more = await self._ask(part, Operation.SCAN, *asked)
            self._page_came(part, known, low, high, page, more=bool(more), reverse=reverse)
            rows += [(key, value) for key, value in page]
            if not more or not page:
                break
            following = page[-1][0] if reverse else known.successor(page[-1][0])
            if following is None:
                break
            low, high = (low, following) if reverse else (following, high)
        return rows

    def _page_came(  # Who keeps nothing has nothing to do.
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

    async def _end(self, operation: Operation) -> None:
        if self._open:
            await self._leave(operation)
            self._open = False

    async def _leave(self, operation: Operation) -> None:
        """Give up what is at the servers, even if this is interrupted: nothing else ends there."""
        parts = list(self._parts.values())
        self._parts.clear()
        for part in parts:
            with suppress(Error, TimeoutError):  # The server finds out by itself.
                await AsyncSession._ask(self, part, operation)


class AsyncTransaction(AsyncSession):
    """Reads and writes that commit together, serializably, or not at all. It begins at one
    partition, the one that was given or that of the first key, and goes on over several when it
    touches another one (`mako.client.remote.gathered`)."""

    commit_ts = 0

    def __init__(self, db: AsyncDatabase) -> None:
        super().__init__(db)
        self._gathered = Gathered() if db._lanes.is_divided else None

    async def _begin(self, lane: Lane[AsyncLink]) -> _Part:
        return self._note(lane, await self._db._ask(Operation.BEGIN, lane=lane))

    @property
    def _over_several(self) -> Gathered | None:
        """What it has gathered, if it is over several partitions."""
        gathered = self._gathered
        return gathered if gathered is not None and gathered.gathers else None

    async def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
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
                lane = await db._lane_with(home, known)
                part = self._parts.get(home) or await self._begin(lane)
                return [part for _ in wanted]
            assert gathered is not None, "of one partition alone"
            gathered.begin(home)
            await self._leave(Operation.ABORT)
        places = [gathered.home if each == EVERYWHERE else each for each in wanted]
        return [_Part(await db._lane_with(each, known), LATEST, 0) for each in places]

    async def _at_key(self, known: Known, key: bytes) -> _Part:
        partition = known.placement.partition_of(key)
        if partition == EVERYWHERE:
            raise everywhere(known)
        return (await self._at([partition], known))[0]

    async def _ask(self, part: _Part, operation: Operation, *arguments: Any) -> Any:
        try:
            return await super()._ask(part, operation, *arguments)
        except (Error, TimeoutError) as error:
            if self._gathered is not None:
                self._gathered.note_failure(error)
            raise

    async def _values(self, known: Known, packed: Sequence[bytes]) -> list[bytes | None]:
        gathered = self._gathered
        if gathered is None:
            return await super()._values(known, packed)
        await self._at([*split(known.placement, packed)], known)
        if not gathered.gathers:
            values = await super()._values(known, packed)
            for key, value in zip(packed, values, strict=True):
                gathered.saw(known, key, value)
            return values
        missing = gathered.missing(known, packed)
        groups = split(known.placement, missing)
        parts = await self._at([*groups], known)
        asked = [[missing[place] for place in places] for places in groups.values()]
        try:
            calls = await self._db._ask_each(
                (part.lane.partition, Operation.GET, (LATEST, known.number, keys))
                for part, keys in zip(parts, asked, strict=True)
            )
        except (Error, TimeoutError) as error:
            gathered.note_failure(error)
            raise
        for part, call, keys in zip(parts, calls, asked, strict=True):
            rest = await self._values_at(part, known, rest_of(keys, call.value))
            for key, value in zip(keys, [*call.value, *rest], strict=True):
                gathered.saw(known, key, value)
        return gathered.values(known, packed)

    async def _rows(
        self, known: Known, low: bytes, high: bytes, limit: int | None, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        await self._at(self._db._lanes.touched(known, low, high), known)
        gathered = self._over_several
        if gathered is None:
            return await super()._rows(known, low, high, limit, reverse=reverse)
        wanted = gathered.wanted(known, low, high, limit)
        stored = await super()._rows(known, low, high, wanted, reverse=reverse)
        shown = gathered.over(known, low, high, iter(stored), down=reverse)
        return list(itertools.islice(shown, limit))

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

    async def put(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert or replace."""
        known = await self._db._find(table)
        packed, data = known.key(key), known.value(value)
        part = await self._at_key(known, packed)
        if self._over_several is None:
            await self._ask(part, Operation.PUT, known.number, packed, data, 1)
        if self._gathered is not None:
            self._gathered.put(known, packed, data)

    async def insert(self, key: Any, value: Any, *, table: Any = None) -> None:
        """Insert; Exists if the key is there."""
        known = await self._db._find(table)
        packed, data = known.key(key), known.value(value)
        part = await self._at_key(known, packed)
        try:
            if self._over_several is None:
                await self._ask(part, Operation.PUT, known.number, packed, data, 0)
            elif await self._values(known, [packed]) != [None]:
                raise Exists
        except Exists:
            if self._gathered is not None:
                self._gathered.exists(known, packed)
            raise
        if self._gathered is not None:
            self._gathered.inserted(known, packed, data)

    async def delete(self, key: Any, *, table: Any = None) -> bool:
        """Delete; False if the key was not there."""
        known = await self._db._find(table)
        packed = known.key(key)
        part = await self._at_key(known, packed)
        if self._over_several is None:
            found = bool(await self._ask(part, Operation.DELETE, known.number, packed))
        else:
            found = await self._values(known, [packed]) != [None]
        if self._gathered is not None:
            self._gathered.deleted(known, packed, found=found)
        return found

    async def add(self, key: Any, n: int, *, table: Any = None) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        total = counters.sum_of(key, await self.get_int(key, table=table), n)
        await self.put(key, counters.value_of(total), table=table)
        return total

    async def commit(self) -> None:
        """Commit and wait until it is durable; Conflict if what was read has changed."""
        if not self._open:
            raise Closed("this transaction has ended; begin another one")
        self._open = False
        gathered = self._over_several
        if gathered is not None:
            items = gathered.items()
            self.commit_ts = await self._db._commit(gathered.home, gathered.needs(), items)
        for lane, number, bound in self._parts.values():  # One, or none that has done nothing.
            call = await self._db._ask(Operation.COMMIT, number, 0, lane=lane, bound=bound)
            self.commit_ts = call.timestamp

    async def abort(self) -> None:
        """Forget the writes. Ending it twice is harmless."""
        await self._end(Operation.ABORT)


class AsyncSnapshot(AsyncSession):
    """The database as it was at `timestamp`, at one replica of each partition: the same moment at
    all of them (`mako.client.remote.moments`); `staleness` seconds old then."""

    def __init__(self, db: AsyncDatabase) -> None:
        super().__init__(db)
        self._parts = Parts()
        self.timestamp = 0
        self.staleness = 0.0

    async def _begin(self, partitions: Sequence[int], max_staleness: float | None = None) -> None:
        """Open it at the partitions that may be read."""
        lanes = self._db._lanes
        moment = Moment(partitions, max_staleness, lanes.acknowledged, lanes.shards.partitions)
        await open_moment_of_task(self._db, moment)
        for partition, each in moment.opened.items():
            lane = self._db._lanes.of(partition)
            self._parts[partition] = _Part(lane, each.number, each.connection)
        self.timestamp, self.staleness = moment.timestamp, moment.staleness

    async def _at(self, wanted: Sequence[int], known: Known) -> list[_Part]:
        self._check_open()
        lanes = self._db._lanes
        anywhere = next(iter(self._parts), lanes.of(EVERYWHERE).partition)
        places = [anywhere if each == EVERYWHERE else each for each in wanted]
        for place in places:
            await self._db._lane_with(place, known)
        return [self._parts[place] for place in places]

    async def run(
        self, procedure: Procedure | str, *arguments: int, partition: int | None = None
    ) -> int:
        """Run a procedure of the server here; it may read and write nothing. Its result."""
        name = procedure if isinstance(procedure, str) else procedure.name
        lane = await self._db._lane_for(procedure, arguments, partition)
        number = lane.asking.number_of(name, arguments)
        self._check_open()
        part = self._parts[lane.partition]
        result, _ = await self._ask(part, Operation.RUN_AT, number, list(arguments), None)
        return int(result)
