"""A cluster during a stretch of time, as it was seen from outside."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the watermark was behind the clock, over many looks, in milliseconds."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    looks: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Lag | None":
        """Of these values; None if there are none."""
        if not values:
            return None
        ordered = sorted(values)
        # The nearest rank, as of all histograms here.
        p50, p99 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.5, 0.99))
        return cls(sum(ordered) / len(ordered), p50, p99, ordered[-1], len(ordered))


@dataclass(frozen=True, slots=True)
class Leadership:
    """From when on a process led a partition."""

    at_s: float
    process: str
    partition: int
    term: int


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process used. Counters that began anew with it are summed up."""

    name: str
    #: At the end of the stretch: leader if it leads any partition; silent if it does not answer.
    role: str
    #: Seconds between the first and the last look at the counters; 0: there were not two.
    duration_s: float = 0.0
    cpu_s: float = 0.0
    #: Of `cpu_s`: by worker thread, "0" or with more than one partition "1/0".
    workers_s: Mapping[str, float] = field(default_factory=dict)
    #: To all other processes together.
    sent_bytes: float = 0.0

    @property
    def cores(self) -> float:
        """Processor seconds per second."""
        return self.cpu_s / self.duration_s if self.duration_s else 0.0

    @property
    def sent_per_s(self) -> float:
        return self.sent_bytes / self.duration_s if self.duration_s else 0.0


@dataclass(frozen=True, slots=True)
class Cascade:
    """Speculation of a partition that was undone because another one had failed."""

    partition: int
    cause: int
    versions: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """All processes together, in the order of the configuration."""

    lag: Lag | None
    processes: tuple[ProcessUse, ...]
    #: Attempts of transactions that were retried, by reason, at all processes together; without
    #: those that met a lock which was held until another partition answers (`parked`).
    aborts: Mapping[str, int] = field(default_factory=dict)
    #: Leaders at its end, by partition; whoever is not known is left out.
    leaders: Mapping[int, str] = field(default_factory=dict)
    #: Of `aborts`: those of transactions over partitions.
    aborts_over: Mapping[str, int] = field(default_factory=dict)
    #: What leaders did for transactions over partitions, in the words of mako_distributed_total;
    #: empty where there is one partition.
    distributed: Mapping[str, int] = field(default_factory=dict)
    cascades: tuple[Cascade, ...] = ()
    #: Processes whose counters were looked at.
    counted: frozenset[str] = frozenset()

    def is_counted(self, partitions: int) -> bool:
        """Whether whoever leads so many partitions was seen, and counters of all of them. Else
        what transactions met is unknown: nothing is no zero."""
        return len(self.leaders) >= partitions and self.counted.issuperset(self.leaders.values())

    @property
    def parked(self) -> int:
        """How often a transaction that touched no other partition was parked."""
        return self.distributed.get("local_parked", 0)

    @property
    def parked_over(self) -> int:
        """The same of those over partitions."""
        return self.distributed.get("parked", 0) - self.parked

    @property
    def sent_per_s(self) -> float | None:
        """Bytes that processes sent to each other per second: log, acknowledgements, heartbeats.
        None if nobody was seen."""
        seen = [process.sent_per_s for process in self.processes if process.duration_s]
        return sum(seen) if seen else None
