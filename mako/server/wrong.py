"""The wrong lines of planted bugs of transactions over partitions (`mako.server.planted`).

Each function does what is right unless its bug is switched on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mako.recovery.gossip import Gossip, Led
from mako.recovery.history import EpochStart, History
from mako.replication.across import Across
from mako.replication.partition import Partition
from mako.server.plan import ServerPlan

if TYPE_CHECKING:
    from mako.engine.pumped import Pumped


def announces(plan: ServerPlan) -> bool:
    """Whether an epoch is announced that is not committed."""
    return "epoch_announced_before_commit" in plan.planted


def led_too_early(one: Partition) -> Led | None:
    """What it announces then."""
    opening = one.opening
    if opening is None or opening.epoch != one.epoch + 1:
        return None
    history = one.history.copy()
    history.add(opening)
    return Led(opening.partition, opening.epoch, opening.final, history)


def epoch_heard(plan: ServerPlan, across: Across, message: Gossip) -> int:
    """In which epoch a watermark counts."""
    if "watermark_accepted_across_epochs" not in plan.planted:
        return message.epoch
    return across.history.epoch(message.partition)


def in_order(plan: ServerPlan, starts: Sequence[EpochStart]) -> Sequence[EpochStart]:
    """Epochs that were missed: of each partition the first one says what is lost."""
    return starts[::-1] if "first_missed_epoch_not_undone" in plan.planted else starts


def interrupt(plan: ServerPlan, pumped: Pumped, finals: Mapping[int, int]) -> None:
    """Epochs have begun elsewhere."""
    station = pumped.station
    if "prepared_dropped_by_any_epoch" in plan.planted:
        station.interrupt({other: finals.get(other, 0) for other in pumped.pairs})
    elif "lanes_not_interrupted" not in plan.planted:
        station.interrupt(finals)


def view(plan: ServerPlan, history: History) -> int:
    """What messages say of the epochs that are known here."""
    return 1 if "views_not_compared" in plan.planted else history.view
