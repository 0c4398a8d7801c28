"""Which server a client talks to next, and when.

    in turn ──▶ a server that leads                                            settled
       ▲    └─▶ one that says who leads ──▶ that one ──▶ it leads              settled
       │               │                       └──▶ it cannot be reached: shunned, another in turn
       │               │ it is shunned, or is that one itself, or nobody is known
       │               ▼
       └─ in vain ── listen: a server says at once when it learns who leads

Listening is how a client waits for an election without asking over and over: it goes on with the
message, and the pause is only how long it believes in this server. Invariant: between two
connections that led nowhere there is a wait, or a server that was not tried since the last wait.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

#: Seconds of the first and the longest pause before something is tried again.
PAUSE_MIN: Final = 0.005
PAUSE_MAX: Final = 1.0
#: Servers that may send the client on before it pauses.
HOPS_MAX: Final = 2


class Route:
    """The way to whoever leads; times are monotonic, in seconds."""

    def __init__(self, addresses: Sequence[str], chance: random.Random) -> None:
        self._given = list(addresses)
        self._addresses = self._given
        self._chance = chance
        self._turn = 0
        #: Who leads, as far as a server has said; empty: another one is asked in turn.
        self._leader = ""
        #: Where the last connection went.
        self.here = ""
        # Who was said to lead and could not be reached, was lost, or does not answer.
        self._shunned = ""
        # What this server said while it is listened to.
        self._named = ""
        self._failed = 0
        self._hops = 0
        self._pause = PAUSE_MIN
        #: No connection before this time.
        self.due = 0.0

    def next(self) -> str:
        """The address to connect to."""
        self.here = self._leader or self._addresses[self._turn % len(self._addresses)]
        return self.here

    def learn(self, addresses: Sequence[str]) -> None:
        """A server has said where there are replicas: ask them, too, behind those that were given.

        Who is given one address finds the others when that process is gone.
        """
        self._addresses = [*self._given, *(each for each in addresses if each not in self._given)]

    def settled(self) -> None:
        """The server here does what is asked."""
        self._hops = self._failed = 0
        self._pause = PAUSE_MIN
        self._shunned = ""

    def failed(self, now: float, *, settled: bool) -> None:
        """There is no connection to the server any more, or none could be made."""
        self._shunned = self.here
        told, self._leader = bool(self._leader), ""
        if settled:
            return
        if not told:
            self._turn += 1
        self._failed += 1
        if self._failed >= len(self._addresses):
            self.wait(now)

    def mute(self, now: float) -> None:
        """The server here does not answer."""
        self._shunned = self.here
        self._turn += 1
        self._leader = ""
        self.wait(now)

    def wait(self, now: float) -> None:
        """No connection for a while."""
        self._failed = 0
        self.due = now + self.pause()

    def pause(self) -> float:
        """Seconds to wait, each time up to twice as long as the time before."""
        seconds = self._chance.uniform(self._pause / 2, self._pause)
        self._pause = min(2 * self._pause, PAUSE_MAX)
        return seconds

    def told(self, leader: str) -> bool:
        """The server here does not lead, and says who does. Whether to go there; else listen."""
        self._named = leader
        if leader in ("", self.here, self._shunned) or self._hops >= HOPS_MAX:
            return False
        self._hops += 1
        self._leader = leader
        return True

    def news(self, leader: str) -> bool:
        """A server that is listened to has learned who leads. Whether to go there."""
        self._named = leader
        if leader in ("", self.here):
            return False
        self._leader = leader
        return True

    def in_vain(self) -> None:
        """The server here was listened to for long enough: follow what it said, or go on.

        Who was shunned is not tried at once, as that may take long; the next server is believed.
        """
        self._hops = self._failed = 0
        self._turn += 1
        self._leader = "" if self._named in (self.here, self._shunned) else self._named
        self._shunned = ""
