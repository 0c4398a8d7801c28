"""Workers that run a workload inside the engine, and what can be seen of them from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self

from mako.errors import ConfigError, OutOfMemory, SchemaError
from mako.histogram import BUCKETS
from mako.ids import Outcome, Timestamp, ms_of_timestamp
from mako.procedure import Workload

if TYPE_CHECKING:
    from mako.server.workers import Crew, WorkerThread
    from mako.engine.engine import Engine

_RETRIED: Final = {"lock": Outcome.LOCKED, "changed": Outcome.CHANGED, "phantom": Outcome.PHANTOM}


@dataclass(frozen=True, slots=True)
class KindSample:
    """One kind of transactions: counts, and latencies in buckets of `mako.histogram`."""

    name: str
    committed: int
    rolled_back: int
    histogram: list[int]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a drive has done since it began, or since it was reset."""

    seconds: float
    kinds: tuple[KindSample, ...]
    #: Attempts that were retried, by reason.
    aborts: dict[str, int]
    log_bytes: int
    log_transactions: int
    memory_bytes: int
    memory_limit: int
    watermark: int
    watermark_lag_ms: float
    #: Why the workers stopped by themselves; "" while they run or when they were told to.
    stopped: str = ""


@dataclass(slots=True)
class _Counts:
    started: float
    histograms: list[list[int]]
    rolled_back: list[int]
    aborts: dict[str, int]
    log_bytes: int
    log_transactions: int


