"""Prefetching: bringing rows into the cache while other work goes on.

Looking up a cold row is a chain of cache misses, each waiting for the one before: leaf, slot,
record, version. A transaction that knows its keys beforehand asks for all of them first; the
chains then run side by side. Each call starts one chain and moves two older ones a step on:

    call n        goes down to the leaf and asks for its lines
    call n + D1   searches that leaf, now here, and asks for the record
    call n + D2   loads the record's head and asks for the version

It is a hint and reads nothing that counts: no step waits, and one that meets a change is left
out. What it looks at cannot be freed, as the transaction is active.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mako.engine.atomics import fence_acquire, ld8, load_acquire, load_relaxed, prefetch, st8
from mako.engine.index import BUSY, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    AHEAD_BYTES,
    AHEAD_MAX,
    C_AHEAD,
    C_AHEAD_COUNT,
    LINE,
    N_COUNT,
    N_LEVEL,
    N_VERSION,
    POINTER,
    R_HEAD,
    T_ROOT,
    T_ROW,
    V_VALUE,
)

#: Calls between two steps of a chain: the time of a miss, some 100 ns, at 20 ns a call.
_STEP = 4
_LINES_MAX = 6
_A_LEAF, _A_KEY, _A_RECORD, _A_LINES = 0, 8, 24, 32


@compiled
def _fetch_version(entry: int) -> None:
    """Third step: the record is here, ask for the value."""
    record = ld8(entry + _A_RECORD)
    if record != 0:
        version = load_relaxed(record + R_HEAD) & POINTER
        for line in range(ld8(entry + _A_LINES)):
            prefetch(version + line * LINE)


def _make_ahead(index: Index) -> Callable[..., int]:
    kind = index.kind
    fanout = kind.fanout
    children = kind.children
    count_less, count_not_above, equals = kind.count_less, kind.count_not_above, kind.equals
    two = kind.name == "pair"

    def load_word(entry: int) -> int:
        return ld8(entry + _A_KEY)

    def load_pair(entry: int) -> tuple[int, int]:
        return ld8(entry + _A_KEY), ld8(entry + _A_KEY + 8)

    def store_word(entry: int, key: int) -> None:
        st8(entry + _A_KEY, key)

    def store_pair(entry: int, key: tuple[int, int]) -> None:
        st8(entry + _A_KEY, key[0])
        st8(entry + _A_KEY + 8, key[1])

    load = compiled(named(load_pair if two else load_word, f"{kind.name}.ahead_load"))
    store = compiled(named(store_pair if two else store_word, f"{kind.name}.ahead_store"))

    def fetch_record(entry: int) -> None:
        """Second step: the leaf is here, ask for the record."""
        leaf = ld8(entry + _A_LEAF)
        if leaf == 0:
            return
        version = load_acquire(leaf + N_VERSION)
        if version & BUSY:
            return
        key = load(entry)
        count = min(max(ld8(leaf + N_COUNT), 0), fanout)
        at = count_less(leaf, count, key)
        if at >= count or not equals(leaf, at, key):
            return
        record = ld8(leaf + children + 8 * at)
        fence_acquire()
        if load_relaxed(leaf + N_VERSION) == version:
            st8(entry + _A_RECORD, record)
            prefetch(record)

    fetch_record = compiled(named(fetch_record, f"{kind.name}.fetch_record"))

    def fetch_leaf(table: int, key: Any) -> int:
        """First step: the leaf's address, its lines asked for; 0 if there is nothing to gain."""
        node = load_acquire(table + T_ROOT)
        version = load_acquire(node + N_VERSION)
        if version & BUSY:
            return 0
        while True:
            level = ld8(node + N_LEVEL)
            if level == 0:
                return node
            count = min(max(ld8(node + N_COUNT), 0), fanout)
            child = ld8(node + children + 8 * count_not_above(node, count, key))
            fence_acquire()
            if load_relaxed(node + N_VERSION) != version:
                return 0
            if level == 1:
                for line in range(16):
                    prefetch(child + line * LINE)
                return child
            child_version = load_acquire(child + N_VERSION)
            if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                return 0
            node = child
            version = child_version

    fetch_leaf = compiled(named(fetch_leaf, f"{kind.name}.fetch_leaf"))

    def ahead(tx: int, table: int, key: Any) -> int:
        count = ld8(tx + C_AHEAD_COUNT)
        st8(tx + C_AHEAD_COUNT, count + 1)
        entry = tx + C_AHEAD + (count % AHEAD_MAX) * AHEAD_BYTES
        st8(entry + _A_LEAF, fetch_leaf(table, key))
        st8(entry + _A_RECORD, 0)
        st8(entry + _A_LINES, min((V_VALUE + ld8(table + T_ROW) + LINE - 1) // LINE, _LINES_MAX))
        store(entry, key)
        if count >= _STEP:
            fetch_record(tx + C_AHEAD + ((count - _STEP) % AHEAD_MAX) * AHEAD_BYTES)
        if count >= 2 * _STEP:
            _fetch_version(tx + C_AHEAD + ((count - 2 * _STEP) % AHEAD_MAX) * AHEAD_BYTES)
        return 0

    return keyed(kind, ahead, "ahead")


AHEAD = {1: _make_ahead(WORD_INDEX), 2: _make_ahead(PAIR_INDEX)}
