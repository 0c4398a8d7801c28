"""What all faults of a seed share: whom they hit, their chance, and what has come of them."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from mako.sim.clock import MS
from mako.sim.process import SimProcess

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster


class Attack:
    """See the module. Times are virtual, in ns."""

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.loop = cluster.loop
        self.chance = cluster.chances.of("faults")
        #: The kinds of faults: each hits a process, or finds nothing to hit and returns False.
        self.kinds: dict[str, Callable[[SimProcess], bool]] = {}
        self.counts: Counter[str] = Counter()
        #: Whether there are no more.
        self.stopped = False
        #: No fault is drawn before this time: a story of several acts is being played.
        self.quiet_until = 0

    def strike(self, kind: str, process: SimProcess) -> None:
        """A fault of this kind now, if there is something to hit."""
        if not self.stopped and self.kinds[kind](process):
            self.counts[kind] += 1
            self.cluster.note(process.number, "fault", kind)

    def some(self, mean: int) -> int:
        """A random time with this mean, about."""
        return int(self.chance.expovariate(1.0 / mean)) + MS

    def length(self) -> int:
        """How long a fault lasts."""
        return self.some(self.cluster.plan.fault_length)

    def others(self, process: SimProcess) -> list[int]:
        """The numbers of all but this one."""
        return [p.number for p in self.cluster.processes if p is not process]


class Part:
    """Some kinds of faults, by what they hit."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self._cluster = attack.cluster
        self._loop = attack.loop
        self._chance = attack.chance
