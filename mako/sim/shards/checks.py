"""What must hold in clusters of several partitions as they go on, and at the end.

    I1            a final watermark is at or above every watermark announced in an earlier epoch
    I3            whoever writes over a version inherits its mask (masks); whoever reads it, too
                  (contexts)
    X2            what was read is valid at the timestamp that was said yes to (contexts)
    I4            whoever closes stays below what is prepared, or not installed everywhere

Announcements and final watermarks go to mako.sim.checking as facts. Lanes are looked at whenever a
leader has closed: there a wrong one shows at once, and not only if it fails at that moment.
"""

from collections.abc import Iterable
from typing import Final

from mako.engine import lane as lanes
from mako.entry import GroupId
from mako.recovery.gossip import Gossip
from mako.recovery.history import EpochStart
from mako.server.hosting import Hosted
from mako.sim.checkers import Violation
from mako.sim.checking.facts import Announced, Fact, FinalWatermark
from mako.sim.shards.busy import busy_lanes
from mako.sim.shards.contexts import Contexts
from mako.sim.shards.masks import Masks

#: States of a lane that hold the closed timestamp below it.
_HOLDING: Final = (lanes.PREPARING, lanes.RAISING, lanes.COMMITTED_, lanes.HOLDING)


class ShardChecks:
    """See the module."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        #: By process and group: the watermarks that were last looked at.
        self.shown: dict[tuple[int, GroupId], tuple[int, ...]] = {}
        self._announced: dict[tuple[int, int], int] = {}
        self.masks = Masks()
        self.contexts = Contexts()

    def announced(self, message: Gossip) -> None:
        """A leader tells its watermark."""
        self.masks.announced(message)
        key = message.partition, message.epoch
        if message.watermark > self._announced.get(key, -1):
            self._announced[key] = message.watermark
            self.facts.append(Announced(message.partition, message.epoch, message.watermark))

    def finals(self, starts: Iterable[EpochStart]) -> None:
        """Epochs that a log has at the end."""
        self.facts += [FinalWatermark(*start) for start in starts]

    @staticmethod
    def expect(holds: bool, what: str) -> None:  # noqa: FBT001
        """Something about the state at the end."""
        if not holds:
            raise Violation("nothing lost", what)

    def closed(self, hosted: Hosted) -> None:
        """A leader has just closed."""
        pumped = hosted.pumped
        if pumped is None or pumped.station.busy == 0:
            return
        engine = hosted.partition.engine
        closed = engine.closed
        for context in busy_lanes(pumped.station.meshes):
            state = engine.word(context + lanes.L_STATE)
            holds = state in _HOLDING
            if state == lanes.VOTING and engine.word(context + lanes.L_ANSWER) >= 0:
                holds = True
            raised = engine.word(context + lanes.L_HIGHEST)
            timestamp = max(engine.word(context + lanes.L_TIMESTAMP), raised + 1 if raised else 0)
            if holds and closed >= timestamp:
                raise Violation(
                    "I4",
                    f"partition {hosted.replica.partition} closed {closed} with a transaction in"
                    f" state {state} at {timestamp}",
                )
