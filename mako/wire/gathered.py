"""A transaction over partitions, packed by the client that has gathered it (docs/wire.md).

The items are put together one by one, in any order; what was seen comes before what is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from mako import call_format as f

_ITEM: Final = struct.Struct("<BBHIII")
_CALL: Final = struct.Struct("<IBBHQII")


def item_bytes(key: bytes, value: bytes = b"") -> int:
    """Bytes of an item."""
    return (f.ITEM_BYTES + len(key) + len(value) + 7) & ~7


def pack_item(
    kind: int, place: int, table: int, key: bytes, value: bytes = b"", *, rows: int = 0
) -> bytes:
    """One item. `place` is a partition, or PLACE_EVERYWHERE, or PLACE_SEVERAL."""
    head = _ITEM.pack(kind, place, len(key), table, len(value), rows)
    used = f.ITEM_BYTES + len(key) + len(value)
    return b"".join((head, key, value, bytes(-used & 7)))


def pack_gathered(number: int, flags: int, items: Iterable[bytes]) -> bytes:
    """A call that commits it; `number` is the id of the call."""
    body = b"".join(items)
    assert len(body) <= f.GATHERED_BYTES_MAX, "whoever gathers counts"
    assert len(body) & 7 == 0
    size = f.CALL_BYTES + len(body)
    return _CALL.pack(size, f.GATHERED, flags, 0, number, 0, len(body)) + body