@dataclass(slots=True)
class _Worker:
    context: int
    state: int


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
    ) -> None:
        from mako.engine.entries import workload_entries

        engine = crew.engine
        _check(engine, workload, workers, states, seed, rate)
        self._crew = crew
        self._engine = engine
        self._workload = workload
        for part in (workload.generate, workload.execute):
            engine.check_tables(part)
        self._generate, self._execute = workload_entries(workload)
        rows = [workload.state.pack(state) for state in states]
        self._workers: list[_Worker] = []
        try:
            for number, row in enumerate(rows):
                self._workers.append(self._prepare(number, row, seed))
        except BaseException:
            self._give_back()
            raise
        self._stopped = ""
        self._final: list[dict[str, Any]] | None = None
        self._base = self._counts()
        self._threads = self._start(rate)

    def _prepare(self, number: int, state: bytes, seed: int) -> _Worker:
        """Give a worker its context, its state row and its random numbers."""
        from mako.engine import layout

        engine = self._engine
        context = engine.take_context()
        place = engine.allocate(context, max(len(state), 8))
        if place == 0:
            engine.give_context(context)
            raise OutOfMemory("no memory for the state of a worker; open with more memory")
        engine.write(place, state)
        word = engine.set_word
        word(context + layout.K_GENERATE, self._generate.address)
        word(context + layout.K_EXECUTE, self._execute.address)
        word(context + layout.K_STATE, place)
        word(context + layout.K_RANDOM, (seed * 1_000_003 + number) & (1 << 62) - 1)
        size = layout.KIND_MAX * layout.HISTOGRAM_BYTES
        engine.write(context + layout.C_HISTOGRAMS, bytes(size))
        engine.write(context + layout.K_ROLLED_BACK, bytes(8 * layout.KIND_MAX))
        return _Worker(context, place)

    def _start(self, rate: float) -> list[WorkerThread]:
        from mako.engine import layout
        from mako.engine.worker import DRIVE

        engine = self._engine
        interval = round(1e9 * len(self._workers) / rate) if rate else 0
        now = time.monotonic_ns()
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._base.started = time.monotonic()
        threads = []
        for number, worker in enumerate(self._workers):
            due = now + (number * interval) // max(len(self._workers), 1)
            engine.set_word(worker.context + layout.K_INTERVAL, interval)
            engine.set_word(worker.context + layout.K_DUE, due)
            # One worker per core, from the last: the first one has the operating system's work.
            core = cores[-1 - number % len(cores)] if len(self._workers) <= len(cores) else None
            threads.append(self._crew.launch(worker.context, DRIVE, core))
        return threads

    def _counts(self) -> _Counts:
        from mako.engine import layout

        engine = self._engine
        histograms = []
        rolled_back = []
        words = engine.words
        for kind in range(len(self._workload.kinds)):
            columns = []
            rolled = 0
            for worker in self._workers:
                at = worker.context + layout.C_HISTOGRAMS + kind * layout.HISTOGRAM_BYTES
                start = (at - engine.base) >> 3
                columns.append(words[start : start + BUCKETS].tolist())
                rolled += engine.word(worker.context + layout.K_ROLLED_BACK + 8 * kind)
            histograms.append([sum(column) for column in zip(*columns, strict=True)])
            rolled_back.append(rolled)
        aborts = {
            reason: sum(
                engine.word(worker.context + layout.C_OUTCOMES + 8 * outcome)
                for worker in self._workers
            )
            for reason, outcome in _RETRIED.items()
        }
        log_bytes, log_transactions = engine.log_totals
        return _Counts(
            time.monotonic(), histograms, rolled_back, aborts, log_bytes, log_transactions
        )

    def sample(self) -> Sample:
        """Counts and latencies so far. Cheap enough for several times a second."""
        engine = self._engine
        base = self._base
        if self._final is None:
            self._last = self._counts()
            self._lag = max(time.time_ns() / 1e6 - ms_of_timestamp(Timestamp(engine.closed)), 0.0)
            self._note_stop()
        now = self._last
        kinds = []
        for i, name in enumerate(self._workload.kinds):
            histogram = [a - b for a, b in zip(now.histograms[i], base.histograms[i], strict=True)]
            rolled_back = now.rolled_back[i] - base.rolled_back[i]
            kinds.append(KindSample(name, sum(histogram) - rolled_back, rolled_back, histogram))
        return Sample(
            seconds=now.started - base.started,
            kinds=tuple(kinds),
            aborts={reason: now.aborts[reason] - base.aborts[reason] for reason in now.aborts},
            log_bytes=now.log_bytes - base.log_bytes,
            log_transactions=now.log_transactions - base.log_transactions,
            memory_bytes=engine.memory_bytes,
            memory_limit=engine.memory_limit,
            watermark=engine.closed,
            watermark_lag_ms=self._lag,
            stopped=self._stopped,
        )

    def _note_stop(self) -> None:
        from mako.engine import layout

        for worker in self._workers:
            failed = self._engine.word(worker.context + layout.K_FAILED)
            if failed and not self._stopped:
                detail = self._engine.word(worker.context + layout.C_DETAIL)
                error = self._engine.failure_of(Outcome(failed), detail, self._workload.name)
                self._stopped = str(error)

    def reset(self) -> None:
        """Forget counts and latencies: the warm-up is over."""
        self._base = self._counts()

    def states(self) -> list[dict[str, Any]]:
        """The state of each worker; exact once the drive is stopped."""
        if self._final is not None:
            return self._final
        row = self._workload.state
        return [row.unpack(self._engine.read(worker.state, row.size)) for worker in self._workers]

    def stop(self) -> None:
        """Stop all workers and wait for them; the database can be used again."""
        if self._final is not None:
            return
        self._crew.stop(self._threads)
        self.sample()
        states = self.states()
        self._final = states
        self._give_back()
        self._engine.reclaim_idle()

    def _give_back(self) -> None:
        for worker in self._workers:
            size = max(self._workload.state.size, 8)
            self._engine.release(worker.context, worker.state, size)
            self._engine.give_context(worker.context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _check(
    engine: Engine,
    workload: Workload,
    workers: int,
    states: Sequence[Mapping[str, Any]],
    seed: int,
    rate: float,
) -> None:
    if not isinstance(workload, Workload):
        raise SchemaError(f"{workload!r:.60} is not a workload; make one with mako.Workload(...)")
    if type(workers) is not int or not 1 <= workers <= engine.context_count - 2:
        raise ConfigError(
            f"{workers!r:.60} workers; give 1 to {engine.context_count - 2}, or open the database"
            " with more sessions"
        )
    if not isinstance(states, Sequence) or len(states) != workers:
        given = len(states) if isinstance(states, Sequence) else f"{states!r:.60} as"
        raise SchemaError(f"{workload.name}: {given} states for {workers} workers")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"the seed is {seed!r}; give an integer")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < inf:
        raise ConfigError(f"a rate of {rate!r:.60}; give 0 for a closed loop, or more")
