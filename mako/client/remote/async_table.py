"""One table of the remote database, for tasks: each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mako.call_format import DELETE, GET, INSERT, PUT
from mako.client import counters
from mako.client.remote.asking import Known, value_of
from mako.client.remote.calls import Call
from mako.errors import ConnectionLost, RolledBack
from mako.ids import REFUSED_LONG_VALUE
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
        db = self._db
        call = db._asking.on_key(operation, self.known, key, value, db._deadline())
        return await db._done(call)

    async def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        db = self._db
        call = db._asking.on_key(GET, self.known, key, b"", db._deadline())
        try:
            await db._done(call)
        except RolledBack:
            if call.detail != REFUSED_LONG_VALUE:
                raise
            return (await self.get_many([key]))[0]
        return self.known.shown(value_of(call))

    async def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        packed = [self.known.key(key) for key in keys]
        call = await self._db._ask(Operation.GET, 0, self.known.number, packed)
        return [self.known.shown(value) for value in call.value]

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
        db = self._db
        return int((await db._done(db._asking.add(self.known, key, n, db._deadline()))).value)

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
            try:
                async with self._db.snapshot() as snapshot:
                    return await snapshot.scan(first, end, limit=limit, reverse=reverse, table=self)
            except ConnectionLost:  # Another snapshot does as well.
                if last:
                    raise
        raise AssertionError("the loop returns or raises")
