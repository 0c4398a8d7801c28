"""Which partition has a key: the shard map of a table, as compiled code looks at it.

The twin of `mako.placement`, which says what the kinds are; `mako.engine.maps` sets them:

    T_MAP        T_MAP_SHIFT        T_MAP_FIRST         T_MAP_EACH
    0                                                                 every partition has all rows
    BLOCKS       below the first    value of the first  values in     a range whose boundaries are
                 field of the key   field               a block       as far from each other
    HASH                                                              by all of the key
    RANGE                           the block of        its bytes
                                    boundaries

    block of boundaries     count | boundary ... | byte strings
    a boundary              a key as a node of the tree has it (`mako.engine.keys`): one word, two
                            words, or a prefix and the address of a byte string below

Keys of words all have the same length, so a boundary is made the least such key that is not below
it, and compared as numbers; one that no key reaches is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from mako.engine.atomics import bswap8, ld1, ld8, ldu8, lshr, wadd, wmul
from mako.engine.jit import compiled, named
from mako.engine.keys import BYTES_KIND, PAIR_KIND, SIGN, WORD_KIND, KeyKind, keyed
from mako.engine.layout import (
    C_ENGINE,
    PARTITION,
    T_MAP,
    T_MAP_EACH,
    T_MAP_FIRST,
    T_MAP_SHIFT,
    WORD_KEYS,
)

BLOCKS: Final = 1
HASH: Final = 2
RANGE: Final = 3
#: T_MAP is a kind and, above these bits, the number of partitions.
COUNT_SHIFT: Final = 8
_GAMMA = -7046029254386353131
_FIRST_MIX = -4658895280553007687
_SECOND_MIX = -7723592293110705685


@compiled
def mixed(hash_: int, word: int) -> int:
    """One step of the hash of a key, as in `mako.placement`: splitmix64 (Steele et al., 2014)."""
    x = wadd(hash_ ^ word, _GAMMA)
    x = wmul(x ^ lshr(x, 30), _FIRST_MIX)
    x = wmul(x ^ lshr(x, 27), _SECOND_MIX)
    return x ^ lshr(x, 31)


@compiled
def share(hash_: int, count: int) -> int:
    """The partition, of `count`, that has keys of this hash."""
    return lshr(hash_, 1) % count


@compiled
def _in_blocks(table: int, word: int) -> int:
    number = lshr(word ^ SIGN, ld8(table + T_MAP_SHIFT)) - ld8(table + T_MAP_FIRST)
    last = (ld8(table + T_MAP) >> COUNT_SHIFT) - 1
    return min(max(number, 0) // ld8(table + T_MAP_EACH), last)


@compiled
def hash_bytes(address: int, size: int) -> int:
    """The hash of a key of `size` bytes: its length, then its words, little-endian, zero padded."""
    found = mixed(0, size)
    at = 0
    while at + 8 <= size:
        found = mixed(found, ldu8(address + at))
        at += 8
    if at < size:
        word = 0
        for i in range(size - at):
            word |= ld1(address + at + i) << (8 * i)
        found = mixed(found, word)
    return found


def _make_cut(kind: KeyKind) -> Callable[..., int]:
    """A function that counts boundaries at or below a key."""
    less, words = kind.less, 1 if kind.kind == WORD_KEYS else 2

    def first_word(at: int) -> int:
        return ld8(at)

    def both_words(at: int) -> tuple[int, int]:
        return ld8(at), ld8(at + 8)

    load = first_word if words == 1 else both_words
    load = compiled(named(load, f"{kind.name}.boundary"))

    def cut(table: int, key: Any, reached: int) -> int:
        """How many boundaries are below the key, or also the key itself if `reached` is 1."""
        block = ld8(table + T_MAP_FIRST)
        low = 0
        high = ld8(block)
        while low < high:
            middle = (low + high) >> 1
            boundary = load(block + 8 + middle * 8 * words)
            if less(boundary, key) or (reached != 0 and not less(key, boundary)):
                low = middle + 1
            else:
                high = middle
        return low

    return cast(Callable[..., int], compiled(named(cut, f"{kind.name}.cut")))


_word_cut, _pair_cut, _bytes_cut = map(_make_cut, (WORD_KIND, PAIR_KIND, BYTES_KIND))


def _word_owner(table: int, key: int) -> int:
    kind = ld8(table + T_MAP) & 255
    if kind == BLOCKS:
        return _in_blocks(table, key)
    if kind == RANGE:
        return _word_cut(table, key, 1)
    return share(mixed(mixed(0, 8), bswap8(key ^ SIGN)), ld8(table + T_MAP) >> COUNT_SHIFT)


def _pair_owner(table: int, key: tuple[int, int]) -> int:
    kind = ld8(table + T_MAP) & 255
    if kind == BLOCKS:
        return _in_blocks(table, key[0])
    if kind == RANGE:
        return _pair_cut(table, key, 1)
    found = mixed(mixed(0, 16), bswap8(key[0] ^ SIGN))
    return share(mixed(found, bswap8(key[1] ^ SIGN)), ld8(table + T_MAP) >> COUNT_SHIFT)


def _bytes_owner(table: int, key: tuple[int, int]) -> int:
    if ld8(table + T_MAP) & 255 == RANGE:
        return _bytes_cut(table, key, 1)
    return share(hash_bytes(key[1] + 8, ld8(key[1])), ld8(table + T_MAP) >> COUNT_SHIFT)


def _word_last_owner(table: int, end: int) -> int:
    if ld8(table + T_MAP) & 255 == RANGE:
        return _word_cut(table, end, 0)
    return 0 if end == SIGN else _in_blocks(table, end - 1)


def _pair_last_owner(table: int, end: tuple[int, int]) -> int:
    if ld8(table + T_MAP) & 255 == RANGE:
        return _pair_cut(table, end, 0)
    if end[1] != SIGN:
        return _in_blocks(table, end[0])
    return 0 if end[0] == SIGN else _in_blocks(table, end[0] - 1)


def _bytes_last_owner(table: int, end: tuple[int, int]) -> int:
    return _bytes_cut(table, end, 0)


def _make_elsewhere(kind: KeyKind, owner: Callable[..., int]) -> Callable[..., int]:
    def place(tx: int, table: int, key: Any) -> int:
        partition = owner(table, key)
        return -1 if partition == ld8(ld8(tx + C_ENGINE) + PARTITION) else partition

    place = keyed(kind, place, "place")  # Out of the way of who has the whole table.

    def elsewhere(tx: int, table: int, key: Any) -> int:
        """The partition that has the key, or -1 if this one has it."""
        return -1 if ld8(table + T_MAP) == 0 else place(tx, table, key)

    return compiled(named(elsewhere, f"{kind.name}.elsewhere"))


OWNER: Final = {
    kind.kind: compiled(named(owner, f"{kind.name}.owner"))
    for kind, owner in (
        (WORD_KIND, _word_owner),
        (PAIR_KIND, _pair_owner),
        (BYTES_KIND, _bytes_owner),
    )
}
#: (table, end) -> the last partition that may have a key below `end`. Not where a hash decides.
LAST_OWNER: Final = {
    kind.kind: compiled(named(owner, f"{kind.name}.last_owner"))
    for kind, owner in (
        (WORD_KIND, _word_last_owner),
        (PAIR_KIND, _pair_last_owner),
        (BYTES_KIND, _bytes_last_owner),
    )
}
ELSEWHERE: Final = {
    kind.kind: _make_elsewhere(kind, OWNER[kind.kind])
    for kind in (WORD_KIND, PAIR_KIND, BYTES_KIND)
}
