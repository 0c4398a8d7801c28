"""One table of the remote database, for threads: each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mako.call_format import DELETE, GET, INSERT, PUT
from mako.client import counters
from mako.client.mapping import Writable
from mako.client.remote.asking import Known, value_of
from mako.client.remote.calls import Call
from mako.client.remote.submitted import RemoteSubmitted
from mako.errors import ConnectionLost, RolledBack
from mako.ids import REFUSED_LONG_VALUE
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase


class RemoteTable(Writable):
    """One table of a remote database; each call is a transaction of its own."""

    def __init__(self, db: RemoteDatabase, known: Known) -> None:
        self._db = db
        self.known = known

    @property
    def name(self) -> str:
        return self.known.name

    def _do(self, operation: int, key: Any, value: bytes = b"") -> Call:
        db = self._db
        with db._link.lock:
            call = db._asking.on_key(operation, self.known, key, value, db._deadline())
            db._link.wait(lambda: call.ended)
        return call

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        call = self._do(GET, key)
        if isinstance(call.error, RolledBack) and call.detail == REFUSED_LONG_VALUE:
            return self.get_many([key])[0]
        self._db._raise(call)
        return self.known.shown(value_of(call))

    def get_many(self, keys: Iterable[Any]) -> list[Any]:
        """The values of `keys` in their order, read together; None for each that is not there."""
        packed = [self.known.key(key) for key in keys]
        call = self._db._ask(Operation.GET, 0, self.known.number, packed)
        return [self.known.shown(value) for value in call.value]

    def get_int(self, key: Any, default: int = 0) -> int:
        """The number in the counter `key` (see `Transaction.add`), or `default`."""
        counters.check_table(self.known.table)
        value = self.get(key)
        return default if value is None else counters.number_in(key, value)

    def put(self, key: Any, value: Any) -> None:
        """Insert or replace, durably."""
        self._db._raise(self._do(PUT, key, self.known.value(value)))

    def submit_put(self, key: Any, value: Any, *, timeout: float | None = None) -> RemoteSubmitted:
        """Ask for a `put` and return at once; see `RemoteDatabase.submit`."""
        packed, db = self.known.value(value), self._db
        with db._link.lock:
            if not db._core.has_room:
                db._wait_for_room(timeout)
            call = db._asking.on_key(PUT, self.known, key, packed, db._deadline(), early=True)
            db._link.send_soon()
        return RemoteSubmitted(db._link, call)

    def submit_add(self, key: Any, n: int, *, timeout: float | None = None) -> RemoteSubmitted:
        """Ask for an `add` and return at once; `result()` is what the counter is then."""
        db = self._db
        with db._link.lock:
            if not db._core.has_room:
                db._wait_for_room(timeout)
            call = db._asking.add(self.known, key, n, db._deadline(), early=True)
            db._link.send_soon()
        return RemoteSubmitted(db._link, call)

    def insert(self, key: Any, value: Any) -> None:
        """Insert; Exists if the key is there."""
        self._db._raise(self._do(INSERT, key, self.known.value(value)))

    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""
        call = self._do(DELETE, key)
        self._db._raise(call)
        return bool(call.value)

    def add(self, key: Any, n: int) -> int:
        """Add `n` to the counter `key`, and return what it is now; see `Transaction.add`."""
        db = self._db
        with db._link.lock:
            call = db._ended(db._asking.add(self.known, key, n, db._deadline()))
        db._raise(call)
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
                with self._db.snapshot() as snapshot:
                    return list(snapshot.scan(first, end, limit=limit, reverse=reverse, table=self))
            except ConnectionLost:  # Another snapshot does as well.
                if last:
                    raise
        raise AssertionError("the loop returns or raises")

    def items(
        self, first: Any = None, end: Any = None, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with first <= key < end, at one snapshot."""
        with self._db.snapshot() as snapshot:
            yield from snapshot.scan(first, end, reverse=reverse, table=self)

    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        return self.items(first, end)

    def _delete_range(self, first: Any, end: Any) -> None:
        from mako.client.retry import retrying

        retrying(self._db, lambda tx: tx._delete_range(first, end, table=self))
