"""One table of the remote database, for tasks: each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio

from mako.call_format import DELETE, GET, INSERT, PUT
from mako.client import counters
from mako.client.remote.asking import Known, value_of
from mako.client.remote.async_sessions import AsyncSnapshot
from mako.client.remote.calls import Call
from mako.client.remote.moments import places_of
from mako.errors import ConnectionLost, RolledBack
from mako.ids import REFUSED_LONG_VALUE
from mako.placement import split
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.async_database import AsyncDatabase


class AsyncTable:
    """One table of a remote database; each call is a transaction of its own."""

    def __init__(self, db: AsyncDatabase, known: Known) -> None:
        self._db = db
        self.known = known

    @property
    def name(self) -> str:
        return self.known.name

    async def _do(self, operation: int, key: Any, value: bytes = b"") -> Call:
        """An operation that writes."""
        db, packed = self._db, self.known.key(key)
        lane = await db._lane_of(self.known, packed, writes=True)
        call = lane.asking.on_key(operation, self.known, packed, value, db._deadline())
        return await db._done(call, lane)

    async def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        db, packed = self._db, self.known.key(key)
        lane = await db._lane_of(self.known, packed, writes=False)
        call = lane.asking.on_key(GET, self.known, packed, b"", db._deadline())
        try:
            await db._done(call, lane)
        except RolledBack:
            if call.detail != REFUSED_LONG_VALUE:
                raise
            return (await self.get_many([key]))[0]
        return self.known.shown(value_of(call))

    async def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, None for each that is not there; those of one
        partition are read together."""
        known = self.known
        packed = [known.key(key) for key in keys]
        groups = split(known.placement, packed)
        values: list[Any] = [None] * len(packed)
        lanes = [(await self._db._lane_with(each, known)).partition for each in groups]
        calls = await self._db._ask_each(
            (partition, Operation.GET, (0, known.number, [packed[place] for place in places]))
            for partition, places in zip(lanes, groups.values(), strict=True)
        )
        for call, places in zip(calls, groups.values(), strict=True):
            for place, value in zip(places, call.value, strict=True):
                values[place] = known.shown(value)
        return values

    async def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key`, or `default`."""
        counters.check_table(self.known.table)
        value = await self.get(key)
        return default if value is None else counters.number_in(key, value)

    async def put(self, key: Any, value: Any) -> None:
        """Insert or replace, durably."""
        await self._do(PUT, key, self.known.value(value))

    async def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        await self._do(INSERT, key, self.known.value(value))

    async def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return bool((await self._do(DELETE, key)).value)

    async def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now."""
        db, packed = self._db, self.known.key(key)
        lane = await db._lane_of(self.known, packed, writes=True)
        call = lane.asking.add(self.known, packed, n, db._deadline())
        return int((await db._done(call, lane)).value)

    async def scan(
        self,
        first: Any = None,
        end: Any = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[Any, Any]]:
        """The rows with first <= key < end, at one snapshot."""
        for last in (False, False, True):
            snapshot = AsyncSnapshot(self._db)
            try:
                await snapshot._begin(places_of(self._db._lanes, self.known, first, end))
                return await snapshot.scan(first, end, limit=limit, reverse=reverse, table=self)
            except ConnectionLost:  # Another snapshot does as well.
                if last:
                    raise
            finally:
                if snapshot._parts:  # Otherwise it was not opened, perhaps for want of a loop.
                    with anyio.CancelScope(shield=True):
                        await snapshot._end(Operation.CLOSE)
        raise AssertionError("the loop returns or raises")
