"""Whoever runs for long gives way to other partitions that wait for its worker (DESIGN §7).

    mail ──▶ worker ── takes it between two transactions ──▶ answers, floors that go on
               └─ runs one transaction for long ──▶ it gives way, and is run again after the turn
                              ▲                 └─ some times in vain ──▶ ProcedureTimeout
                              └── for a while it gives way at once: others need several rounds

A worker takes no message while it runs a transaction. A coordinator that has committed holds its
closed timestamp below that until everybody has installed it, and a participant that has prepared
holds its own until it hears the decision: so one long procedure would have the watermarks of
several partitions stand still, and each leader would take the others for ones without a majority.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from mako.engine.pumped import Pumped

#: What others have sent may wait so long for a transaction to end. It ends long before a partition
#: is closed because its watermark stands still (`mako.server.joining.STILL_MS`).
HELD_UP_SECONDS: Final = 0.5
#: So long after that it gives way at once: a transaction over partitions takes several rounds, and
#: each of them would wait as long as the first one.
LET_THROUGH_SECONDS: Final = 0.25
#: How often one and the same transaction is run again after that. Then it has TIMED_OUT: run once
#: more it would only hold others up for longer.
AGAIN_MAX: Final = 3
#: Of so many of a worker it is known how often they have given way.
REMEMBERED_MAX: Final = 256


@dataclass(slots=True)
class _Waiting:
    """For one worker: since when something waits, in the turn that the worker began last."""

    turn: int
    since: float
    #: How it was asked to give way in that turn; None: not yet.
    final: bool | None = None
    #: And what that was.
    runs: tuple[int, ...] = ()


@dataclass(slots=True)
class _Before:
    """For one worker: what had to give way last, until when it does so at once, and how often
    what has given way did so; the oldest is forgotten. Several may take turns."""

    runs: tuple[int, ...] = ()
    until: float = 0.0
    times: OrderedDict[tuple[int, ...], int] = field(default_factory=OrderedDict)

    def count(self, runs: tuple[int, ...]) -> int:
        """It has to give way once more; how often it has."""
        self.times[runs] = self.times.pop(runs, 0) + 1
        while len(self.times) > REMEMBERED_MAX:
            self.times.popitem(last=False)
        return self.times[runs]


class _Tell(Protocol):
    def __call__(self, own: int, number: int, *, final: bool) -> None: ...


class GivingWay:
    """Looks after the workers of all partitions that are led here. `tell` is called
    whenever what worker `number` of partition `own` runs has to give way."""

    def __init__(self, tell: _Tell) -> None:
        self._tell = tell
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._before: dict[tuple[int, int], _Before] = {}

    def look(self, own: int, pumped: "Pumped", now: float) -> None:
        """Some time has passed; `now` is monotonic, in seconds."""
        awaited = pumped.awaited()
        for number in [each for partition, each in self._waiting if partition == own]:
            if number not in awaited:
                del self._waiting[own, number]
        for number, turn in awaited.items():
            waiting = self._waiting.get((own, number))
            if waiting is None or waiting.turn != turn:
                waiting = self._waiting[own, number] = _Waiting(turn, now)
            before = self._before.setdefault((own, number), _Before())
            if waiting.final is None and now - waiting.since >= HELD_UP_SECONDS:
                before.runs = waiting.runs = pumped.runs(number)
                before.until = now + LET_THROUGH_SECONDS
                waiting.final = before.count(waiting.runs) > AGAIN_MAX
                self._tell(own, number, final=waiting.final)
            if waiting.final is not None:
                # Also as long as it has not noticed. Something else may have begun meanwhile: that
                # only gives way.
                same = pumped.runs(number) == waiting.runs
                pumped.give_way(number, final=waiting.final and same)
            elif now < before.until and pumped.runs(number) == before.runs:
                pumped.give_way(number, final=False)
