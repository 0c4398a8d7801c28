"""Procedures handed to workers: `db.submit` and what it returns.

Each worker has a ring of requests and a ring of completions in the engine's memory
(`mako.engine.mailbox`). Submitters take turns at posting. Completions are collected by
whoever waits, asks, or finds every request ring full; nobody does it in the background. A
full ring of requests makes the submitter wait, which is the back-pressure.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mako.errors import Aborted, Closed, ConfigError, OutOfMemory
from mako.ids import Outcome
from mako.procedure import Procedure
from mako.shown import shown

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.engine.lending import Lease
    from mako.server.embedded import EmbeddedReplica
    from mako.server.workers import Crew, WorkerThread

#: Longest wait inside compiled code; then Python looks for signals and for the end of it all.
_SLICE_US: Final = 10_000
#: size, id, outcome, timestamp, mask, result, detail
_COMPLETION: Final = struct.Struct("<7q")


class Submitted:
    """A transaction that a worker runs, or has run. Threads may share it."""

    __slots__ = ("_ended", "_engine", "_error", "_mailbox", "_result", "name", "timestamp")

    def __init__(self, engine: Engine, mailbox: _Mailbox, name: str) -> None:
        self.name: Final = name
        #: Timestamp of its commit; 0 as long as it is not known to have committed.
        self.timestamp = 0
        self._engine = engine
        self._mailbox = mailbox
        self._ended = False
        self._result = 0
        self._error: Exception | None = None

    def done(self) -> bool:
        """Whether it has ended, one way or the other. Never waits."""
        if not self._ended:
            self._mailbox.collect()
        return self._ended

    def result(self, timeout: float | None = None) -> int:
        """What the procedure returned, once it is committed; raises what `db.run` would.

        It is visible to others then, but perhaps not durable yet: see `wait_durable`.
        TimeoutError after `timeout` seconds; it goes on all the same.
        """
        deadline = _deadline(timeout)
        while not self.done():
            self._mailbox.wait(_slice_us(deadline, f"{self.name} has not ended; wait longer"))
        if self._error is not None:
            raise self._error
        return self._result

    def wait_durable(self, timeout: float | None = None) -> int:
        """Wait until the watermark has passed it, too; its result.

        Of one that failed, until what made it fail is durable.
        """
        deadline = _deadline(timeout)
        late = f"{self.name} is not durable yet; wait longer"
        failure = None
        value = 0
        try:
            value = self.result(timeout)
        except Aborted as error:
            failure = error
        left = None if deadline is None else deadline - time.monotonic()
        self._mailbox.wait_durable(None if failure else self.timestamp, left, late)
        if failure is not None:
            raise failure
        return value

    def _end(self, outcome: int, timestamp: int, result: int, detail: int) -> None:
        if self._ended:
            return
        if outcome == Outcome.COMMITTED:
            self.timestamp = timestamp
            self._result = result
        else:
            self._error = self._engine.failure_of(Outcome(outcome), detail, self.name)
        self._ended = True

    def _fail(self, error: Exception) -> None:
        if not self._ended:
            self._error = error
            self._ended = True


class Requests:
    """The workers of a database that serve requests."""

    def __init__(self, crew: Crew, replica: EmbeddedReplica | None = None) -> None:
        self._crew = crew
        self._engine = crew.engine
        self._replica = replica
        self._lock = threading.Lock()
        self._mailboxes: tuple[_Mailbox, ...] = ()
        # About to be stopped.
        self._leaving: tuple[_Mailbox, ...] = ()
        # What whoever waits for a worker gets, once none will run again.
        self._failed: Callable[[], Exception] | None = None
        self._turn = 0
        self._closed = False

    @property
    def count(self) -> int:
        return len(self._mailboxes)

    def start(self, workers: int) -> None:
        """Bring the number of workers to `workers`."""
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise ConfigError(f"{shown(workers)} workers; give a number from 1")
        with self._lock:
            if self._closed:
                raise Closed("the database is closed; open it again")
            have = len(self._mailboxes)
            if workers < have:
                raise ConfigError(f"{have} workers run already; call stop_workers() first")
            made: tuple[_Mailbox, ...] = ()
            try:
                for _ in range(workers - have):
                    mailbox = _Mailbox(self._crew, self._replica)
                    made += (mailbox,)  # With a worker or not: who is interrupted cannot tell.
                    mailbox.launch(self._crew)
                self._mailboxes += made
            except BaseException:
                self._mailboxes = self._mailboxes[:have]
                _stop(self._crew, made)
                raise
        if self._replica is not None:
            self._replica.stir()  # From now on it looks into the rings though nobody waits.

    def stop(self, *, drain: bool) -> None:
        """Stop the workers; with `drain`, after all that was submitted has ended."""
        with self._lock:
            # Those too that are left from a stop which was interrupted.
            left = tuple(mailbox for mailbox in self._leaving if not mailbox.given_back)
            mailboxes = self._leaving = left + self._mailboxes
            self._mailboxes = ()
            for mailbox in mailboxes:
                mailbox.shut()
            for mailbox in mailboxes:
                if drain and self._crew.workers_in([mailbox.context]):
                    mailbox.drain()
            _stop(self._crew, mailboxes)
            self._leaving = ()

    def close(self) -> None:
        """Stop the workers. None starts again, not even for who has asked for one already."""
        with self._lock:
            self._closed = True
        self.stop(drain=False)

    def fail(self, error: Callable[[], Exception]) -> None:
        """The workers have stopped, and none will run again: whoever waits for one gets `error`.

        Without the lock: who holds it may be waiting for a worker.
        """
        self._failed = error  # Before: no ring that is shut will ever have room.
        for mailbox in self._mailboxes + self._leaving:
            mailbox.shut()
            mailbox.fail_rest(error)

    def leave(self, error: Callable[[], Exception]) -> None:
        """See `mako.forks`: whoever waits for a worker gets `error`."""
        self._lock = threading.Lock()
        self._failed = error
        mailboxes = self._mailboxes + self._leaving
        self._mailboxes = self._leaving = ()
        for mailbox in mailboxes:
            mailbox.leave(error)

    def submit(
        self, procedure: Procedure, arguments: Sequence[int], timeout: float | None
    ) -> Submitted:
        """Post a request to a worker with room; wait for one if there is none."""
        entry = self._engine.entry(procedure)
        words = self._engine.argument_words(procedure, arguments)
        deadline = _deadline(timeout)
        if not self._mailboxes:
            self.start(1)
        while True:
            mailboxes = self._mailboxes
            if not mailboxes:
                raise Closed("the workers were stopped meanwhile; submit it again")
            # Losing a race for the turn only makes it less even.
            self._turn = turn = self._turn + 1
            for i in range(len(mailboxes)):
                mailbox = mailboxes[(turn + i) % len(mailboxes)]
                submitted = mailbox.post(entry.address, words, procedure.name)
                if submitted is not None:
                    return submitted
            if self._failed is not None:
                raise self._failed()
            for mailbox in mailboxes:
                mailbox.collect()
            limit = _slice_us(deadline, "all request rings are full; wait longer or submit less")
            mailboxes[turn % len(mailboxes)].wait(limit)


class _Mailbox:
    """One worker, its rings, and what it has been given and not answered yet."""

    def __init__(self, crew: Crew, replica: EmbeddedReplica | None) -> None:
        from mako.engine import layout, mailbox

        self._calls = mailbox
        self._replica = replica
        self._engine = engine = crew.engine
        lease = engine.take()
        self.context = lease.context
        self._lease: Lease | None = lease
        self._requests = engine.allocate(self.context, layout.REQUEST_RING_BYTES)
        self._completions = engine.allocate(self.context, layout.COMPLETION_RING_BYTES)
        if self._requests == 0 or self._completions == 0:
            self.give_back()
            raise OutOfMemory("no memory for the rings of a worker; open with more memory")
        mailbox.open_rings(self.context, self._requests, self._completions, -1)
        self._posting = threading.Lock()
        self._collecting = threading.Lock()
        self._open = True
        # By the bytes that were posted before it, which are also its number.
        self._waiting: dict[int, Submitted] = {}
        self._filled = self.context + layout.K_REQUEST_FILLED
        self._head = self.context + layout.K_COMPLETION_HEAD
        self._tail = self.context + layout.K_COMPLETION_TAIL
        self.worker: WorkerThread

    def launch(self, crew: Crew) -> None:
        from mako.engine.completing import SERVE

        self.worker = crew.launch(self.context, SERVE)

    def post(self, entry: int, words: bytes, name: str) -> Submitted | None:
        """Hand a request to the worker; None if its ring is full or it is about to stop."""
        with self._posting:
            size = self._calls.REQUEST_ARGUMENTS + len(words)
            slot = self._calls.request_slot(self.context, size) if self._open else 0
            if slot == 0:
                return None
            self._engine.write(slot + self._calls.REQUEST_ARGUMENTS, words)
            submitted = Submitted(self._engine, self, name)
            # Whoever is interrupted before `post` has posted nothing: the next request has the
            # same slot and the same number.
            number = self._engine.word(self._filled)
            self._waiting[number] = submitted
            if self._calls.post(self.context, slot, number, entry):
                self.worker.wake()  # If this is interrupted, the next one does it, or `drain`.
            return submitted

    def collect(self) -> None:
        """Take every completion that is there."""
        with self._collecting:
            engine = self._engine
            while self._waiting:
                slot = self._calls.completion_slot(self.context)
                if slot == 0:
                    return
                _, number, outcome, timestamp, _, result, detail = _COMPLETION.unpack(
                    engine.read(slot, _COMPLETION.size)
                )
                # Whoever is interrupted, or meets an error, in here leaves it to the next one,
                # who finds the completion again and does what is left to be done.
                submitted = self._waiting.get(number)
                if submitted is not None:
                    submitted._end(outcome, timestamp, result, detail)
                    del self._waiting[number]
                self._calls.collected(self.context, slot)

    def wait(self, limit_us: int) -> None:
        """Wait for a completion that nobody has collected yet."""
        pin = self._engine.pin()
        if pin is not None:
            try:
                collected = self._engine.word(self._tail)
                self._calls.wait_word_above(self._head, collected, limit_us)
            finally:
                self._engine.unpin(pin)

    def shut(self) -> None:
        """Accept nothing more."""
        with self._posting:
            if self._open:
                # That of a `post` that was interrupted before there was a request.
                self._waiting.pop(self._engine.word(self._filled), None)
                self._open = False

    def drain(self) -> None:
        """Wait until everything that was posted has ended."""
        self.worker.wake()  # Who posted it may have been interrupted before that.
        while self._waiting:
            self.collect()
            if self._waiting:
                self.wait(_SLICE_US)

    def wait_durable(self, timestamp: int | None, timeout: float | None, late: str) -> None:
        """Wait until what ran here and has `timestamp` (None: it failed) is durable, and what it
        read; TimeoutError with the message `late`."""
        if self._replica is None:
            if timestamp is None:
                return  # In memory everything is durable at once.
            wait_closed(self._engine, timestamp, timeout, late)
        else:
            self._replica.wait_for_call(timestamp, timeout, late)

    def fail_rest(self, error: Callable[[], Exception] | None = None) -> None:
        """The worker has stopped: what it did not get to never runs."""
        self.collect()
        with self._collecting:
            for submitted in self._waiting.values():
                why = Closed(f"{submitted.name} was not run: the workers were stopped")
                submitted._fail(why if error is None else error())
            self._waiting.clear()  # From now on nobody looks into the rings.

    def leave(self, error: Callable[[], Exception]) -> None:
        self._posting, self._collecting = threading.Lock(), threading.Lock()
        self._open = False
        for submitted in self._waiting.values():
            submitted._fail(error())
        self._waiting.clear()

    @property
    def given_back(self) -> bool:
        return self._lease is None

    def give_back(self) -> None:
        """Its worker has ended, or did not begin. Twice is harmless."""
        from mako.engine import layout
        from mako.engine.memory import release, size_class

        if self._lease is None:
            return
        requests_class = size_class(layout.REQUEST_RING_BYTES)
        completions_class = size_class(layout.COMPLETION_RING_BYTES)
        # See `Drive._release`: each is released once, wherever this is interrupted.
        place, self._requests = self._requests, 0
        if place != 0:
            release(self.context, layout.POOL_VALUES, place, requests_class)
        place, self._completions = self._completions, 0
        if place != 0:
            release(self.context, layout.POOL_VALUES, place, completions_class)
        lease, self._lease = self._lease, None
        if lease is not None:
            self._engine.give(lease)


def _stop(crew: Crew, mailboxes: Sequence[_Mailbox]) -> None:
    # No worker stops between a commit and its completion: it has room for it first.
    for mailbox in mailboxes:
        mailbox.shut()
        mailbox.collect()
    crew.stop(crew.workers_in([mailbox.context for mailbox in mailboxes]))
    for mailbox in mailboxes:
        mailbox.fail_rest()
        mailbox.give_back()


def wait_closed(engine: Engine, timestamp: int, timeout: float | None, late: str) -> None:
    """Wait until everything up to `timestamp` is closed, which in memory is as good as durable;
    TimeoutError with the message `late`."""
    from mako.engine.mailbox import wait_stable

    deadline = _deadline(timeout)
    limit = 0
    while True:
        pin = engine.pin()
        if pin is None:
            raise Closed("the database was closed before this was durable; it is gone")
        try:
            if wait_stable(engine.base, timestamp, limit):
                return
        finally:
            engine.unpin(pin)
        limit = _slice_us(deadline, late)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _slice_us(deadline: float | None, late: str) -> int:
    """Microseconds to wait at once; TimeoutError with the message `late` at the deadline."""
    if deadline is None:
        return _SLICE_US
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(late)
    return min(_SLICE_US, int(1e6 * left) + 1)
