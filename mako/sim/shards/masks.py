"""Masks in the logs of leaders: whoever writes over a version inherits what that waits for (I3).

    log of partition p    … 31 {p,q} x │ 34 {p} x …    34 lacks q, so W_q must have passed 31
    told by others        W_q = 30 in epoch 2          it has not: if q loses 31, 34 stays

The entries of a leader are looked at as it has drained them: later watermarks have passed what they
had not as the transaction ran. What was only read is not in the log, and is not looked at.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mako.log_format import (
    FLAG_DEPENDENCIES,
    HEADER,
    HEADER_BYTES,
    TABLE_ID_MASK,
    TRANSACTION,
    EntryType,
)
from mako.recovery.gossip import Gossip
from mako.sim.checkers import Violation

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")

#: Table and key.
Row = tuple[int, bytes]


class Logged(NamedTuple):
    """A transaction of a log."""

    timestamp: int
    #: 0: it depends on the partition whose log it is, and on no other.
    mask: int
    rows: tuple[Row, ...]


def transactions_of(entry: bytes) -> list[Logged]:
    """The transactions of an entry in the order of their timestamps; none if it has others."""
    _, _, kind, _, _, _, count, _, _ = HEADER.unpack_from(entry)
    if kind != EntryType.TRANSACTIONS:
        return []
    found, at = [], HEADER_BYTES
    for _ in range(count):
        timestamp, writes, flags, length = TRANSACTION.unpack_from(entry, at)
        at += TRANSACTION.size
        mask = 0
        if flags & FLAG_DEPENDENCIES:
            (mask,) = _U64.unpack_from(entry, at)
            at += _U64.size
        found.append(Logged(timestamp, mask, tuple(_rows(entry, at, writes))))
        at += length
    return sorted(found)


def _rows(entry: bytes, at: int, count: int) -> Iterator[Row]:
    for _ in range(count):
        (size,) = _U16.unpack_from(entry, at)
        key = entry[at + 2 : at + 2 + size]
        at += 2 + size
        (size,) = _U32.unpack_from(entry, at)
        at += 4 + size
        (table,) = _U16.unpack_from(entry, at)
        at += 2
        yield table & TABLE_ID_MASK, key


class _Written(NamedTuple):
    timestamp: int
    mask: int


class _Leadership:
    """What a leader has logged, as far as nothing of it is lost."""

    def __init__(self, vector: dict[int, int]) -> None:
        self.vector = vector
        self.rows: dict[Row, _Written] = {}


class Masks:
    """See the module."""

    def __init__(self) -> None:
        #: How many times somebody lacked what the version before had waited for.
        self.dropped = 0
        # By partition and epoch: the greatest watermark that was told in it, and with which final
        # watermark it began.
        self._announced: dict[tuple[int, int], int] = {}
        self._finals: dict[tuple[int, int], int] = {}
        self._leaderships: dict[int, _Leadership] = {}

    def announced(self, message: Gossip) -> None:
        """A leader tells its watermark, and perhaps what it knows of epochs."""
        key = message.partition, message.epoch
        self._announced[key] = max(self._announced.get(key, -1), message.watermark)
        if message.history is not None:
            for start in message.history.starts():
                self._finals[start.partition, start.epoch] = start.final

    def logged(self, partition: int, vector: dict[int, int], entry: bytes) -> None:
        """The leader of a partition, which knows the epochs of `vector`, has drained an entry."""
        known = self._leaderships.get(partition)
        if known is None or known.vector != vector:
            # What others have lost is gone; what stands below it is durable.
            known = self._leaderships[partition] = _Leadership(vector)
        for one in transactions_of(entry):
            for row in one.rows:
                before = known.rows.get(row)
                if before is not None and before.mask & ~one.mask:
                    self._check(partition, vector, before, one)
                known.rows[row] = _Written(one.timestamp, one.mask)

    def _check(self, partition: int, vector: dict[int, int], before: _Written, one: Logged) -> None:
        for other, epoch in vector.items():
            lacks = before.mask >> other & 1 and not one.mask >> other & 1 and other != partition
            if not lacks:
                continue
            if not self._passed(other, epoch, before.timestamp):
                raise Violation(
                    "I3",
                    f"partition {partition} wrote {one.timestamp} over {before.timestamp} without"
                    f" waiting for partition {other}, whose watermark of epoch {epoch} has not"
                    " passed that",
                )
            self.dropped += 1

    def _passed(self, partition: int, epoch: int, timestamp: int) -> bool:
        """Whether anybody can know that it is durable in a partition."""
        return (
            self._announced.get((partition, epoch), -1) >= timestamp
            or self._finals.get((partition, epoch), -1) >= timestamp
            or self._finals.get((partition, epoch + 1), -1) >= timestamp
        )
