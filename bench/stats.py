"""Counts and latencies of one stretch of time: the difference of two cumulative samples. Pure.

    sample     what `drive.sample()` returns: cumulative since the start, or the last reset
    interval   what happened between two samples, with rates and percentiles; about one second
    total      the interval from the reset to the last sample: the measured part of the run

A transaction that rolls itself back by design (1 % of TPC-C's new orders) is completed work: it
counts, as clause 5.4.2 wants it. An attempt that lost a conflict is retried and counts under
`aborts`, by reason, not as a transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from bench.cluster.model import Stretch
from mako import histogram

if TYPE_CHECKING:
    import mako

Phase = Literal["warmup", "measure"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds from begin (open loop: from the due time) to install."""

    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class KindStats:
    """One transaction type."""

    name: str
    #: Completed transactions, those rolled back by design included.
    count: int
    rolled_back: int
    per_s: float
    #: None when nothing completed.
    latency: Latency | None
    #: Of a replicated database: until it was durable, and how many became that, per second.
    durable: Latency | None = None
    durable_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """All local transactions of a cluster of several partitions, or all over several."""

    #: Under the name `local` or `cross_shard`.
    stats: KindStats
    #: As those of an interval.
    aborts: Mapping[str, int] | None
    endings: Mapping[str, int]
    #: How often one waited for a lock that is held until another partition answers; not in
    #: `aborts`, and unknown as they are.
    parked: int | None
    #: How many depended on a partition that took no part in them, when they committed. None:
    #: nobody who counts it was seen.
    inherited: int | None = None

    @property
    def abort_pct(self) -> float | None:
        """Aborted attempts as a share of all attempts."""
        return _abort_pct(self.aborts, self.stats.count)


@dataclass(frozen=True, slots=True)
class Interval:
    """All that is reported about one stretch of time."""

    phase: Phase
    #: When it ended, in seconds from the start of the measurement: not positive in the warm-up.
    end_s: float
    duration_s: float
    kinds: tuple[KindStats, ...]
    #: All types together, under the name "all".
    every: KindStats
    #: Attempts lost and retried, by reason; reasons that never occurred are left out. None:
    #: nobody who counts them was seen.
    aborts: dict[str, int] | None
    #: Per transaction that wrote anything; None when none did.
    log_bytes_per_txn: float | None
    memory_bytes: int
    memory_limit_bytes: int
    watermark: int
    watermark_lag_ms: float
    #: Of terminals: transactions that did not end well, by how (`bench.terminals`).
    endings: Mapping[str, int] = field(default_factory=dict)
    #: Of a cluster: what its processes did meanwhile.
    cluster: Stretch | None = None
    #: Of several partitions: local transactions, and those over several.
    sides: tuple[Side, ...] = ()

    @property
    def sent_bytes_per_txn(self) -> float | None:
        """What processes sent to each other, per completed transaction."""
        if self.cluster is None or not self.every.per_s or not self.cluster.sent_per_s:
            return None
        return self.cluster.sent_per_s / self.every.per_s

    @property
    def abort_pct(self) -> float | None:
        """Aborted attempts as a share of all attempts."""
        return _abort_pct(self.aborts, self.every.count)


def _abort_pct(aborts: Mapping[str, int] | None, completed: int) -> float | None:
    if aborts is None:
        return None
    aborted = sum(aborts.values())
    return 100 * aborted / max(1, aborted + completed)


def between(
    before: "mako.Sample | None", after: "mako.Sample", *, phase: Phase, end_s: float
) -> Interval:
    """What happened between two samples of the same drive; since its reset if `before` is None."""
    duration_s = after.seconds - (before.seconds if before else 0.0)
    assert duration_s >= 0, "samples are taken in order"
    kinds: list[KindStats] = []
    histograms: list[list[int]] = []
    durables: list[list[int]] = []
    for position, kind in enumerate(after.kinds):
        stats, counts, durable = _kind(before.kinds[position] if before else None, kind, duration_s)
        kinds.append(stats)
        histograms.append(counts)
        durables += [durable] if durable else []
    every = _stats(
        "all",
        sum(kind.count for kind in kinds),
        sum(kind.rolled_back for kind in kinds),
        duration_s,
        histogram.merge(histograms),
        histogram.merge(durables) if durables else [],
    )
    logged = after.log_transactions - (before.log_transactions if before else 0)
    log_bytes = after.log_bytes - (before.log_bytes if before else 0)
    return Interval(
        phase=phase,
        end_s=end_s,
        duration_s=duration_s,
        kinds=tuple(kinds),
        every=every,
        aborts=less(after.aborts, before.aborts if before else {}),
        log_bytes_per_txn=log_bytes / logged if logged else None,
        memory_bytes=after.memory_bytes,
        memory_limit_bytes=after.memory_limit,
        watermark=after.watermark,
        watermark_lag_ms=after.watermark_lag_ms,
        endings=less(_endings(after), _endings(before)),
        sides=_sides(before, after, duration_s),
    )


