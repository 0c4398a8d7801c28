import math
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cluster.model import Stretch
from bench.cluster.record import Record
from bench.cluster.scrape import ABORTED
from bench.interrupt import Interrupt
from bench.report import cluster
from bench.report.page import page
from bench.report.table import figures
from bench.runner import (
    CHECK_TRIES,
    PER_S_MAX,
    PRETOUCHED_MAX,
    TICK_S,
    TICK_S_MIN,
    _fullness,
    in_clause_order,
    tick_of,
)
from bench.stats import Interval, Side
from bench.workload import CheckResult, Done, Progress, Status
from mako.errors import ConfigError, ConnectionLost, Error, Exists, OutOfMemory
from tests.bench.fakes import FakeBenchmark, FakeClock, FakeDatabase, FakeWatch
from tests.bench.runs import (
    CLUSTER,
    CLUSTER_DRIVE,
    SETTING,
    TOOK_OVER_S,
    FakeRun,
    cluster_run,
    parted_run,
)


def test_the_order_of_a_run() -> None:
    run = FakeRun()
    report = run.run()
    assert run.benchmark.calls == [
        "prepare",
        "check after_load=True",
        "check after_load=False",
        "audit",
    ]
    assert run.database.drives[0].calls == ["reset", "stop", "states"]
    assert run.database.closed
    steps = [line for line in run.view.told if not line.startswith("check")]
    assert steps == [
        "start tpcc",
        "open: memory 4.00 GiB",
        "loaded item",
        "loaded stock",
        "load: 12,345 rows in 0 s",
        "memory: 2.01 GiB ahead of the run in 0 s",
        "start: compiling the workload if this machine has not run it before",
        "begin warmup 2",
        "begin measure 5",
        "end",
    ]
    assert not report.failed
    assert report.verdict.startswith("PASS: 12")


def test_checks_are_told_what_was_done_since_the_drive_began() -> None:
    run = FakeRun()
    report = run.run()
    done = run.benchmark.done
    assert done is not None
    assert (done.states, done.at_once) == ([{"home": 1}], True)
    assert done.committed.keys() == {kind.name for kind in report.total.kinds}
    # The warm-up of two seconds begins slowly; then as many are done as in the five that count.
    assert 1.2 < sum(done.committed.values()) / report.total.every.count < 1.4
    run = FakeRun(warmup_s=0)
    count = run.run().total.every.count
    assert run.benchmark.done is not None
    # A few were rolled back.
    assert 0.99 * count < sum(run.benchmark.done.committed.values()) < count


def test_what_is_not_durable_is_not_known_to_last() -> None:
    run = cluster_run(clients=0, connections=0, drive={"durable_ns": 0})
    run.run()
    assert run.benchmark.done is not None
    assert not run.benchmark.done.at_once
    assert sum(run.benchmark.done.committed.values()) == 0
    lost = cluster_run(clients=0, drive={"lost_s": 4.2})
    lost.run()
    assert lost.benchmark.done is None


# --- A cluster ---------------------------------------------------------------------------------


def test_what_the_cluster_did_is_in_every_interval_and_in_the_total() -> None:
    run = cluster_run()
    report = run.run()
    assert "open: shop, memory 4.00 GiB" in run.view.told
    took_over = TOOK_OVER_S - 2.0  # From the start of the measurement.
    assert [(led.at_s, led.process) for led in report.leaderships] == [
        (-2.0, "one"),
        (took_over, "two"),
    ]
    assert [led.process for led in report.changes] == ["two"]
    leaders = [i.cluster.leaders[0] for i in report.intervals if i.cluster]
    assert leaders == ["one"] * 4 + ["two"] * 3
    total = report.total
    assert total.cluster is not None
    assert total.cluster.processes[1].cpu_s == pytest.approx(0.75 * 5)
    assert total.sent_bytes_per_txn == pytest.approx(6.1e6 / total.every.per_s)
    assert report.lag == total.cluster.lag
    assert {i.watermark_lag_ms for i in report.intervals} == {(3 + 4 + 6 + 12) / 4}


def counted(what: Interval | Side) -> Mapping[str, int]:
    assert what.aborts is not None
    return what.aborts


