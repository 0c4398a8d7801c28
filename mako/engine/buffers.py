"""Bytes of Python as memory that compiled code can read: an address and a size."""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType

import numpy as np

from mako.engine.jit import INTERPRETED

Buffer = bytes | bytearray | memoryview

#: In CPython an object is where its id says, and the contents of `bytes` end it, with a zero.
_BYTES_AT = bytes.__basicsize__ - 1
_PLAIN = sys.implementation.name == "cpython" and (
    ctypes.string_at(id(b"probe") + _BYTES_AT, 6) == b"probe\0"
)


class addressed:
    """`with addressed(data) as (address, size)`: it may be read there for the length of the block.

    A class, for it is entered twice for each entry of a log.
    """

    __slots__ = ("_array", "_data", "_registered")

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._registered = 0

    def __enter__(self) -> tuple[int, int]:
        if INTERPRETED:
            return self._register()
        data = self._data
        if _PLAIN and type(data) is bytes:
            return id(data) + _BYTES_AT, len(data)
        # It takes read-only memory as well, unlike ctypes.
        self._array = np.frombuffer(self._data, np.uint8)
        return self._array.ctypes.data, self._array.size

    def _register(self) -> tuple[int, int]:
        """Interpreted code reads only what was registered, in whole words."""
        from mako.engine.interpreted import add_region

        size = len(self._data)
        view = memoryview(bytearray(size // 8 * 8 + 8))
        self._array = np.frombuffer(view, np.uint8)
        self._registered = self._array.ctypes.data
        view[:size] = self._data
        add_region(self._registered, view)
        return self._registered, size

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._registered:
            from mako.engine.interpreted import remove_region

            remove_region(self._registered)
