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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mako.ids import Outcome

if TYPE_CHECKING:
    from mako.engine.engine import Engine

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
    _waking: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: bool = False

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
        with self._waking:
            self._closed = True
            os.close(self.event)

    def tell_to_stop(self) -> None:
        from mako.engine import layout
        from mako.engine.closing import set_word
        from mako.engine.worker import STOP

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
        with self._lock:
            if self._watchdog is None:
                watchdog = threading.Thread(
                    target=_watch,
                    args=(
                        weakref.ref(self.engine),
                        self.engine.over,
                        self.procedure_timeout,
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

    def stop(self, workers: Iterable[WorkerThread]) -> None:
        """Stop workers and wait for them. They end what they run, which the watchdog bounds; or,
        after the patience, it ends without an effect: a request stays in its ring, and a workload
        goes on with another transaction."""
        self._threads.stop(list(workers))

    def cpu_seconds(self) -> dict[int, float]:
        """Processor time that workers have used so far, by their numbers."""
        return self._threads.cpu_seconds()

    def close(self) -> None:
        """Stop everything but the watchdog, which ends with the engine's memory."""
        self._stopper()


class _Threads:
    """The workers that run, and the keeper, which does as long as there are any."""

    def __init__(self, engine: Engine, patience: float | None) -> None:
        self._engine = engine
        self._patience = patience
        self._lock = threading.Lock()
        self._running: list[WorkerThread] = []
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
        from mako.engine.worker import IDLE, work

        engine = self._engine

        def life() -> None:
            assert engine.base != 0, "the memory stays as long as a context is borrowed"
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
        with self._lock:
            taken = {each.number for each in self._running}
            worker.number = next(each for each in itertools.count() if each not in taken)
            self._running.append(worker)
        try:
            with self._lock:
                if self._keeper is None and not engine.replicated:
                    self._start_keeper()
            thread.start()
        except BaseException:
            self._forget(worker)
            raise
        return worker

    def _forget(self, worker: WorkerThread) -> None:
        """Its thread did not begin: nobody has to stop it, and nobody could wait for it."""
        with self._lock:
            if worker in self._running:
                self._running.remove(worker)
                worker.close()
            if not self._running and self._keeper is not None:
                self._stop_keeper()

    def stop(self, workers: list[WorkerThread]) -> None:
        with self._lock:
            for worker in workers:
                if worker in self._running:  # Otherwise its eventfd may be somebody else's.
                    worker.tell_to_stop()
        if self._patience is not None:
            self._hurry(workers, time.monotonic() + self._patience)
        for worker in workers:
            worker.thread.join()
        with self._lock:
            for worker in workers:
                if worker in self._running:
                    self._running.remove(worker)
                    used = self._used_s.get(worker.number, 0.0)
                    self._used_s[worker.number] = used + worker.cpu_seconds
                    worker.close()
            if not self._running and self._keeper is not None:
                self._stop_keeper()

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
        self.stop(list(self._running))

    def _start_keeper(self) -> None:
        from mako.engine import layout
        from mako.engine.keeper import keep

        engine = self._engine
        stop_word = engine.base + layout.KEEPER
        engine.set_word(stop_word, 0)
        before = engine.kept, engine.logging
        engine.kept = True
        engine.logging = True
        keeper = threading.Thread(
            target=keep,
            args=(engine.base, stop_word, KEEPER_INTERVAL_US),
            name="mako-keeper",
            daemon=True,
        )
        try:
            keeper.start()
        except BaseException:
            engine.kept, engine.logging = before
            raise
        self._keeper = keeper

    def _stop_keeper(self) -> None:
        from mako.engine import layout
        from mako.engine.closing import set_word

        engine = self._engine
        assert self._keeper is not None
        set_word(engine.base + layout.KEEPER, 1)
        self._keeper.join()
        self._keeper = None
        engine.logging = engine.recorder is not None
        engine.kept = False
        engine.settle()


def _watch(
    held: weakref.ref[Engine],
    over: threading.Event,
    limit: float,
    threads: weakref.ref[_Threads],
) -> None:
    """Doom what runs for longer than `limit` seconds, and tell workers the time, until the engine
    is over or forgotten."""
    from mako.engine import layout
    from mako.engine.worker import doom, watch

    seen: dict[int, tuple[int, float]] = {}
    while not over.wait(min(limit / _WATCHES_PER_LIMIT, 0.5)):
        engine = held()
        if engine is None or not engine.pin():
            return
        if (running := threads()) is not None:
            running.tell_time()
            del running
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
        engine.unpin()
        del engine
