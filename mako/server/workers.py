"""The threads of a database: workers, the keeper beside them, and the watchdog over all.

    worker     stays in compiled code (`mako.engine.worker.work`) until its control word says STOP
    keeper     closes timestamps and takes the log while any worker runs, unless it is replicated
    watchdog   dooms whatever runs in compiled code for too long: workers, and `db.run` in the
               thread of its caller

They are daemon threads that own no Database: when it is forgotten, or the interpreter ends,
they are stopped in order, since compiled code must not outlive the memory it works on.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from mako.errors import Closed
from mako.forks import LEFT
from mako.ids import Outcome

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.engine.lending import Lease

#: Microseconds between two turns of the keeper. A log ring holds about 80 ms of TPC-C.
KEEPER_INTERVAL_US: Final = 1000
#: A procedure that runs for longer is ended by the watchdog, unless `mako.open` says otherwise.
PROCEDURE_SECONDS_MAX: Final = 10.0
#: What runs at a snapshot holds up nobody, and may read the whole database: it gets so many
#: times as long.
SNAPSHOT_FACTOR: Final = 30
#: Who is in a hurry waits so long for workers to end what they run. Far longer than almost all
#: transactions take; and what is interrupted is only run again.
PATIENCE_SECONDS: Final = 0.01
#: And then so long for them to notice that they are to give way, before they are told again: they
#: may have begun something else meanwhile.
_NOTICE_SECONDS: Final = 0.002
#: The watchdog is late by at most one part in so many.
_WATCHES_PER_LIMIT: Final = 20


@dataclass(eq=False)
class WorkerThread:
    """One thread inside the engine, and the eventfd it sleeps on."""

    context: int
    event: int
    thread: threading.Thread
    #: The least one that no other running thread of its crew has.
    number: int = 0
    #: Processor time that it has used in all, once it has ended.
    used_s: float | None = None
    #: Held until its thread has ended, whatever becomes of who started it.
    lease: Lease | None = None
    #: Its thread was let into the engine.
    begun: bool = False
    _waking: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: bool = False

    @property
    def is_started(self) -> bool:
        """Whether it is to be waited for: it is not if whoever launched it was interrupted."""
        return self.begun or self.thread.is_alive()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        number = self.thread.native_id
        if self.used_s is None and number is not None:
            try:
                return time.clock_gettime(_clock_of(number))
            except OSError:  # It has ended meanwhile.
                pass
        return self.used_s or 0.0

    def wake(self) -> None:
        """Have it go on if it sleeps. Any thread may call it, also when the worker has ended: the
        number of its eventfd may be that of another file by then."""
        with self._waking:
            if not self._closed:
                os.eventfd_write(self.event, 1)

    def close(self) -> None:
        """Its thread has ended, and nobody wakes it any more."""
        self.lease = None
        with self._waking:
            self._closed = True
            os.close(self.event)

    def leave(self) -> None:
        """See `mako.forks`."""
        self._waking = threading.Lock()
        if not self._closed:
            self.close()

    def tell_to_stop(self) -> None:
        from mako.engine import layout
        from mako.engine.closing import set_word
        from mako.engine.completing import STOP

        set_word(self.context + layout.C_CONTROL, STOP)
        self.wake()


def _clock_of(thread: int) -> int:
    """The processor time of a thread as a clock of Linux (linux/posix-timers.h, CPUCLOCK_SCHED).

    Asking for a thread that has ended is an error there; pthread_getcpuclockid would crash.
    """
    return (~thread << 3) | 6


class Crew:
    """Starts and stops the threads of one engine."""

    def __init__(
        self, engine: Engine, procedure_timeout: float, patience: float | None = None
    ) -> None:
        """`patience`: how many seconds `stop` waits before what runs has to give way; None: it
        may end, which takes up to `procedure_timeout`."""
        self.engine = engine
        self.procedure_timeout = procedure_timeout
        self._threads = _Threads(engine, patience)
        self._watchdog: threading.Thread | None = None
        self._lock = threading.Lock()
        # Also when the interpreter ends.
        self._stopper = weakref.finalize(self, self._threads.stop_all)

    def works(self) -> bool:
        """Whether any worker runs, or may still."""
        return self._threads.some

    def watch(self) -> None:
        """Have a watchdog from now on."""
        if self._watchdog is not None:
            return
        # Not by the watchdog: an import that is interrupted here would be half a module there.
        from mako.engine.worker import doom, watch

        with self._lock:
            if self._watchdog is None:
                watchdog = threading.Thread(
                    target=_watch,
                    args=(
                        weakref.ref(self.engine),
                        self.engine.over,
                        self.procedure_timeout,
                        partial(_doom_late, watch, doom),
                        weakref.ref(self._threads),
                    ),
                    name="mako-watchdog",
                    daemon=True,
                )
                watchdog.start()  # Which the system may refuse: then there is none.
                self._watchdog = watchdog

    def launch(self, context: int, control: int, core: int | None = None) -> WorkerThread:
        """Run a worker in `context`, which is prepared for it, on `core` if one is given."""
        self.watch()
        return self._threads.launch(context, control, core)

    def workers_in(self, contexts: Iterable[int]) -> list[WorkerThread]:
        """Those that run in one of `contexts`, or may still."""
        wanted = set(contexts)
        return [worker for worker in self._threads.running if worker.context in wanted]

    def stop(self, workers: Iterable[WorkerThread]) -> None:
        """Stop workers and wait for them. They end what they run, which the watchdog bounds; or,
        after the patience, it ends without an effect: a request stays in its ring, and a workload
        goes on with another transaction."""
        self._threads.stop(list(workers))

    def cpu_seconds(self) -> dict[int, float]:
        """Processor time that workers have used so far, by their numbers."""
        return self._threads.cpu_seconds()

    def close(self) -> None:
        """Stop everything but the watchdog, which ends with the engine's memory. Harmless the
        second time; if the first one was interrupted, this goes on."""
        self._threads.stop_all()
        self._stopper.detach()

    def leave(self) -> None:
        """See `mako.forks`."""
        self._stopper.detach()
        self._lock = threading.Lock()
        self._threads.leave()


class _Threads:
    """The workers that run, and the keeper, which does as long as there are any."""

    def __init__(self, engine: Engine, patience: float | None) -> None:
        self._engine = engine
        self._patience = patience
        self._lock = threading.Lock()
        self._running: list[WorkerThread] = []
        # Why no worker starts any more.
        self._refusal = ""
        self._keeper: threading.Thread | None = None
        #: Processor time of workers that were stopped, by their numbers.
        self._used_s: dict[int, float] = {}

    def cpu_seconds(self) -> dict[int, float]:
        with self._lock:
            found = dict(self._used_s)
            for worker in self._running:
                found[worker.number] = found.get(worker.number, 0.0) + worker.cpu_seconds
        return found

    @property
    def some(self) -> bool:
        return bool(self._running)

    @property
    def running(self) -> list[WorkerThread]:
        """What was launched and has not been stopped."""
        return list(self._running)

    def tell_time(self) -> None:
        """Workers know the time of a clock that is never set; how far the wall's is ahead of it
        changes when that one is. With the old difference theirs would be ahead for ever."""
        from mako.engine import layout

        with self._lock:
            for worker in self._running:
                ahead = time.time_ns() - time.monotonic_ns()
                self._engine.set_word(worker.context + layout.K_OFFSET, ahead)

    def launch(self, context: int, control: int, core: int | None) -> WorkerThread:
        from mako.engine import layout
        from mako.engine.completing import IDLE
        from mako.engine.worker import work

        engine = self._engine

        def life() -> None:
            assert engine.base != 0, "the memory stays as long as a context is borrowed"
            with self._lock:
                worker.begun = worker in self._running
            if not worker.begun:
                return
            if core is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {core})
            try:
                work(context)
            finally:
                worker.used_s = time.thread_time()

        engine.tick()
        event = os.eventfd(0)
        engine.set_word(context + layout.C_WAKE, event)
        engine.set_word(context + layout.C_STATE, IDLE)
        # Somebody may look before the thread has begun, and the last one may have failed.
        engine.set_word(context + layout.K_FAILED, int(Outcome.COMMITTED))
        engine.set_word(context + layout.K_OFFSET, time.time_ns() - time.monotonic_ns())
        engine.set_word(context + layout.C_CONTROL, control)
        thread = threading.Thread(target=life, name=f"mako-worker-{context:x}", daemon=True)
        worker = WorkerThread(context, event, thread)
        try:
            with self._lock:
                if self._refusal:
                    worker.close()
                    raise Closed(self._refusal)
                taken = {each.number for each in self._running}
                worker.number = next(each for each in itertools.count() if each not in taken)
                self._running.append(worker)
                worker.lease = engine.lease_of(context)
                if not engine.replicated and (self._keeper is None or not self._keeper.is_alive()):
                    self._start_keeper()
            thread.start()
        except BaseException:
            self.stop([worker])
            raise
        return worker

    def stop(self, workers: list[WorkerThread]) -> None:
        with self._lock:
            for worker in workers:
                if worker in self._running:  # Otherwise its eventfd may be somebody else's.
                    if worker.is_started:
                        worker.tell_to_stop()
                    else:
                        self._forget(worker)
            started = [worker for worker in workers if worker.is_started]
        if self._patience is not None:
            self._hurry(started, time.monotonic() + self._patience)
        for worker in started:
            worker.thread.join()
        with self._lock:
            for worker in started:
                if worker in self._running:
                    used = self._used_s.get(worker.number, 0.0)
                    self._used_s[worker.number] = used + worker.cpu_seconds
                    self._forget(worker)
            if not self._running and self._keeper is not None:
                self._stop_keeper()

    def _forget(self, worker: WorkerThread) -> None:
        """Its thread has ended, or has not begun: should it do so yet, it ends at once."""
        self._running.remove(worker)
        worker.close()

    @staticmethod
    def _hurry(workers: list[WorkerThread], due: float) -> None:
        """Wait for workers that were told to stop; whatever runs after `due` has to give way."""
        from mako.engine.watching import give_way

        for worker in workers:
            worker.thread.join(max(due - time.monotonic(), 0.0))
        while late := [worker for worker in workers if worker.thread.is_alive()]:
            for worker in late:
                give_way(worker.context, 0)
            late[0].thread.join(_NOTICE_SECONDS)

    def stop_all(self) -> None:
        """Stop them all; none starts again."""
        with self._lock:
            self._refusal = "the database is closed; open it again"
        self.stop(self.running)

    def leave(self) -> None:
        self._lock = threading.Lock()
        self._refusal = LEFT
        running, self._running, self._keeper = self._running, [], None
        for worker in running:
            worker.leave()

    def _start_keeper(self) -> None:
        from mako.engine import layout
        from mako.engine.keeper import keep

        engine = self._engine
        stop_word = engine.base + layout.KEEPER
        engine.set_word(stop_word, 0)
        before = engine.kept, engine.logging
        gate = threading.Lock()

        def life() -> None:
            with gate:
                wanted = self._keeper is keeper
            if wanted:  # Otherwise who started it was interrupted: nobody would wait for it.
                keep(engine.base, stop_word, KEEPER_INTERVAL_US)

        keeper = threading.Thread(target=life, name="mako-keeper", daemon=True)
        try:
            engine.kept = True
            engine.logging = True
            with gate:
                keeper.start()
                self._keeper = keeper
        except BaseException:
            engine.kept, engine.logging = before
            raise

    def _stop_keeper(self) -> None:
        from mako.engine import layout
        from mako.engine.closing import set_word

        engine = self._engine
        assert self._keeper is not None
        set_word(engine.base + layout.KEEPER, 1)
        self._keeper.join()
        engine.logging = engine.recorder is not None
        engine.kept = False
        engine.settle()
        self._keeper = None  # At last: after an interrupt the next `stop` does it all again.


def _watch(
    held: weakref.ref[Engine],
    over: threading.Event,
    limit: float,
    doom_late: Callable[[Engine, float, dict[int, tuple[int, float]]], None],
    threads: weakref.ref[_Threads],
) -> None:
    """Doom what runs for longer than `limit` seconds, and tell workers the time, until the engine
    is over or forgotten."""
    seen: dict[int, tuple[int, float]] = {}
    while not over.wait(min(limit / _WATCHES_PER_LIMIT, 0.5)):
        engine = held()
        pin = None if engine is None else engine.pin()
        if engine is None or pin is None:
            return
        try:
            if (running := threads()) is not None:
                running.tell_time()
                del running
            doom_late(engine, limit, seen)
        finally:
            engine.unpin(pin)
        del engine, pin


def _doom_late(
    watch: Callable[[int], int],
    doom: Callable[[int, int], object],
    engine: Engine,
    limit: float,
    seen: dict[int, tuple[int, float]],
) -> None:
    """Doom what has run for longer than `limit` seconds since it was `seen` first."""
    layout = engine.layout
    now = time.monotonic()
    for number in range(engine.context_count):
        context = engine.context(number)
        transaction = watch(context)
        if transaction == 0:
            seen.pop(context, None)
            continue
        known, since = seen.get(context, (0, 0.0))
        if known != transaction:
            seen[context] = (transaction, now)
            continue
        at_snapshot = engine.word(context + layout.C_MODE) != 0
        if now - since > limit * (SNAPSHOT_FACTOR if at_snapshot else 1):
            doom(context, transaction)
