"""Workers that run a workload inside the engine, and what can be seen of them from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from mako.errors import ConfigError, OutOfMemory, SchemaError
from mako.ids import Outcome, Timestamp, ms_of_timestamp
from mako.procedure import Workload

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.engine.latencies import Latencies
    from mako.engine.lending import Lease
    from mako.engine.station import Conflicts
    from mako.server.serving import Crew
    from mako.server.workers import WorkerThread

_RETRIED: Final = {"lock": Outcome.LOCKED, "changed": Outcome.CHANGED, "phantom": Outcome.PHANTOM}


@dataclass(frozen=True, slots=True)
class KindSample:
    """One kind of transactions: counts, and latencies in buckets of `mako.histogram`."""

    name: str
    committed: int
    rolled_back: int
    histogram: list[int]
    #: The same from the start to being durable, where that takes longer (a replicated database).
    durable: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a drive has done since it began, or since it was reset."""

    seconds: float
    kinds: tuple[KindSample, ...]
    #: Attempts that were retried, by reason; without those that are in `parked`.
    aborts: dict[str, int]
    log_bytes: int
    log_transactions: int
    memory_bytes: int
    memory_limit: int
    watermark: int
    watermark_lag_ms: float
    #: Why the workers stopped by themselves; "" while they run or when they were told to.
    stopped: str = ""
    #: Of `aborts`: attempts of transactions over partitions.
    aborts_over: dict[str, int] = field(default_factory=dict)
    #: How often a transaction waited for a lock that is held until another partition answers: of
    #: those `over` partitions, and of the others (`alone`).
    parked: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Counts:
    started: float
    histograms: Latencies
    #: None where nothing takes longer to be durable.
    durable: Latencies | None
    rolled_back: list[int]
    aborts: dict[str, int]
    aborts_over: dict[str, int]
    parked: dict[str, int]
    log_bytes: int
    log_transactions: int


@dataclass(slots=True)
class _Worker:
    #: None: it was given back, and the context may be somebody else's.
    lease: Lease | None
    context: int
    #: Its state row; 0: none yet.
    state: int = 0
    #: The ring of what is not durable yet; 0: there is none.
    ring: int = 0


class Connected(Protocol):
    """What connects workers with those of other partitions (`mako.engine.partitions.Mesh`)."""

    def attach(self, engine: Engine, context: int, number: int) -> None:
        """`context` is that of worker `number`, which has not begun."""
        ...

    def detach(self, engine: Engine, context: int) -> None:
        """The worker has ended."""
        ...

    def place_of(self, engine: Engine, number: int) -> int:
        """Its place among all workers."""
        ...

    def conflicts_of(self, engine: Engine) -> Conflicts:
        """How often attempts in lanes of the workers of `engine` were in the way of others."""
        ...


