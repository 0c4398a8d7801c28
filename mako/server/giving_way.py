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

from dataclasses import dataclass
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


@dataclass(slots=True)
class _Waiting:
    """For one worker: since when something waits, in the turn that the worker began last."""

    turn: int
    since: float
    #: How it was asked to give way in that turn; None: not yet.
    final: bool | None = None


@dataclass(slots=True)
class _Before:
    """For one worker: what had to give way last, how often in a row, and until when it does so at
    once."""

    runs: tuple[int, ...] = ()
    times: int = 0
    until: float = 0.0


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
                runs = pumped.runs(number)
                times = before.times + 1 if runs == before.runs else 1
                waiting.final = times > AGAIN_MAX
                self._before[own, number] = _Before(runs, times, now + LET_THROUGH_SECONDS)
                self._tell(own, number, final=waiting.final)
            if waiting.final is not None:
                # Also as long as it has not noticed: something else may have begun just before.
                pumped.give_way(number, final=waiting.final)
            elif now < before.until and pumped.runs(number) == before.runs:
                pumped.give_way(number, final=False)