def test_terminals_do_not_see_conflicts_and_workers_count_their_own() -> None:
    asked = cluster_run().run()
    assert asked.total.aborts == {"changed": 35}
    assert asked.total.endings == {"unknown": 10, "retried": 25}
    assert asked.intervals[0].endings == {"unknown": 2, "retried": 5}
    worked = cluster_run(clients=0, connections=0).run()
    assert counted(worked.total)["changed"] < 35


def test_what_terminals_are_told_at_the_end_or_never_is_reported() -> None:
    late = {"unanswered": 12, "timeout": 3}
    in_time = parted_run().run()
    report = parted_run(drive={"told_late": late}).run()
    assert report.total.endings == dict(in_time.total.endings) | late
    assert report.total.every == in_time.total.every, "what came later is not of the measurement"
    assert report.intervals == in_time.intervals
    local, over = report.total.sides
    assert (local.endings["unanswered"], over.endings["unanswered"]) == (6, 6)
    assert (local.endings["timeout"], over.endings["timeout"]) == (2, 1)
    assert ("not acknowledged", cluster.endings_text(report.total.endings)) in figures(report)
    assert "everything was answered" not in page(report)


@dataclass
class Scraped(FakeWatch):
    """A cluster of one that meets more and more conflicts; asked twice a second, but in a gap."""

    gap: tuple[float, float] = (math.inf, math.inf)
    record: Record = field(default_factory=lambda: Record(["one"]))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.due_s = self.began_s - 0.2

    def look(self) -> None:
        """Ask as often as it was time to."""
        while self.due_s <= self.clock.now():
            passed = self.due_s - self.began_s
            if not self.gap[0] <= passed <= self.gap[1]:
                replica = {"partition": 0, "role": "leader", "term": 1, "watermark": 0}
                replica["watermark_lag_ms"] = 0
                self.record.look("one", self.due_s, {"partitions": [replica]})
                self.record.count("one", self.due_s, {(ABORTED, "lock"): round(9 * passed**2)})
            self.due_s += 0.5

    def stretch(self, start: float, end: float) -> Stretch:
        self.look()
        return self.record.stretch(start, end)

    def counted(self, at: float) -> bool:
        self.look()
        return self.record.counted(at)


@pytest.mark.parametrize("gap", [(math.inf, math.inf), (3.1, 5.4)], ids=["", "it hangs"])
def test_what_was_counted_in_the_intervals_is_what_was_counted_in_all(
    gap: tuple[float, float],
) -> None:
    clock = FakeClock()
    run = FakeRun(watch=Scraped(clock, gap=gap), drive=CLUSTER_DRIVE, check=False, **CLUSTER)
    report = run.run()
    measured = [counted(i)["lock"] for i in report.intervals if i.phase == "measure"]
    assert len(measured) == 5
    total = counted(report.total)["lock"]
    assert sum(measured) == total
    # From the second on 9 · (2n + 1) a second; between two looks a parabola is a chord.
    assert total == pytest.approx(9 * (7**2 - 2**2), abs=2)
    if gap[0] == math.inf:
        assert measured == pytest.approx([9 * (2 * n + 1) for n in range(2, 7)], abs=2)
    assert [interval.end_s for interval in run.view.intervals] == [-1, 0, 1, 2, 3, 4, 5]


def test_sides_have_what_only_servers_know() -> None:
    asked = parted_run().run()
    local, over = asked.total.sides
    assert (local.aborts, over.aborts) == ({"changed": 25}, {"changed": 10})
    assert (local.inherited, over.inherited) == (105, 0)
    assert (local.parked, over.parked) == (35, 10)
    assert (local.endings, over.endings) == (
        {"retried": 13, "unknown": 5},
        {"retried": 12, "unknown": 5},
    )
    assert local.stats.count + over.stats.count == pytest.approx(asked.total.every.count, abs=5)
    worked = parted_run(clients=0, connections=0).run()
    assert worked.total.cluster is not None
    local, over = worked.total.sides
    locally, across = counted(local)["changed"], counted(over)["changed"]
    assert locally + across == counted(worked.total)["changed"]
    assert 0 < across < locally + 2
    assert local.inherited == 105
    assert (local.parked or 0) > (over.parked or 0) > 0


