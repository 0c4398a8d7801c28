"""Terminals of TPC-C, and what became of each transaction that they asked for.

    submitted ──▶ speculative ──▶ acknowledged: durable, never undone
        │              ├────────▶ discarded: a failover has undone it
        │              └────────▶ its leader was killed: the final watermark of that epoch tells
        └─ lost before any answer: the client asks again, and it still runs once

A seat is a thread with a connection, at which several terminals of one warehouse ask at a time. So
the terminals of a shard wait for those of their own shard alone.
"""

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import mako
from bench.tpcc.lookup import Receipt
from bench.tpcc.scale import Scale
from bench.tpcc.terminals import Terminal

#: Seconds that a transaction may take: longer than any failover.
CALL_SECONDS: Final = 20.0

# How a transaction may end.
ACKNOWLEDGED: Final = "acknowledged"
DISCARDED: Final = "discarded"
#: Nobody was told before its leader was killed, but it lasts.
LASTING: Final = "durable, as was found out later"
ROLLED_BACK: Final = "rolled back"
UNKNOWN: Final = "unknown"


class Orphan(NamedTuple):
    """A transaction whose leader was killed after it had answered that it was executed."""

    timestamp: int
    terminal: Terminal
    #: What it has left behind if it lasts.
    receipt: Receipt | None


class Seat:
    """See the module. `shard` is that of its warehouse."""

    def __init__(self, db: mako.RemoteDatabase, shard: int, terminals: Iterable[Terminal]) -> None:
        self.db = db
        self.shard = shard
        self.terminals = list(terminals)
        #: Transactions by how they ended, as the client was told.
        self.counts: Counter[str] = Counter()
        #: When each that was acknowledged was, in monotonic seconds.
        self.times: array[float] = array("d")
        #: Those that were speculative when their leader was killed.
        self.orphans: list[Orphan] = []

    def run(self, stop: threading.Event) -> None:
        """One transaction of each terminal after the other, until told to stop."""
        free = deque(self.terminals)
        flying: deque[tuple[Terminal, Any]] = deque()
        while flying or not stop.is_set():
            while free and not stop.is_set():
                terminal = free.popleft()
                request = terminal.draw()
                flying.append((terminal, self.db.submit(request.procedure, *request.arguments)))
            if not flying:
                return
            terminal, submitted = flying.popleft()
            self._note(self._ending(terminal, submitted))
            free.append(terminal)

    def _note(self, ending: str) -> None:
        self.counts[ending] += 1
        if ending == ACKNOWLEDGED:
            self.times.append(time.monotonic())

    def _ending(self, terminal: Terminal, submitted: Any) -> str:
        try:
            terminal.told(submitted.wait_durable())
        except mako.RolledBack:
            return ROLLED_BACK
        except mako.Discarded:
            return DISCARDED
        except mako.Unknown:
            if submitted.timestamp:
                # It has returned something, though it raises an error for whoever asks now.
                receipt = terminal.receipt(submitted._call.value)
                self.orphans.append(Orphan(submitted.timestamp, terminal, receipt))
            return UNKNOWN
        except (mako.Error, TimeoutError) as error:
            return type(error).__name__
        return ACKNOWLEDGED

    def judge(self, final: int) -> None:
        """The watermark of a killed leader ended at `final`. What it executed up to there lasts,
        though nobody was told, and is looked up like what was; what is above it is gone."""
        judged, self.orphans = self.orphans, []
        self.counts[UNKNOWN] -= len(judged)
        for orphan in judged:
            lasts = orphan.timestamp <= final
            self.counts[LASTING if lasts else DISCARDED] += 1
            if lasts and orphan.receipt is not None:
                orphan.terminal.acknowledged.add(orphan.receipt)


class Load:
    """Seats in threads of this process, until they are stopped: `seats` for each shard."""

    def __init__(
        self, addresses: str, shards: int, seats: int, each: int, scale: Scale, seed: int = 1
    ) -> None:
        self._stop = threading.Event()
        count = shards * seats * each
        terminals = [
            Terminal(
                number,
                count=count,
                warehouses=shards,
                scale=scale,
                mix=(1, 1, 0, 0, 0),
                seed=seed,
            )
            for number in range(count)
        ]
        # Every transaction carries a number, so that one whose answer was lost is asked again
        # and still runs once. Terminals are dealt out to warehouses, and so to shards, in turn.
        self.seats = [
            Seat(
                mako.connect(addresses, timeout=CALL_SECONDS, once=True),
                number % shards,
                terminals[number :: shards * seats],
            )
            for number in range(shards * seats)
        ]
        self._threads = [
            threading.Thread(target=seat.run, args=(self._stop,)) for seat in self.seats
        ]
        for thread in self._threads:
            thread.start()

    def of(self, shard: int) -> list[Seat]:
        return [seat for seat in self.seats if seat.shard == shard]

    def done(self, shard: int) -> int:
        """Transactions of a shard that were acknowledged."""
        return sum(len(seat.times) for seat in self.of(shard))

    def times(self, shard: int) -> list[float]:
        """When they were, in order."""
        return sorted(at for seat in self.of(shard) for at in list(seat.times))

    def counts(self, shard: int) -> Counter[str]:
        """How transactions of a shard ended."""
        total: Counter[str] = Counter()
        for seat in self.of(shard):
            total.update(seat.counts)
        return +total

    def judge(self, shard: int, final: int) -> None:
        """The leader of a shard was killed, and its epoch ended at `final`."""
        for seat in self.of(shard):
            seat.judge(final)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for seat in self.seats:
            seat.db.close()
