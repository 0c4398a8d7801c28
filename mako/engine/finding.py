"""What a replayer has found before, so that it need not look for it again.

    ring     the writes of a group: where each lies in its entry, its key, what is known of it
    hints    leaves of the last writes, by table and neighbourhood of the key: a run of keys, like
             the lines of an order, goes on in the leaf, and mostly at the place, of its last one
    units    by table, the bits that keys had in their last word: the lowest says how far apart
             neighbours are
    slots    records by key: number of the table | address, and nothing of the key, which is
             compared in the record. One for some KiB of the engine's memory; who comes last stays

A hint is a guess, and holds if its leaf has the version it had and covers the key (T1, T3 of
`mako.engine.index`). A slot holds by itself:

    S1  A slot names a record that is in the tree of its table. Only the replayer fills one, with a
        record that it has just put a version in front of; whoever takes such a record out of its
        tree (`reclaim`, `discard`) empties the slot before the record can become another one.
    S2  Who took the lead may take out records without that, so whoever follows again, begins with
        empty slots.
"""

from mako.engine.atomics import (
    bswap8,
    cas,
    ld2,
    ld4,
    ld8,
    ldu8,
    leading_zeros,
    load_acquire,
    lshr,
    memset,
    prefetch,
    st8,
    store_release,
    unsigned_less,
    wadd,
    wmul,
)
from mako.engine.jit import compiled
from mako.engine.keys import MIX, SIGN
from mako.engine.layout import (
    BYTES_KEYS,
    FINDER,
    FINDER_SHIFT,
    LINE,
    PAIR_KEYS,
    R_KEY,
    T_ID,
    T_KIND,
    TABLE_BYTES,
    TABLES,
    WORD,
)
from mako.log_format import TABLE_ID_MASK

#: Writes whose misses overlap.
GROUP = 24
# A write of the group.
F_AT = 0  # address of the write
F_TRANSACTION = 8  # and of its transaction
F_TABLE = 16
F_KEY = 24  # one or two words
F_SLOT = 40  # 0: a neighbour of an earlier write, or a byte string
F_HINT = 48
F_RECORD = 56  # a record that may be its own; negative: an entry of `ask`; 0: nothing is known
WRITE_BYTES = LINE
_HINTS = GROUP * WRITE_BYTES
_HINT_COUNT_BITS = 7
H_TABLE = 0
H_LEAF = 8  # 0: none
H_VERSION = 16
H_PLACE = 24  # where the next key of a run would be in the leaf
H_UNIT = 32  # the last key, counted in units
HINT_BYTES = LINE
_UNITS = _HINTS + (HINT_BYTES << _HINT_COUNT_BITS)
_UNIT_COUNT = 64
_SLOTS = _UNITS + _UNIT_COUNT * WORD

#: Keys so close behind the last one are taken for its neighbours.
_NEAR = 16
#: Bits of neighbours' keys that share a hint: a few leaves' worth.
_NEIGHBOURHOOD = 8
_TABLE_SHIFT = 48  # above any address
_ADDRESS = (1 << _TABLE_SHIFT) - 1
_NO_UNIT = 1 << 62
_ODD = -3372029247567499371

#: Bytes of the engine's memory for each slot.
MEMORY_PER_SLOT = 4096
SLOT_BITS_MIN = 10


