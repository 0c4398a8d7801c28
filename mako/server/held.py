"""Results of an epoch that has ended, and that nobody has judged yet.

    worker stopped ──▶ held ──judge(F)──┬─ at or below F ──▶ due ──the time has passed──▶ the result
                                        └─ above F ───────▶ DISCARDED, or UNKNOWN, at once

They were executed by a leader and wait for the watermark of its epoch, which it does not see move
any more. The first entry of the next epoch holds the final one, F (DESIGN §8). What is at or below
it has only the second half of the rule of acknowledgement to wait for, physical time.

What depends on no other partition needs no more. What does may still be discarded with it, and
waits for all (`gate`).

While a leader leads, results that depend on a partition that stands still are *set aside*, so that
those behind them in the ring need not wait for it, too:

    ring ──set_aside──▶ aside ──take_aside: its watermarks have passed──▶ the result

Results are kept packed, as they will be sent, outside of the engine: the rings that they were in
are given back, and a snapshot may replace the engine meanwhile.
"""

import heapq
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from mako.call_format import (
    IS_BYTES,
    IS_NOTICE,
    RESULT_BYTES,
    RESULT_FLAGS,
    RESULT_ID,
    RESULT_MASK,
    RESULT_SIZE,
    RESULT_STATUS,
)
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
from mako.ids import Outcome, Status
from mako.server.gated import EVERYBODY, NOBODY, Gated, Passed, is_lost, parted

_COMPLETION: Final = struct.Struct("<8q")
_RESULT: Final = struct.Struct("<IHHqqqqq")
_STATUS: Final = struct.Struct("<H")
_FLAGS: Final = struct.Struct("<H")
_NUMBER: Final = struct.Struct("<q")
_SIZE: Final = struct.Struct("<I")
_MASK: Final = struct.Struct("<q")
assert _RESULT.size == RESULT_BYTES
# In the order in which they are unpacked.
_WORDS: Final = (D_SIZE, D_ID, D_OUTCOME, D_TIMESTAMP, D_MASK, D_RESULT, D_DETAIL, D_ORIGIN)
assert tuple(range(0, _COMPLETION.size, 8)) == _WORDS


#: Bytes of values of a connection that are set aside. Beyond it whoever reads is BUSY: it may read
#: again, and what was told of a partition that stands still is old by then, anyway.
ASIDE_BYTES_MAX: Final = 1 << 20
#: Bytes of what was dropped that stay until they are more than the others.
DROPPED_BYTES_MAX: Final = 16 << 20
#: Without an effect, and they say nothing of what is there: nobody has to wait before he is told.
SAYS_NOTHING: Final = frozenset(
    {
        int(Outcome.LOCKED),
        int(Outcome.CHANGED),
        int(Outcome.PHANTOM),
        int(Outcome.LOG_FULL),
        int(Outcome.TIMED_OUT),
        int(Outcome.UNAVAILABLE),
        int(Status.BUSY),
        int(Status.DISCARDED),
    }
)


class Result(NamedTuple):
    """A result that is to be sent; none, `b""`, if all that there is to say has been sent."""

    timestamp: int
    connection: int
    packed: bytes

    @property
    def mask(self) -> int:
        """The partitions on which it depends."""
        if not self.packed:
            return NOBODY
        return int(_MASK.unpack_from(self.packed, RESULT_MASK)[0]) & EVERYBODY

    @property
    def says_nothing(self) -> bool:
        return bool(self.packed) and (
            _STATUS.unpack_from(self.packed, RESULT_STATUS)[0] in SAYS_NOTHING
        )

    @property
    def is_discarded(self) -> bool:
        """Whether it was marked in its ring, and counted then."""
        return bool(self.packed) and (
            _STATUS.unpack_from(self.packed, RESULT_STATUS)[0] == Status.DISCARDED
        )

    @property
    def value_bytes(self) -> int:
        """Bytes of the value that a read has found."""
        return max(len(self.packed) - RESULT_BYTES, 0)

    def depends_on(self, partition: int) -> bool:
        """Whether its dependency mask has the bit of a partition."""
        return bool(self.mask >> partition & 1)

    def ended(self, status: Status) -> "Result":
        """The same with another status."""
        before, behind = self.packed[:RESULT_STATUS], self.packed[RESULT_STATUS + _STATUS.size :]
        return self._replace(packed=before + _STATUS.pack(status) + behind)

    def noted(self) -> "Result":
        """The same without what a read has found, if that was told before."""
        flags = _FLAGS.unpack_from(self.packed, RESULT_FLAGS)[0]
        if not flags & IS_NOTICE or not self.value_bytes:
            return self
        head = bytearray(self.packed[:RESULT_BYTES])
        _SIZE.pack_into(head, RESULT_SIZE, RESULT_BYTES)
        _FLAGS.pack_into(head, RESULT_FLAGS, flags & ~IS_BYTES)
        return self._replace(packed=bytes(head))

    def busy(self) -> "Result":
        """What is said instead of a read: it had no effect."""
        number = _NUMBER.unpack_from(self.packed, RESULT_ID)[0]
        return self._replace(packed=_refusal(number, Status.BUSY))


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
        yield result_of(ring[place : place + size])
        tail += size


