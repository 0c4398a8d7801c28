"""Memory that two processes of one host have in common: channels between two leaders.

Both sides make its name of the same facts, and whoever comes first creates the file: it is zeros
then, which are channels with nothing in them. A name is used by one pair of leaders in one pair of
epochs only, so nobody ever finds what others have left. Whoever comes second removes the name: the
file lasts as long as somebody has it open. What is left of a process that was killed before that is
removed when it is old.

    open ──▶ reserve what this side uses ──▶ come

The length of a file reserves nothing: where the folder is full, the first touch of a page would end
the process, by a signal and without a line. So each side has the system provide what it will touch
before it says that it has come; of both together that is all that is ever used.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mako.engine.channel import CHANNEL_SIZE, H_DATA
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


def parts_of(side: int, askers: int, asking: int) -> Iterator[tuple[int, int]]:
    """Where the channels lie that a side uses, of which `asking` workers ask, as offset and size
    (`mako.engine.pumped` lays them out, `askers` of each side).

    Whoever asks provides the channels for that, both ways. Of all others it looks whether there is
    something, which touches them as well: nothing is written there before the other side comes.
    """
    each = 2 * CHANNEL_SIZE
    yield side * askers * each, asking * each
    for number in range(4 * askers):
        yield number * CHANNEL_SIZE, H_DATA


class SharedRegion:
    """`size` bytes at `base`, which whoever opens the same name has in common. `side` is 0 for one
    of the two, and 1 for the other. Nobody may touch what was not reserved. OSError."""

    def __init__(self, name: str, size: int, side: int) -> None:
        self.path = shared_folder() / f"{_PREFIX}{name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        self._descriptor = descriptor
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(f"{self.path} is somebody else's; remove it")
            self._map = self._mapped(size)
        except OSError:
            self._let_go()
            raise
        self._side = side
        self._size = size
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self._first = ctypes.addressof(self._anchor)
        self.base = self._first + _HEAD
        if INTERPRETED:
            from mako.engine.interpreted import add_region

            self._view = memoryview(self._map)
            add_region(self._first, self._view)

    def _mapped(self, size: int) -> mmap.mmap:
        try:
            os.ftruncate(self._descriptor, _HEAD + size)
            self._reserve(0, _HEAD)
            return mmap.mmap(self._descriptor, _HEAD + size)
        except OSError:
            self._remove()  # Who comes later makes it again.
            raise

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reserve(self, offset: int, size: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, offset, size)
        except OSError as error:
            # The call itself does not know whose file it is.
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error

    def come(self, parts: Iterable[tuple[int, int]] | None = None) -> None:
        """Reserve parts of it, each an offset and a size, or all of it; then tell the other side.
        OSError: there is no room, and the other side was told nothing."""
        for offset, size in [(0, self._size)] if parts is None else parts:
            self._reserve(_HEAD + offset, size)
        self._let_go()
        self._map[self._side] = 1
        if self.met:  # Both may come here at the same time.
            self._remove()

    @property
    def met(self) -> bool:
        """Whether the other side has come."""
        return self._map[1 - self._side] == 1

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Unmap, and remove the name. No compiled call may be running."""
        self._remove()
        self._let_go()
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
