"""The lists of `mako.sim.model` in the real engine, with its transactions, entries and snapshots.

    L key            length of the list
    E key position   value
    V value          position of the value, so that a repeated request changes nothing
    P key            what padded the last request: it makes entries large, and not the state

It shows that engine, log and replicas fit together.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from mako.entry import Entry
from mako.replication.ahead import Ahead
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from mako.schema import BytesTable
from mako.sim.model import decode_request, encode_position

_TABLE: Final = BytesTable("lists", id=1)
_LENGTH: Final = struct.Struct(">cI")
_ELEMENT: Final = struct.Struct(">cII")
_PADDING: Final = struct.Struct(">cI")
_VALUE: Final = struct.Struct(">cQ")
_NUMBER: Final = struct.Struct("<Q")
#: An element as a row of a dump: table, bytes of the key, key, bytes of the value, value.
_ROW: Final = struct.Struct("<HH9sIQ")
_MEMORY_BYTES: Final = 16 << 20
_RING_BYTES: Final = 256 << 10


def _number(data: bytes | None) -> int:
    return 0 if data is None else int(_NUMBER.unpack_from(data)[0])


def _append(tx: Ahead, request: bytes) -> bytes:
    """A transaction: append the value, unless it is there already."""
    value, key = decode_request(request)
    known = tx.get(_VALUE.pack(b"V", value))
    if known is not None:
        return encode_position(_number(known))
    list_key = _LENGTH.pack(b"L", key)
    position = _number(tx.get(list_key)) + 1
    tx.put(list_key, _NUMBER.pack(position))
    tx.put(_VALUE.pack(b"V", value), _NUMBER.pack(position))
    tx.put(_ELEMENT.pack(b"E", key, position), _NUMBER.pack(value))
    tx.put(_PADDING.pack(b"P", key), bytes(len(request)))
    return encode_position(position)


class EngineModel(Partition):
    """See mako.sim.model.SimMachine."""

    def __init__(
        self, now_ms: Callable[[], int], note: Callable[[str], None] = lambda what: None
    ) -> None:
        self._note = note
        settings = PartitionSettings(
            memory_bytes=_MEMORY_BYTES, ring_bytes=_RING_BYTES, entry_bytes=_RING_BYTES // 2
        )
        super().__init__(settings, [_TABLE], now_ms, transact=_append)

    def apply(self, entries: Sequence[Entry]) -> None:
        before = self.discarded
        super().apply(entries)
        if self.discarded > before:
            self._note("speculation_taken_back")

    def values(self, key: int) -> list[int]:
        """The applied values of a list."""
        if not self._tables:
            return []
        with self.reading(_TABLE.id) as tx:
            length = _number(tx.get(_LENGTH.pack(b"L", key)))
        first, end = _ELEMENT.pack(b"E", key, 0), _ELEMENT.pack(b"E", key + 1, 0)
        elements = [
            (_ELEMENT.unpack(place)[2], value)
            for _, _, place, _, value in _ROW.iter_unpack(self.rows(_TABLE.id, first, end))
        ]
        assert [position for position, _ in elements] == [*range(1, length + 1)], "no gaps"
        return [value for _, value in elements]
