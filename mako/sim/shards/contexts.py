"""Contexts of transactions that have just run, or have said yes: what is wrong shows there at once.

    I3   a run      for each version that was read or written over, tombstones included: the
                    partitions that it still waits for are in the mask of the transaction
         a yes      the same of the mask that goes with it
    X2   a yes      at the timestamp that it is for, what was read was the newest version:

                         x ─▶ 37 ─▶ 31 ─▶ 24        24 was read, and yes was said for 35: wrong,
                                                    for 31 comes before 35

Only some of it would show in what clients see, if somebody fails at the right moment (I3), or the
right rows are read by others (X2). Watermarks only rise, so a mask that has all that is asked for
now had it when the version was read.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.engine import lane as lanes
from mako.engine import layout
from mako.sim.checkers import Violation

if TYPE_CHECKING:
    from mako.engine.engine import Engine

_BITS: Final = (1 << 64) - 1
#: States in which a coordinator has validated for the timestamp of its lane.
_ASKING: Final = (lanes.PREPARING, lanes.RAISING)
_VOTED: Final = (lanes.VOTING, lanes.HOLDING)


class _Read(NamedTuple):
    record: int
    #: Timestamp of the version.
    seen: int


class _Yes(NamedTuple):
    """What was said yes to."""

    transaction: int
    timestamp: int
    #: What was read and has a value: nobody takes these records out of their trees meanwhile.
    reads: list[_Read]


def _reads(engine: "Engine", context: int) -> Iterator[_Read]:
    for i in range(engine.word(context + layout.C_READS)):
        entry = context + layout.C_READSET + i * layout.READ_BYTES
        yield _Read(engine.word(entry), engine.word(entry + 8))


def _overwritten(engine: "Engine", context: int) -> Iterator[_Read]:
    for i in range(engine.word(context + layout.C_WRITES)):
        entry = context + layout.C_WRITESET + i * layout.WRITE_BYTES
        if engine.word(entry + layout.W_KIND) in (layout.UPDATE, layout.DELETE):
            yield _Read(engine.word(entry + layout.W_RECORD), engine.word(entry + layout.W_SEEN))


def _newest(engine: "Engine", record: int, timestamp: int) -> tuple[int, int]:
    """The newest version of a record at or below a timestamp, and its timestamp; (0, 0): none."""
    head = engine.word(record + layout.R_HEAD)
    version = 0 if head & layout.DEAD else head & layout.POINTER
    while version:
        found = engine.word(version + layout.V_TIMESTAMP)
        if found <= timestamp:
            return version, found
        version = engine.word(version + layout.V_PREVIOUS)
    return 0, 0


def _waits_for(engine: "Engine", version: int, timestamp: int) -> int:
    """The partitions whose watermarks have not passed a version that depends on them."""
    found, mask = 0, engine.word(version + layout.V_MASK) & _BITS
    while mask:
        lowest = mask & -mask
        mask ^= lowest
        watermark = engine.base + layout.WATERMARKS + 8 * (lowest.bit_length() - 1)
        if engine.word(watermark) < timestamp:
            found |= lowest
    return found


class Contexts:
    """See the module."""

    def __init__(self) -> None:
        #: How many yes were looked at, and how many of them were the second one of a participant.
        self.looked_at = 0
        self.said_twice = 0
        # By the base of an engine and a lane.
        self._said: dict[tuple[int, int], _Yes] = {}

    def ran(self, engine: "Engine", context: int) -> None:
        """A transaction of this partition has run, whatever has come of it."""
        self._inherits(engine, context, engine.word(context + layout.C_MASK), "a transaction")

    def turned(self, engine: "Engine", of_lanes: Iterable[int]) -> None:
        """A worker has taken its turn."""
        for lane in of_lanes:
            state = engine.word(lane + lanes.L_STATE)
            if state in _ASKING:
                self._said_yes(engine, lane, participates=False)
            elif state in _VOTED and engine.word(lane + lanes.L_ANSWER) == lanes.YES:
                self._said_yes(engine, lane, participates=True)

    def _said_yes(self, engine: "Engine", lane: int, *, participates: bool) -> None:
        transaction = engine.word(lane + lanes.L_TRANSACTION)
        timestamp = engine.word(lane + lanes.L_TIMESTAMP)
        said = self._said.get((engine.base, lane))
        if said is None or (said.transaction, said.timestamp) != (transaction, timestamp):
            self.looked_at += 1
            again = said is not None and said.transaction == transaction
            self.said_twice += again and participates
            self._inherits(engine, lane, engine.word(lane + lanes.L_BITS), "who said yes")
            reads = list(_reads(engine, lane))
            self._is_newest(engine, timestamp, reads)
            said = _Yes(transaction, timestamp, [one for one in reads if _has_value(engine, one)])
            self._said[engine.base, lane] = said
        else:
            self._is_newest(engine, timestamp, said.reads)

    def _inherits(self, engine: "Engine", context: int, mask: int, who: str) -> None:
        mask |= engine.word(context + layout.C_OWN)
        for reads, what in (
            (_reads(engine, context), "read"),
            (_overwritten(engine, context), "wrote over"),
        ):
            for record, seen in reads:
                version, timestamp = _newest(engine, record, seen)
                if not seen or timestamp != seen:
                    continue  # It was not there; or it has changed meanwhile, which was noticed.
                lacks = _waits_for(engine, version, seen) & ~mask
                if lacks:
                    raise Violation(
                        "I3",
                        f"partition {engine.word(engine.base + layout.PARTITION)}: {who} {what}"
                        f" {seen}, which waits for partition {lacks.bit_length() - 1}, and does"
                        " not wait for it",
                    )

    def _is_newest(self, engine: "Engine", timestamp: int, reads: Iterable[_Read]) -> None:
        for record, seen in reads:
            _, newest = _newest(engine, record, timestamp)
            if seen and seen < newest:
                raise Violation(
                    "X2",
                    f"partition {engine.word(engine.base + layout.PARTITION)} said yes for"
                    f" {timestamp} to who has read {seen}, and {newest} is there",
                )


def _has_value(engine: "Engine", one: _Read) -> bool:
    version, timestamp = _newest(engine, one.record, one.seen)
    if not one.seen or timestamp != one.seen:
        return False
    return not engine.word(version + layout.V_LENGTH) & layout.TOMBSTONE
