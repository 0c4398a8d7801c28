"""The mapping an engine lives in, and the set-up of its header, tables and contexts.

The mapping is anonymous and private; pages come into being when they are touched, so its size
is a limit, not a cost.
"""

from __future__ import annotations

import ctypes
import mmap

from mako.engine.atomics import ld8, memset, shl, st8, store_release
from mako.engine.index import create_tree
from mako.engine.jit import INTERPRETED, compiled
from mako.engine.layout import (
    BUMP,
    C_ACTIVE,
    C_ENGINE,
    C_FLOOR,
    C_INDEX,
    C_LOG_BASE,
    C_LOG_SIZE,
    C_OWN,
    C_RANDOM,
    C_SEED,
    C_SNAPSHOT,
    CLOCK,
    CLOSED,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    FIRST_CONTEXT,
    HORIZON,
    INTENT,
    LINE,
    LOGGING,
    NONE,
    OWN_BIT,
    PARTITION,
    SIZE,
    SOFT_LIMIT,
    STABLE,
    T_ID,
    T_KIND,
    T_ROW,
    TABLE_BYTES,
    TABLES,
)

#: Kept back from everything but deletes, so that a full engine can be emptied.
RESERVE_BYTES = 2 << 20
#: With less room for rows all pages are small: contexts, megabytes each, would have many times
#: that cleared to use a few kilobytes of it.
HUGE_FROM = 256 << 20
#: More bytes of contexts than that are used here and there.
SPARSE_FROM = 1 << 30


@compiled
def set_up(engine: int, size: int, contexts: int, ring_bytes: int, own_bit: int, now: int) -> int:
    """Write the header and the contexts; the first free address, 0 if `size` is too small."""
    first = engine + FIRST_CONTEXT
    rings = first + contexts * CONTEXT_BYTES
    start = rings + contexts * ring_bytes
    if start + 2 * RESERVE_BYTES > engine + size:
        return 0
    st8(engine + SIZE, size)
    st8(engine + SOFT_LIMIT, size - RESERVE_BYTES)
    st8(engine + CONTEXTS, first)
    st8(engine + CONTEXT_COUNT, contexts)
    st8(engine + OWN_BIT, own_bit)
    for partition in range(64):
        if own_bit == shl(1, partition):
            st8(engine + PARTITION, partition)
    st8(engine + LOGGING, 0)
    st8(engine + CLOCK, now)
    st8(engine + CLOSED, now)
    st8(engine + STABLE, now)
    st8(engine + HORIZON, 0)
    st8(engine + INTENT, 0)
    st8(engine + BUMP, (start + LINE - 1) & -LINE)
    for i in range(contexts):
        context = first + i * CONTEXT_BYTES
        st8(context + C_ENGINE, engine)
        st8(context + C_INDEX, i)
        st8(context + C_OWN, own_bit)
        st8(context + C_FLOOR, NONE)
        st8(context + C_ACTIVE, NONE)
        st8(context + C_SNAPSHOT, NONE)
        st8(context + C_LOG_BASE, rings + i * ring_bytes)
        st8(context + C_LOG_SIZE, ring_bytes)
        st8(context + C_SEED, i + 1)
        st8(context + C_RANDOM, i + 1)
    return start


@compiled
def add_table(engine: int, context: int, number: int, kind: int, row_bytes: int) -> int:
    """Create table `number`: its address, or 0 when memory is full."""
    table = engine + TABLES + number * TABLE_BYTES
    st8(table + T_ID, number)
    st8(table + T_ROW, row_bytes)
    if create_tree(context, table) == 0:
        return 0
    store_release(table + T_KIND, kind)
    return table


@compiled
def fill_zero(address: int, size: int) -> None:
    memset(address, 0, size)


@compiled
def word_at(address: int) -> int:
    return ld8(address)


class Region:
    """One anonymous mapping of `size` bytes, of which `rows` are for rows if that is not all;
    `base` is its address."""

    def __init__(self, size: int, rows: int | None = None) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self.size = size
        self._map = mmap.mmap(-1, size, flags=flags)
        if (size if rows is None else rows) >= HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
            # Random access over gigabytes: with small pages most of it would be page walks.
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(self._map)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.base = ctypes.addressof(self._anchor)
        if INTERPRETED:
            from mako.engine.interpreted import add_region

            add_region(self.base, self.view)

    def avoid_huge(self, start: int, size: int) -> None:
        """Have small pages for the contexts, if they are so many that most are lanes, of which a
        few are used."""
        if size >= SPARSE_FROM and hasattr(mmap, "MADV_NOHUGEPAGE"):
            start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_NOHUGEPAGE, start, size)

    def read(self, address: int, size: int) -> bytes:
        start = address - self.base
        return bytes(self.view[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        start = address - self.base
        self.view[start : start + len(data)] = data

    def close(self) -> None:
        """Unmap. No compiled call may be running."""
        if self.base == 0:
            return
        if INTERPRETED:
            from mako.engine.interpreted import remove_region

            remove_region(self.base)
        self.base = 0
        del self._anchor
        self.view.release()
        try:
            self._map.close()
        except BufferError:  # A view of somebody's is alive: the mapping goes with it.
            pass
