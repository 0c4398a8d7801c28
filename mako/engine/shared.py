"""Memory that two processes of one host have in common: channels between two leaders.

Both sides make its name of the same facts, and whoever comes first creates the file: it is zeros
then, which are channels with nothing in them. A name is used by one pair of leaders in one pair of
epochs only, so nobody ever finds what others have left.
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


def shared_folder() -> Path:
    """Where such files are: in memory, where the system has such a folder."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


class SharedRegion:
    """`size` bytes at `base`, which whoever opens the same name has in common. OSError."""

    def __init__(self, name: str, size: int) -> None:
        self._path = shared_folder() / f"{_PREFIX}{name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(f"{self._path} is somebody else's; remove it")
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.base = ctypes.addressof(self._anchor)
        if INTERPRETED:
            from mako.engine.interpreted import add_region

            self._view = memoryview(self._map)
            add_region(self.base, self._view)

    def close(self) -> None:
        """Unmap, and remove the name. No compiled call may be running."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        if INTERPRETED:
            from mako.engine.interpreted import remove_region

            remove_region(self.base)
            self._view.release()
        self.base = 0
        del self._anchor
        with contextlib.suppress(BufferError):
            self._map.close()


def sweep(part: str) -> int:
    """Remove the files whose names have `part`, which a process that was killed has left; how many.
    Whoever has one of them open keeps it."""
    found = list(shared_folder().glob(f"{_PREFIX}{part}*"))
    for path in found:
        with contextlib.suppress(OSError):
            path.unlink()
    return len(found)