def test_what_nobody_was_seen_to_count_is_unknown() -> None:
    report = parted_run(watch=FakeWatch(FakeClock(), parted=True, silent=True)).run()
    for each in (report.total, *report.intervals):
        assert (each.aborts, each.abort_pct) == (None, None)
        for side in each.sides:
            assert (side.aborts, side.abort_pct, side.parked, side.inherited) == (None,) * 4
    assert any(note.startswith("nothing was seen of one, two, three") for note in report.notes)
    # One that leads a partition was not seen, and so one partition only is counted.
    watch = FakeWatch(FakeClock())
    report = parted_run(watch=watch).run()
    assert report.total.aborts is None
    workers = parted_run(watch=watch, clients=0, connections=0).run()
    assert counted(workers.total), "they count themselves"


def test_memory_of_the_fullest_partition_counts() -> None:
    run = FakeRun()
    sample = run.database.drive(None, rate=0).sample()
    assert _fullness(sample) < 0.1  # type: ignore[arg-type]
    assert _fullness(SimpleNamespace(fullest=0.95)) == 0.95  # type: ignore[arg-type]


def test_a_process_that_shows_nothing_is_named() -> None:
    report = cluster_run().run()
    assert [note for note in report.notes if note.startswith("nothing was seen of three")]


def test_a_leader_lost_with_its_workers_ends_the_run_and_there_is_a_report() -> None:
    run = cluster_run(clients=0, drive={"lost_s": 4.2})
    report = run.run()
    assert report.broken
    assert report.stopped.startswith("the leader that ran the workers was lost or gave up its lead")
    assert [i.end_s for i in report.intervals] == [-1.0, 0.0, 1.0, 2.0]
    assert report.total.every.count > 0
    assert report.audits == (), "their states are lost"
    assert len(report.checks) == 12


def test_workers_that_cannot_be_asked_say_why() -> None:
    report = FakeRun(drive={"lost_s": 4.2}).run()
    assert report.verdict == (
        "FAIL: the workers cannot be asked any more: sample: the connection was lost"
    )


def test_checks_begin_again_when_another_process_takes_over() -> None:
    class Failing(FakeBenchmark):
        lost = 2

        def check(
            self, db: object, *, after_load: bool, done: Done | None = None
        ) -> list[CheckResult]:
            if not after_load and self.lost:
                self.lost -= 1
                raise ConnectionLost("run at: the connection is lost")
            return super().check(db, after_load=after_load)

    run = FakeRun(benchmark=Failing())
    report = run.run()
    assert report.verdict.startswith("PASS: 12")
    assert run.view.told.count("check: once more: run at: the connection is lost") == 2
    Failing.lost = CHECK_TRIES
    report = FakeRun(benchmark=Failing()).run()
    assert report.verdict == (
        "FAIL: the consistency checks could not run: run at: the connection is lost"
    )


def test_a_cluster_with_rows_is_refused() -> None:
    class Full(FakeBenchmark):
        def prepare(self, _db: object, progress: Progress) -> None:
            raise Exists("load_items: the key is there")

    with pytest.raises(ConfigError, match="have rows already, of an earlier run; end its"):
        FakeRun(benchmark=Full()).run()


def test_the_drive_is_started_as_asked() -> None:
    run = FakeRun(rate=10_000, seed=3)
    run.run()
    assert run.database.asked == {
        "workers": 2,
        "states": [{"home": 1}, {"home": 2}],
        "seed": 3,
        "rate": 10_000,
    }


def test_one_interval_per_second_and_the_warmup_before_zero() -> None:
    report = FakeRun().run()
    assert [(i.phase, i.end_s) for i in report.intervals] == [
        ("warmup", -1.0),
        ("warmup", 0.0),
        ("measure", 1.0),
        ("measure", 2.0),
        ("measure", 3.0),
        ("measure", 4.0),
        ("measure", 5.0),
    ]
    assert all(interval.duration_s == 1.0 for interval in report.intervals)


def test_the_total_is_of_the_measured_part() -> None:
    report = FakeRun().run()
    measured = [i for i in report.intervals if i.phase == "measure"]
    assert report.total.duration_s == 5.0
    # Each interval rounds down each of its types by one at most.
    assert abs(report.total.every.count - sum(i.every.count for i in measured)) < 50


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [(2.5, [1.0, 2.0, 2.5]), (2.1, [1.0, 2.0]), (0.5, [0.5]), (1.0, [1.0])],
)
def test_a_short_rest_is_no_interval_but_counts(seconds: float, ends: list[float]) -> None:
    report = FakeRun(seconds=seconds, warmup_s=0.0).run()
    assert [interval.end_s for interval in report.intervals] == ends
    assert report.total.duration_s == pytest.approx(seconds)


