"""Virtual time, and chance that is the same every time.

Events are called in the order of their time, then of their making. Each purpose has a generator of
its own, derived from the seed and its name, so that a new purpose changes nothing for the others.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

MS: Final = 1_000_000
SECOND: Final = 1000 * MS


class Loop:
    """Calls what is due, in order. Times are virtual nanoseconds from 0."""

    __slots__ = ("_events", "_made", "now")

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, time: int, call: Callable[..., object], *arguments: Any) -> None:
        """Call at `time`, which is not in the past."""
        assert time >= self.now, "time does not go back"
        self._made += 1
        heappush(self._events, (time, self._made, call, arguments))

    def after(self, delay: int, call: Callable[..., object], *arguments: Any) -> None:
        self._made += 1
        heappush(self._events, (self.now + delay, self._made, call, arguments))

    def run(self, until: int, stop: Callable[[], bool] | None = None) -> None:
        """Go on until `until`, or until `stop()` after some event."""
        events = self._events
        while events and events[0][0] <= until:
            time, _, call, arguments = heappop(events)
            self.now = time
            call(*arguments)
            if stop is not None and stop():
                return
        self.now = max(self.now, until)


class Chances:
    """The generators of a seed, by purpose."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._by_name: dict[str, random.Random] = {}

    def of(self, name: str) -> random.Random:
        """The generator for a purpose; the same object every time."""
        found = self._by_name.get(name)
        if found is None:
            # A text is hashed by SHA-512 here, which no environment changes.
            found = self._by_name[name] = random.Random(f"{self.seed}/{name}")
        return found
