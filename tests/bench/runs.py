"""Runs of the fakes, for the tests of everything that comes after a run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from bench.interrupt import Interrupt
from bench.report.model import RunReport, Setting
from bench.runner import Runner
from bench.stats import Interval, Phase
from tests.bench.fakes import FakeBenchmark, FakeClock, FakeDatabase, FakeWatch

SETTING = Setting(
    workload="tpcc",
    title="TPC-C-like (scale tiny: not comparable)",
    options={"warehouses": 2, "scale": "tiny", "mix": "deck"},
    workers=2,
    seed=7,
    seconds=5.0,
    warmup_s=2.0,
    rate=0,
    memory_limit_bytes=4 << 30,
    command="mako bench tpcc run --scale tiny --workers 2 --seed 7",
    started="2026-11-20T10:31:07Z",
    version="0.1.0",
    machine={"cpu": "An <odd> CPU & more", "cores": 2, "memory_bytes": 24 << 30, "numba": "0.68.1"},
)


class RecordingView:
    """Keeps what it was told, one line each."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.intervals: list[Interval] = []

    def start(self, setting: Setting) -> None:
        self.told.append(f"start {setting.workload}")

    def event(self, label: str, text: str) -> None:
        self.told.append(f"{label}: {text}")

    def load(self, done: int, total: int, what: str) -> None:
        if done == total:
            self.told.append(f"loaded {what}")

    def begin(self, phase: Phase, total_s: float) -> None:
        self.told.append(f"begin {phase} {total_s:g}")

    def tick(self, elapsed_s: float) -> None:
        pass

    def interval(self, interval: Interval) -> None:
        self.intervals.append(interval)

    def end(self) -> None:
        self.told.append("end")

    def warn(self, text: str) -> None:
        self.told.append(f"warn {text}")


#: A run of terminals on a cluster of which one process takes over from another.
CLUSTER: Final[dict[str, Any]] = {"clients": 16, "connections": 2, "cluster": "shop", "workers": 1}
CLUSTER_DRIVE: Final[dict[str, Any]] = {
    "per_s": 2_000,
    "durable_ns": 4_000_000,
    "endings_per_s": {"unknown": 2, "retried": 5},
}
TOOK_OVER_S: Final = 4.5


class FakeRun:
    """One run of the runner over fakes, and everything it left behind."""

    def __init__(
        self,
        *,
        benchmark: FakeBenchmark | None = None,
        check: bool = True,
        interrupt: Interrupt | None = None,
        drive: Mapping[str, Any] | None = None,
        watch: FakeWatch | None = None,
        **setting: Any,
    ) -> None:
        self.clock = watch.clock if watch else FakeClock()
        self.database = FakeDatabase(self.clock, drive_options=dict(drive or {}))
        self.benchmark = benchmark or FakeBenchmark()
        self.view = RecordingView()
        self.runner = Runner(
            replace(SETTING, **setting),
            self.benchmark,
            self.view,
            check=check,
            clock=self.clock,
            interrupt=interrupt,
            watch=watch,
        )

    def run(self) -> RunReport:
        return self.runner.run(lambda: cast("Any", self.database))


def cluster_run(**options: Any) -> FakeRun:
    """A run on a cluster: see CLUSTER."""
    watch = FakeWatch(FakeClock(), TOOK_OVER_S)
    return FakeRun(watch=watch, drive=CLUSTER_DRIVE | options.pop("drive", {}), **CLUSTER | options)


def parted_run(**options: Any) -> FakeRun:
    """A run on a cluster of two partitions, whose second one is taken over."""
    watch = options.pop("watch", None) or FakeWatch(FakeClock(), TOOK_OVER_S, parted=True)
    drive = CLUSTER_DRIVE | {"cross": 0.15} | options.pop("drive", {})
    return FakeRun(watch=watch, drive=drive, **CLUSTER | {"partitions": 2} | options)
