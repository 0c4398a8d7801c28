"""A database, a drive, a benchmark and a clock of cardboard: enough for the runner and reports.

The drive invents a smooth workload from the time that has passed on the fake clock, so every
number in a golden file is reproducible.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from bench.cluster.model import Cascade, Lag, Leadership, ProcessUse, Stretch
from bench.parted import Parts
from bench.terminals import STOP_SECONDS
from bench.workload import AuditResult, CheckResult, DataSize, Done, Extra, Progress, Status
from mako import histogram
from mako.errors import ConnectionLost

#: name, share of the mix, median latency in ns, share rolled back
TPCC_LIKE = (
    ("new_order", 0.4348, 6_000, 0.01),
    ("payment", 0.4348, 1_100, 0.0),
    ("order_status", 0.0435, 1_500, 0.0),
    ("delivery", 0.0435, 15_000, 0.0),
    ("stock_level", 0.0434, 12_000, 0.0),
)


class FakeClock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time_s += seconds


@dataclass(frozen=True)
class KindSample:
    name: str
    committed: int
    rolled_back: int
    histogram: list[int]
    durable: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    seconds: float
    kinds: tuple[KindSample, ...]
    aborts: dict[str, int]
    log_bytes: int
    log_transactions: int
    memory_bytes: int
    memory_limit: int
    watermark: int
    watermark_lag_ms: float
    stopped: str = ""
    endings: dict[str, int] = field(default_factory=dict)
    aborts_over: dict[str, int] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    endings_over: dict[str, int] = field(default_factory=dict)
    sides: tuple[KindSample, ...] = ()


def spread(count: int, median_ns: int) -> list[int]:
    """A histogram of `count` values around `median_ns` with a tail of a tenth of a percent."""
    counts = histogram.empty()
    shares = ((0.7, 0.2), (1.0, 0.5), (1.5, 0.2), (2.4, 0.09), (5.0, 0.009), (30.0, 0.001))
    for factor, share in shares:
        counts[histogram.bucket_of(int(median_ns * factor))] += int(count * share)
    return counts


@dataclass
class FakeDrive:
    """Counts what a database of `per_s` transactions per second would have done by now."""

    clock: FakeClock
    per_s: float = 200_000.0
    growth_bytes_per_s: float = 20e6
    memory_limit: int = 4 << 30
    #: After how many seconds the engine stops by itself, and why.
    dies: tuple[float, str] | None = None
    rate: int = 0
    #: Replicated: durable so many ns after it was executed; 0: there are no replicas.
    durable_ns: int = 0
    #: Per second, what terminals were told that is no result.
    endings_per_s: dict[str, int] = field(default_factory=dict)
    #: What terminals are told after the run, or not at all; half of it over partitions.
    told_late: dict[str, int] = field(default_factory=dict)
    #: Several partitions: this share of the transactions is over two of them, and takes longer.
    cross: float = 0.0
    #: After how many seconds the leader that runs the workers is lost.
    lost_s: float = math.inf
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began_s = self.reset_s = self.clock.now()
        self.ended_s = math.inf
        self.told: dict[str, int] = {}

    def _done(self, second: float) -> float:
        """Transactions until `second` after the start: a slow beginning, then gentle waves."""
        rate = float(self.rate or self.per_s)
        return max(0.0, rate * (second - 0.4 * (1 - math.exp(-second)) + 0.03 * math.sin(second)))

    def sample(self) -> Sample:
        now_s = min(self.clock.now(), self.ended_s) - self.began_s
        if now_s >= self.lost_s:
            raise ConnectionLost("sample: the connection was lost")
        reset_s = self.reset_s - self.began_s
        done = self._done(now_s) - self._done(reset_s)
        kinds = tuple(
            KindSample(
                name,
                int(done * share * (1 - rolled_back)),
                int(done * share * rolled_back),
                spread(int(done * share), int(median_ns)),
                spread(int(done * share), median_ns + self.durable_ns) if self.durable_ns else [],
            )
            for name, share, median_ns, rolled_back in TPCC_LIKE
        )
        stopped = self.dies[1] if self.dies and now_s >= self.dies[0] else ""
        return Sample(
            seconds=self.clock.now() - self.reset_s,
            kinds=kinds,
            aborts={"changed": int(done / 4000), "lock": int(done / 9000), "phantom": 0},
            log_bytes=int(done * 0.9 * 812),
            log_transactions=int(done * 0.9),
            memory_bytes=int((300 << 20) + self.growth_bytes_per_s * now_s),
            memory_limit=self.memory_limit,
            watermark=1_000_000 + int(now_s * 1000),
            watermark_lag_ms=0.4 + 0.2 * math.sin(3 * now_s),
            stopped=stopped,
            endings={
                how: int(count * (now_s - reset_s)) for how, count in self.endings_per_s.items()
            }
            | self.told,
            aborts_over={"changed": int(done / 8000), "lock": 0, "phantom": 0},
            parked={"alone": int(done / 500), "over": int(done / 2000)},
            endings_over={
                how: int(count * (now_s - reset_s)) // 2
                for how, count in self.endings_per_s.items()
            }
            | {how: count // 2 for how, count in self.told.items()},
            sides=self._sides(done),
        )

    def _sides(self, done: float) -> tuple[KindSample, ...]:
        if not self.cross:
            return ()
        return tuple(
            KindSample(
                name,
                int(done * share * (1 - 0.01)),
                int(done * share * 0.01),
                spread(int(done * share), median_ns),
                spread(int(done * share), median_ns + self.durable_ns) if self.durable_ns else [],
            )
            for name, share, median_ns in (
                ("local", 1 - self.cross, 4_000),
                ("cross_shard", self.cross, 90_000),
            )
        )

    def reset(self) -> None:
        self.calls.append("reset")
        self.reset_s = self.clock.now()

    def states(self) -> list[dict[str, Any]]:
        self.calls.append("states")
        return [{"home": 1}]

    def stop(self) -> None:
        self.calls.append("stop")
        self.ended_s, self.told = self.clock.now(), self.told_late
        if self.told:  # They were waited for.
            self.clock.time_s += STOP_SECONDS
        self.sample()


@dataclass
class FakeWatch:
    """A cluster of three; `two` takes over from `one` after so many seconds of the clock."""

    clock: FakeClock
    took_over_s: float = math.inf
    #: There are two partitions; `two` leads the other one.
    parted: bool = False
    #: No HTTP port answers.
    silent: bool = False

    def __post_init__(self) -> None:
        self.began_s = self.clock.now()

    def stretch(self, start: float, end: float) -> Stretch:
        if self.silent:
            unseen = tuple(ProcessUse(name, "silent") for name in ("one", "two", "three"))
            return Stretch(None, unseen)
        leader = "two" if end - self.began_s >= self.took_over_s else "one"
        seconds = end - start
        processes = [
            ProcessUse(
                name,
                "leader" if name == leader else "follower",
                seconds,
                (0.75 if name == leader else 0.25) * seconds,
                {"0": 0.5 * seconds, "1": 0.125 * seconds} if name == leader else {},
                (6e6 if name == leader else 1e5) * seconds,
            )
            for name in ("one", "two")
        ]
        lag = Lag.of([3.0, 4.0, 5.0 + seconds, 12.0])
        silent = ProcessUse("three", "silent")
        aborts = {"changed": int(7 * seconds)}
        counted = frozenset({"one", "two"})
        found = Stretch(lag, (*processes, silent), aborts, {0: leader}, counted=counted)
        if not self.parted:
            return found
        done = {"committed": 300, "raised": 40, "refused": 2, "parked": 9}
        done |= {"inherited": 0, "local_inherited": 21, "local_parked": 7}
        return replace(
            found,
            leaders={0: leader, 1: "two"},
            aborts_over={"changed": int(2 * seconds)},
            distributed={what: int(count * seconds) for what, count in done.items()},
            cascades=(Cascade(0, 1, 12),) if leader == "two" else (),
        )

    def counted(self, at: float) -> bool:
        return at <= self.clock.now()

    def leaderships(self, start: float, end: float) -> tuple[Leadership, ...]:
        if self.silent:
            return ()
        found = [Leadership(self.began_s, "one", 0, 3)]
        if end - self.began_s >= self.took_over_s:
            found.append(Leadership(self.began_s + self.took_over_s, "two", 0, 4))
        return tuple(found)


@dataclass
class FakeDatabase:
    clock: FakeClock
    drive_options: dict[str, Any] = field(default_factory=dict)
    drives: list[FakeDrive] = field(default_factory=list)
    closed: bool = False
    drives_asked: list[dict[str, Any]] = field(default_factory=list)
    #: Of a cluster.
    partitions: tuple[int, ...] = (0,)
    memory_bytes: int = 300 << 20
    pretouched: list[int] = field(default_factory=list)

    def pretouch(self, size: int) -> int:
        self.pretouched.append(size)
        return size

    def drive(self, _workload: object, **asked: Any) -> FakeDrive:
        self.asked = asked
        self.drives_asked.append(asked)
        drive = FakeDrive(self.clock, rate=asked["rate"], **self.drive_options)
        self.drives.append(drive)
        return drive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.closed = True


TITLES = {
    1: "W_YTD = sum(D_YTD)",
    2: "D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID)",
    3: "max(NO_O_ID) - min(NO_O_ID) + 1 = count(NEW_ORDER)",
    4: "sum(O_OL_CNT) = count(ORDER_LINE)",
    5: "O_CARRIER_ID is null iff a NEW_ORDER row exists",
    6: "O_OL_CNT = count of its ORDER_LINE rows",
    7: "OL_DELIVERY_D is null iff O_CARRIER_ID is null",
    8: "W_YTD = sum(H_AMOUNT)",
    9: "D_YTD = sum(H_AMOUNT)",
    10: "C_BALANCE = sum(delivered OL_AMOUNT) - sum(H_AMOUNT)",
    11: "count(ORDER) - count(NEW_ORDER) = 2100",
    12: "C_BALANCE + C_YTD_PAYMENT = sum(delivered OL_AMOUNT)",
}


#: What a run of another scale than spec says instead of tpmC.
PER_MINUTE = "orders/min (not comparable)"


@dataclass
class FakeBenchmark:
    """Looks like TPC-C; fails the clauses and audits it is told to."""

    name: str = "tpcc"
    title: str = "TPC-C-like (scale tiny: not comparable)"
    growth_bytes: int = 700
    failing: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    #: What checks were told of.
    done: Done | None = None

    def options(self) -> Mapping[str, str | int | float]:
        return {"warehouses": 2, "scale": "tiny", "mix": "deck"}

    def prepare(self, _db: object, progress: Progress) -> None:
        self.calls.append("prepare")
        for what, total in (("item", 1000), ("stock", 2000)):
            for done in range(0, total + 1, 250):
                progress(done, total, what)

    def size(self) -> DataSize:
        return DataSize(rows=12_345, key_bytes=98_760, row_bytes=123_456_789)

    def workload(self) -> Any:
        return object()

    def over(self, parts: Parts) -> None:
        self.calls.append(f"over {parts.count}")

    def states(self, workers: int, _seed: int, _place: int = 0) -> list[dict[str, Any]]:
        return [{"home": worker + 1} for worker in range(workers)]

    def terminals(self, count: int, _seed: int) -> Sequence[Any]:
        raise AssertionError(f"{count} terminals of cardboard")

    def check(
        self, _db: object, *, after_load: bool, done: Done | None = None
    ) -> list[CheckResult]:
        self.done = done
        self.calls.append(f"check {after_load=}")
        clauses = [11] if after_load else [clause for clause in TITLES if clause != 11]
        return [
            CheckResult(
                f"3.3.2.{clause}", TITLES[clause], self._status(f"3.3.2.{clause}"), "20 districts"
            )
            for clause in clauses
        ]

    def audit(self, states: Sequence[Mapping[str, Any]], _sample: object) -> list[AuditResult]:
        assert states
        self.calls.append("audit")
        name = "remote_payments_pct"
        title = "payments for a customer of another warehouse, % (2.5.1.2)"
        return [
            AuditResult(name, title, 15.02, 14, 16, self._status(name), 870_113),
            AuditResult("delivery_skipped_pct", "skipped", 0, 0, 1, Status.SKIP, 12),
        ]

    def extras(self, sample: Any) -> list[Extra]:
        count = sample.kinds[0].committed + sample.kinds[0].rolled_back
        per_minute = int(60 * count / max(sample.seconds, 1e-9))
        return [Extra("new_orders_per_minute", PER_MINUTE, per_minute)]

    def _status(self, name: str) -> Status:
        return Status.FAIL if name in self.failing else Status.PASS
