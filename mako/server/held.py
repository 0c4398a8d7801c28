"""Results of an epoch that has ended, and that nobody has judged yet.

    worker stopped ──▶ held ──judge(F)──┬─ at or below F ──▶ due ──the time has passed──▶ the result
                                        └─ above F ───────▶ DISCARDED, or UNKNOWN, at once

They were executed by a leader and wait for the watermark of its epoch, which it does not see move
any more. The first entry of the next epoch holds the final one, F (DESIGN §8). What is at or below
it has only the second half of the rule of acknowledgement to wait for, physical time.

Results are kept packed, as they will be sent, outside of the engine: the rings that they were in
are given back, and a snapshot may replace the engine meanwhile.
"""

import heapq
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mako.call_format import IS_BYTES, IS_NOTICE, RESULT_BYTES, RESULT_MASK, RESULT_STATUS
from mako.engine.layout import (
    COMPLETION_RING_BYTES,
    D_BYTES,
    D_DETAIL,
    D_ID,
    D_MASK,
    D_ORIGIN,
    D_OUTCOME,
    D_RESULT,
    D_SIZE,
    D_TIMESTAMP,
    FLAG_ANSWERED,
    FLAG_EARLY,
    ORIGIN_SHIFT,
    RING_SKIP,
)
from mako.engine.station import Abandoned
from mako.ids import Status

_COMPLETION: Final = struct.Struct("<8q")
_RESULT: Final = struct.Struct("<IHHqqqqq")
_STATUS: Final = struct.Struct("<H")
_MASK: Final = struct.Struct("<q")
assert _RESULT.size == RESULT_BYTES
# In the order in which they are unpacked.
_WORDS: Final = (D_SIZE, D_ID, D_OUTCOME, D_TIMESTAMP, D_MASK, D_RESULT, D_DETAIL, D_ORIGIN)
assert tuple(range(0, _COMPLETION.size, 8)) == _WORDS


class Result(NamedTuple):
    """A result that is to be sent; none, `b""`, if all that there is to say has been sent."""

    timestamp: int
    connection: int
    packed: bytes

    def depends_on(self, partition: int) -> bool:
        """Whether its dependency mask has the bit of a partition."""
        mask = _MASK.unpack_from(self.packed, RESULT_MASK)[0] if self.packed else 0
        return bool(mask >> partition & 1)

    def ended(self, status: Status) -> "Result":
        """The same with another status."""
        before, behind = self.packed[:RESULT_STATUS], self.packed[RESULT_STATUS + _STATUS.size :]
        return self._replace(packed=before + _STATUS.pack(status) + behind)


class Judged(NamedTuple):
    """How many were found durable, and how many were not."""

    durable: int = 0
    lost: int = 0

    def plus(self, more: "Judged") -> "Judged":
        return Judged(self.durable + more.durable, self.lost + more.lost)


def results_in(ring: bytes, tail: int, head: int) -> Iterator[Result]:
    """The completions of a ring from `tail` to before `head`. Their early results were sent."""
    while tail < head:
        place = tail % COMPLETION_RING_BYTES
        size = int.from_bytes(ring[place : place + 8], "little", signed=True)
        if size == RING_SKIP:
            tail += COMPLETION_RING_BYTES - place
            continue
        _, number, outcome, timestamp, mask, value, detail, origin = _COMPLETION.unpack_from(
            ring, place
        )
        packed = b""
        if not origin & FLAG_ANSWERED:
            extra = ring[place + D_BYTES : place + size]
            flags = (IS_NOTICE if origin & FLAG_EARLY else 0) | (IS_BYTES if extra else 0)
            length = RESULT_BYTES + len(extra)
            words = (number, timestamp, mask, value, detail)
            packed = _RESULT.pack(length, outcome, flags, *words) + extra
        yield Result(timestamp, origin >> ORIGIN_SHIFT, packed)
        tail += size


def refused(request: Abandoned, status: Status) -> Result:
    """What is said of a request that has no effect."""
    packed = _RESULT.pack(RESULT_BYTES, status, 0, request.number, 0, 0, 0, 0)
    return Result(0, request.origin >> ORIGIN_SHIFT, packed)


def places_in(ring: bytes, tail: int, head: int) -> Iterator[tuple[int, int, int]]:
    """Offset, timestamp and mask of the completions of a ring from `tail` to before `head`."""
    while tail < head:
        place = tail % COMPLETION_RING_BYTES
        size = int.from_bytes(ring[place : place + 8], "little", signed=True)
        if size == RING_SKIP:
            tail += COMPLETION_RING_BYTES - place
            continue
        _, _, _, timestamp, mask, _, _, _ = _COMPLETION.unpack_from(ring, place)
        yield place, timestamp, mask
        tail += size


class Held:
    """See the module."""

    def __init__(self) -> None:
        self._open: list[Result] = []
        self._due: list[Result] = []

    @property
    def open(self) -> bool:
        """Whether there are any that nobody has judged."""
        return bool(self._open)

    @property
    def due(self) -> bool:
        """Whether there are durable ones whose time has not come."""
        return bool(self._due)

    def add(self, result: Result) -> None:
        self._open.append(result)

    def judge(self, final: int, lost: Status) -> tuple[Judged, list[Result]]:
        """What is at or below `final` is durable. The others are returned, ended with `lost`."""
        judged, self._open = self._open, []
        ended = [result.ended(lost) for result in judged if result.timestamp > final]
        for result in judged:
            if result.timestamp <= final:
                heapq.heappush(self._due, result)
        return Judged(len(judged) - len(ended), len(ended)), ended

    def lost(self, partition: int, final: int) -> list[Result]:
        """Those that depend on a partition above its final watermark are discarded, whether they
        were judged or not: they are returned."""
        kept: list[list[Result]] = []
        ended: list[Result] = []
        for results in (self._open, self._due):
            gone = [one for one in results if one.depends_on(partition) and one.timestamp > final]
            ended += [one.ended(Status.DISCARDED) for one in gone]
            kept.append([one for one in results if one not in gone])
        self._open, self._due = kept
        heapq.heapify(self._due)
        return ended

    def take_due(self, limit: int) -> list[Result]:
        """The durable ones at or below `limit`, the time that has passed."""
        taken = []
        while self._due and self._due[0].timestamp <= limit:
            taken.append(heapq.heappop(self._due))
        return taken

    def drop(self, connection: int) -> int:
        """Nobody listens to a connection any more: how many there were for it."""
        before = len(self._open) + len(self._due)
        self._open = [each for each in self._open if each.connection != connection]
        self._due = [each for each in self._due if each.connection != connection]
        heapq.heapify(self._due)
        return before - len(self._open) - len(self._due)
