"""Memory that two processes of one host have in common: channels between two leaders.

Both sides make its name of the same facts, and whoever comes first creates the file: it is zeros
then, which are channels with nothing in them. A name is used by one pair of leaders in one pair of
epochs only, so nobody ever finds what others have left. Whoever comes second removes the name: the
file lasts as long as somebody has it open. What is left of a process that was killed before that is
removed when it is old.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from mako.engine.jit import INTERPRETED

_PREFIX: Final = "mako-"
#: In front of the memory: which sides have come.
_HEAD: Final = 4096
#: Two leaders open their memory within moments.
OLD_SECONDS: Final = 24 * 3600


def shared_folder() -> Path:
    """Where such files are: in memory, where the system has such a folder."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


class SharedRegion:
    """`size` bytes at `base`, which whoever opens the same name has in common. `side` is 0 for one
    of the two, and 1 for the other. OSError."""

    def __init__(self, name: str, size: int, side: int) -> None:
        self.path = shared_folder() / f"{_PREFIX}{name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(f"{self.path} is somebody else's; remove it")
            os.ftruncate(descriptor, _HEAD + size)
            self._map = mmap.mmap(descriptor, _HEAD + size)
        finally:
            os.close(descriptor)
        self._other = 1 - side
        self._map[side] = 1
        if self.met:  # Both may come here at the same time.
            self._remove()
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self._first = ctypes.addressof(self._anchor)
        self.base = self._first + _HEAD
        if INTERPRETED:
            from mako.engine.interpreted import add_region

            self._view = memoryview(self._map)
            add_region(self._first, self._view)

    @property
    def met(self) -> bool:
        """Whether the other side has come."""
        return self._map[self._other] == 1

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Unmap, and remove the name. No compiled call may be running."""
        self._remove()
        if INTERPRETED:
            from mako.engine.interpreted import remove_region

            remove_region(self._first)
            self._view.release()
        self.base = 0
        del self._anchor
        with contextlib.suppress(BufferError):
            self._map.close()


def sweep(now: float) -> int:
    """Remove what is old at `now`, seconds since the Unix epoch; how many files. Whoever has one of
    them open keeps it."""
    removed = 0
    for path in shared_folder().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > OLD_SECONDS:
                path.unlink()
                removed += 1
    return removed
