"""What planted bugs of a partition do where the right thing is compiled (mako.replication.planted).

Nothing here runs in production.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mako.crc import crc32
from mako.engine.closing import set_word
from mako.engine.codec import Discard
from mako.engine.engine import Engine
from mako.engine.layout import C_FLOOR, CLOSED
from mako.log_format import HEADER_BYTES, HEADER_COUNT, TRANSACTION
from mako.recovery.history import EpochStart

if TYPE_CHECKING:
    from mako.replication.across import Across

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def close_by_floors_first(engine: Engine, between: Callable[[], None]) -> int:
    """`close` with its two reads in the wrong order; workers go on between them."""
    contexts = range(engine.context_count)
    floors = [engine.word(engine.context(number) + C_FLOOR) for number in contexts]
    between()
    closed = max(min([engine.clock, *floors]), engine.closed)
    set_word(engine.base + CLOSED, closed)
    return closed


def with_timestamps_reversed(entry: bytes) -> bytes:
    """An entry whose first transaction has the timestamp of the last, and so on: replaying it is
    replaying the original in the wrong order."""
    data = bytearray(entry)
    (count,) = _U32.unpack_from(data, HEADER_COUNT)
    places, at = [], HEADER_BYTES
    for _ in range(count):
        places.append(at)
        at += TRANSACTION.size + TRANSACTION.unpack_from(data, at)[3]
    timestamps = [_U64.unpack_from(data, place)[0] for place in places]
    for place, timestamp in zip(places, reversed(timestamps), strict=True):
        _U64.pack_into(data, place, timestamp)
    crc_at = len(data) - _U32.size
    _U32.pack_into(data, crc_at, crc32(memoryview(data)[:crc_at]))
    return bytes(data)


def undo_by_newest(across: Across, start: EpochStart, missed: Sequence[EpochStart]) -> Discard:
    """`Across.undo` of an epoch, with the final watermark of the newest one that was missed of its
    partition: what the first one has lost, and the newest one has not, stays."""
    newest = max(each for each in missed if each.partition == start.partition)
    return across.undo(start._replace(final=newest.final))._replace(final=start.final)