def test_without_a_warmup_the_counts_start_at_once() -> None:
    run = FakeRun(warmup_s=0.0)
    assert {i.phase for i in run.run().intervals} == {"measure"}


def test_no_check_leaves_the_conditions_out() -> None:
    run = FakeRun(check=False)
    report = run.run()
    assert run.benchmark.calls == ["prepare", "audit"]
    assert report.checks == ()
    assert not report.failed


@pytest.mark.parametrize("failing", ["3.3.2.1", "3.3.2.11", "remote_payments_pct"])
def test_one_failure_fails_the_run(failing: str) -> None:
    report = FakeRun(benchmark=FakeBenchmark(failing=(failing,))).run()
    assert report.failed
    assert report.verdict == f"FAIL: {failing}"


def test_the_run_ends_before_memory_is_full() -> None:
    # 300 MiB after the load, 20 MB/s, and 92 % of 400 MiB: 3.6 seconds, foreseen at 3.25.
    run = FakeRun(drive={"memory_limit": 400 << 20})
    report = run.run()
    assert report.stopped.startswith("memory is nearly full (362 MiB of 400 MiB)")
    assert "--memory" in report.stopped
    assert report.total.duration_s == 1.25
    assert not report.failed
    assert [line for line in run.view.told if line.startswith("warn")] == [f"warn {report.stopped}"]
    assert len(report.checks) == 12


def test_a_tick_that_would_fill_the_memory_is_the_last() -> None:
    """100 MiB of it at each look: after two of them a third could be the end of the engine."""
    run = FakeRun(drive={"memory_limit": 620 << 20, "growth_bytes_per_s": 400 << 20})
    report = run.run()
    assert report.stopped.startswith("memory is nearly full (400 MiB of 620 MiB)")
    assert not report.failed


def test_memory_that_was_taken_counts_although_it_is_free_again() -> None:
    """The rows of the checks are larger than the versions that were removed."""

    class Fragmented(FakeDatabase):
        @property
        def memory_reserved(self) -> int:
            return 380 << 20 if self.clock.now() > 1003.0 else 100 << 20

    run = FakeRun()
    run.database = Fragmented(run.clock, {"memory_limit": 400 << 20, "growth_bytes_per_s": 0})
    report = run.run()
    assert report.stopped.startswith("memory is nearly full (380 MiB of 400 MiB)")
    assert report.total.duration_s == 1.25


@pytest.mark.parametrize(
    ("setting", "tick_s"),
    [
        ({}, TICK_S),
        ({"memory_limit_bytes": 200 << 20}, 0.052),
        ({"memory_limit_bytes": 64 << 20, "workers": 64}, TICK_S_MIN),
        ({"memory_limit_bytes": 64 << 20, "cluster": "shop"}, TICK_S),
    ],
)
def test_a_small_memory_is_looked_at_more_often(setting: dict[str, Any], tick_s: float) -> None:
    assert tick_of(replace(SETTING, **setting)) == pytest.approx(tick_s, rel=0.01)


def test_memory_that_is_full_in_the_warmup_is_said() -> None:
    report = FakeRun(warmup_s=20.0, drive={"memory_limit": 400 << 20}).run()
    assert report.total.phase == "warmup"
    assert report.total.every.count > 0
    assert any("warm-up" in note for note in report.notes)


def test_an_engine_that_stops_by_itself_fails_the_run() -> None:
    run = FakeRun(drive={"dies": (3.0, "out of memory")})
    report = run.run()
    assert report.failed
    assert report.verdict == "FAIL: the engine stopped: out of memory"
    assert report.total.duration_s == 1.0
    assert run.database.drives[0].calls[-2:] == ["stop", "states"]


