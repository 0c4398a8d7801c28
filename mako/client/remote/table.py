"""One table of the remote database, for threads: each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mako.call_format import DELETE, GET, INSERT, PUT
from mako.client import counters
from mako.client.mapping import Writable
from mako.client.remote.asking import Known, value_of
from mako.client.remote.calls import Call
from mako.client.remote.moments import places_of
from mako.client.remote.sessions import RemoteSnapshot
from mako.client.remote.submitted import RemoteSubmitted
from mako.errors import ConnectionLost, RolledBack
from mako.ids import REFUSED_LONG_VALUE
from mako.placement import split
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase
    from mako.client.remote.lanes import Lane
    from mako.client.remote.link import Link


class RemoteTable(Writable):
    """One table of a remote database; each call is a transaction of its own."""

    def __init__(self, db: RemoteDatabase, known: Known) -> None:
        self._db = db
        self.known = known

    @property
    def name(self) -> str:
        return self.known.name

    def _lane(self, key: bytes, *, writes: bool = True) -> Lane[Link]:
        return self._db._lane_of(self.known, key, writes=writes)

    def _do(self, operation: int, key: Any, value: bytes = b"") -> Call:
        """An operation that writes."""
        packed = self.known.key(key)
        lane = self._lane(packed)
        call = self._on_key(lane, operation, packed, value)
        self._db._raise(call, lane)
        return call

    def _on_key(self, lane: Lane[Link], operation: int, key: bytes, value: bytes) -> Call:
        with lane.link.lock:
            call = lane.asking.on_key(operation, self.known, key, value, self._db._deadline())
            lane.link.wait(lambda: call.ended)
        return call

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        packed = self.known.key(key)
        lane = self._lane(packed, writes=False)
        call = self._on_key(lane, GET, packed, b"")
        if isinstance(call.error, RolledBack) and call.detail == REFUSED_LONG_VALUE:
            return self.get_many([key])[0]
        self._db._raise(call, lane)
        return self.known.shown(value_of(call))

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, None for each that is not there; those of one
        partition are read together."""
        known = self.known
        packed = [known.key(key) for key in keys]
        groups = split(known.placement, packed)
        values: list[Any] = [None] * len(packed)
        lanes = [self._db._lane_with(partition, known).partition for partition in groups]
        calls = self._db._ask_each(
            (partition, Operation.GET, (0, known.number, [packed[place] for place in places]))
            for partition, places in zip(lanes, groups.values(), strict=True)
        )
        for call, places in zip(calls, groups.values(), strict=True):
            for place, value in zip(places, call.value, strict=True):
                values[place] = known.shown(value)
        return values

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        counters.check_table(self.known.table)
        value = self.get(key)
        return default if value is None else counters.number_in(key, value)

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace, durably."""
        self._do(PUT, key, self.known.value(value))

    def submit_put(self, key: Any, value: Any, *, timeout: float | None = None) -> RemoteSubmitted:
        """Ask for a `put` and return at once; see `RemoteDatabase.submit`."""
        packed, db = self.known.key(key), self._db
        data, lane = self.known.value(value), self._lane(packed)
        with lane.link.lock:
            if not lane.core.has_room:
                db._wait_for_room(lane, timeout)
            call = lane.asking.on_key(PUT, self.known, packed, data, db._deadline(), early=True)
            lane.link.send_soon()
        return RemoteSubmitted(lane.link, call)

    def submit_add(self, key: Any, n: int, *, timeout: float | None = None) -> RemoteSubmitted:
        """Ask for an `add` and return at once; `result()` is what the counter is then."""
        packed, db = self.known.key(key), self._db
        lane = self._lane(packed)
        with lane.link.lock:
            if not lane.core.has_room:
                db._wait_for_room(lane, timeout)
            call = lane.asking.add(self.known, packed, n, db._deadline(), early=True)
            lane.link.send_soon()
        return RemoteSubmitted(lane.link, call)

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._do(INSERT, key, self.known.value(value))

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        return bool(self._do(DELETE, key).value)

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now; see `Transaction.add`."""
        packed, db = self.known.key(key), self._db
        lane = self._lane(packed)
        with lane.link.lock:
            call = db._ended(lane.asking.add(self.known, packed, n, db._deadline()), lane)
        db._raise(call, lane)
        return int(call.value)

    def scan(
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
                with self._snapshot(first, end) as snapshot:
                    return list(snapshot.scan(first, end, limit=limit, reverse=reverse, table=self))
            except ConnectionLost:  # Another snapshot does as well.
                if last:
                    raise
        raise AssertionError("the loop returns or raises")

    def _snapshot(self, first: Any, end: Any) -> RemoteSnapshot:
        """Of the partitions that may have some of a range."""
        lanes = self._db._lanes
        return RemoteSnapshot(self._db, None, places_of(lanes, self.known, first, end))

    def items(
        self, first: Any = None, end: Any = None, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        with self._snapshot(first, end) as snapshot:
            yield from snapshot.scan(first, end, reverse=reverse, table=self)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.items(first, end)

    def _delete_range(self, first: Any, end: Any) -> None:
        from mako.client.retry import retrying

        retrying(self._db, lambda tx: tx._delete_range(first, end, table=self))
