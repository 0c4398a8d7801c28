"""Work on files that takes long, done aside: a process goes on meanwhile.

    put ──▶ begin ──▶ run ──▶ end ──▶ what follows
                (a thread's work)

A snapshot of some hundred MiB is synced for a second and checked for some; a process that did this
between two turns would send no heartbeats for as long. One piece of work is under way at a time,
in the order in which they were put.

What a piece of work was for may be gone when it ends: `then` looks. Its files are its own until
then; who wants them gone leaves that to `then`. DiskFull is an outcome, which `run` hands on as a
value; another error of the disk ends the process.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mako.replication.contract import ENDING

_T = TypeVar("_T")


def _nothing() -> None:
    pass


class Aside:
    """See the module. The caller owns the thread: it calls `begin`, `run` there, and `end`."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], Callable[[], None]]] = deque()
        self._flight: Callable[[], Callable[[], None]] | None = None
        self._then: Callable[[], None] = _nothing

    def put(self, run: Callable[[], _T], then: Callable[[_T], None]) -> None:
        """Call `run` in another thread, some time; then `then` with what it gave, in this one."""

        def work() -> Callable[[], None]:
            return partial(then, run())

        self._waiting.append(work)

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way or waits."""
        return self._flight is not None or bool(self._waiting)

    def begin(self) -> bool:
        """True: call `run` and then `end` now."""
        if self._flight is not None or not self._waiting:
            return False
        self._flight = self._waiting.popleft()
        return True

    def run(self) -> None:
        """Blocks; in any thread. ProcessMustEnd."""
        assert self._flight is not None, "after begin"
        with ENDING:
            self._then = self._flight()

    def end(self) -> None:
        """What was waiting for it happens; pump afterwards. ProcessMustEnd."""
        then, self._then = self._then, _nothing
        self._flight = None
        with ENDING:
            then()
