"""Layouts of rows, and the names and numbers in declarations.

A row has one field after the other, little-endian, each at a multiple of its element's size;
the total is rounded up to 8 bytes:

    Row({"flags": "u1", "total": "i8", "name": "S5", "items": "u2*3"})

    byte  0      1          8              16         21  22                28   32
        +-------+----------+--------------+----------+---+-----------------+----+
        | flags |          |    total     |   name   |   | items 0, 1, 2   |    |
        +-------+----------+--------------+----------+---+-----------------+----+

The codes of fields:

    i1 i2 i4 i8     signed integers of 1, 2, 4, 8 bytes
    u1 u2 u4        unsigned integers
    f8              a float
    S<n>            n bytes, shorter values padded with zero bytes; a row that is read has none of
                    those at the end. In a procedure they count for `len`, but where such a field,
                    or a part of it, is compared they do not.
    <integer>*<n>   an array of n integers, for example "u2*15"
"""

import hashlib
import keyword
import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mako.errors import SchemaError
from mako.ids import VALUE_BYTES_MAX
from mako.shown import shown

#: Rows are rounded up to this, so that every row of an array of rows is aligned.
ROW_ALIGNMENT: Final = 8
#: Longest name in bytes of UTF-8. Names are in the log's schema entries.
NAME_BYTES_MAX: Final = 255

_INTEGERS: Final = ("i1", "i2", "i4", "i8", "u1", "u2", "u4")
_STRUCT_CODES: Final = dict(
    zip((*_INTEGERS, "f8", "S"), ("b", "h", "i", "q", "B", "H", "I", "d", "s"), strict=True)
)

