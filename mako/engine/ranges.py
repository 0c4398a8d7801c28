"""Scans of ranges of which other partitions have a part, compiled once per kind of key.

The part of another partition is asked for as a row is (`mako.engine.remote`): the run ends, and
finds it when it is run again. What the run itself writes there is laid over it. The parts follow
each other where the shard map keeps the order of keys, and are sorted where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mako.engine.atomics import ld8, memset, st8
from mako.engine.jit import compiled, named
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND, KeyKind, keyed
from mako.engine.layout import (
    C_ENGINE,
    C_MESH,
    C_MODE,
    C_PROGRESS,
    C_ROWS,
    C_SCAN,
    C_SCAN_USED,
    C_SCANS,
    DELETE,
    PARTITION,
    REMOTE_SCAN_BYTES,
    REMOTE_SCAN_MAX,
    SCAN_BYTES,
    SCAN_MAX,
    T_MAP,
)
from mako.engine.owner import COUNT_SHIFT, HASH, LAST_OWNER, OWNER
from mako.engine.remote import (
    FIND,
    PRESENT,
    X_KIND,
    X_NEW,
    X_PARTITION,
    X_RECORD,
    X_TABLE,
    Y_COUNT,
    Y_DOWN,
    Y_END,
    Y_FIRST,
    Y_LIMIT,
    Y_PARTITION,
    Y_READ,
    Y_ROWS,
    Y_STATE,
    Y_TABLE,
    is_written,
    keep,
    row_at,
    scan_at,
)
from mako.ids import Outcome

_ELSEWHERE = int(Outcome.ELSEWHERE)
_REMOTE = int(Outcome.REMOTE)
_TOO_LARGE = int(Outcome.TOO_LARGE)


def _make_over(kind: KeyKind) -> Callable[..., Callable[..., int]]:
    of_record, less = kind.of_record, kind.less
    record_bytes, fill_record = kind.record_bytes, kind.fill_record
    owner, last_owner, find = OWNER[kind.kind], LAST_OWNER[kind.kind], FIND[kind.kind]

    def same(record: int, key: Any) -> bool:
        other = of_record(record)
        return not less(other, key) and not less(key, other)

    same = compiled(named(same, f"{kind.name}.same_key"))

    def part_of(
        tx: int, table: int, first: Any, end: Any, limit: int, down: int, partition: int
    ) -> int:
        """What is known of a part, from now on at the latest; or a negative Outcome."""
        count = ld8(tx + C_SCANS)
        for i in range(count):
            part = scan_at(tx, i)
            if (
                ld8(part + Y_TABLE) == table
                and ld8(part + Y_PARTITION) == partition
                and ld8(part + Y_DOWN) == down
                and ld8(part + Y_LIMIT) >= limit
                and same(ld8(part + Y_FIRST), first)
                and same(ld8(part + Y_END), end)
            ):
                return part
        if ld8(tx + C_MODE) != 0 or ld8(tx + C_MESH) == 0:
            return -_ELSEWHERE
        low = keep(tx, record_bytes(first))
        high = keep(tx, record_bytes(end))
        if count >= REMOTE_SCAN_MAX or low == 0 or high == 0:
            return -_TOO_LARGE
        fill_record(low, first)
        fill_record(high, end)
        part = scan_at(tx, count)
        memset(part, 0, REMOTE_SCAN_BYTES)
        st8(part + Y_TABLE, table)
        st8(part + Y_PARTITION, partition)
        st8(part + Y_FIRST, low)
        st8(part + Y_END, high)
        st8(part + Y_LIMIT, limit)
        st8(part + Y_DOWN, down)
        st8(part + Y_READ, -1)
        st8(tx + C_SCANS, count + 1)
        return part

    part_of = compiled(named(part_of, f"{kind.name}.part_of"))

    def writes_in(tx: int, table: int, first: Any, end: Any, partition: int, deletes: int) -> int:
        """How many rows of the part this run writes, or deletes."""
        count = 0
        for i in range(ld8(tx + C_ROWS)):
            row = row_at(tx, i)
            if ld8(row + X_TABLE) != table or ld8(row + X_PARTITION) != partition:
                continue
            if not is_written(tx, row) or (ld8(row + X_KIND) == DELETE) != (deletes != 0):
                continue
            key = of_record(ld8(row + X_RECORD))
            if not less(key, first) and less(key, end):
                count += 1
        return count

    writes_in = compiled(named(writes_in, f"{kind.name}.writes_in"))

    def add_own(
        tx: int, table: int, first: Any, end: Any, limit: int, down: int, partition: int, found: int
    ) -> int:
        """Put rows that this run inserts among the last `found` results."""
        base = tx + C_SCAN + ld8(tx + C_SCAN_USED) * SCAN_BYTES
        for i in range(ld8(tx + C_ROWS)):
            row = row_at(tx, i)
            if ld8(row + X_TABLE) != table or ld8(row + X_PARTITION) != partition:
                continue
            if not is_written(tx, row) or ld8(row + X_KIND) == DELETE:
                continue
            record = ld8(row + X_RECORD)
            key = of_record(record)
            if less(key, first) or not less(key, end):
                continue
            at = found
            there = False
            for j in range(found):
                other = of_record(ld8(base + j * SCAN_BYTES))
                if not less(other, key) and not less(key, other):
                    there = True
                    break
                if (less(key, other) and down == 0) or (less(other, key) and down != 0):
                    at = j
                    break
            if there or at >= limit:
                continue
            found = min(found + 1, limit)
            for j in range(found - 1, at, -1):
                st8(base + j * SCAN_BYTES, ld8(base + (j - 1) * SCAN_BYTES))
                st8(base + j * SCAN_BYTES + 8, ld8(base + (j - 1) * SCAN_BYTES + 8))
            st8(base + at * SCAN_BYTES, record)
            st8(base + at * SCAN_BYTES + 8, ld8(row + X_NEW))
        return found

    add_own = compiled(named(add_own, f"{kind.name}.add_own_rows"))

    def there(
        tx: int, table: int, first: Any, end: Any, limit: int, down: int, partition: int
    ) -> int:
        """Append the rows of a part at C_SCAN_USED; how many, or a negative Outcome."""
        wanted = limit + writes_in(tx, table, first, end, partition, 1)
        part = part_of(tx, table, first, end, wanted, down, partition)
        if part < 0:
            return part
        if ld8(part + Y_STATE) != PRESENT:
            return -_REMOTE
        used = ld8(tx + C_SCAN_USED)
        if used + limit > SCAN_MAX:
            return -_TOO_LARGE
        st8(part + Y_READ, ld8(tx + C_PROGRESS))
        base = tx + C_SCAN + used * SCAN_BYTES
        rows = ld8(part + Y_ROWS)
        found = 0
        for i in range(ld8(part + Y_COUNT)):
            record = ld8(rows + 16 * i)
            version = ld8(rows + 16 * i + 8)
            row = find(tx, table, of_record(record))
            if row != 0 and is_written(tx, row):
                if ld8(row + X_KIND) == DELETE:
                    continue
                version = ld8(row + X_NEW)
            if found >= limit:
                break
            st8(base + found * SCAN_BYTES, record)
            st8(base + found * SCAN_BYTES + 8, version)
            found += 1
        if writes_in(tx, table, first, end, partition, 0) != 0:
            found = add_own(tx, table, first, end, limit, down, partition, found)
        st8(tx + C_SCAN_USED, used + found)
        return found

    there = compiled(named(there, f"{kind.name}.scan_there"))

    def before(a: int, b: int, down: int) -> bool:
        one, other = of_record(ld8(a)), of_record(ld8(b))
        return less(other, one) if down != 0 else less(one, other)

    before = compiled(named(before, f"{kind.name}.scanned_before"))

    def sort(base: int, count: int, down: int) -> None:
        """Sort what is in order but for the seams of its parts: a heap sort."""
        for start in range(count // 2 - 1, -1, -1):
            sink(base, start, count, down)
        for end in range(count - 1, 0, -1):
            swap(base, base + end * SCAN_BYTES)
            sink(base, 0, end, down)

    def swap(a: int, b: int) -> None:
        record, version = ld8(a), ld8(a + 8)
        st8(a, ld8(b))
        st8(a + 8, ld8(b + 8))
        st8(b, record)
        st8(b + 8, version)

    def sink(base: int, start: int, count: int, down: int) -> None:
        at = start
        while 2 * at + 1 < count:
            child = base + (2 * at + 1) * SCAN_BYTES
            if 2 * at + 2 < count and before(child, child + SCAN_BYTES, down):
                child += SCAN_BYTES
            if not before(base + at * SCAN_BYTES, child, down):
                return
            swap(base + at * SCAN_BYTES, child)
            at = (child - base) // SCAN_BYTES

    swap = compiled(named(swap, f"{kind.name}.scan_swap"))
    sink = compiled(named(sink, f"{kind.name}.scan_sink"))
    sort = compiled(named(sort, f"{kind.name}.scan_sort"))

    def make(here: Callable[..., int], down: int, name: str) -> Callable[..., int]:
        def over(tx: int, table: int, first: Any, end: Any, limit: int) -> int:
            """A range that may lie in several partitions."""
            in_order = ld8(table + T_MAP) & 255 != HASH
            low = 0
            high = (ld8(table + T_MAP) >> COUNT_SHIFT) - 1
            if in_order:
                low = owner(table, first)
                high = max(last_owner(table, end), low)
            own = ld8(ld8(tx + C_ENGINE) + PARTITION)
            used = ld8(tx + C_SCAN_USED)
            total = 0
            waits = 0
            for i in range(low, high + 1):
                partition = i if down == 0 else high - (i - low)
                left = limit - total if in_order else limit
                if left <= 0:
                    break
                if partition == own:
                    found = here(tx, table, first, end, left)
                else:
                    found = there(tx, table, first, end, left, down, partition)
                if found == -_REMOTE and not in_order:
                    waits = found  # The others are asked for at the same time.
                elif found < 0:
                    return found
                else:
                    total += found
            if waits != 0:
                return waits
            if not in_order:
                sort(tx + C_SCAN + used * SCAN_BYTES, total, down)
                total = min(total, limit)
                st8(tx + C_SCAN_USED, used + total)
            return total

        return keyed(kind, over, name, ("first", "end"))

    return make


#: By kind of key: (scan of the part here, 1 if it descends, name) -> scan of the whole range.
OVER: Final = {kind.kind: _make_over(kind) for kind in (WORD_KIND, PAIR_KIND, BYTES_KIND)}
