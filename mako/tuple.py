r"""Keys made of typed values: tuples packed into bytes that sort as the tuples do.

    orders = mako.tuple.Subspace(("orders",))
    tx.put(orders.pack((customer, date)), value)
    tx.scan(*orders.range((customer,)))             # all orders of one customer

Elements may be None, bytes, str, int, float, bool, UUID, and tuples of those. Each is packed as
a code and its content, big-endian, so that elements compare by type and then by value, and a
tuple sorts before every longer one that it begins. The codes, in the order of keys, are those
of FoundationDB's tuple layer, whose keys can be read where they have no other types:

    00        None; inside of a nested tuple 00 ff
    01        bytes: each 00 as 00 ff, then 00
    02        str: its UTF-8, in the same way. Strings sort by code points, as in Python
    05        nested tuple: its elements, then 00
    0b        integer below -(2^64 - 1): number of bytes xor ff, then as 0c … 13
    0c … 13   negative integer of 8 … 1 bytes: the complement of its magnitude
    14        zero
    15 … 1c   positive integer of 1 … 8 bytes
    1d        integer above 2^64 - 1: number of bytes (to 255), then the bytes
    21        float, 8 bytes: all bits inverted if negative, else only the sign bit
    26, 27    false, true
    30        UUID: its 16 bytes

An int is never equal to a float here: they sort apart, all integers first. There is exactly one
packed form of each tuple; `unpack` refuses every other string of bytes with ValueError.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from mako.shown import shown

Element: TypeAlias = bytes | str | int | float | bool | UUID | tuple["Element", ...] | None

_NONE: Final = 0x00
_BYTES: Final = 0x01
_STR: Final = 0x02
_NESTED: Final = 0x05
_INT_NEGATIVE_LONG: Final = 0x0B
_INT_ZERO: Final = 0x14
_INT_POSITIVE_LONG: Final = 0x1D
_FLOAT: Final = 0x21
_FALSE: Final = 0x26
_TRUE: Final = 0x27
_UUID: Final = 0x30

_TERMINATOR: Final = b"\x00"
#: Follows a zero byte that is content. Greater than every code, so that it is no terminator
#: with the next element after it.
_ESCAPE: Final = b"\xff"

#: Integers of up to this many bytes have a code of their own for each length.
_INT_BYTES_SHORT: Final = 8
#: The length of a longer integer is one byte. Beyond it ValueError.
INT_BYTES_MAX: Final = 255
#: Tuples in tuples. Beyond it ValueError, instead of an exhausted stack from a hostile key.
DEPTH_MAX: Final = 64


def pack(values: tuple[Element, ...]) -> bytes:
    """The bytes of `values`. They sort as the tuples do.

    Raises TypeError for an element of another type, ValueError for one that cannot be packed.
    """
    if not isinstance(values, tuple):
        raise TypeError(
            f"pack takes a tuple, not {shown(values)}; write ({shown(values)},) for one element"
        )
    chunks: list[bytes] = []
    for value in values:
        _pack_element(chunks, value, depth=0)
    return b"".join(chunks)


def unpack(key: bytes) -> tuple[Element, ...]:
    """The tuple that was packed into `key`. Raises ValueError if none was."""
    values: list[Element] = []
    at = 0
    while at < len(key):
        value, at = _unpack_element(key, at, depth=0)
        values.append(value)
    return tuple(values)


def range(prefix: tuple[Element, ...] = ()) -> tuple[bytes, bytes]:  # noqa: A001
    """Bounds [first, end) of all longer tuples that begin with the elements of `prefix`.

    The tuple `prefix` itself is not among them.
    """
    key = pack(prefix)
    return key + b"\x00", key + b"\xff"


@dataclass(frozen=True, slots=True)
class Subspace:
    """The keys that begin with the elements of `prefix`, after the bytes `raw_prefix`."""

    prefix: tuple[Element, ...] = ()
    raw_prefix: bytes = b""
    #: What all keys of the subspace begin with.
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.raw_prefix + pack(self.prefix))

    def __getitem__(self, element: Element) -> "Subspace":
        """The subspace of the keys here that begin with `element`."""
        return Subspace((*self.prefix, element), self.raw_prefix)

    def __contains__(self, key: bytes) -> bool:
        return key.startswith(self.key)

    def pack(self, values: tuple[Element, ...] = ()) -> bytes:
        """The key of `values` in this subspace."""
        return self.key + pack(values)

    def unpack(self, key: bytes) -> tuple[Element, ...]:
        """The tuple of a key of this subspace, without the prefix. Raises ValueError for others."""
        if key not in self:
            raise ValueError(
                f"the key {shown(key)} does not begin with {shown(self.key)} of its subspace"
            )
        return unpack(key[len(self.key) :])

    def range(self, prefix: tuple[Element, ...] = ()) -> tuple[bytes, bytes]:
        """Bounds [first, end) of the keys here that are longer than `prefix` and begin with it."""
        key = self.pack(prefix)
        return key + b"\x00", key + b"\xff"


def _pack_element(chunks: list[bytes], value: Element, depth: int) -> None:
    if value is None:
        chunks.append(b"\x00\xff" if depth else b"\x00")
    elif isinstance(value, bytes | bytearray):
        chunks += (b"\x01", _escaped(bytes(value)))
    elif isinstance(value, str):
        chunks += (b"\x02", _escaped(value.encode()))
    elif isinstance(value, bool):  # Before int, of which it is a subclass.
        chunks.append(b"\x27" if value else b"\x26")
    elif isinstance(value, int):
        chunks.append(_packed_int(value))
    elif isinstance(value, float):
        chunks.append(_packed_float(value))
    elif isinstance(value, UUID):
        chunks += (b"\x30", value.bytes)
    elif isinstance(value, tuple):
        if depth == DEPTH_MAX:
            raise ValueError(f"tuples are nested deeper than {DEPTH_MAX}; flatten the key")
        chunks.append(b"\x05")
        for element in value:
            _pack_element(chunks, element, depth + 1)
        chunks.append(_TERMINATOR)
    else:
        raise TypeError(
            f"{shown(value)} cannot be in a key; use None, bytes, str, int, float, bool, UUID,"
            " tuple"
        )


def _escaped(content: bytes) -> bytes:
    return content.replace(_TERMINATOR, _TERMINATOR + _ESCAPE) + _TERMINATOR


def _packed_int(value: int) -> bytes:
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    if size > INT_BYTES_MAX:
        raise ValueError(f"an integer of {size} bytes is over the limit of {INT_BYTES_MAX} in keys")
    if value >= 0:
        content = magnitude.to_bytes(size, "big")
        if size <= _INT_BYTES_SHORT:
            return bytes([_INT_ZERO + size]) + content
        return bytes([_INT_POSITIVE_LONG, size]) + content
    # The complement within its own length: a greater magnitude sorts first.
    content = ((1 << 8 * size) - 1 - magnitude).to_bytes(size, "big")
    if size <= _INT_BYTES_SHORT:
        return bytes([_INT_ZERO - size]) + content
    return bytes([_INT_NEGATIVE_LONG, size ^ 0xFF]) + content


def _packed_float(value: float) -> bytes:
    bits = int.from_bytes(struct.pack(">d", value), "big")
    # IEEE 754 sorts as sign and magnitude; this makes it sort as an unsigned number.
    bits ^= (1 << 64) - 1 if bits >> 63 else 1 << 63
    return b"\x21" + bits.to_bytes(8, "big")


def _unpack_element(key: bytes, at: int, depth: int) -> tuple[Element, int]:
    """The element at `at`, and where the next one begins."""
    code = key[at]
    if _INT_NEGATIVE_LONG <= code <= _INT_POSITIVE_LONG:
        return _unpack_int(key, at)
    if code == _NESTED:
        return _unpack_nested(key, at, depth)
    reader = _READERS.get(code)
    if reader is None:
        raise _malformed(key, at, f"no element has the code {code:#04x}")
    return reader(key, at)


def _unpack_nested(key: bytes, at: int, depth: int) -> tuple[Element, int]:
    if depth == DEPTH_MAX:
        raise _malformed(key, at, f"tuples are nested deeper than {DEPTH_MAX}")
    first, values = at, list[Element]()
    at += 1
    while at < len(key):
        if key[at] != _NONE:
            value, at = _unpack_element(key, at, depth + 1)
            values.append(value)
        elif key[at + 1 : at + 2] == _ESCAPE:
            values.append(None)
            at += 2
        else:
            return tuple(values), at + 1
    raise _malformed(key, first, "the nested tuple has no end")


def _unpack_bytes(key: bytes, at: int) -> tuple[bytes, int]:
    first = at + 1
    end = key.find(_TERMINATOR, first)
    while end >= 0 and key[end + 1 : end + 2] == _ESCAPE:
        end = key.find(_TERMINATOR, end + 2)
    if end < 0:
        raise _malformed(key, at, "the string has no end")
    return key[first:end].replace(_TERMINATOR + _ESCAPE, _TERMINATOR), end + 1


def _unpack_str(key: bytes, at: int) -> tuple[str, int]:
    content, end = _unpack_bytes(key, at)
    try:
        return content.decode(), end
    except UnicodeDecodeError as error:
        raise _malformed(key, at, f"the string is not UTF-8 ({error.reason})") from None


def _unpack_int(key: bytes, at: int) -> tuple[int, int]:
    code = key[at]
    negative = code < _INT_ZERO
    first = at + 1
    if code in (_INT_NEGATIVE_LONG, _INT_POSITIVE_LONG):
        size = _content(key, first, 1)[0] ^ (0xFF if negative else 0)
        first += 1
        shortest = _INT_BYTES_SHORT + 1
    else:
        size = shortest = abs(code - _INT_ZERO)
    magnitude = int.from_bytes(_content(key, first, size), "big")
    if negative:
        magnitude = (1 << 8 * size) - 1 - magnitude
    if size < shortest or (magnitude.bit_length() + 7) // 8 != size:
        raise _malformed(key, at, "the integer has a shorter form")
    return -magnitude if negative else magnitude, first + size


def _unpack_float(key: bytes, at: int) -> tuple[float, int]:
    bits = int.from_bytes(_content(key, at + 1, 8), "big")
    bits ^= 1 << 63 if bits >> 63 else (1 << 64) - 1
    value: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return value, at + 9


def _content(key: bytes, at: int, size: int) -> bytes:
    if at + size > len(key):
        raise _malformed(key, at, f"{size} bytes should follow, not {len(key) - at}")
    return key[at : at + size]


def _malformed(key: bytes, at: int, why: str) -> ValueError:
    return ValueError(f"{shown(key, 200)} is not a packed tuple: {why}, at byte {at}")


_READERS: Final[dict[int, Callable[[bytes, int], tuple[Element, int]]]] = {
    _NONE: lambda _key, at: (None, at + 1),
    _BYTES: _unpack_bytes,
    _STR: _unpack_str,
    _FLOAT: _unpack_float,
    _FALSE: lambda _key, at: (False, at + 1),
    _TRUE: lambda _key, at: (True, at + 1),
    _UUID: lambda key, at: (UUID(bytes=_content(key, at + 1, 16)), at + 17),
}
