"""Work shared by processes that may hang or die: each has one task at a time and a time limit.

    work: deque ──task──▶ a worker ──result──▶ (task, result)
                             │ does not end in time, or dies
                             └──────────────▶ (task, Lost), and another worker takes its place

An engine whose memory was corrupted, which is what some planted bugs do, may go round in compiled
code for ever. No exception and no signal of Python ends that, so the process is ended.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
#: Processor time of a task that usually takes a second or two.
TASK_SECONDS: Final = 120.0
#: How many times as long it may take, where other programs run or the process is stopped.
PATIENCE: Final = 10


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no result: `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Done(Generic[R]):
    result: R


def _nothing() -> None:
    pass


def shared(
    call: Callable[[T], R],
    work: deque[T],
    jobs: int,
    *,
    prepare: Callable[[], None] = _nothing,
    seconds: float = TASK_SECONDS,
) -> Iterator[tuple[T, R | Lost]]:
    """Each task of `work` with its result, in any order, until there is no more.

    The caller may add to `work` between two results. `prepare` is run once in each process, and
    takes as long as it takes. A task has `seconds` of processor time, and PATIENCE times as many on
    the clock. With one job everything happens here, so that it can be debugged.
    """
    if jobs == 1:
        prepare()
        while work:
            task = work.popleft()
            yield task, call(task)
        return
    workers = [_Worker(call, prepare) for _ in range(jobs)]
    try:
        while work or any(worker.task for worker in workers):
            for worker in workers:
                if work and worker.ready and not worker.task:
                    worker.give(work.popleft())
            for place, worker in enumerate(workers):
                found = worker.look(seconds)
                if isinstance(found, Lost):
                    worker.end()
                    workers[place] = _Worker(call, prepare)
                    yield worker.task.pop(), found
                elif found is not None:
                    yield worker.task.pop(), found.result
            wait([worker.pipe for worker in workers], timeout=0.1)
    finally:
        for worker in workers:
            worker.end()


@dataclass(slots=True)
class _Worker(Generic[T, R]):
    """A process, and the task that it has."""

    call: Callable[[T], R]
    prepare: Callable[[], None]
    pipe: Connection = field(init=False)
    #: At most one.
    task: list[T] = field(init=False, default_factory=list)
    ready: bool = field(init=False, default=False)
    _process: BaseProcess = field(init=False)
    _begun: float = field(init=False, default=0.0)
    _used: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, self.call, self.prepare), daemon=True
        )
        self._process.start()
        theirs.close()

    def give(self, task: T) -> None:
        self.task.append(task)
        self._begun = time.monotonic()
        self._used = self._processor_seconds()
        with suppress(OSError):  # It is dead: `look` finds out.
            self.pipe.send(task)

    def look(self, seconds: float) -> _Done[R] | Lost | None:
        """What came of the task, if anything has. Raises what the task raised."""
        try:
            if self.pipe.poll():
                said: _Done[R] | Exception | None = self.pipe.recv()
                if isinstance(said, Exception):
                    raise said
                if said is not None:
                    return said
                self.ready = True
        except (EOFError, OSError):
            self._process.join(60.0)
            if not self.task:
                raise RuntimeError(f"a process ended, {self._process.exitcode}") from None
            return Lost(f"its process ended, {self._process.exitcode}")
        if self.task:
            if self._processor_seconds() - self._used > seconds:
                return Lost(f"it did not end in {seconds:g} s of processor time")
            if time.monotonic() - self._begun > PATIENCE * seconds:
                return Lost(f"it did not end in {PATIENCE * seconds:g} s")
        return None

    def _processor_seconds(self) -> float:
        """What the process has used so far; 0 where the system does not say."""
        pid = self._process.pid
        try:
            # The clock of another process (linux/posix-timers.h, CPUCLOCK_SCHED).
            return time.clock_gettime(~pid << 3 | 2) if pid is not None else 0.0
        except (OSError, OverflowError):
            return 0.0

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _work(pipe: Connection, call: Callable[[T], R], prepare: Callable[[], None]) -> None:
    """What a process does. It ends with whoever began it."""
    with suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            prepare()
            pipe.send(None)
            while True:
                pipe.send(_Done(call(pipe.recv())))
        except EOFError:
            pass
        except Exception as error:
            pipe.send(error)
    os._exit(0)