def result_of(completion: bytes) -> Result:
    """The result that a completion is to become."""
    _, number, outcome, timestamp, mask, value, detail, origin = _COMPLETION.unpack_from(completion)
    packed = b""
    if not origin & FLAG_ANSWERED:
        extra = completion[D_BYTES:]
        flags = (IS_NOTICE if origin & FLAG_EARLY else 0) | (IS_BYTES if extra else 0)
        words = (number, timestamp, mask, value, detail)
        packed = _RESULT.pack(RESULT_BYTES + len(extra), outcome, flags, *words) + extra
    return Result(timestamp, origin >> ORIGIN_SHIFT, packed)


def refused(request: Abandoned, status: Status) -> Result:
    """What is said of a request that has no effect."""
    return Result(0, request.origin >> ORIGIN_SHIFT, _refusal(request.number, status))


def _refusal(number: int, status: Status) -> bytes:
    return _RESULT.pack(RESULT_BYTES, status, 0, number, 0, 0, 0, 0)


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


class _Kept(NamedTuple):
    """A result that is kept; `turn` tells it from all others."""

    result: Result
    turn: int


#: Where a result is that nobody has judged, and one that is durable here. What is set aside is at
#: its mask.
_OPEN: Final = -1
_DUE: Final = -2


class Held:
    """See the module. `own` is the mask of the own partition.

    What a connection has is dropped in a time that is proportional to that: only its turns are
    forgotten. The results stay where they are until it is their turn, or until they are more than
    the others. Everything else takes as long as there are results that it looks at.
    """

    def __init__(self, own: int = 1) -> None:
        self._own = own
        self._open: list[_Kept] = []
        # Durable here, by whether that is all that they need.
        self._due: list[_Kept] = []
        self._due_everywhere: list[_Kept] = []
        self._aside: Gated[_Kept] = Gated()
        self._turn = 0
        # Of each connection: where the results are by their turns. Who is not there was dropped.
        self._of: dict[int, dict[int, int]] = {}
        # How many are where, and how many of those that were dropped are still there.
        self._counts: Counter[int] = Counter()
        self._dropped = 0
        # Of each connection that has some: bytes of values that are set aside. And of what was
        # dropped, and may still be there.
        self._aside_bytes: Counter[int] = Counter()
        self._dropped_bytes = 0

    @property
    def open(self) -> bool:
        """Whether there are any that nobody has judged."""
        return self._counts[_OPEN] > 0

    @property
    def due(self) -> bool:
        """Whether there are durable ones whose time has not come."""
        return self._counts[_DUE] > 0

    def add(self, result: Result) -> None:
        self._open.append(self._keep(result, _OPEN))

    def judge(self, final: int, lost: Status) -> tuple[Judged, list[Result]]:
        """What is at or below `final` is durable. The others are returned, ended with `lost`."""
        judged, self._open = self._open, []
        ended: list[Result] = []
        durable = 0
        for kept in judged:
            result = kept.result
            if result.timestamp > final:
                if self._let_go(kept):
                    ended.append(result.ended(lost))
            elif self._move(kept, _DUE):
                due = self._due if result.mask == self._own else self._due_everywhere
                heapq.heappush(due, kept)
                durable += 1
        return Judged(durable, len(ended)), ended

    def lost(self, partition: int, final: int, status: Status = Status.DISCARDED) -> list[Result]:
        """Those that depend on a partition above its final watermark are discarded, whether they
        were judged or not, or set aside: they are returned, ended with `status`."""

        def is_gone(kept: _Kept) -> bool:
            return kept.result.timestamp > final and kept.result.depends_on(partition)

        aside = self._aside.remove(lambda one: is_lost(one, partition, final))
        gone = [one.item for one in aside]
        for kept in gone:
            self._take_off(kept)
        ended, self._open = parted(self._open, is_gone)
        gone += ended
        ended, self._due_everywhere = parted(self._due_everywhere, is_gone)
        gone += ended
        heapq.heapify(self._due_everywhere)
        return [kept.result.ended(status) for kept in gone if self._let_go(kept)]

    def take_due(self, limit: int, gate: int) -> list[Result]:
        """The durable ones at or below `limit`, the time that has passed; of those that depend on
        others what is at or below `gate`, too."""
        taken = []
        for due, reached in ((self._due, limit), (self._due_everywhere, gate)):
            while due and due[0].result.timestamp <= reached:
                kept = heapq.heappop(due)
                if self._let_go(kept):
                    taken.append(kept.result)
        return taken

    # --- Set aside -----------------------------------------------------------------------------

    def set_aside(self, result: Result) -> bool:
        """Keep it until its watermarks have passed. False: it is a read, and its connection has as
        many bytes set aside as it may."""
        mask = result.mask
        result = result.noted()
        size = result.value_bytes
        if size:
            if self._aside_bytes[result.connection] + size > ASIDE_BYTES_MAX:
                return False
            self._aside_bytes[result.connection] += size
        self._aside.add(result.timestamp, mask, self._keep(result, mask))
        return True

    @property
    def aside(self) -> bool:
        """Whether any are set aside."""
        return any(where >= 0 for where in self._counts)

    def count_aside(self, partition: int) -> int:
        """How many depend on a partition."""
        found = ((where, count) for where, count in self._counts.items() if where >= 0)
        return sum(count for mask, count in found if mask >> partition & 1)

    def those_aside(self) -> list[Result]:
        """They stay."""
        return [one.item.result for one in self._aside.waiting if self._is_kept(one.item)]

    def take_aside(self, passed: Passed) -> list[Result]:
        taken = self._aside.take(passed)
        for kept in taken:
            self._take_off(kept)
        return [kept.result for kept in taken if self._let_go(kept)]

    def _take_off(self, kept: _Kept) -> None:
        """It is not set aside any more. What was dropped does not count, and was counted off."""
        size = kept.result.value_bytes
        if size and self._is_kept(kept):
            self._aside_bytes[kept.result.connection] -= size
            if not self._aside_bytes[kept.result.connection]:
                del self._aside_bytes[kept.result.connection]

    def reopen(self) -> None:
        """The epoch has ended: whoever judges the others judges those that are set aside."""
        again = [one.item for one in self._aside.take_all()]
        self._aside_bytes.clear()
        self._open += [kept for kept in again if self._move(kept, _OPEN)]

    # --- Of a connection -----------------------------------------------------------------------

    def drop(self, connection: int) -> int:
        """Nobody listens to a connection any more: how many there were for it."""
        dropped = self._of.pop(connection, {})
        for where in dropped.values():
            self._count_off(where)
        self._dropped += len(dropped)
        self._dropped_bytes += self._aside_bytes.pop(connection, 0)
        if self._dropped > self._counts.total() or self._dropped_bytes > DROPPED_BYTES_MAX:
            self._sweep()
        return len(dropped)

    def _keep(self, result: Result, where: int) -> _Kept:
        self._turn += 1
        self._of.setdefault(result.connection, {})[self._turn] = where
        self._counts[where] += 1
        return _Kept(result, self._turn)

    def _is_kept(self, kept: _Kept) -> bool:
        return kept.turn in self._of.get(kept.result.connection, ())

    def _let_go(self, kept: _Kept) -> bool:
        """It is taken out to be sent; False: it was dropped."""
        of = self._of.get(kept.result.connection, {})
        where = of.pop(kept.turn, None)
        if where is None:
            self._dropped -= 1
            return False
        if not of:
            del self._of[kept.result.connection]
        self._count_off(where)
        return True

    def _move(self, kept: _Kept, where: int) -> bool:
        """It is taken out, and is somewhere else from now on; False: it was dropped."""
        of = self._of.get(kept.result.connection, {})
        if kept.turn not in of:
            self._dropped -= 1
            return False
        self._count_off(of[kept.turn])
        self._counts[where] += 1
        of[kept.turn] = where
        return True

    def _count_off(self, where: int) -> None:
        self._counts[where] -= 1
        if not self._counts[where]:
            del self._counts[where]

    def _sweep(self) -> None:
        """Take out what was dropped. It is most of what is there."""
        lists = self._open, self._due, self._due_everywhere
        self._open, self._due, self._due_everywhere = (
            [kept for kept in some if self._is_kept(kept)] for some in lists
        )
        heapq.heapify(self._due)
        heapq.heapify(self._due_everywhere)
        self._aside.remove(lambda one: not self._is_kept(one.item))
        self._dropped = self._dropped_bytes = 0
