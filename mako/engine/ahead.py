"""Prefetching: bringing rows into the cache while other work goes on.

Looking up a cold row is a chain of cache misses, each waiting for the one before: leaf, slot,
record, version. A transaction that knows its keys beforehand asks for all of them first; the
chains then run side by side. Each call starts one chain and moves two older ones a step on:

    call n          goes down to the leaf and asks for its lines
    call n + STEP   searches that leaf, now here, and asks for the record
    call n + 2STEP  loads the record's head and asks for the version

No step waits, and one that meets a change is left out. What was found stays in a small table
by key, so that the read itself needs no second descent: it holds as long as the leaf has the
version under which the record was found (T1), however old the entry is (T3). But the finding
itself must happen in the transaction that went down to the leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mako.engine.atomics import fence_acquire, ld8, load_acquire, load_relaxed, prefetch, st8
from mako.engine.index import BUSY, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    A_KEY,
    A_LEAF,
    A_LINES,
    A_RECORD,
    A_TABLE,
    A_TRANSACTION,
    A_VERSION,
    AHEAD_BYTES,
    AHEAD_MAX,
    C_AHEAD,
    C_AHEAD_COUNT,
    C_ORDER,
    C_PROGRESS,
    LINE,
    N_COUNT,
    N_LEVEL,
    N_VERSION,
    NODE_BYTES,
    POINTER,
    R_HEAD,
    T_ROOT,
    T_ROW,
    TABLE_BYTES,
    V_VALUE,
)
from mako.engine.owner import ELSEWHERE
from mako.engine.remote import EXPECT

#: Calls between two steps of a chain: the time of a miss, some 100 ns, at 20 ns a call.
_STEP = 4
_LINES_MAX = 6


@compiled
def fetch_version(entry: int) -> None:
    """Third step: the record is here, ask for the value."""
    record = ld8(entry + A_RECORD)
    if record != 0:
        version = load_relaxed(record + R_HEAD) & POINTER
        for line in range(ld8(entry + A_LINES) & 255):
            prefetch(version + line * LINE)


def _make_ahead(index: Index) -> tuple[Callable[..., Any], ...]:
    kind = index.kind
    fanout = kind.fanout
    children = kind.children
    count_less, count_not_above, equals = kind.count_less, kind.count_not_above, kind.equals
    hash_key, get, kind_number = kind.key_hash, index.get, kind.kind
    elsewhere, expect = ELSEWHERE[kind.kind], EXPECT[kind.kind]
    two = kind.name == "pair"

    def load_word(entry: int) -> int:
        return ld8(entry + A_KEY)

    def load_pair(entry: int) -> tuple[int, int]:
        return ld8(entry + A_KEY), ld8(entry + A_KEY + 8)

    def store_word(entry: int, key: int) -> None:
        st8(entry + A_KEY, key)

    def store_pair(entry: int, key: tuple[int, int]) -> None:
        st8(entry + A_KEY, key[0])
        st8(entry + A_KEY + 8, key[1])

    load = compiled(named(load_pair if two else load_word, f"{kind.name}.ahead_load"))
    store = compiled(named(store_pair if two else store_word, f"{kind.name}.ahead_store"))

    def place_of(tx: int, table: int, key: Any) -> int:
        """The entry for a key: one of 64, whoever else is there gives way."""
        slot = (hash_key(key) ^ (table // TABLE_BYTES)) & (AHEAD_MAX - 1)
        return tx + C_AHEAD + slot * AHEAD_BYTES

    place_of = compiled(named(place_of, f"{kind.name}.ahead_place"))

    def fetch_record(tx: int, entry: int) -> None:
        """Second step: the leaf is here, find the record and ask for it.

        Only within one transaction: until its end the leaf cannot become another table's, or
        an inner node, whose keys and children would look just as well.
        """
        leaf = ld8(entry + A_LEAF)
        if ld8(entry + A_TRANSACTION) != ld8(tx + C_PROGRESS) or leaf == 0:
            return
        if ld8(entry + A_RECORD) != 0 or ld8(entry + A_LINES) >> 8 != kind_number:
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
            st8(entry + A_VERSION, version)
            st8(entry + A_RECORD, record)
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
                for line in range(0, NODE_BYTES, LINE):
                    prefetch(child + line)
                return child
            child_version = load_acquire(child + N_VERSION)
            if child_version & BUSY or load_acquire(node + N_VERSION) != version:
                return 0
            node = child
            version = child_version

    fetch_leaf = compiled(named(fetch_leaf, f"{kind.name}.fetch_leaf"))

    def same(entry: int, table: int, key: Any) -> bool:
        return ld8(entry + A_TABLE) == table and load(entry) == key

    same = compiled(named(same, f"{kind.name}.ahead_same"))

    def ahead(tx: int, table: int, key: Any) -> int:
        partition = elsewhere(tx, table, key)
        if partition >= 0:
            return expect(tx, table, key, partition)
        count = ld8(tx + C_AHEAD_COUNT)
        st8(tx + C_AHEAD_COUNT, count + 1)
        entry = place_of(tx, table, key)
        known = same(entry, table, key) and ld8(entry + A_RECORD) != 0
        if not known or load_acquire(ld8(entry + A_LEAF) + N_VERSION) != ld8(entry + A_VERSION):
            lines = min((V_VALUE + ld8(table + T_ROW) + LINE - 1) // LINE, _LINES_MAX)
            st8(entry + A_RECORD, 0)
            st8(entry + A_TABLE, table)
            st8(entry + A_TRANSACTION, ld8(tx + C_PROGRESS))
            st8(entry + A_LINES, lines | kind_number << 8)
            store(entry, key)
            st8(entry + A_LEAF, fetch_leaf(table, key))
        else:
            prefetch(ld8(entry + A_RECORD))
        st8(tx + C_ORDER + 8 * (count % AHEAD_MAX), entry)
        if count >= _STEP:
            fetch_record(tx, ld8(tx + C_ORDER + 8 * ((count - _STEP) % AHEAD_MAX)))
        if count >= 2 * _STEP:
            fetch_version(ld8(tx + C_ORDER + 8 * ((count - 2 * _STEP) % AHEAD_MAX)))
        return 0

    def ask(tx: int, table: int, key: Any) -> int:
        """First step alone, for those who take the others themselves; the entry."""
        entry = place_of(tx, table, key)
        lines = min((V_VALUE + ld8(table + T_ROW) + LINE - 1) // LINE, _LINES_MAX)
        st8(entry + A_RECORD, 0)
        st8(entry + A_TABLE, table)
        st8(entry + A_TRANSACTION, ld8(tx + C_PROGRESS))
        st8(entry + A_LINES, lines | kind_number << 8)
        store(entry, key)
        st8(entry + A_LEAF, fetch_leaf(table, key))
        return entry

    ask = compiled(named(ask, f"{kind.name}.ask"))

    def look_up(tx: int, table: int, key: Any) -> tuple[int, int, int]:
        """As `get` of the index, without the descent for a row that was asked for before."""
        entry = place_of(tx, table, key)
        if same(entry, table, key):
            record = ld8(entry + A_RECORD)
            leaf = ld8(entry + A_LEAF)
            version = ld8(entry + A_VERSION)
            if record != 0 and load_acquire(leaf + N_VERSION) == version:
                return record, leaf, version
        return get(table, key)

    look_up = compiled(named(look_up, f"{kind.name}.look_up"))
    return keyed(kind, ahead, "ahead"), look_up, ask, fetch_record


_WORD, _PAIR = _make_ahead(WORD_INDEX), _make_ahead(PAIR_INDEX)
AHEAD = {1: _WORD[0], 2: _PAIR[0]}
LOOK_UP = {1: _WORD[1], 2: _PAIR[1]}
ASK = {1: _WORD[2], 2: _PAIR[2]}
_fetch_word, _fetch_pair = _WORD[3], _PAIR[3]


@compiled
def fetch_record(tx: int, entry: int) -> None:
    """Second step of an entry of `ask`."""
    if ld8(entry + A_LINES) >> 8 == 1:
        _fetch_word(tx, entry)
    else:
        _fetch_pair(tx, entry)
