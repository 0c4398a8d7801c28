"""One process compiles a unit; the others wait for it, and load what it has kept.

A unit is an exported function, one that Python calls, or a procedure. The processes of a cluster
start together and want the same ones, and `mako warmup` has helpers. A lock of the operating system
is held beside the code of a unit while it is compiled; it ends with its process, and with those
forked from it meanwhile. Whoever waits for too long compiles as well: that is only slower.
"""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Seconds to wait for another process, and between two looks. Other threads of this one can neither
#: compile nor load anything meanwhile: numba has one lock for all.
PATIENCE: Final = 120.0
_LOOK: Final = 0.02


class NotMyTurn(Exception):
    """Another process compiles it."""


class Turn:
    """The right to compile something, which the file `path` stands for; see the module. Whoever
    has it when the context ends gives it up."""

    def __init__(
        self,
        path: Path,
        *,
        patience: float = PATIENCE,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._patience = patience
        self._now = now
        self._pause = pause
        self._lock: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            with suppress(OSError):  # A file system without locks.
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # Children may have been forked meanwhile.
            os.close(self._lock)

    def take(self) -> None:
        """Wait until nobody else has it. NotMyTurn: somebody has, and there is no patience."""
        if self._lock is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return  # Nothing can be kept there: whoever saves what is compiled says so.
        self._lock = lock
        until = self._now() + self._patience
        while not _is_locked(lock):
            if self._patience <= 0:
                raise NotMyTurn
            if self._now() >= until:
                return
            self._pause(_LOOK)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # A file system without locks: everybody compiles, as with no patience left.
    return True
