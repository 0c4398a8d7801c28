"""Setting the shard maps of tables: placements (`mako.placement`) made what compiled code reads.

What lies where is in `mako.engine.owner`. A map is set before a table has rows and stays: nothing
moves rows that are stored. To set one that is there already changes nothing, so `apply` may be
called again. To set another one is for those who know that no transaction runs.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.engine.layout import (
    BYTES_KEYS,
    PARTITION,
    RETIRE_VALUE,
    T_KIND,
    T_MAP,
    T_MAP_EACH,
    T_MAP_FIRST,
    T_MAP_SHIFT,
)
from mako.engine.memory import size_class
from mako.engine.owner import BLOCKS, COUNT_SHIFT, HASH, RANGE
from mako.engine.retire import retire
from mako.errors import ConfigError, OutOfMemory
from mako.placement import Kind, Placement, ShardMap, blocks

if TYPE_CHECKING:
    from mako.engine.engine import Engine, TableHandle

_SIGN: Final = 1 << 63
_WORD_MASK: Final = (1 << 64) - 1


def apply(engine: Engine, shard_map: ShardMap, *, leave: Collection[str] = ()) -> None:
    """Set the maps of all tables that `engine` has now, but those whose names are in `leave`.

    ConfigError: the engine is none of the partitions of the map. OutOfMemory.
    """
    for handle in list(engine.tables.values()):
        of_new(engine, handle, shard_map, leave=leave)


def of_new(
    engine: Engine, handle: TableHandle, shard_map: ShardMap, *, leave: Collection[str] = ()
) -> None:
    """The same for one table, which was created later. Nobody uses it yet."""
    number = engine.word(engine.base + PARTITION)
    if number >= shard_map.partitions:
        raise ConfigError(
            f"partition {number} is none of the {shard_map.partitions} of the shard map; give the"
            " map of this cluster"
        )
    if handle.table.name not in leave:
        place(engine, handle, shard_map.of(handle.table.name))


def place(engine: Engine, handle: TableHandle, placement: Placement) -> None:
    """Set where the keys of a table are. OutOfMemory, and nothing changed."""
    if placement.partitions == 1 or placement.kind is Kind.EVERYWHERE:
        unset(engine, handle)
    elif placement.kind is Kind.HASH:
        _set(engine, handle, HASH, placement.partitions)
    elif (cut := _as_blocks(engine, handle, placement)) is not None:
        _set(engine, handle, BLOCKS, placement.partitions, cut)
    else:
        _set_range(engine, handle, placement)


def unset(engine: Engine, handle: TableHandle) -> None:
    """Every partition has the whole table, as far as it knows."""
    _set(engine, handle, 0, 0)


class _Words(NamedTuple):
    """What lies behind T_MAP."""

    shift: int = 0
    first: int = 0
    each: int = 0


def _set(
    engine: Engine, handle: TableHandle, kind: int, partitions: int, words: _Words | None = None
) -> None:
    table = handle.address
    before = engine.word(table + T_MAP)
    old, size = engine.word(table + T_MAP_FIRST), engine.word(table + T_MAP_EACH)
    if kind == 0:  # Whoever looks now reads the rest only if there is a map.
        engine.set_word(table + T_MAP, 0)
    words = words or _Words()
    engine.set_word(table + T_MAP_SHIFT, words.shift)
    engine.set_word(table + T_MAP_FIRST, words.first)
    engine.set_word(table + T_MAP_EACH, words.each)
    engine.set_word(table + T_MAP, kind | partitions << COUNT_SHIFT)
    if before & 255 == RANGE:
        with engine.borrowed() as context:  # A reader may be comparing with it.
            retire(context, old, RETIRE_VALUE, size_class(size), 0, 0)


def _as_blocks(engine: Engine, handle: TableHandle, placement: Placement) -> _Words | None:
    """The words for BLOCKS if that puts every key where `placement` does.

    The value of the first field must be positive as a signed word, so 64 bits are too many.
    """
    bits = placement.field_bits
    if engine.word(handle.address + T_KIND) == BYTES_KEYS or not 1 <= bits < 64:
        return None
    if any(len(boundary) != 8 for boundary in placement.boundaries):
        return None
    starts = [int.from_bytes(each, "big") >> 64 - bits for each in placement.boundaries]
    each = starts[1] - starts[0] if len(starts) > 1 else starts[0]
    first = starts[0] - each
    alike = starts == [first + number * each for number in range(1, placement.partitions)]
    if each < 1 or first < 0 or not alike:
        return None
    made = blocks(placement.partitions, size=each, bits=bits, first=first)
    return _Words(64 - bits, first, each) if made == placement else None


def _set_range(engine: Engine, handle: TableHandle, placement: Placement) -> None:
    table = handle.address
    kind = engine.word(table + T_KIND)
    size = len(_boundaries(kind, placement, 0))
    if engine.word(table + T_MAP) == RANGE | placement.partitions << COUNT_SHIFT:
        there = engine.word(table + T_MAP_FIRST)
        wanted = _boundaries(kind, placement, there)
        if engine.word(table + T_MAP_EACH) == size and engine.read(there, size) == wanted:
            return
    with engine.borrowed() as context:
        block = engine.allocate(context, size)
    if block == 0:
        raise OutOfMemory(
            f"no memory for the boundaries of table {handle.table.name}; open with more memory"
        )
    engine.write(block, _boundaries(kind, placement, block))
    _set(engine, handle, RANGE, placement.partitions, _Words(first=block, each=size))


def _boundaries(kind: int, placement: Placement, at: int) -> bytes:
    """The block of boundaries, to lie at address `at`, for a table with keys of a kind."""
    if kind == BYTES_KEYS:
        return _byte_boundaries(placement.boundaries, at)
    reached = [
        value for each in placement.boundaries if (value := least_key(each, kind)) is not None
    ]
    words = [value >> 64 * i & _WORD_MASK for value in reached for i in reversed(range(kind))]
    return struct.pack(f"<{1 + len(words)}q", len(reached), *(word - _SIGN for word in words))


def least_key(boundary: bytes, words: int) -> int | None:
    """The least key of so many words that is not below `boundary`, as a number; None: all are."""
    size = 8 * words
    value = int.from_bytes(boundary[:size].ljust(size, b"\0"), "big")
    if len(boundary) > size:  # The key that it begins with is shorter, so below it.
        value += 1
    return value if value < 1 << 8 * size else None


def _byte_boundaries(boundaries: Collection[bytes], at: int) -> bytes:
    entries = struct.pack("<q", len(boundaries))
    strings = b""
    beyond = at + 8 + 16 * len(boundaries)
    for boundary in boundaries:
        prefix = int.from_bytes(boundary[:8].ljust(8, b"\0"), "big") - _SIGN
        entries += struct.pack("<2q", prefix, beyond + len(strings))
        strings += struct.pack("<q", len(boundary)) + boundary + bytes(-len(boundary) % 8)
    return entries + strings