def with_endings(interval: Interval, sample: "mako.Sample") -> Interval:
    """With the endings of a sample in place of its own: of all that has ended since the reset."""
    endings, over = less(_endings(sample), {}), less(_endings(sample, over=True), {})
    each_side = (less(endings, over), over)
    sides = tuple(
        replace(side, endings=each) for side, each in zip(interval.sides, each_side, strict=False)
    )
    return replace(interval, endings=endings, sides=sides)


def _kind(
    earlier: "mako.KindSample | None", kind: "mako.KindSample", duration_s: float
) -> tuple[KindStats, list[int], list[int]]:
    """What happened of a kind, and its two histograms."""
    counts, durable = list(kind.histogram), list(kind.durable)
    if earlier:
        counts = [new - old for new, old in zip(counts, earlier.histogram, strict=True)]
    rolled_back = kind.rolled_back - (earlier.rolled_back if earlier else 0)
    count = kind.committed - (earlier.committed if earlier else 0) + rolled_back
    if earlier and earlier.durable and durable:  # Of a kind without any it may be empty.
        durable = [new - old for new, old in zip(durable, earlier.durable, strict=True)]
    stats = _stats(kind.name, count, rolled_back, duration_s, counts, durable)
    return stats, counts, durable


def _sides(
    before: "mako.Sample | None", after: "mako.Sample", duration_s: float
) -> tuple[Side, ...]:
    """Local and cross-shard transactions (`bench.sides`), if the sample tells them apart."""
    sides: tuple[mako.KindSample, ...] = getattr(after, "sides", ())
    if not sides:
        return ()
    earlier: Sequence[mako.KindSample | None] = getattr(before, "sides", ()) or (None, None)
    aborts = less(after.aborts, before.aborts if before else {})
    aborts_over = less(after.aborts_over, before.aborts_over if before else {})
    endings = less(_endings(after), _endings(before))
    endings_over = less(_endings(after, over=True), _endings(before, over=True))
    parked = less(after.parked, before.parked if before else {})
    parts = (
        (less(aborts, aborts_over), less(endings, endings_over), parked.get("alone", 0)),
        (aborts_over, endings_over, parked.get("over", 0)),
    )
    return tuple(
        Side(_kind(then, now, duration_s)[0], *part)
        for then, now, part in zip(earlier, sides, parts, strict=True)
    )


def _stats(
    name: str,
    count: int,
    rolled_back: int,
    duration_s: float,
    counts: Sequence[int],
    durable: Sequence[int],
) -> KindStats:
    per_s = count / duration_s if duration_s > 0 else 0.0
    durable_per_s = None
    if durable:
        durable_per_s = sum(durable) / duration_s if duration_s > 0 else 0.0
    latencies = latency_of(counts), latency_of(durable)
    return KindStats(name, count, rolled_back, per_s, *latencies, durable_per_s)


def latency_of(counts: Sequence[int]) -> Latency | None:
    """Percentiles of a histogram over nanoseconds, or None if it is empty."""
    if not any(counts):
        return None
    p50, p90, p99, greatest = (histogram.quantile(counts, q) / 1e3 for q in (0.5, 0.9, 0.99, 1.0))
    return Latency(p50, p90, p99, greatest)


def _endings(sample: "mako.Sample | None", *, over: bool = False) -> dict[str, int]:
    """Those of terminals; workers have none."""
    found: dict[str, int] = getattr(sample, "endings_over" if over else "endings", {})
    return found


def less(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """How often each occurred in between; what never did is left out."""
    grown = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    return {reason: count for reason, count in sorted(grown.items()) if count > 0}