def slot_bits(memory_bytes: int) -> int:
    """The number of slots of an engine of that size, as a power of two."""
    return max((memory_bytes // MEMORY_PER_SLOT).bit_length() - 1, SLOT_BITS_MIN)


def finder_bytes(bits: int) -> int:
    return _SLOTS + (WORD << bits)


@compiled
def forget_found(engine: int) -> None:
    """S2: begin with nothing."""
    finder = ld8(engine + FINDER)
    memset(finder, 0, _SLOTS + (WORD << (64 - ld8(engine + FINDER_SHIFT))))


@compiled(inline=True)
def slot_of(engine: int, finder: int, number: int, first: int, second: int) -> int:
    """The slot for a key of one or two words in table `number`."""
    mixed = wadd(wmul(wadd(first, wmul(second, MIX)), MIX), wmul(number, _ODD))
    return finder + _SLOTS + WORD * lshr(wmul(mixed, MIX), ld8(engine + FINDER_SHIFT))


@compiled(inline=True)
def write_of(finder: int, i: int) -> int:
    """Write number i of the group."""
    return finder + i * WRITE_BYTES


@compiled(inline=True)
def note_write(engine: int, finder: int, i: int, at: int, transaction: int) -> int:
    """Make the write at `at` number i of the group, and ask for its slot; where the next begins."""
    key_size = ld2(at)
    key = at + 2
    after = key + key_size + 4 + ld4(key + key_size)
    number = ld2(after) & TABLE_ID_MASK
    table = engine + TABLES + number * TABLE_BYTES
    kind = ld8(table + T_KIND)
    write = write_of(finder, i)
    st8(write + F_AT, at)
    st8(write + F_TRANSACTION, transaction)
    st8(write + F_TABLE, table)
    st8(write + F_RECORD, 0)
    st8(write + F_SLOT, 0)
    if kind == BYTES_KEYS:
        return after + 2
    first = bswap8(ldu8(key)) ^ SIGN
    second = 0
    last = first
    beginning = 0
    if kind == PAIR_KEYS:
        second = bswap8(ldu8(key + 8)) ^ SIGN
        last = second
        beginning = wmul(first, MIX)
    st8(write + F_KEY, first)
    st8(write + F_KEY + 8, second)
    # Keys are packed from their high bits down: neighbours differ above all bits that are never
    # in use.
    bits = finder + _UNITS + (number & _UNIT_COUNT - 1) * WORD
    used = ld8(bits) | last | _NO_UNIT
    st8(bits, used)
    unit = last >> (63 - leading_zeros(used & -used))
    mixed = wadd(wadd(beginning, unit >> _NEIGHBOURHOOD), wmul(number, _ODD))
    hint = finder + _HINTS + HINT_BYTES * lshr(wmul(mixed, MIX), 64 - _HINT_COUNT_BITS)
    near = False
    if ld8(hint + H_TABLE) == table:
        near = unsigned_less(unit - ld8(hint + H_UNIT) - 1, _NEAR)
    else:
        st8(hint + H_TABLE, table)
        st8(hint + H_LEAF, 0)
    st8(hint + H_UNIT, unit)
    st8(write + F_HINT, hint)
    if not near:
        slot = slot_of(engine, finder, number, first, second)
        st8(write + F_SLOT, slot)
        prefetch(slot)
    return after + 2


@compiled(inline=True)
def named_by(slot: int, table: int) -> int:
    """The record that a slot names, if it is one of `table`; or 0."""
    found = load_acquire(slot)
    if found >> _TABLE_SHIFT != ld8(table + T_ID):
        return 0
    return found & _ADDRESS


@compiled(inline=True)
def has_key(record: int, write: int) -> bool:
    """Whether a record has the key of a write, of one or two words."""
    if ld8(record + R_KEY) != ld8(write + F_KEY):
        return False
    two = ld8(ld8(write + F_TABLE) + T_KIND) == PAIR_KEYS
    return not two or ld8(record + R_KEY + 8) == ld8(write + F_KEY + 8)


@compiled(inline=True)
def fill_slot(slot: int, table: int, record: int) -> None:
    """S1: the caller has just put a version in front of the record, above all that is closed."""
    if slot != 0:
        store_release(slot, record | ld8(table + T_ID) << _TABLE_SHIFT)


@compiled
def empty_slot(engine: int, table: int, record: int) -> None:
    """S1: `record` has left the tree of `table`; nobody may find it any more."""
    finder = ld8(engine + FINDER)
    kind = ld8(table + T_KIND)
    if finder == 0 or kind == BYTES_KEYS:
        return
    number = ld8(table + T_ID)
    second = ld8(record + R_KEY + 8) if kind == PAIR_KEYS else 0
    slot = slot_of(engine, finder, number, ld8(record + R_KEY), second)
    cas(slot, record | number << _TABLE_SHIFT, 0)
