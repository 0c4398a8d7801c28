"""One run from an empty database to a verdict.

    open ─▶ load ─▶ check what holds only now ─▶ warm-up ─▶ reset ─▶ measure ─▶ stop
                                                                                  │
                          report ◀─ audit of the input ◀─ check at one snapshot ◀─┘

The drive ends early, and everything behind it still happens, when

    R1  memory in use passes MEMORY_SHARE_MAX of the limit, or would before the next look but one
        if it goes on growing: a transaction that finds no memory is an abort like any other, but
        a run full of them measures nothing, and the checks need room for rows of their own;
    R2  the engine says that it has stopped by itself, or the leader that ran the workers is lost;
    R3  the user interrupts (a second time: at once, without checks).

Time is an argument, so that tests run on a clock of their own.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.cluster.model import Leadership, Stretch
from bench.interrupt import Interrupt
from bench.report import numbers
from bench.report.model import Loaded, RunReport, Setting
from bench.stats import Interval, Phase, Side, between, less, with_endings
from bench.view import View
from bench.workload import AuditResult, Benchmark, CheckResult, Done, Status
from mako.errors import ConfigError, Error, Exists, OutOfMemory, RemoteError

if TYPE_CHECKING:
    import mako

#: Seconds of one interval: one line, one point of a plot.
INTERVAL_S: Final = 1.0
#: Seconds between two looks at the engine. Short, because at full speed TPC-C fills hundreds
#: of megabytes in a second and R1 must come before the memory is full.
TICK_S: Final = 0.25
#: A small memory is looked at more often: so many bytes a second are the most that a worker adds,
#: versions that wait to be removed included, and that may fill MEMORY_SHARE_TICK of it in a tick.
FILL_BYTES_PER_S: Final = 250_000_000
MEMORY_SHARE_TICK: Final = 1 / 8
#: Not more often: a look takes a millisecond, and a core that workers also want.
TICK_S_MIN: Final = 0.01
#: The memory that may be in use when the next tick comes. The rest is for the checks: they sum up
#: in rows of 64 KB, and 64 MiB is the least memory there is.
MEMORY_SHARE_MAX: Final = 0.92
#: Memory is touched ahead for so many transactions per second and worker, if it grows by them.
PER_S_MAX: Final = 220_000
#: Above it the keeper's turns do it in time. On a machine that finds memory slowly, as virtual
#: ones do, this takes some ten seconds.
PRETOUCHED_MAX: Final = 4 << 30
#: A rest shorter than this at the end of a phase is left out of the intervals: its rates would
#: be noise. The total includes it.
INTERVAL_S_MIN: Final = 0.2
#: An interval waits so long for counters that were read behind its end: a server is asked for them
#: twice a second.
COUNTED_S: Final = 1.0
#: How often the checks are begun, if a server is lost amid them.
CHECK_TRIES: Final = 5


class Clock(Protocol):
    def now(self) -> float:
        """Seconds from an arbitrary moment."""

    def sleep(self, seconds: float) -> None: ...


class Drive(Protocol):
    """Transactions that run until they are stopped: `mako.Drive`, or terminals."""

    def sample(self) -> "mako.Sample": ...
    def reset(self) -> None: ...
    def stop(self) -> None: ...
    def states(self) -> list[dict[str, Any]]: ...


class Watch(Protocol):
    """What is seen of a cluster (`bench.cluster.watch`); moments are by the runner's clock."""

    def stretch(self, start: float, end: float) -> Stretch: ...
    def counted(self, at: float) -> bool: ...
    def leaderships(self, start: float, end: float) -> tuple[Leadership, ...]: ...


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(slots=True)
class _Progress:
    """What a run has come to; grows from step to step."""

    intervals: list[Interval] = field(default_factory=list)
    #: Intervals, from when and until when, that wait for what the cluster counted in them.
    waiting: list[tuple[Interval, float, float]] = field(default_factory=list)
    first: "mako.Sample | None" = None
    last: "mako.Sample | None" = None
    #: Taken when the drive had stopped: what terminals were told at last, or never.
    final: "mako.Sample | None" = None
    last_phase: Phase = "warmup"
    #: By the clock: when transactions began, the last phase began, and the last sample was taken.
    began_at: float = 0.0
    phase_at: float = 0.0
    last_at: float = 0.0
    #: Bytes of memory that were ever taken; 0 if nobody says so.
    reserved: Callable[[], int] = lambda: 0
    #: Share of the memory that was taken at the last look.
    fullness: float = 0.0
    stopped: str = ""
    broken: bool = False
    notes: list[str] = field(default_factory=list)
    #: By type: what was committed until the warm-up was over.
    warm: Counter[str] = field(default_factory=Counter)
    done: Done | None = None
    checks: list[CheckResult] = field(default_factory=list)
    #: The user did not wait for all of them.
    incomplete: bool = False
    audits: list[AuditResult] = field(default_factory=list)


