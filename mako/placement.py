"""Which partition has a key: the shard map of a cluster. Pure; keys are those outside the engine.

    hash         the partition is hash_of(key) modulo the number of partitions
    range        sorted boundaries cut the keys into as many pieces as there are partitions
    everywhere   every partition has all rows; who reads them reads its own

                 boundaries[0]       boundaries[1]
    ─── partition 0 ──┤─── partition 1 ──┤─── partition 2 ───▶  keys, bytewise
                      └ this key is the first of partition 1

A table whose first key field counts something, as the warehouses of TPC-C, is cut into blocks of
as many values: `blocks` makes the boundaries. A boundary may be shorter than the keys, as bytes
compare: each key that begins with it is behind it.

The hash mixes the length, and then each 8 bytes of the key as a little-endian word, the last one
filled up with zeros, by the finalizer of splitmix64. All arithmetic is modulo 2^64, and shifts are
logical. The least bit is dropped, so that the rest is positive as a signed word, too:

    h := mix(length);  h := mix(h xor word) for each word;  partition := (h >> 1) mod partitions

    mix(z):  z += 9e3779b97f4a7c15;  z := (z xor z >> 30) * bf58476d1ce4e5b9;
             z := (z xor z >> 27) * 94d049bb133111eb;  z xor z >> 31

These functions are the definition, for clients and for compiled code alike, and fixed: rows that
are stored stay where they were put (tests/test_placement.py has vectors).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

from mako.errors import SchemaError
from mako.ids import PARTITIONS_MAX
from mako.shown import shown

#: Instead of a partition: whichever is asked has the row.
EVERYWHERE: Final = -1

_WORD_MASK: Final = (1 << 64) - 1
_WORD_BITS: Final = 64


class Kind(IntEnum):
    """How the keys of a table are placed; the numbers are on the wire."""

    HASH = 1
    RANGE = 2
    EVERYWHERE = 3


def mix(z: int) -> int:
    """The finalizer of splitmix64, of a word of 64 bits."""
    z = z + 0x9E3779B97F4A7C15 & _WORD_MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _WORD_MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _WORD_MASK
    return z ^ z >> 31


def hash_of(key: bytes) -> int:
    """The hash of a key, 64 bits; see the module."""
    h = mix(len(key))
    for at in range(0, len(key), 8):
        h = mix(h ^ int.from_bytes(key[at : at + 8], "little"))
    return h


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the keys of one table are, in a cluster of `partitions`."""

    kind: Kind
    partitions: int
    #: RANGE: the first key of each partition but partition 0, strictly ascending.
    boundaries: tuple[bytes, ...] = ()
    #: Width of the first key field that the boundaries were made for; 0: they are just bytes.
    field_bits: int = 0

    def __post_init__(self) -> None:
        assert 1 <= self.partitions <= PARTITIONS_MAX
        wanted = self.partitions - 1 if self.kind is Kind.RANGE else 0
        assert len(self.boundaries) == wanted, "one boundary between each two partitions"
        assert all(a < b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False))

    @property
    def is_everywhere(self) -> bool:
        """Whether every partition has all rows. One partition alone has them anyway."""
        return self.kind is Kind.EVERYWHERE and self.partitions > 1

    @property
    def is_ordered(self) -> bool:
        """Whether the keys of each partition lie before those of the next one, so that the rows of
        a range need not be merged."""
        return self.kind is not Kind.HASH or self.partitions == 1

    def partition_of(self, key: bytes) -> int:
        """The partition that has a key; EVERYWHERE: whichever is asked."""
        if self.partitions == 1:
            return 0
        if self.kind is Kind.HASH:
            return (hash_of(key) >> 1) % self.partitions
        if self.kind is Kind.RANGE:
            return bisect_right(self.boundaries, key)
        return EVERYWHERE

    def touched(self, first: bytes, end: bytes) -> Sequence[int]:
        """The partitions that may have keys with first <= key < end, ascending; [EVERYWHERE]:
        any one. Never none, so that there is somebody to say that there is no row."""
        if self.partitions == 1:
            return (0,)
        if self.kind is Kind.EVERYWHERE:
            return (EVERYWHERE,)
        if self.kind is Kind.HASH:
            return range(self.partitions)
        low = bisect_right(self.boundaries, first)
        # The first key of a partition is its boundary: up to there it has none of the range.
        high = sum(boundary < end for boundary in self.boundaries)
        return range(low, max(low, high) + 1)

    def plain(self) -> list[Any]:
        """In plain values, for the wire: [kind, [boundary ...], bits of the first key field]."""
        return [int(self.kind), list(self.boundaries), self.field_bits]

    @classmethod
    def of_plain(cls, partitions: int, plain: Sequence[Any]) -> Placement:
        """What `plain` was made of. ValueError, TypeError: it is something else."""
        kind, boundaries, field_bits = plain
        wanted = partitions - 1 if kind == Kind.RANGE else 0
        if len(boundaries) != wanted or type(field_bits) is not int:
            raise ValueError("it has not as many boundaries as partitions need")
        for boundary in boundaries:
            if not isinstance(boundary, bytes):
                raise TypeError("a boundary is no bytes")
        if sorted(set(boundaries)) != list(boundaries):
            raise ValueError("the boundaries do not ascend")
        return cls(Kind(kind), partitions, tuple(boundaries), field_bits)


