"""Faults between two operations of a disk: the power is cut there, or one of them fails.

What the simulation takes for one event, such as a write with a new segment or a start, is many
operations to a disk, and each of them may be the last one. So these faults do not come at a time
but after a number of operations, of whichever process.
"""

from functools import partial
from typing import Final

from mako.sim.disk import Trouble
from mako.sim.faults.attack import Attack, Part
from mako.sim.process import SimProcess

#: What a batch counts, with the name of the operation.
_SITUATIONS: Final = {Trouble.CUT: "power_cut_before", Trouble.ERROR: "failed"}


class OperationFaults(Part):
    """See the module."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(attack)
        # Of their own: the other faults of a seed are what they were.
        self._chance = attack.cluster.chances.of("operations")
        self._plan = attack.cluster.plan.operations
        self._left = self._draw()
        for process in attack.cluster.processes:
            process.disk.trouble = partial(self._before, process)

    def _draw(self) -> int:
        distance = self._plan.distance
        return int(self._chance.expovariate(1.0 / distance)) + 1 if distance else 0

    def _before(self, process: SimProcess, operation: str) -> Trouble | None:
        """What an operation of a process meets."""
        if not self._left or self._attack.stopped:
            return None
        self._left -= 1
        if self._left:
            return None
        self._left = self._draw()
        kind = Trouble.ERROR if self._chance.random() < self._plan.errors else Trouble.CUT
        self._attack.counts[kind.value] += 1
        self._cluster.note(process.number, "fault", f"{kind.value} before {operation}")
        self._cluster.reach(f"{_SITUATIONS[kind]}_{operation}")
        return kind