class Runner:
    """Runs one benchmark once. `on_interval` is told every second, and may keep it in a file; what
    it returns, if anything, is noted.

    `start` begins to drive a database; by default its workers do. `watch` sees the cluster.
    """

    def __init__(
        self,
        setting: Setting,
        benchmark: Benchmark,
        view: View,
        *,
        check: bool = True,
        on_interval: Callable[[Interval], str] = lambda _interval: "",
        clock: Clock | None = None,
        interrupt: Interrupt | None = None,
        start: "Callable[[mako.Database], Drive] | None" = None,
        watch: Watch | None = None,
    ) -> None:
        self._start = start or self._start_workers
        self._watch = watch
        self._setting = setting
        self._benchmark = benchmark
        self._view = view
        self._check = check
        self._on_interval = on_interval
        self._clock: Clock = clock or RealClock()
        self._interrupt = interrupt or Interrupt()
        self._run = _Progress()

    def run(self, open_database: "Callable[[], mako.Database]") -> RunReport:
        """Do it all. Errors of mako before the drive starts are the caller's to report."""
        self._view.start(self._setting)
        memory = f"memory {numbers.size(self._setting.memory_limit_bytes)}"
        cluster = self._setting.cluster
        self._view.event("open", f"{cluster}, {memory}" if cluster else memory)
        with open_database() as db:
            try:
                load_s = self._load(db)
                if self._check:
                    self._check_all(db, after_load=True)
                pretouched = self._pretouch(db)
                states = self._drive(db)
            finally:
                self._view.end()
            if self._check:
                self._check_all(db, after_load=False)
            return self._report(states, load_s, pretouched)

    def _load(self, db: "mako.Database") -> float:
        started = self._clock.now()
        with self._enough_memory():
            self._benchmark.prepare(db, self._view.load)
        load_s = self._clock.now() - started
        rows = numbers.count(self._benchmark.size().rows)
        self._view.event("load", f"{rows} rows in {numbers.seconds(load_s)}")
        return load_s

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """A memory that is full before the run begins was chosen too small."""
        try:
            yield
        except OutOfMemory as error:
            raise ConfigError(
                f"--memory {numbers.size(self._setting.memory_limit_bytes)} is too small for the"
                " rows to be loaded; give more, or load fewer rows"
            ) from error
        except Exists as error:
            raise ConfigError(
                "the tables of this cluster have rows already, of an earlier run; end its"
                " processes, move their data folders away, and start them again"
            ) from error

    def _pretouch(self, db: "mako.Database") -> int:
        """Have the system provide what the run will add, so that no page is waited for in it."""
        setting = self._setting
        per_s = setting.rate or PER_S_MAX * setting.workers
        wanted = int(self._benchmark.growth_bytes * per_s * (setting.warmup_s + setting.seconds))
        limit = int(MEMORY_SHARE_MAX * setting.memory_limit_bytes) - db.memory_bytes
        wanted = min(wanted, limit, PRETOUCHED_MAX)
        if wanted <= 0:
            return 0
        started = self._clock.now()
        touched = db.pretouch(wanted)
        if not touched:  # Servers do it themselves.
            return 0
        took = numbers.seconds(self._clock.now() - started)
        self._view.event("memory", f"{numbers.size(touched)} ahead of the run in {took}")
        return touched

    def _check_all(self, db: "mako.Database", *, after_load: bool) -> None:
        """Evaluate the conditions of this moment. A check that cannot run fails the run."""
        when = "just loaded" if after_load else "after the run"
        self._view.event("check", f"consistency conditions at one snapshot, {when}")
        try:
            results = self._checked(db, after_load=after_load)
        except KeyboardInterrupt:
            self._interrupt.requested = self._run.incomplete = True
            self._note("interrupted during the checks: the conditions were not evaluated")
            return
        except (Error, TimeoutError) as error:
            self._stop(f"the consistency checks could not run: {error}", broken=True)
            return
        self._run.checks += results
        failed = [result for result in results if result.status is Status.FAIL]
        for result in failed:
            self._view.event("check", f"{result.clause} FAIL {result.title}: {result.detail}")
        if results:
            self._view.event("check", f"{len(failed)} of {len(results)} failed")

    def _checked(self, db: "mako.Database", *, after_load: bool) -> list[CheckResult]:
        """A snapshot ends with its connection: when another process takes over, once more."""
        for _ in range(CHECK_TRIES - 1):
            try:
                return self._benchmark.check(db, after_load=after_load, done=self._run.done)
            except RemoteError as error:
                if not error.retryable:
                    raise
                self._view.event("check", f"once more: {error}")
        return self._benchmark.check(db, after_load=after_load, done=self._run.done)

    def _start_workers(self, db: "mako.Database") -> Drive:
        setting = self._setting
        self._view.event("start", "compiling the workload if this machine has not run it before")
        return db.drive(
            self._benchmark.workload(),
            workers=setting.workers,
            states=self._benchmark.states(setting.workers, setting.seed),
            seed=setting.seed,
            rate=setting.rate,
        )

    def _drive(self, db: "mako.Database") -> list[dict[str, Any]] | None:
        """Warm up and measure; return the last states of the workers, None if they are lost."""
        setting = self._setting
        with self._enough_memory():
            drive = self._start(db)
        self._run.began_at = self._clock.now()
        with self._interrupt.catch():
            self._run.first = drive.sample()
            self._run.reserved = lambda: getattr(db, "memory_reserved", 0)
            self._run.fullness = self._fullness(self._run.first)
            try:
                self._phase(drive, "warmup", setting.warmup_s)
                if not self._ended:
                    self._run.warm = self._lasting(drive.sample())
                    drive.reset()
                    self._phase(drive, "measure", setting.seconds)
            except Error as error:  # R2
                self._stop(self._lost(error), broken=True)
            finally:
                lost = self._stop_drive(drive)
            while not self._counted(self._run.last_at):
                self._clock.sleep(TICK_S)
            self._tell_all()
        if self._interrupt.requested:
            self._note("interrupted: the figures are of the time until then")
        if lost:
            return None
        states = drive.states()
        committed = self._run.warm + self._lasting(drive.sample())
        self._run.done = Done(states, committed, at_once=not self._setting.cluster)
        return states

    def _lasting(self, sample: "mako.Sample") -> Counter[str]:
        """By type: how many transactions are known to last."""
        if not self._setting.cluster:
            return Counter({kind.name: kind.committed for kind in sample.kinds})
        return Counter({kind.name: min(kind.committed, sum(kind.durable)) for kind in sample.kinds})

    def _lost(self, error: Error) -> str:
        """Why nobody answers for the workers any more."""
        if not self._setting.cluster:
            return f"the workers cannot be asked any more: {error}"
        return (
            "the leader that ran the workers was lost or gave up its lead, and they ended with it;"
            " the terminals of --clients go on when another process takes over"
        )

    def _stop_drive(self, drive: Drive) -> bool:
        """Whether its workers were lost with their leader before."""
        try:
            drive.stop()
        except Error:
            if not self._run.broken:
                raise
            return True
        if self._setting.clients:
            self._run.final = drive.sample()
        return False

    @property
    def _ended(self) -> bool:
        return bool(self._run.stopped) or self._interrupt.requested

    def _phase(self, drive: Drive, phase: Phase, length_s: float) -> None:
        """Look at the drive every tick, keep an interval every second, until the time is up."""
        if length_s <= 0:
            return
        self._view.begin(phase, length_s)
        started = self._run.phase_at = self._clock.now()
        offset_s = length_s if phase == "warmup" else 0.0
        previous: mako.Sample | None = None
        previous_s = elapsed_s = 0.0
        tick_s = tick_of(self._setting)
        while elapsed_s < length_s and not self._ended:
            next_s = min((elapsed_s // tick_s + 1) * tick_s, length_s)
            self._clock.sleep(max(0.0, next_s - elapsed_s))
            # The engine's clock and ours agree to a millisecond: without the rounding a sleep
            # that ends a microsecond early would put two lines into one second.
            elapsed_s = round(self._clock.now() - started, 3)
            sample = drive.sample()
            self._run.last, self._run.last_phase = sample, phase
            self._run.last_at = started + elapsed_s
            self._guard(sample)
            over = elapsed_s >= length_s or self._ended
            since_s = elapsed_s - previous_s
            if elapsed_s // INTERVAL_S > previous_s // INTERVAL_S or (
                over and since_s >= INTERVAL_S_MIN
            ):
                interval = between(previous, sample, phase=phase, end_s=elapsed_s - offset_s)
                self._run.waiting.append((interval, started + previous_s, started + elapsed_s))
                previous, previous_s = sample, elapsed_s
            if self._run.waiting and self._counted(self._run.waiting[-1][2]):
                self._tell_all()
            self._view.tick(elapsed_s)

    def _counted(self, at: float) -> bool:
        """Whether it is known what the cluster had counted by then, or will not be soon."""
        if self._watch is None or self._clock.now() - at >= COUNTED_S:
            return True
        return self._watch.counted(at)

    def _tell_all(self) -> None:
        """Of the intervals that have ended."""
        for interval, start, end in self._run.waiting:
            self._keep(self._seen(interval, start, end))
        self._run.waiting.clear()

    def _seen(self, interval: Interval, start: float, end: float) -> Interval:
        """With what the cluster did in the meantime; terminals do not see conflicts themselves."""
        if self._watch is None:
            return interval
        cluster = self._watch.stretch(start, end)
        if cluster.lag is not None:  # Of many looks, not of one.
            interval = replace(interval, watermark_lag_ms=cluster.lag.mean_ms)
        if self._setting.clients:
            known = cluster.is_counted(self._setting.partitions)
            interval = replace(interval, aborts=dict(cluster.aborts) if known else None)
        interval = replace(interval, cluster=cluster)
        return replace(interval, sides=self._seen_sides(interval, cluster))

    def _seen_sides(self, interval: Interval, cluster: Stretch) -> tuple[Side, ...]:
        """With what only servers know."""
        if not interval.sides:
            return ()
        local, over = interval.sides
        counted = cluster.is_counted(self._setting.partitions)
        if self._setting.clients and not counted:
            local, over = (replace(side, aborts=None, parked=None) for side in (local, over))
        elif self._setting.clients:
            aborts = less(cluster.aborts, cluster.aborts_over)
            local = replace(local, aborts=aborts, parked=cluster.parked)
            over = replace(over, aborts=dict(cluster.aborts_over), parked=cluster.parked_over)
        known = cluster.distributed if counted else {}
        return (
            replace(local, inherited=known.get("local_inherited")),
            replace(over, inherited=known.get("inherited")),
        )

    def _keep(self, interval: Interval) -> None:
        self._run.intervals.append(interval)
        self._view.interval(interval)
        if problem := self._on_interval(interval):
            self._note(problem)

    def _guard(self, sample: "mako.Sample") -> None:
        """End the drive if it cannot go on (R1, R2)."""
        if sample.stopped:  # R2
            self._stop(f"the engine stopped: {sample.stopped}", broken=True)
        elif self._is_filling(sample):  # R1
            taken = max(sample.memory_bytes, self._run.reserved())
            self._stop(
                f"memory is nearly full ({numbers.size(taken)} of"
                f" {numbers.size(sample.memory_limit)}), so the run ends here; give more with"
                " --memory, or write less with --seconds or --rate"
            )

    def _is_filling(self, sample: "mako.Sample") -> bool:
        """Whether memory is full, or will be before the next look: that may come late."""
        before, now = self._run.fullness, self._fullness(sample)
        self._run.fullness = now
        return now + 2 * max(now - before, 0.0) > MEMORY_SHARE_MAX

    def _fullness(self, sample: "mako.Sample") -> float:
        """With memory that is free again: rows of the checks are larger than what was there."""
        limit = sample.memory_limit
        return max(_fullness(sample), self._run.reserved() / limit if limit else 0.0)

    def _stop(self, reason: str, *, broken: bool = False) -> None:
        self._run.stopped = self._run.stopped or reason
        self._run.broken = self._run.broken or broken
        self._view.warn(reason)

    def _note(self, text: str) -> None:
        self._run.notes.append(text)
        self._view.warn(text)

    def _report(
        self, states: list[dict[str, Any]] | None, load_s: float, pretouched: int
    ) -> RunReport:
        run = self._run
        assert run.first is not None, "the drive was started"
        sample = run.last or run.first
        if run.last_phase == "warmup":
            self._note("the run ended before the measurement: the figures are of the warm-up")
        total = between(None, sample, phase=run.last_phase, end_s=sample.seconds)
        total = self._seen(total, run.phase_at, run.last_at)
        if run.final is not None:  # Whoever hangs at the end is told so late, or not at all.
            total = with_endings(total, run.final)
        self._note_silence(total)
        return RunReport(
            setting=self._setting,
            loaded=Loaded(self._benchmark.size(), load_s, run.first.memory_bytes, pretouched),
            total=total,
            intervals=tuple(run.intervals),
            extras=tuple(self._benchmark.extras(sample)),
            checks=in_clause_order(run.checks),
            audits=() if states is None else tuple(self._benchmark.audit(states, sample)),
            stopped=run.stopped,
            broken=run.broken,
            interrupted=self._interrupt.requested,
            incomplete=run.incomplete,
            leaderships=self._leaderships(),
            notes=tuple(run.notes),
        )

    def _leaderships(self) -> tuple[Leadership, ...]:
        """In seconds from the start of the measurement."""
        run = self._run
        if self._watch is None:
            return ()
        zero_at = run.phase_at + (self._setting.warmup_s if run.last_phase == "warmup" else 0)
        found = self._watch.leaderships(run.began_at, run.last_at)
        return tuple(replace(each, at_s=round(each.at_s - zero_at, 3)) for each in found)

    def _note_silence(self, total: Interval) -> None:
        """A report without some of the processes says so."""
        processes = total.cluster.processes if total.cluster else ()
        unseen = [process.name for process in processes if not process.duration_s]
        if unseen:
            self._note(
                f"nothing was seen of {', '.join(unseen)}: the HTTP port did not answer"
                " (http and http_host in the configuration say where it is)"
            )


def tick_of(setting: Setting) -> float:
    """Seconds between two looks. A cluster is asked over the network, and not more often."""
    if setting.cluster:
        return TICK_S
    fill_bytes_per_s = FILL_BYTES_PER_S * setting.workers
    tick_s = MEMORY_SHARE_TICK * setting.memory_limit_bytes / fill_bytes_per_s
    return min(max(tick_s, TICK_S_MIN), TICK_S)


def _fullness(sample: "mako.Sample") -> float:
    """How full the memory is; of several partitions that of the fullest one."""
    if fullest := getattr(sample, "fullest", 0.0):
        return float(fullest)
    return sample.memory_bytes / sample.memory_limit if sample.memory_limit else 0.0


def in_clause_order(results: list[CheckResult]) -> tuple[CheckResult, ...]:
    """One result for each clause, "3.3.2.2" before "3.3.2.10"; a verdict beats a SKIP."""
    best: dict[str, CheckResult] = {}
    for result in results:
        known = best.get(result.clause)
        if known is None or known.status is Status.SKIP or result.status is Status.FAIL:
            best[result.clause] = result
    return tuple(sorted(best.values(), key=lambda result: _clause_key(result.clause)))


def _clause_key(clause: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in clause.split("."))
