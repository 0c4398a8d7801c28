"""When calls end at the latest."""

from __future__ import annotations

import heapq
from typing import Final

from mako.client.remote.calls import Call

#: As many calls are kept in any case.
_KEPT_MIN: Final = 1024


class Deadlines:
    """Calls by their deadlines. One that has ended is let go when its deadline is the next, or when
    they are as many as those that have not: who waits for an hour does not keep all that came
    behind it, with their values."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Call]] = []
        self._room = _KEPT_MIN

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, call: Call) -> None:
        heapq.heappush(self._heap, (call.deadline, call.id, call))
        if len(self._heap) > self._room:
            self._heap = [each for each in self._heap if not each[2].ended]
            heapq.heapify(self._heap)
            self._room = max(2 * len(self._heap), _KEPT_MIN)

    def next(self) -> float | None:
        """The first deadline of a call that has not ended, or None."""
        heap = self._heap
        while heap and heap[0][2].ended:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self, now: float) -> Call | None:
        """A call that has not ended and whose deadline is over, or None; it is kept no longer."""
        due = self.next()
        return heapq.heappop(self._heap)[2] if due is not None and due <= now else None
