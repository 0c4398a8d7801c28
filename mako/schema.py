"""What is stored: tables of typed rows under integer keys, and tables of byte strings.

    ITEM = mako.Table("item", id=8, key={"i_id": 32}, row={"i_name": "S24", "i_price": "i4"})

A key is a tuple of unsigned integers, each with a width in bits. They are packed from the most
significant bit down, in order, into one 64-bit word, or into two; no field straddles the words
and the bits left over are zero. So packed keys sort as their tuples do. Outside the engine a
packed key is bytes, big-endian:

    key={"w_id": 16, "d_id": 8, "o_id": 32}

    bit  63            48 47       40 39                                8 7       0
        +----------------+-----------+-----------------------------------+---------+
        |      w_id      |   d_id    |               o_id                |    0    |
        +----------------+-----------+-----------------------------------+---------+

The layout of rows and the codes of their fields are in mako/row.py.

Tables compare by identity: declare each once, in a module. What must survive the process (the
cache of compiled code) is keyed by `fingerprint`, which is the same for the same declaration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mako.errors import SchemaError
from mako.ids import TABLE_ID_DECLARED_LAST, TABLE_ID_LAST, TableId
from mako.row import (
    Field,
    Row,
    Value,
    check_identifier,
    check_table_name,
    digest,
    integer,
)
from mako.shown import shown

__all__ = ["BytesTable", "Field", "KeyField", "Row", "Table", "Value", "check_distinct"]

KEY_WORD_BITS: Final = 64
KEY_WORDS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class KeyField:
    """One field of a key: `bits` wide, its lowest bit at `shift` of word number `word`."""

    name: str
    bits: int
    word: int
    shift: int

    @property
    def value_max(self) -> int:
        return (1 << self.bits) - 1


class Table:
    """A table of rows of one layout, under keys of one or two 64-bit words.

    The user chooses `id`, from 1 to 999, and never gives it to another table: it is what the log
    says instead of the name.
    """

    __slots__ = ("__weakref__", "_row", "fingerprint", "id", "key_fields", "key_words", "name")

    def __init__(
        self,
        name: str,
        *,
        id: int,  # noqa: A002
        key: Mapping[str, int],
        row: Mapping[str, str],
    ) -> None:
        check_identifier("the name of a table", name)
        self.name: Final[str] = name
        self.id: Final[TableId] = _table_id(name, id, last=TABLE_ID_DECLARED_LAST)
        self.key_fields: Final[tuple[KeyField, ...]] = _lay_out_key(name, key)
        self.key_words: Final[int] = self.key_fields[-1].word + 1
        both = [field for field in key if field in row]
        if both:
            raise SchemaError(
                f"table {name}: {', '.join(both)} is in the key and in the row; keep one of them"
            )
        self._row: Final[Row] = Row(row, name=name)
        self.fingerprint: Final[str] = digest((name, id, self.key_fields, self._row.fields))

    def __repr__(self) -> str:
        return f"Table({self.name!r}, id={self.id})"

    @property
    def row_layout(self) -> tuple[Field, ...]:
        return self._row.fields

    @property
    def row_size(self) -> int:
        """Bytes of every row; 0 if the table has nothing but its key."""
        return self._row.size

    @property
    def key_size(self) -> int:
        """Bytes of every packed key."""
        return self.key_words * (KEY_WORD_BITS // 8)

    def pack_key(self, key: tuple[int, ...] | int) -> bytes:
        """The bytes of `key`, which sort as keys do. A single field may be given as an int."""
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(self.key_fields):
            names = ", ".join(field.name for field in self.key_fields)
            raise SchemaError(
                f"table {self.name}: a key is ({names}), {len(self.key_fields)} integers,"
                f" not {shown(key)}"
            )
        return self._pack_words(values)

    def pack_bound(self, prefix: tuple[int, ...] | int) -> bytes:
        """The least packed key that starts with the fields of `prefix`: a bound of a scan."""
        values = prefix if isinstance(prefix, tuple) else (prefix,)
        if len(values) > len(self.key_fields):
            raise SchemaError(
                f"table {self.name}: a key has {len(self.key_fields)} fields, so {shown(prefix)} is"
                " not the beginning of one"
            )
        return self._pack_words(values)

    @property
    def last_key(self) -> bytes:
        """The greatest packed key there can be."""
        return self._pack_words(tuple(field.value_max for field in self.key_fields))

    def key_range(self, prefix: tuple[int, ...] | int) -> tuple[bytes, bytes | None]:
        """Bounds [first, end) of all keys that start with the fields of `prefix`.

        `end` is None if no greater key exists, which every scan takes as "to the end".
        """
        values = prefix if isinstance(prefix, tuple) else (prefix,)
        first = self.pack_bound(values)
        successor = list(values)
        # As in adding one to a number: a field at its maximum carries into the one before it.
        while successor and successor[-1] == self.key_fields[len(successor) - 1].value_max:
            successor.pop()
        if not successor:
            return first, None
        successor[-1] += 1
        return first, self._pack_words(tuple(successor))

    def unpack_key(self, key: bytes | bytearray | memoryview) -> tuple[int, ...]:
        """The tuple that `pack_key` made `key` of."""
        if len(key) != self.key_size:
            raise SchemaError(
                f"table {self.name}: a packed key has {self.key_size} bytes, not {len(key)}"
            )
        words = [int.from_bytes(key[at : at + 8], "big") for at in range(0, len(key), 8)]
        values = tuple(
            words[field.word] >> field.shift & field.value_max for field in self.key_fields
        )
        if self._pack_words(values) != key:
            raise SchemaError(
                f"table {self.name}: {bytes(key).hex()} is not a packed key of it, because bits"
                " outside of its fields are set"
            )
        return values

    def pack_row(self, values: Mapping[str, Value]) -> bytes:
        """The bytes of a row; see Row.pack."""
        return self._row.pack(values)

    def unpack_row(self, row: bytes | bytearray | memoryview) -> dict[str, Value]:
        """The values of a row; see Row.unpack."""
        return self._row.unpack(row)

    def _pack_words(self, values: tuple[int, ...]) -> bytes:
        words = [0] * self.key_words
        # Not strict: a bound gives the first fields only, and the rest stay zero.
        for field, given in zip(self.key_fields, values, strict=False):
            value = integer(field.name, given)
            if not 0 <= value <= field.value_max:
                raise SchemaError(
                    f"table {self.name}: {field.name} = {shown(value)} is not from 0 to"
                    f" {field.value_max}"
                )
            words[field.word] |= value << field.shift
        return b"".join(word.to_bytes(8, "big") for word in words)


class BytesTable:
    """A table of byte strings: keys of up to 4096 bytes, values of up to 4 MiB.

    Keys sort bytewise. `mako.tuple` packs typed tuples so that they keep their order.
    """

    __slots__ = ("__weakref__", "fingerprint", "id", "name")

    def __init__(self, name: str, *, id: int) -> None:  # noqa: A002
        check_table_name(name)
        self.name: Final[str] = name
        self.id: Final[TableId] = _table_id(name, id, last=TABLE_ID_LAST)
        self.fingerprint: Final[str] = digest((name, id, "bytes"))

    def __repr__(self) -> str:
        return f"BytesTable({self.name!r}, id={self.id})"


def check_tables(given: Iterable[object]) -> None:
    """Raise SchemaError if one of them describes no table."""
    for table in given:
        if not isinstance(table, Table | BytesTable):
            raise SchemaError(
                f"{shown(table)} is no description of a table; give a mako.Table or mako.BytesTable"
            )


def check_distinct(tables: Iterable[Table | BytesTable]) -> None:
    """Raise SchemaError if two different tables share a name or an id."""
    by_id: dict[int, Table | BytesTable] = {}
    by_name: dict[str, Table | BytesTable] = {}
    for table in tables:
        for taken, what in ((by_id.get(table.id), "id"), (by_name.get(table.name), "name")):
            if taken is not None and taken is not table:
                raise SchemaError(f"{table!r} and {taken!r} have the same {what}; change one")
        by_id[table.id] = table
        by_name[table.name] = table


def _lay_out_key(table: str, key: Mapping[str, int]) -> tuple[KeyField, ...]:
    if not key:
        raise SchemaError(f"table {table}: the key has no fields; give it at least one")
    fields: list[KeyField] = []
    word, free = 0, KEY_WORD_BITS
    for name, bits in key.items():
        check_identifier(f"table {table}: the name of a key field", name)
        if type(bits) is not int or not 1 <= bits <= KEY_WORD_BITS:
            raise SchemaError(
                f"table {table}: the width of {name} is a number of bits from 1 to"
                f" {KEY_WORD_BITS}, not {shown(bits)}"
            )
        if bits > free:
            word, free = word + 1, KEY_WORD_BITS
        if word == KEY_WORDS_MAX:
            raise SchemaError(
                f"table {table}: the key does not fit two words of 64 bits, which no field may"
                f" straddle, from {name} on; use narrower fields, or a table of byte strings"
            )
        free -= bits
        fields.append(KeyField(name, bits, word, free))
    return tuple(fields)


def _table_id(table: str, given: int, *, last: int) -> TableId:
    if type(given) is not int or not 1 <= given <= last:
        raise SchemaError(f"table {table}: the id is a number from 1 to {last}, not {shown(given)}")
    return TableId(given)
