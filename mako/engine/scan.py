"""Range scans, both ways, compiled once per kind of key.

A scan appends (record, version) pairs to the context's scan buffer, in the order asked for:
rows that are there, the transaction's own writes included. It goes leaf by leaf, reads each
under one version, notes that version (the gaps in it are part of what was read), and only
then looks at the records; so a row that enters or leaves the range later changes a version
that was noted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS, Access, read_record
from mako.engine.atomics import (
    fence_acquire,
    ld8,
    load_acquire,
    load_relaxed,
    memmove,
    pause,
    prefetch,
    st8,
)
from mako.engine.index import BUSY
from mako.engine.jit import compiled, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    C_BATCH,
    C_INSERTS,
    C_MODE,
    C_SCAN,
    C_SCAN_LAPS,
    C_SCAN_USED,
    C_WRITES,
    C_WRITESET,
    INSERT,
    LINE,
    N_COUNT,
    N_NEXT,
    N_VERSION,
    POINTER,
    R_HEAD,
    SCAN_BYTES,
    SCAN_MAX,
    SPIN_MAX,
    T_MAP,
    W_KIND,
    W_RECORD,
    W_TABLE,
    W_VERSION,
    WRITE_BYTES,
)
from mako.engine.ranges import OVER
from mako.engine.sets import doomed, note_leaf, why_doomed
from mako.ids import Outcome

_LOCKED = int(Outcome.LOCKED)
_TOO_LARGE = int(Outcome.TOO_LARGE)


@compiled
def scan_room(tx: int, limit: int) -> int:
    """Where results of up to `limit` rows go in the scan buffer, or a negative Outcome.

    A transaction keeps all its rows. A snapshot may read without end: it begins again at the
    start of the buffer, and cursors of the lap before notice.
    """
    used = ld8(tx + C_SCAN_USED)
    if limit > SCAN_MAX - used - 1:
        if ld8(tx + C_MODE) == 0 or limit > SCAN_MAX - 1:
            return -_TOO_LARGE
        used = 0
        st8(tx + C_SCAN_USED, 0)
        st8(tx + C_SCAN_LAPS, ld8(tx + C_SCAN_LAPS) + 1)
    return used


@dataclass(frozen=True, slots=True)
class Scanning:
    """(tx, table, first, end, limit) -> rows appended at C_SCAN_USED, or a negative Outcome."""

    forward: Callable[..., int]
    backward: Callable[..., int]
    #: The part of the range that this partition has.
    forward_here: Callable[..., int]
    backward_here: Callable[..., int]


def _make_scanning(access: Access) -> Scanning:
    index = access.index
    kind = index.kind
    fanout = kind.fanout
    children = kind.children
    count_less, count_not_above = kind.count_less, kind.count_not_above
    of_record, less = kind.of_record, kind.less
    find_leaf, find_before = index.find_leaf, index.find_before

    def add_own_inserts(
        tx: int, table: int, first: Any, end: Any, limit: int, count: int, descending: int
    ) -> int:
        """Merge own records that are not in the tree yet into the last `count` results."""
        base = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
        for i in range(ld8(tx + C_WRITES)):
            entry = tx + C_WRITESET + i * WRITE_BYTES
            if ld8(entry + W_KIND) != INSERT or ld8(entry + W_TABLE) != table:
                continue
            record = ld8(entry + W_RECORD)
            key = of_record(record)
            if less(key, first) or not less(key, end):
                continue
            low = 0
            high = count
            while low < high:
                middle = (low + high) >> 1
                other = of_record(ld8(base + middle * SCAN_BYTES))
                if (descending != 0 and less(key, other)) or (descending == 0 and less(other, key)):
                    low = middle + 1
                else:
                    high = middle
            if low >= limit:
                continue
            at = base + low * SCAN_BYTES
            kept = min(count, limit - 1)
            memmove(at + SCAN_BYTES, at, (kept - low) * SCAN_BYTES)
            st8(at, record)
            st8(at + 8, ld8(entry + W_VERSION))
            count = kept + 1
        return count

    add_own_inserts = compiled(named(add_own_inserts, f"{kind.name}.add_own_inserts"))

    def copy_up(tx: int, leaf: int, at: int, count: int) -> None:
        for i in range(count):
            st8(tx + C_BATCH + 8 * i, ld8(leaf + children + 8 * (at + i)))

    copy_up = compiled(named(copy_up, f"{kind.name}.copy_up"))

    def copy_down(tx: int, leaf: int, stop: int, count: int) -> None:
        for i in range(count):
            st8(tx + C_BATCH + 8 * i, ld8(leaf + children + 8 * (stop - 1 - i)))

    copy_down = compiled(named(copy_down, f"{kind.name}.copy_down"))

    def append(tx: int, leaf: int, version: int, taken: int, base: int, found: int) -> int:
        """Read the records of the batch; the new number of results, or a negative Outcome."""
        if ld8(tx + C_MODE) == 0:
            note_leaf(tx, leaf, version)
        # First all records, then all values: the misses run side by side.
        for i in range(taken):
            prefetch(ld8(tx + C_BATCH + 8 * i))
        for i in range(taken):
            value = load_relaxed(ld8(tx + C_BATCH + 8 * i) + R_HEAD) & POINTER
            prefetch(value)
            prefetch(value + LINE)
        for i in range(taken):
            record = ld8(tx + C_BATCH + 8 * i)
            value = read_record(tx, record, leaf, version)
            if value < 0:
                return value
            if value != 0:
                st8(base + found * SCAN_BYTES, record)
                st8(base + found * SCAN_BYTES + 8, value)
                found += 1
        return found

    append = compiled(named(append, f"{kind.name}.append"))

    def up_here(tx: int, table: int, first: Any, end: Any, limit: int) -> int:
        """Rows with first <= key < end, ascending, at most `limit`."""
        used = scan_room(tx, limit)
        if used < 0:
            return used
        base = tx + C_SCAN + used * SCAN_BYTES
        found = 0
        key = first
        beyond = False  # go on above `key`, not at it
        leaf = 0
        version = 0
        misses = 0
        while found < limit and misses < SPIN_MAX:
            if doomed(tx):
                return -why_doomed(tx)
            if leaf == 0:
                leaf, version = find_leaf(table, key)
                if leaf == 0:
                    return -_LOCKED
            count = min(max(ld8(leaf + N_COUNT), 0), fanout)
            at = count_not_above(leaf, count, key) if beyond else count_less(leaf, count, key)
            stop = count_less(leaf, count, end)
            taken = max(min(stop - at, limit - found), 0)
            copy_up(tx, leaf, at, taken)
            following = ld8(leaf + N_NEXT)
            fence_acquire()
            if load_relaxed(leaf + N_VERSION) != version:
                leaf = 0
                misses += 1
                pause()
                continue
            found = append(tx, leaf, version, taken, base, found)
            if found < 0:
                return found
            if taken > 0:
                key = of_record(ld8(tx + C_BATCH + 8 * (taken - 1)))
                beyond = True
            if at + taken < stop:
                continue  # Some were absent: more of the same leaf.
            if stop < count or following == 0:
                break
            next_version = load_acquire(following + N_VERSION)
            if next_version & BUSY or load_acquire(leaf + N_VERSION) != version:
                leaf = 0
                misses += 1
                pause()
            else:
                leaf = following
                version = next_version
        if misses >= SPIN_MAX:
            return -_LOCKED
        if ld8(tx + C_INSERTS) != 0:
            found = add_own_inserts(tx, table, first, end, limit, found, 0)
        st8(tx + C_SCAN_USED, used + found)
        return found

    def down_here(tx: int, table: int, first: Any, end: Any, limit: int) -> int:
        """Rows with first <= key < end, descending from the greatest, at most `limit`."""
        used = scan_room(tx, limit)
        if used < 0:
            return used
        base = tx + C_SCAN + used * SCAN_BYTES
        found = 0
        bound = end
        misses = 0
        while found < limit and misses < SPIN_MAX:
            if doomed(tx):
                return -why_doomed(tx)
            leaf, version, bounded, low = find_before(table, bound)
            if leaf == 0:
                return -_LOCKED
            count = min(max(ld8(leaf + N_COUNT), 0), fanout)
            stop = count_less(leaf, count, bound)
            at = count_less(leaf, count, first)
            taken = max(min(stop - at, limit - found), 0)
            copy_down(tx, leaf, stop, taken)
            fence_acquire()
            if load_relaxed(leaf + N_VERSION) != version:
                misses += 1
                pause()
                continue
            found = append(tx, leaf, version, taken, base, found)
            if found < 0:
                return found
            if stop - taken > at:
                bound = of_record(ld8(tx + C_BATCH + 8 * (taken - 1)))
                continue
            if at > 0 or not bounded or not less(first, low):
                break
            bound = low
        if misses >= SPIN_MAX:
            return -_LOCKED
        if ld8(tx + C_INSERTS) != 0:
            found = add_own_inserts(tx, table, first, end, limit, found, 1)
        st8(tx + C_SCAN_USED, used + found)
        return found

    up_here = keyed(kind, up_here, "forward_here", ("first", "end"))
    down_here = keyed(kind, down_here, "backward_here", ("first", "end"))
    make_over = OVER[kind.kind]
    up_over = make_over(up_here, 0, "forward_over")
    down_over = make_over(down_here, 1, "backward_over")

    def forward(tx: int, table: int, first: Any, end: Any, limit: int) -> int:
        if ld8(table + T_MAP) != 0:
            return up_over(tx, table, first, end, limit)
        return up_here(tx, table, first, end, limit)

    def backward(tx: int, table: int, first: Any, end: Any, limit: int) -> int:
        if ld8(table + T_MAP) != 0:
            return down_over(tx, table, first, end, limit)
        return down_here(tx, table, first, end, limit)

    return Scanning(
        forward=compiled(named(forward, f"{kind.name}.forward")),
        backward=compiled(named(backward, f"{kind.name}.backward")),
        forward_here=up_here,
        backward_here=down_here,
    )


WORD_SCANNING = _make_scanning(WORD_ACCESS)
PAIR_SCANNING = _make_scanning(PAIR_ACCESS)
BYTES_SCANNING = _make_scanning(BYTES_ACCESS)
SCANNINGS = {1: WORD_SCANNING, 2: PAIR_SCANNING, 3: BYTES_SCANNING}
