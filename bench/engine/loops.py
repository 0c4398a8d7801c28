"""The loops that are measured, compiled like the engine, for each kind of key.

Key number i is a mix of i, so that keys come in no order; `(i * STRIDE) % count` brings them in
another one. Keys of two words share their first word with fifteen others. A byte string is "user"
and sixteen hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS
from mako.engine.atomics import ld8, lshr, st1, st8, wmul
from mako.engine.index import BYTES_INDEX, LINKED, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, named
from mako.engine.keys import string_prefix
from mako.engine.layout import (
    C_KEY,
    C_KEY_END,
    C_LOG_HEAD,
    C_LOG_TAIL,
    C_OWN,
    C_SCAN_USED,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
)
from mako.engine.memory import allocate
from mako.engine.ring import append_transaction
from mako.engine.scan import BYTES_SCANNING, PAIR_SCANNING, WORD_SCANNING

STRIDE = 7_368_787  # a prime: it is in no count that anybody asks for
STRING_BYTES = 20
_GOLDEN = -7046029254386353131
_MIX = -4658895280553007687


@compiled
def mixed(i: int) -> int:
    """A number that is another one for each i, and looks drawn."""
    i = wmul(i + 1, _GOLDEN)
    i = wmul(i ^ lshr(i, 29), _MIX)
    return i ^ lshr(i, 32)


@compiled
def word_key(i: int, place: int) -> int:
    key: int = mixed(i)
    return key


@compiled
def pair_key(i: int, place: int) -> tuple[int, int]:
    return mixed(i >> 4), i & 15


@compiled
def string_key(i: int, place: int) -> tuple[int, int]:
    number = mixed(i)
    st8(place, STRING_BYTES)
    st1(place + 8, 117)
    st1(place + 9, 115)
    st1(place + 10, 101)
    st1(place + 11, 114)
    for digit in range(16):
        nibble = lshr(number, 60 - 4 * digit) & 15
        st1(place + 12 + digit, nibble + (48 if nibble < 10 else 87))
    return string_prefix(place), place


@dataclass(frozen=True, slots=True)
class Loops:
    """The compiled loops over one kind of key."""

    insert: Callable[..., int]  # (tx, table, count) -> rows inserted
    get: Callable[..., int]  # (tx, table, count) -> rows found
    scan: Callable[..., int]  # (tx, table, count, rows, times) -> rows found


def _make_loops(index: Index, make_key: Any, forward: Any, greatest: Any) -> Loops:
    kind = index.kind
    get_record, link = index.get, index.link
    record_bytes, fill_record, of_record = kind.record_bytes, kind.fill_record, kind.of_record

    def insert(tx: int, table: int, count: int) -> int:
        done = 0
        for i in range(count):
            key = make_key(i, tx + C_KEY)
            record = allocate(tx, POOL_RECORDS, record_bytes(key))
            version = allocate(tx, POOL_VALUES, V_VALUE + 8)
            if record == 0 or version == 0:
                break
            st8(version + V_TIMESTAMP, 1)
            st8(version + V_PREVIOUS, 0)
            st8(version + V_MASK, ld8(tx + C_OWN))
            st8(version + V_LENGTH, 8)
            st8(version + V_VALUE, i)
            fill_record(record, key)
            st8(record + R_HEAD, version)
            if link(tx, table, of_record(record), record, 0, 0) != LINKED:
                break
            done += 1
        return done

    def get(tx: int, table: int, count: int) -> int:
        found = 0
        at = 0
        for _ in range(count):
            found += get_record(table, make_key(at, tx + C_KEY))[0] > 0
            at = (at + STRIDE) % count
        return found

    def scan(tx: int, table: int, count: int, rows: int, times: int) -> int:
        found = 0
        at = 0
        for _ in range(times):
            first = make_key(at, tx + C_KEY)
            found += forward(tx, table, first, greatest(tx + C_KEY_END), rows)
            st8(tx + C_SCAN_USED, 0)
            at = (at + STRIDE) % count
        return found

    return Loops(
        insert=compiled(named(insert, f"{kind.name}.bench_insert")),
        get=compiled(named(get, f"{kind.name}.bench_get")),
        scan=compiled(named(scan, f"{kind.name}.bench_scan")),
    )


@compiled
def _greatest_word(place: int) -> int:
    return (1 << 63) - 1


@compiled
def _greatest_pair(place: int) -> tuple[int, int]:
    return (1 << 63) - 1, (1 << 63) - 1


@compiled
def _greatest_string(place: int) -> tuple[int, int]:
    st8(place, 1)
    st1(place + 8, 255)
    return string_prefix(place), place


WORD_LOOPS = _make_loops(WORD_INDEX, word_key, WORD_SCANNING.forward, _greatest_word)
PAIR_LOOPS = _make_loops(PAIR_INDEX, pair_key, PAIR_SCANNING.forward, _greatest_pair)
STRING_LOOPS = _make_loops(BYTES_INDEX, string_key, BYTES_SCANNING.forward, _greatest_string)

_word_put, _pair_put, _bytes_put = WORD_ACCESS.put, PAIR_ACCESS.put, BYTES_ACCESS.put


@compiled
def put_rows(tx: int, table: int, first: int, count: int, size: int) -> int:
    """Buffer `count` rows of `size` bytes in the transaction of `tx`; how many it took."""
    for i in range(first, first + count):
        version = _word_put(tx, table, mixed(i), size, 1)
        if version <= 0:
            return i - first
        for word in range(0, size, 8):
            st8(version + V_VALUE + word, mixed(i + word))
    return count


@compiled
def encode_often(tx: int, times: int) -> int:
    """Append the write set of `tx` to its log ring so many times, and forget it; the bytes."""
    total = 0
    for i in range(times):
        before = ld8(tx + C_LOG_HEAD)
        append_transaction(tx, i + 1, ld8(tx + C_OWN))
        after = ld8(tx + C_LOG_HEAD)
        total += after - before
        st8(tx + C_LOG_TAIL, after)
    return total
