"""All connections of clients to one replica, without I/O.

    hand_out   results that have passed the gate, answers that waited, room for who was blocked
    redirect   who waits here for a leader is told who it is
    deposed    the workers stop; what was not begun is refused, and what waits is held
    judge      whoever waited is told what became of it
    drop_all   the engine goes: every connection ends

What a leader has executed and was not acknowledged as it was deposed may be in the log or not. The
first entry of the next epoch decides, and this process is told of it soon, since it goes on as a
follower. If it is not, what is left is answered UNKNOWN: never a guess (DESIGN §8).

Whoever owns the streams (`mako.server.hub`) adds what it serves, and calls.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from mako.errors import ConfigError
from mako.ids import Status
from mako.server.backend import Backend
from mako.server.clients import ClientConnection
from mako.server.held import Judged
from mako.server.plan import JUDGED_SECONDS
from mako.wire.errors import WireError


class Served(Protocol):
    """A connection and its stream."""

    @property
    def connection(self) -> ClientConnection: ...

    def finish(self, reason: str) -> None:
        """End it: at once, or, if there is a reason to give, when that has been sent."""
        ...

    def unblocked(self) -> None:
        """The connection takes bytes again."""
        ...

    def begin_jobs(self) -> None:
        """The connection has jobs, which did not come of what it has just received."""
        ...


class Connections:
    """See the module. They are told in the order in which they came."""

    def __init__(self, backend: Backend, *, judged_seconds: float = JUDGED_SECONDS) -> None:
        self._backend = backend
        self._served: dict[Served, None] = {}
        #: Whether anybody waits for `judge`.
        self.holds = False
        #: What was held, by what became of it: "durable", "discarded", "unknown".
        self.judged: Counter[str] = Counter()
        self._judged_seconds = judged_seconds
        self._seen = 0
        self._waited = True
        self._unknown_at: float | None = None
        # Those that take bytes again, and were not told yet.
        self._freed: list[Served] = []

    def __len__(self) -> int:
        return len(self._served)

    def add(self, served: Served) -> None:
        self._served[served] = None

    def awaited(self) -> list[tuple[int, int]]:
        """What answers in sessions wait for: a timestamp, and the number of the connection."""
        every = [served.connection.awaited for served in self._served]
        return [(timestamp, number) for number, some in every for timestamp in some]

    def remove(self, served: Served) -> None:
        """Its stream has ended. Twice is harmless."""
        self._served.pop(served, None)
        served.connection.close()

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the gate, as far as `hand_out` and the connections know."""
        return self._waited or any(served.connection.waiting for served in self._served)

    def hand_out(self, now: float) -> bool:
        """Hand out what has passed the gate; whether something waits for it. `now` is monotonic,
        in seconds."""
        self._wait_no_longer(now)
        serving = self._backend.serving
        if "acknowledged_by_own_watermark" in self._backend.planted:
            serving.set_masks(1 << self._backend.partition)
        waits = serving.collect()
        freed, self._freed = self._freed, []
        for served in freed:
            if served in self._served:
                served.unblocked()
        for served in list(self._served):
            self.go_on(served, now)
            waits = waits or served.connection.waiting
        if waits:
            # What was seen before is waited for since then.
            news = serving.seen != self._seen
            self._seen = serving.seen
            self._backend.on_waiting(self._backend.engine.clock if news else 0)
        self._waited = waits or self.holds
        return self._waited

    def go_on(self, served: Served, now: float) -> None:
        """Results have been handed out, or taken: there may be room, and answers may be ready."""
        connection = served.connection
        if connection.quiet:
            return
        was_blocked = connection.blocked
        connection.settle()
        if connection.stuck:
            try:
                connection.resume(now)
            except (WireError, ConfigError) as error:  # As of what has just been received.
                served.finish(str(error))
            if connection.has_jobs:
                served.begin_jobs()
        if was_blocked and not connection.blocked:
            served.unblocked()

    def tick(self, now: float) -> None:
        """Some time has passed: who left something open is cut off."""
        for served in list(self._served):
            was_blocked = served.connection.blocked
            try:
                served.connection.tick(now)
            except WireError as error:
                served.finish(str(error))
            self._note_freed(served, was_blocked=was_blocked)
        if self._freed:
            self._backend.serving.wake()

    def drop_all(self, reason: str) -> None:
        """End every connection: the engine that it looks at goes."""
        self._seen = -1  # Another engine counts anew.
        for served in list(self._served):
            # Who has not been greeted would take the reason for one that lasts.
            served.finish(reason if served.connection.greeted else "")
            served.connection.close()  # Now, while what it has to give back is there.

    def redirect(self) -> None:
        """It is known, or known again, who leads: clients may be listening for it."""
        for served in list(self._served):
            if served.connection.greeted:
                served.connection.redirect()

    # --- the end of a leadership ------------------------------------------------------------

    def deposed(self) -> None:
        """This process does not lead any more: its workers stop, and what waits is held."""
        assert not self.holds, "an epoch is judged before the next one begins"
        self.redirect()  # Before results that say so.
        self._backend.serving.stop(Status.NOT_LEADER)
        self.holds = self._backend.serving.holds
        self._unknown_at = None
        for served in list(self._served):
            was_blocked = served.connection.blocked
            served.connection.deposed()
            self._note_freed(served, was_blocked=was_blocked)
            self.holds = self.holds or served.connection.holds
        if self.holds or self._freed:
            self._backend.serving.wake()

    def judge(self, final: int, lost: Status) -> None:
        """What is held is durable at or below `final`, and `lost` above it: DISCARDED if that is
        the final watermark of its epoch, else UNKNOWN."""
        if not self.holds:
            return
        self.holds = False
        found = self._backend.serving.judge(final, lost)
        for served in list(self._served):
            was_blocked = served.connection.blocked
            found = found.plus(served.connection.judge(final, lost))
            self._note_freed(served, was_blocked=was_blocked)
        self._count(found, lost)
        self._backend.serving.wake()

    def lost(self, partition: int, final: int | None) -> None:
        """Everything that depends on a partition above `final` was removed, or nobody can tell
        what of it was; no worker runs."""
        above, status = (0, Status.UNKNOWN) if final is None else (final, Status.DISCARDED)
        lost = self._backend.serving.lost(partition, above, status)
        for served in list(self._served):
            was_blocked = served.connection.blocked
            lost += served.connection.lost(partition, above, status)
            self._note_freed(served, was_blocked=was_blocked)
        self._count(Judged(lost=lost), status)
        self._backend.serving.wake()

    def _note_freed(self, served: Served, *, was_blocked: bool) -> None:
        """It is told by the next `hand_out`, which would not notice: it is not blocked there."""
        if was_blocked and not served.connection.blocked:
            self._freed.append(served)

    def _count(self, found: Judged, lost: Status) -> None:
        self.judged["durable"] += found.durable
        self.judged["discarded" if lost is Status.DISCARDED else "unknown"] += found.lost

    def give_up(self) -> None:
        """Nobody can tell in time what became of what is held, but for what is durable already:
        as long as it is not judged the watermark is one of its own epoch."""
        if self.holds:
            self.judge(self._backend.gate(), Status.UNKNOWN)

    def _wait_no_longer(self, now: float) -> None:
        if not self.holds:
            return
        if self._unknown_at is None:
            self._unknown_at = now + self._judged_seconds
        elif now >= self._unknown_at:
            self.give_up()
