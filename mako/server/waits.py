"""Threads that wait until the watermark has passed a timestamp.

    a thread    enter ─▶ sleeps on a lock of its own ──────────▶ goes on
    the turns                            wake(watermark) ─┘  or  fail(error)

Nobody polls: a wait costs a lock and a place in a heap, and as long as nobody is woken nothing
runs. One lock per thread, because a condition that all of them share would wake all each time.
"""

import heapq
import threading
from collections.abc import Callable
from typing import Final

from mako.errors import Error

#: Makes the error anew for each thread that raises it: an exception keeps one traceback.
MakeError = Callable[[], Error]


class Waits:
    """See the module. Threads may share it; one of them calls `wake`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[int, int, threading.Lock]] = []
        self._count = 0
        self._error: MakeError | None = None
        #: Up to here nobody has to wait.
        self.watermark = 0
        #: The highest timestamp that anybody has ever waited for, and that was drawn by then.
        self.highest = 0

    @property
    def some(self) -> bool:
        """Whether anybody waits."""
        return bool(self._heap)

    def wait(
        self, timestamp: int, clock: int, timeout: float | None, stir: Callable[[], None]
    ) -> bool:
        """Sleep until `timestamp` is at or below the watermark; False after `timeout` seconds.

        `clock` is the newest timestamp drawn: what lies beyond comes by itself or not at all.
        `stir` is called when it is known that somebody waits. Raises what `fail` was given.
        """
        with self._lock:
            if timestamp <= self.watermark:
                return True
            if self._error is not None:
                raise self._error()
            gate = threading.Lock()
            gate.acquire()
            self._count += 1
            entry = timestamp, self._count, gate
            heapq.heappush(self._heap, entry)
            self.highest = max(self.highest, min(timestamp, clock))
        stir()
        if not gate.acquire(timeout=_NEVER if timeout is None else max(timeout, 0.0)):
            self._leave(entry)
        with self._lock:
            if timestamp <= self.watermark:
                return True
            if self._error is not None:
                raise self._error()
        return False

    def _leave(self, entry: tuple[int, int, threading.Lock]) -> None:
        with self._lock:
            if entry in self._heap:
                self._heap.remove(entry)
                heapq.heapify(self._heap)

    def wake(self, watermark: int) -> None:
        """The watermark is there now: whoever waits for no more goes on."""
        with self._lock:
            self.watermark = watermark
            heap = self._heap
            while heap and heap[0][0] <= watermark:
                heapq.heappop(heap)[2].release()

    def fail(self, error: MakeError) -> None:
        """The watermark moves no more. Everybody who waits, and will, gets the first error."""
        with self._lock:
            if self._error is None:
                self._error = error
            for _, _, gate in self._heap:
                gate.release()
            self._heap.clear()


#: What `Lock.acquire` takes for no limit.
_NEVER: Final = -1.0