@pytest.mark.parametrize(
    ("setting", "growth", "expected"),
    [
        ({"rate": 10_000}, 700, [700 * 10_000 * 7]),
        ({"rate": 10_000, "workers": 8}, 700, [700 * 10_000 * 7]),
        ({}, 700, [700 * PER_S_MAX * 2 * 7]),
        ({"workers": 1}, 700, [700 * PER_S_MAX * 7]),
        ({"warmup_s": 0.0}, 700, [700 * PER_S_MAX * 2 * 5]),
        ({"seconds": 60.0, "memory_limit_bytes": 64 << 30}, 700, [PRETOUCHED_MAX]),
        ({}, 0, []),
        # 300 MiB are in use after the load.
        ({"memory_limit_bytes": 400 << 20}, 700, [int(0.92 * (400 << 20)) - (300 << 20)]),
        ({"memory_limit_bytes": 310 << 20}, 700, []),
    ],
    ids=[
        "a rate",
        "a rate is of all workers",
        "as fast as may be",
        "one worker",
        "no warm-up",
        "what the keeper can do no better",
        "rows that are replaced",
        "what is left of memory",
        "nothing is left of it",
    ],
)
def test_memory_that_the_run_will_add_is_touched_ahead(
    setting: dict[str, Any], growth: int, expected: list[int]
) -> None:
    run = FakeRun(benchmark=FakeBenchmark(growth_bytes=growth), **setting)
    report = run.run()
    assert run.database.pretouched == expected
    assert report.loaded.pretouched_bytes == sum(expected)
    assert any("ahead of the run" in line for line in run.view.told) == bool(expected)


@dataclass
class InterruptAt(FakeBenchmark):
    """Asks for the end of the run as a signal would, when the drive has started."""

    interrupt: Interrupt = field(default_factory=Interrupt)

    def states(self, workers: int, _seed: int, _place: int = 0) -> list[dict[str, Any]]:
        self.interrupt.requested = True
        return super().states(workers, _seed)


def test_an_interrupted_run_is_checked_and_reported() -> None:
    benchmark = InterruptAt()
    run = FakeRun(benchmark=benchmark, interrupt=benchmark.interrupt)
    report = run.run()
    assert report.interrupted
    assert run.database.drives[0].calls == ["stop", "states"]
    assert len(report.checks) == 12
    assert report.result == "PASS", "all of them"
    assert any("interrupted" in note for note in report.notes)


@contextmanager
def handlers_unchanged() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_first_signal_asks_and_the_second_insists() -> None:
    interrupt = Interrupt()
    # A shell starts background jobs with SIGINT ignored; this is about one in the foreground.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with handlers_unchanged(), interrupt.catch():
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.requested
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, inherited)


@dataclass
class BrokenCheck(FakeBenchmark):
    error: BaseException = field(default_factory=lambda: OutOfMemory())

    def check(self, db: object, *, after_load: bool, done: Done | None = None) -> list[CheckResult]:
        if after_load:
            return super().check(db, after_load=True)
        raise self.error


def test_a_check_that_cannot_run_fails_the_run_but_keeps_the_report() -> None:
    report = FakeRun(benchmark=BrokenCheck()).run()
    assert report.failed
    assert report.verdict.startswith("FAIL: the consistency checks could not run: memory is full")


def test_checks_may_be_interrupted_and_then_nothing_has_passed() -> None:
    report = FakeRun(benchmark=BrokenCheck(error=KeyboardInterrupt())).run()
    assert report.interrupted
    assert report.notes == ("interrupted during the checks: the conditions were not evaluated",)
    assert [check.clause for check in report.checks] == ["3.3.2.11"]
    assert report.result == "INTERRUPTED"
    assert report.verdict == "INTERRUPTED: not all conditions were evaluated, 1 passed"
    benchmark = BrokenCheck(error=KeyboardInterrupt(), failing=("3.3.2.11",))
    assert FakeRun(benchmark=benchmark).run().result == "FAIL"


@dataclass
class BrokenLoad(FakeBenchmark):
    def prepare(self, db: object, progress: Progress) -> None:
        raise OutOfMemory


def test_a_load_that_fails_closes_the_database() -> None:
    run = FakeRun(benchmark=BrokenLoad())
    with pytest.raises(Error):
        run.run()
    assert run.database.closed
    assert run.view.told[-1] == "end"


def test_clauses_are_in_the_order_of_their_numbers() -> None:
    results = [
        CheckResult(clause, "", status)
        for clause, status in (
            ("3.3.2.10", Status.PASS),
            ("3.3.2.2", Status.PASS),
            ("A.1", Status.PASS),
            ("3.3.2.11", Status.PASS),
            ("3.3.2.11", Status.SKIP),
        )
    ]
    ordered = in_clause_order(results)
    assert [result.clause for result in ordered] == ["A.1", "3.3.2.2", "3.3.2.10", "3.3.2.11"]
    assert ordered[-1].status is Status.PASS
