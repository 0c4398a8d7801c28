"""What a run has produced: everything that a report may show, and nothing computed for show."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.cluster.model import Lag, Leadership
from bench.stats import Interval
from bench.workload import AuditResult, CheckResult, DataSize, Extra, Status


@dataclass(frozen=True, slots=True)
class Setting:
    """What was asked for, by whom it may be repeated."""

    #: "tpcc"
    workload: str
    title: str
    #: The benchmark's own options, in its words; keys go to the top level of summary.json.
    options: Mapping[str, str | int | float]
    workers: int
    seed: int
    seconds: float
    warmup_s: float
    #: Transactions per second of an open loop, 0 for a closed one.
    rate: int
    memory_limit_bytes: int
    command: str
    #: UTC, "2026-11-20T10:31:07Z".
    started: str
    version: str
    machine: Mapping[str, str | int]
    #: Terminals that ask a cluster, and the connections that they share; 0: its workers drive.
    clients: int = 0
    connections: int = 0
    #: The cluster that runs; empty: a database in this process.
    cluster: str = ""
    #: Of the cluster; each has a leader with workers of its own.
    partitions: int = 1

    @property
    def who(self) -> str:
        """Who starts the transactions."""
        if self.clients:
            over = f"{self.connections} connection{'' if self.connections == 1 else 's'}"
            return f"{self.clients} terminal{'' if self.clients == 1 else 's'}, {over}"
        workers = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
        return workers if self.partitions == 1 else f"{workers} in each of {self.partitions} shards"

    @property
    def loop(self) -> str:
        return f"open loop, {self.rate:,} txn/s" if self.rate else "closed loop"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The initial population, and what it costs to hold."""

    size: DataSize
    seconds: float
    memory_bytes: int
    #: Memory that the system was made to provide before the drive (`Database.pretouch`).
    pretouched_bytes: int = 0

    @property
    def memory_per_data(self) -> float:
        """Bytes of memory for each byte of keys and rows."""
        return self.memory_bytes / max(1, self.size.key_bytes + self.size.row_bytes)


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run from its setting to its verdict. Complete even if the run was cut short."""

    setting: Setting
    loaded: Loaded
    #: From the end of the warm-up to the last sample.
    total: Interval
    intervals: tuple[Interval, ...]
    extras: tuple[Extra, ...] = ()
    #: In the order of their clauses; empty with --no-check.
    checks: tuple[CheckResult, ...] = ()
    audits: tuple[AuditResult, ...] = ()
    #: Why the run ended early: "" if it did not.
    stopped: str = ""
    #: Whether that reason is a fault of the engine, not a bound that the user set.
    broken: bool = False
    interrupted: bool = False
    #: It was interrupted during the checks: there are conditions that nobody has evaluated.
    incomplete: bool = False
    #: Who led the partitions of a cluster when the first interval began, and who took over; in
    #: seconds from the start of the measurement.
    leaderships: tuple[Leadership, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def failures(self) -> list[str]:
        """Clauses and audit names that FAILed."""
        clauses = [check.clause for check in self.checks if check.status is Status.FAIL]
        return clauses + [audit.name for audit in self.audits if audit.status is Status.FAIL]

    @property
    def failed(self) -> bool:
        return self.broken or bool(self.failures)

    @property
    def result(self) -> str:
        """In one word: FAIL, INTERRUPTED, PASS or UNCHECKED."""
        if self.failed:
            return "FAIL"
        if self.incomplete:
            return "INTERRUPTED"
        return "PASS" if self.checks else "UNCHECKED"

    @property
    def lag(self) -> Lag:
        """How far the watermark was behind during the measurement.

        Of a cluster many looks at its leader; else one for each interval, as a single one is noise.
        """
        if self.total.cluster is not None and self.total.cluster.lag is not None:
            return self.total.cluster.lag
        measured = [i.watermark_lag_ms for i in self.intervals if i.phase == "measure"]
        found = Lag.of(measured or [self.total.watermark_lag_ms])
        assert found is not None, "there is one value at least"
        return found

    @property
    def changes(self) -> tuple[Leadership, ...]:
        """Leaderships that began while transactions ran: those but the first of each partition."""
        seen: set[int] = set()
        found = []
        for each in self.leaderships:
            if each.partition in seen:
                found.append(each)
            seen.add(each.partition)
        return tuple(found)

    @property
    def verdict(self) -> str:
        """One sentence: what passed, or what failed."""
        if self.broken:
            return f"FAIL: {self.stopped}"
        if self.failures:
            return f"FAIL: {', '.join(self.failures)}"
        if self.incomplete:
            return f"INTERRUPTED: not all conditions were evaluated, {len(self.checks)} passed"
        if not self.checks:
            return "not checked" if not self.audits else f"{self._passed_audits()}, not checked"
        skipped = sum(check.status is Status.SKIP for check in self.checks)
        passed = len(self.checks) - skipped
        text = f"PASS: {passed} consistency condition{'' if passed == 1 else 's'}"
        if skipped:
            text += f" ({skipped} skipped)"
        return f"{text}, {self._passed_audits()}"

    def _passed_audits(self) -> str:
        judged = [audit for audit in self.audits if audit.status is not Status.SKIP]
        skipped = len(self.audits) - len(judged)
        text = f"{len(judged)} audit{'' if len(judged) == 1 else 's'}"
        return f"{text} ({skipped} skipped)" if skipped else text
