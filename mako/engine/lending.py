"""What an engine lends: its contexts, and the promise that its memory stays.

An interrupt (Ctrl-C, a signal handler that raises) may end a Python function at any of its calls:
before the result has a name, in a `finally`, in a `__del__`. Nothing that must be given back can be
counted then. So what is lent is an object, and whoever uses it holds on to it:

    free ──take──▶ held by a session ──give──▶ free
      ▲                    │ interrupted, and collected
      └──── `_recover` ◀───┘

Mostly it is given back. Otherwise nobody holds it any more once those are gone who did, which the
count of its references tells: exactly, whatever the collector has done, and no sooner.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from sys import getrefcount
from typing import Final, TypeVar

from mako.errors import Closed, ConfigError
from mako.forks import LEFT

T = TypeVar("T")


class Lease:
    """Whoever holds this has the context."""

    __slots__ = ("context",)

    def __init__(self, context: int) -> None:
        self.context: Final = context


class Pin:
    """As long as anybody holds this, the memory stays."""

    __slots__ = ()


def _counted(things: Iterable[T]) -> Iterator[tuple[T, int]]:
    """Each of them, and how often it is referred to. From the moment that it is counted it is held
    here: should a signal handler or the collector have others look meanwhile, they leave it be."""
    for thing in tuple(things):
        yield thing, getrefcount(thing)


#: References to what is in one collection, and that nobody holds; debuggers that look on add some.
_UNHELD: Final = next(_counted([object()]))[1]


def _unheld(things: Iterable[T]) -> Iterator[T]:
    """Those of them that are in this collection only. Too many references mean at worst that it is
    not noticed yet; so what nobody holds is counted again, in case that one looked on before."""
    fewest = min(_UNHELD, *(count for _, count in _counted([object(), object()])))
    for thing, count in _counted(things):
        if count <= fewest:
            yield thing


class Lender:
    """The contexts of an engine, and who keeps its memory; see the module. For all threads."""

    def __init__(self, contexts: Sequence[int]) -> None:
        self.context_count = len(contexts)
        self._leases = {context: Lease(context) for context in contexts}
        self._free_contexts = list(self._leases.values())
        # Of those who know an address only (`take_context`).
        self._kept: dict[int, Lease] = {}
        # With as many free, whatever is in use has been looked through.
        self._looked_at = len(contexts)
        self._pins: list[Pin] = []
        # The collector may close a forgotten snapshot wherever it runs, under this lock too.
        self._lock = threading.RLock()
        self._open = True
        #: Set when the memory has been given back, or is not this process's.
        self.over = threading.Event()
        #: Whether it is not: this process was forked from that which opened it (`mako.forks`).
        self.left = False

    def take(self) -> Lease:
        """Borrow a context. It belongs to who holds the lease, a session or so, until `give`."""
        with self._lock:
            if not self._open:
                raise Closed("the database is closed; open it again")
            free = self._free_contexts
            if len(free) <= self._looked_at // 2:
                # Many more than ever are in use, or it was not given back by all who no longer do.
                self._recover()
                self._looked_at = len(free)
            if not free:
                raise ConfigError(
                    f"all {self.context_count} contexts are in use; end some transactions or"
                    " snapshots, or open the database with more sessions"
                )
            return free.pop()

    def give(self, lease: Lease) -> None:
        """Give back a context, once, between transactions."""
        with self._lock:
            self._free_contexts.append(lease)
            if not self._open:
                self._unmap_if_unused()

    def lease_of(self, context: int) -> Lease:
        """What whoever has this context holds: who works in it for somebody else holds it, too."""
        return self._leases[context]

    def take_context(self) -> int:
        """The same for who keeps no lease, and is not interrupted: until `give_context` it is in
        use, whatever happens."""
        lease = self.take()
        self._kept[lease.context] = lease
        return lease.context

    def give_context(self, context: int) -> None:
        self.give(self._kept.pop(context))

    @contextmanager
    def borrowed(self) -> Iterator[int]:
        """A context for the length of a block."""
        lease = self.take()
        try:
            yield lease.context
        finally:
            self.give(lease)

    def pin(self) -> Pin | None:
        """Keep the memory until `unpin`; None if it has been given back already."""
        pin = Pin()
        with self._lock:
            if self.over.is_set():
                return None
            self._pins.append(pin)
        return pin

    def unpin(self, pin: Pin) -> None:
        with self._lock:
            self._pins.remove(pin)
            if not self._open:
                self._unmap_if_unused()

    def _recover(self) -> None:
        """Take back what nobody holds. The lock is held."""
        if len(self._free_contexts) + len(self._kept) < self.context_count:
            for lease in _unheld(self._leases.values()):
                self._end(lease.context)
                self._free_contexts.append(lease)
        for pin in _unheld(self._pins):
            self._pins.remove(pin)

    def leave(self) -> None:
        """See `mako.forks`. The memory, a copy, stays until this is forgotten: who was at work in
        it has not let go of anything."""
        self.left = True
        self._lock = threading.RLock()
        self._open = False
        self.over = threading.Event()
        self.over.set()

    def check_left(self) -> None:
        if self.left:
            raise Closed(LEFT)

    def _unmap_if_unused(self) -> None:
        """It is closed; the lock is held."""
        if self.over.is_set():
            return
        self._recover()
        if not self._pins and len(self._free_contexts) == self.context_count:
            self.over.set()
            self._unmap()

    def _end(self, context: int) -> None:
        """End whatever was left open in a context."""
        raise NotImplementedError

    def _unmap(self) -> None:
        """Give the memory back."""
        raise NotImplementedError