#: What a field of a row holds outside the engine.
Value = int | float | bytes | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a row: `size` bytes at `offset`, which are `count` elements.

    `code` is what the user wrote. "S10" has 10 elements of one byte.
    """

    name: str
    code: str
    offset: int
    count: int
    size: int

    @property
    def element(self) -> str:
        """The code of one element: "i1" … "f8", or "S" for bytes."""
        return "S" if self.is_chars else self.code.partition("*")[0]

    @property
    def element_size(self) -> int:
        return self.size // self.count

    @property
    def is_chars(self) -> bool:
        return self.code.startswith("S")

    @property
    def is_array(self) -> bool:
        return "*" in self.code


class Row:
    """The layout of a row, also on its own, for the state of a workload.

    `pack` and `unpack` take time in proportion to the number of elements.
    """

    __slots__ = ("__weakref__", "_struct", "fields", "fingerprint", "name", "size")

    def __init__(self, fields: Mapping[str, str], *, name: str = "row") -> None:
        self.name: Final[str] = name  # Errors begin with it.
        self.fields: Final[tuple[Field, ...]] = _lay_out(name, fields)
        end = max((field.offset + field.size for field in self.fields), default=0)
        self.size: Final[int] = _round_up(end, ROW_ALIGNMENT)
        if self.size > VALUE_BYTES_MAX:
            raise SchemaError(
                f"{name}: a row of {self.size} bytes is over the limit of {VALUE_BYTES_MAX};"
                " shorten its fields or split the table"
            )
        self.fingerprint: Final[str] = digest(self.fields)
        self._struct: Final[struct.Struct] = _struct_of(self.fields, self.size)

    def __repr__(self) -> str:
        return f"Row({ {field.name: field.code for field in self.fields} })"

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """The bytes of a row with `values`; fields that are not given are zero.

        A value that does not fit its field is a SchemaError: nothing is cut here.
        """
        if not isinstance(values, Mapping):
            raise SchemaError(f"{self.name}: a row is a dict of its fields, not {shown(values)}")
        elements: list[int | float | bytes] = []
        known = 0
        for field in self.fields:
            if field.name in values:
                known += 1
                elements.extend(_elements(field, f"{self.name}.{field.name}", values[field.name]))
            elif field.is_chars:
                elements.append(b"")
            else:
                elements.extend([0] * field.count)
        if known != len(values):
            names = [field.name for field in self.fields]
            unknown = sorted(str(name) for name in values if name not in names)
            raise SchemaError(
                f"{self.name} has no field {', '.join(unknown)}; its fields are"
                f" {', '.join(names) or 'none'}"
            )
        return self._struct.pack(*elements)

    def unpack(self, row: bytes | bytearray | memoryview) -> dict[str, Value]:
        """The values of a row. Bytes come without the zero bytes at their end."""
        if len(row) != self.size:
            raise SchemaError(
                f"{self.name}: a row has {self.size} bytes, not {len(row)}; was it written with"
                " another declaration?"
            )
        elements = self._struct.unpack(row)
        values: dict[str, Value] = {}
        at = 0
        for field in self.fields:
            if field.is_chars:
                values[field.name] = elements[at].rstrip(b"\0")
                at += 1
            elif field.is_array:
                values[field.name] = elements[at : at + field.count]
                at += field.count
            else:
                values[field.name] = elements[at]
                at += 1
        return values


def _lay_out(row: str, codes: Mapping[str, str]) -> tuple[Field, ...]:
    fields: list[Field] = []
    end = 0
    for name, code in codes.items():
        check_identifier(f"{row}: the name of a field", name)
        element, count = _parse_code(row, name, code)
        size = 1 if element == "S" else int(element[1])
        offset = _round_up(end, size)
        fields.append(Field(name, code, offset, count, count * size))
        end = offset + count * size
    return tuple(fields)


def _parse_code(row: str, field: str, code: object) -> tuple[str, int]:
    """The element and the number of elements that `code` stands for."""
    if isinstance(code, str):
        element, star, length = code.partition("*")
        if code in _INTEGERS or code == "f8":
            return code, 1
        if star and element in _INTEGERS and (count := _parse_length(length)):
            return element, count
        if code.startswith("S") and (count := _parse_length(code[1:])):
            return "S", count
    raise SchemaError(
        f"{row}: {field} has the unknown code {shown(code)}; use one of {', '.join(_INTEGERS)}, f8,"
        " S<n>, or <integer>*<n>, with n from 1"
    )


def _parse_length(digits: str) -> int:
    """The number, or 0 if it is not one. Only the plain spelling, so that codes are unique."""
    plain = digits.isascii() and digits.isdigit() and len(digits) <= 9 and digits[0] != "0"
    return int(digits) if plain else 0


def _struct_of(fields: tuple[Field, ...], size: int) -> struct.Struct:
    """The layout in the terms of `struct`, with every gap spelled out."""
    layout = ["<"]
    end = 0
    for field in fields:
        layout.append(f"{field.offset - end}x{field.count}{_STRUCT_CODES[field.element]}")
        end = field.offset + field.size
    layout.append(f"{size - end}x")
    compiled = struct.Struct("".join(layout))
    assert compiled.size == size
    return compiled


def _elements(field: Field, name: str, value: Value) -> tuple[int | float | bytes, ...]:
    """What `struct` packs for `value`, after checking that it fits."""
    if field.is_chars:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise SchemaError(f"{name} holds bytes, not {shown(value)}; encode it")
        data = bytes(value)  # Before its length: that of a memoryview counts its elements.
        if len(data) > field.size:
            raise SchemaError(f"{name} holds up to {field.size} bytes, not {len(data)}")
        return (data,)
    if field.is_array:
        if not isinstance(value, tuple | list) or len(value) != field.count:
            raise SchemaError(f"{name} holds a tuple of {field.count} integers, not {shown(value)}")
        return tuple(_ranged(field, name, element) for element in value)
    if field.element == "f8":
        return (_float(name, value),)
    return (_ranged(field, name, value),)


def _ranged(field: Field, name: str, given: object) -> int:
    value = integer(name, given)
    bits = 8 * field.element_size
    low, end = (-(1 << bits - 1), 1 << bits - 1) if field.element[0] == "i" else (0, 1 << bits)
    if not low <= value < end:
        raise SchemaError(f"{name} = {shown(value)} is not from {low} to {end - 1} ({field.code})")
    return value


def _float(name: str, value: object) -> float:
    if not isinstance(value, int | float):
        raise SchemaError(f"{name} holds a float, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise SchemaError(f"{name} = {shown(value)} is too large for a float") from None


def integer(name: str, value: object) -> int:
    """`value` as an int; anything that counts as an integer is taken, a float is not."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise SchemaError(f"{name} holds an integer, not {shown(value)}") from None


def check_identifier(what: str, name: object) -> None:
    # ASCII only: Python folds other letters in an attribute, but not in a string.
    good = isinstance(name, str) and name.isascii() and name.isidentifier()
    if not good or keyword.iskeyword(str(name)) or str(name).startswith("_"):
        raise SchemaError(
            f"{what} is {name!r}, which cannot be used; take ASCII letters, digits and _,"
            " beginning with a letter, and no word of the language"
        )
    check_table_name(name)


def check_table_name(name: object) -> None:
    good = isinstance(name, str) and name.isprintable() and name.strip() == name != ""
    if not good or len(str(name).encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise SchemaError(
            f"a name is printable text of 1 to {NAME_BYTES_MAX} bytes without spaces around it,"
            f" not {name!r:.80}"
        )


def digest(declaration: object) -> str:
    """A short name for `declaration`, whose repr says all that there is to say."""
    return hashlib.sha256(repr(declaration).encode()).hexdigest()[:32]


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