def blocks(partitions: int, *, size: int, bits: int, first: int = 0) -> Placement:
    """By the first key field, which is `bits` wide: `size` values from `first` on are in
    partition 0, as many in the next one, and so on. What is below `first` is in partition 0, what
    is beyond the last block in the last partition.

    SchemaError if a block would begin beyond what the field can hold.
    """
    starts = [first + number * size for number in range(1, partitions)]
    if starts and starts[-1] >= 1 << bits:
        raise SchemaError(
            f"the block of partition {partitions - 1} begins at {starts[-1]}, and {bits} bits hold"
            f" {(1 << bits) - 1} at most; give smaller blocks, or the bits of the key field"
        )
    boundaries = [(start << _WORD_BITS - bits).to_bytes(8, "big") for start in starts]
    return Placement(Kind.RANGE, partitions, tuple(boundaries), bits)


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the keys of all tables are: by name, or as `default` says."""

    partitions: int
    default: Placement
    tables: Mapping[str, Placement] = field(default_factory=dict)

    def of(self, table: str) -> Placement:
        """Where the keys of a table are."""
        return self.tables.get(table, self.default)

    def plain(self) -> list[Any]:
        """In plain values, for the wire: [partitions, default, {name: placement}]."""
        tables = {name: placement.plain() for name, placement in self.tables.items()}
        return [self.partitions, self.default.plain(), tables]

    @classmethod
    def of_plain(cls, plain: Sequence[Any]) -> ShardMap:
        """What `plain` was made of. ValueError, TypeError, AttributeError: it is something else."""
        partitions, default, tables = plain
        if type(partitions) is not int or not 1 <= partitions <= PARTITIONS_MAX:
            raise ValueError(f"{shown(partitions, 20)} partitions")
        return cls(
            partitions,
            Placement.of_plain(partitions, default),
            {str(name): Placement.of_plain(partitions, each) for name, each in tables.items()},
        )


def by_hash(partitions: int) -> ShardMap:
    """The map of a cluster whose configuration gives none."""
    return ShardMap(partitions, Placement(Kind.HASH, partitions))


#: Everything is in one partition.
UNDIVIDED: Final = by_hash(1)


class HomeField(NamedTuple):
    """A key field, and the argument of a procedure that is its value."""

    argument: int
    word: int
    shift: int
    bits: int


@dataclass(frozen=True, slots=True)
class Home:
    """The key whose partition runs a procedure: some of its arguments, packed as `table` packs
    its keys; fields that are not given are zero."""

    table: str
    words: int
    fields: tuple[HomeField, ...]
    #: Whether the fields are the whole key, as a table that is placed by hash needs it.
    is_whole: bool

    def key(self, arguments: Sequence[int]) -> bytes:
        """The key for these arguments. SchemaError if one does not fit its field."""
        words = [0] * self.words
        for each in self.fields:
            value = arguments[each.argument]
            if not isinstance(value, int) or not 0 <= value < 1 << each.bits:
                raise SchemaError(
                    f"argument {each.argument + 1} is {shown(value, 40)}, and the home is a key of"
                    f" {self.table}, which has {each.bits} bits for it; correct it, or give"
                    " partition="
                )
            words[each.word] |= value << each.shift
        return b"".join(word.to_bytes(8, "big") for word in words)

    def plain(self) -> list[Any]:
        """In plain values, for the wire."""
        return [self.table, self.words, [list(each) for each in self.fields], self.is_whole]

    @classmethod
    def of_plain(cls, plain: Sequence[Any], arguments: int) -> Home:
        """The home of a procedure with so many arguments. ValueError, TypeError: it is none."""
        table, words, listed, is_whole = plain
        fields = tuple(HomeField(*each) for each in listed)
        for each in fields:
            fits = each.bits >= 1 and each.shift >= 0 and each.shift + each.bits <= _WORD_BITS
            if not (0 <= each.argument < arguments and 0 <= each.word < words <= 2 and fits):
                raise ValueError(f"{each} is no key field")
        return cls(str(table), words, fields, bool(is_whole))


def check_field(table: str, bits: int, placement: Placement) -> None:
    """SchemaError if a placement is made of blocks of a key field of another width than `bits`,
    which the first one of the table has."""
    if placement.partitions > 1 and placement.field_bits not in (0, bits):
        raise SchemaError(
            f"table {table}: its first key field has {bits} bits, and the configuration of the"
            f" cluster places it in blocks of a field of {placement.field_bits}; correct `shards`"
        )


def check_home(home: Home, placement: Placement, procedure: str) -> None:
    """SchemaError if the fields of `home` do not tell the partition."""
    if placement.partitions == 1:
        return
    if placement.kind is Kind.EVERYWHERE:
        raise SchemaError(
            f"procedure {procedure}: table {home.table} is everywhere, so no key of it is a home;"
            " name another table in home="
        )
    if placement.kind is Kind.HASH and not home.is_whole:
        raise SchemaError(
            f"procedure {procedure}: table {home.table} is placed by the hash of the whole key, and"
            " home= gives the beginning of one; give all of it, or place the table by blocks"
        )


def split(placement: Placement, keys: Iterable[bytes]) -> dict[int, list[int]]:
    """The places of `keys` in their list, by partition."""
    found: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(placement.partition_of(key), []).append(place)
    return found