class Drive:
    """Workers running a workload; `stop` before the database is used for anything else."""

    def __init__(
        self,
        crew: Crew,
        workload: Workload,
        *,
        workers: int,
        states: Sequence[Mapping[str, Any]],
        seed: int,
        rate: float,
        mesh: Connected | None = None,
    ) -> None:
        """With a `mesh` transactions may go over its partitions; see `drain`."""
        from mako.engine.entries import workload_entries

        engine = crew.engine
        _check(engine, workload, workers, states, seed, rate)
        self._crew = crew
        self._engine = engine
        self._mesh = mesh
        self.workload = workload
        for part in (workload.generate, workload.execute):
            engine.check_tables(part)
        self._generate, self._execute = workload_entries(workload)
        rows = [workload.state.pack(state) for state in states]
        self._workers: list[_Worker] = []
        self._threads: list[WorkerThread] = []
        self._stopped = ""
        self._final: list[dict[str, Any]] | None = None
        self._ended = False
        try:
            for number, row in enumerate(rows):
                self._prepare(number, row, seed)
            self._base = self._counts()
            self._start(rate)
        except BaseException:
            self._stop_workers()
            self._give_back()
            raise

    def _prepare(self, number: int, state: bytes, seed: int) -> None:
        """Give a worker its context, its state row and its random numbers."""
        from mako.engine import layout
        from mako.engine.durability import SLOT_BYTES

        engine = self._engine
        # Before it is recorded nothing is in its context, and who is interrupted there lets go of
        # the lease. From then on `_give_back` looks at what it has got so far.
        lease = engine.take()
        context = lease.context
        worker = _Worker(lease, context)
        self._workers.append(worker)
        place = worker.state = engine.allocate(context, max(len(state), 8))
        if place == 0:
            raise OutOfMemory("no memory for the state of a worker; open with more memory")
        engine.write(place, state)
        word = engine.set_word
        word(context + layout.K_GENERATE, self._generate.address)
        word(context + layout.K_EXECUTE, self._execute.address)
        word(context + layout.K_STATE, place)
        word(context + layout.K_STATE_BYTES, max(len(state), 8))
        if self._mesh is not None:
            if len(state) > layout.ARGUMENT_BYTES:
                raise SchemaError(
                    f"{self.workload.name}: a state of {len(state)} bytes; over partitions it may"
                    f" have {layout.ARGUMENT_BYTES}"
                )
            self._mesh.attach(engine, context, number)
        word(context + layout.K_RANDOM, (seed * 1_000_003 + number) & (1 << 62) - 1)
        size = layout.KIND_MAX * layout.HISTOGRAM_BYTES
        engine.write(context + layout.C_HISTOGRAMS, bytes(size))
        engine.write(context + layout.K_ROLLED_BACK, bytes(8 * layout.KIND_MAX))
        ring = 0
        if engine.replicated:
            engine.write(context + layout.C_DURABLE, bytes(layout.DURABLE_HISTOGRAMS + size))
            ring = worker.ring = engine.allocate(context, layout.DURABLE_SLOTS * SLOT_BYTES)
        word(context + layout.C_DURABLE + layout.DURABLE_RING, ring)

    def _start(self, rate: float) -> None:
        from mako.engine import layout
        from mako.engine.completing import DRIVE

        engine = self._engine
        interval = round(1e9 * len(self._workers) / rate) if rate else 0
        now = time.monotonic_ns()
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._base.started = time.monotonic()
        self._cores: list[int | None] = []
        for number, worker in enumerate(self._workers):
            due = now + (number * interval) // max(len(self._workers), 1)
            engine.set_word(worker.context + layout.K_INTERVAL, interval)
            engine.set_word(worker.context + layout.K_DUE, due)
            # One worker per core, from the last: the first one has the operating system's work.
            place = number if self._mesh is None else self._mesh.place_of(engine, number)
            core = cores[-1 - place % len(cores)] if len(self._workers) <= len(cores) else None
            self._cores.append(core)
        self._launch(DRIVE)

    def _launch(self, control: int) -> None:
        # Only for their processor time: who is interrupted after a launch has one too few here.
        self._threads = []
        for worker, core in zip(self._workers, self._cores, strict=True):
            self._threads.append(self._crew.launch(worker.context, control, core))

    def _stop_workers(self) -> None:
        """Stop all that run, or may still, in the contexts of this drive, and wait for them."""
        self._crew.stop(self._crew.workers_in(self._contexts))

    @property
    def _contexts(self) -> list[int]:
        return [worker.context for worker in self._workers if worker.lease is not None]

    def _counts(self) -> _Counts:
        from mako.engine import layout
        from mako.engine.latencies import Latencies

        engine = self._engine
        kinds = range(len(self.workload.kinds))
        contexts = [worker.context for worker in self._workers]
        places = [context + layout.C_HISTOGRAMS for context in contexts]
        histograms = Latencies.of(engine, places, len(kinds))
        durable = None
        if engine.replicated:
            offset = layout.C_DURABLE + layout.DURABLE_HISTOGRAMS
            durable = Latencies.of(engine, [each + offset for each in contexts], len(kinds))
        rolled_back = [
            sum(
                engine.word(worker.context + layout.K_ROLLED_BACK + 8 * kind)
                for worker in self._workers
            )
            for kind in kinds
        ]
        aborts = {
            reason: sum(
                engine.word(worker.context + layout.C_OUTCOMES + 8 * outcome)
                for worker in self._workers
            )
            for reason, outcome in _RETRIED.items()
        }
        over: dict[str, int] = {}
        parked: dict[str, int] = {}
        if self._mesh is not None:
            # What others have begun counts there.
            lanes = self._mesh.conflicts_of(engine)
            over = {reason: lanes.over[outcome] for reason, outcome in _RETRIED.items()}
            parked = {who: lanes.parked[who] for who in ("alone", "over")}
            over["lock"] = max(over["lock"] - parked["over"], 0)
            aborts["lock"] = max(aborts["lock"] - parked["alone"], -lanes.alone[Outcome.LOCKED])
            for reason, outcome in _RETRIED.items():
                aborts[reason] += over[reason] + lanes.alone[outcome]
        log_bytes, log_transactions = engine.log_totals
        return _Counts(
            time.monotonic(),
            histograms,
            durable,
            rolled_back,
            aborts,
            over,
            parked,
            log_bytes,
            log_transactions,
        )

    def sample(self) -> Sample:
        """Counts and latencies so far. Cheap enough for several times a second."""
        return self._sample(lambda latencies, kind: latencies.counts(kind))

    def sparse_sample(self) -> Sample:
        """The same, where a histogram is [bucket, count] for the buckets that are not empty."""
        return self._sample(lambda latencies, kind: latencies.pairs(kind))

    def _sample(self, shown: Callable[[Latencies, int], list[Any]]) -> Sample:
        engine = self._engine
        engine.check_left()
        base = self._base
        if self._final is None:
            self._last = self._counts()
            seen = ms_of_timestamp(Timestamp(engine.stable))
            self._lag = max(time.time_ns() / 1e6 - seen, 0.0)
            self._note_stop()
        now = self._last
        kinds = []
        histograms = now.histograms - base.histograms
        durable = None
        if now.durable is not None and base.durable is not None:
            durable = now.durable - base.durable
        for i, name in enumerate(self.workload.kinds):
            rolled_back = now.rolled_back[i] - base.rolled_back[i]
            committed = histograms.total(i) - rolled_back
            waited = [] if durable is None else shown(durable, i)
            kinds.append(KindSample(name, committed, rolled_back, shown(histograms, i), waited))
        return Sample(
            seconds=now.started - base.started,
            kinds=tuple(kinds),
            aborts=_less(now.aborts, base.aborts),
            aborts_over=_less(now.aborts_over, base.aborts_over),
            parked=_less(now.parked, base.parked),
            log_bytes=now.log_bytes - base.log_bytes,
            log_transactions=now.log_transactions - base.log_transactions,
            memory_bytes=engine.memory_bytes,
            memory_limit=engine.memory_limit,
            watermark=engine.stable,
            watermark_lag_ms=self._lag,
            stopped=self._stopped,
        )

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._workers)

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the workers have used."""
        return sum(each.cpu_seconds for each in self._threads)

    def _note_stop(self) -> None:
        from mako.engine import layout

        for worker in self._workers:
            failed = self._engine.word(worker.context + layout.K_FAILED)
            if failed and not self._stopped:
                detail = self._engine.word(worker.context + layout.K_FAILED_DETAIL)
                error = self._engine.failure_of(Outcome(failed), detail, self.workload.name)
                self._stopped = str(error)

    def reset(self) -> None:
        """Forget counts and latencies: the warm-up is over."""
        self._base = self._counts()

    def states(self) -> list[dict[str, Any]]:
        """The state of each worker; exact once the drive is stopped."""
        if self._final is not None:
            return self._final
        row = self.workload.state
        return [row.unpack(self._engine.read(worker.state, row.size)) for worker in self._workers]

    def drain(self) -> None:
        """Begin nothing more, and go on with what other partitions want. Where several are driven
        over a mesh, each is told so, then nothing is under way any more (`Mesh.busy`), and then
        each may be stopped."""
        from mako.engine.completing import DRAIN
        from mako.engine.layout import C_CONTROL

        for context in self._contexts:
            self._engine.set_word(context + C_CONTROL, DRAIN)

    def pause(self) -> None:
        """Stop all workers and wait for them; `resume` has them go on."""
        if self._final is None:
            self._note_stop()
            self._stop_workers()

    def resume(self) -> None:
        from mako.engine.completing import DRAIN, DRIVE

        if self._final is not None:
            return
        self._stop_workers()  # Who paused, or resumed, may have been interrupted.
        # One that has stopped by itself still does what others want of its workers.
        control = DRAIN if self._stopped else DRIVE
        if not self._stopped or self._mesh is not None:
            self._launch(control)

    def stop(self) -> None:
        """Stop all workers and wait for them; the database can be used again. After an interrupt
        it goes on with what is left."""
        if self._ended or self._engine.left:
            return
        if self._final is None:
            self._stop_workers()
            self.sample()
            self._final = self.states()
        self._give_back()
        self._engine.reclaim_idle()
        self._ended = True

    def _give_back(self, first: int = 0) -> None:
        """The workers have ended, or did not begin. Twice is harmless."""
        if first < len(self._workers):
            try:
                self._give_back_one(self._workers[first])
            finally:  # What is behind one that fails is given back all the same.
                self._give_back(first + 1)

    def _give_back_one(self, worker: _Worker) -> None:
        if worker.lease is None:
            return
        self._release(worker)
        if self._mesh is not None:
            self._mesh.detach(self._engine, worker.context)
        lease, worker.lease = worker.lease, None
        if lease is not None:  # Whoever is interrupted in here has let go of it, too.
            self._engine.give(lease)

    def _release(self, worker: _Worker) -> None:
        from mako.engine import layout
        from mako.engine.durability import SLOT_BYTES
        from mako.engine.memory import release, size_class

        state_class = size_class(max(self.workload.state.size, 8))
        ring_class = size_class(layout.DURABLE_SLOTS * SLOT_BYTES)
        if worker.ring:
            self._engine.set_word(worker.context + layout.C_DURABLE + layout.DURABLE_RING, 0)
        # An interrupt comes when a Python function begins, or after a call: not between the note
        # that it is released and the compiled code that does it. So this happens once.
        place, worker.state = worker.state, 0
        if place:
            release(worker.context, layout.POOL_VALUES, place, state_class)
        place, worker.ring = worker.ring, 0
        if place:
            release(worker.context, layout.POOL_VALUES, place, ring_class)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {reason: count - before[reason] for reason, count in now.items()}


def _check(
    engine: Engine,
    workload: Workload,
    workers: int,
    states: Sequence[Mapping[str, Any]],
    seed: int,
    rate: float,
) -> None:
    from mako.replication.contract import REPLICA_CONTEXTS

    if not isinstance(workload, Workload):
        raise SchemaError(f"{workload!r:.60} is not a workload; make one with mako.Workload(...)")
    most = engine.context_count - (REPLICA_CONTEXTS if engine.replicated else 2)
    if type(workers) is not int or not 1 <= workers <= most:
        raise ConfigError(
            f"{workers!r:.60} workers; give 1 to {most}, or open the database with more sessions"
        )
    if not isinstance(states, Sequence) or len(states) != workers:
        given = len(states) if isinstance(states, Sequence) else f"{states!r:.60} as"
        raise SchemaError(f"{workload.name}: {given} states for {workers} workers")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"the seed is {seed!r}; give an integer")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < inf:
        raise ConfigError(f"a rate of {rate!r:.60}; give 0 for a closed loop, or more")
