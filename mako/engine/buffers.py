"""Bytes of Python as memory that compiled code can read: an address and a size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mako.engine.jit import INTERPRETED

Buffer = bytes | bytearray | memoryview


@contextmanager
def addressed(data: Buffer) -> Iterator[tuple[int, int]]:
    """(address, size) of `data`, which may be read there for the length of the block."""
    if INTERPRETED:
        yield from _registered(data)
        return
    array = np.frombuffer(data, np.uint8)  # It takes read-only memory as well, unlike ctypes.
    yield array.__array_interface__["data"][0], array.size


def _registered(data: Buffer) -> Iterator[tuple[int, int]]:
    """The same for interpreted code, which reads only what was registered, in whole words."""
    from mako.engine.interpreted import add_region, remove_region

    size = len(data)
    view = memoryview(bytearray(size // 8 * 8 + 8))
    base = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    view[:size] = data
    add_region(base, view)
    try:
        yield base, size
    finally:
        remove_region(base)
