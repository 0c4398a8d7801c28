"""A worker that serves, with the rings between it and the thread of the event loop.

    requests ──▶ worker ──▶ completions: [answered][answered][ waits ][ waits ] ▷ free
                                         tail ─────▶ seen ──────────▶ head

What is between tail and head is not answered, or marked as such because it was set aside
(`mako.server.held`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mako.engine.layout import (
    D_MASK,
    D_ORIGIN,
    D_OUTCOME,
    D_TIMESTAMP,
    FLAG_ANSWERED,
    K_REQUEST_HEAD,
    RING_SKIP,
)
from mako.errors import OutOfMemory
from mako.ids import Status
from mako.server.gated import EVERYBODY, Passed
from mako.server.held import Result, places_in, result_of, results_in
from mako.server.unacknowledged import Copied

if TYPE_CHECKING:
    from mako.engine.pumped import Pumped
    from mako.server.serving import Crew


class Rings:
    """One worker and its rings."""

    def __init__(self, crew: Crew, listener: int, number: int, pumped: Pumped | None) -> None:
        from mako.engine import layout, mailbox
        from mako.engine.completing import SERVE

        self._calls = mailbox
        self._crew = crew
        self._engine = engine = crew.engine
        self.context = engine.take_context()
        self._requests = engine.allocate(self.context, layout.REQUEST_RING_BYTES)
        self._completions = engine.allocate(self.context, layout.COMPLETION_RING_BYTES)
        self._sizes = (layout.REQUEST_RING_BYTES, layout.COMPLETION_RING_BYTES)
        if self._requests == 0 or self._completions == 0:
            self.give_back(None)
            raise OutOfMemory("no memory for the rings of a worker; give the database more memory")
        mailbox.open_rings(self.context, self._requests, self._completions, listener)
        self._head = self.context + layout.K_COMPLETION_HEAD
        self._seen = self.context + layout.K_COMPLETION_SEEN
        self._tail = self.context + layout.K_COMPLETION_TAIL
        self._lent = False
        try:
            if pumped is not None:
                pumped.attach(self.context, number)
            self.thread = crew.launch(self.context, SERVE)
        except BaseException:
            self.give_back(pumped)
            raise

    def post(self, entry: int, words: bytes) -> bool:
        """Post a request of the server's own; False if the ring is full."""
        slot = self._calls.request_slot(self.context, self._calls.REQUEST_ARGUMENTS + len(words))
        if slot == 0:
            return False
        self._engine.write(slot + self._calls.REQUEST_ARGUMENTS, words)
        if self._calls.post(self.context, slot, 0, entry):
            os.eventfd_write(self.thread.event, 1)
        return True

    def completed(self) -> list[Result]:
        """Of a worker that has stopped: what was not collected."""
        tail, head = self._engine.word(self._tail), self._engine.word(self._head)
        if tail == head:
            return []
        return list(results_in(self._engine.read(self._completions, self._sizes[1]), tail, head))

    def set_aside(self, passed: Passed) -> list[Result]:
        """Those of the results that were seen that have not passed, if the first one has not:
        they count as answered from now on."""
        found: list[Result] = []
        engine = self._engine
        for place, timestamp, mask in self._seen_places():
            at = self._completions + place
            if passed(timestamp, mask & EVERYBODY):
                if not found:
                    break
                continue
            result = result_of(engine.read(at, engine.word(at)))
            if result.packed:
                found.append(result)
                engine.set_word(at + D_ORIGIN, engine.word(at + D_ORIGIN) | FLAG_ANSWERED)
        return found

    def _seen_places(self) -> Iterator[tuple[int, int, int]]:
        """As `places_in`, of those that were seen, one by one: there may be many."""
        tail, end = self._engine.word(self._tail), self.seen
        while tail < end:
            place = tail % self._sizes[1]
            size = self._engine.word(self._completions + place)
            if size == RING_SKIP:
                tail += self._sizes[1] - place
                continue
            at = self._completions + place
            yield place, self._engine.word(at + D_TIMESTAMP), self._engine.word(at + D_MASK)
            tail += size

    def copied(self) -> Copied:
        # The worker may go on: up to here everything is there, and stays until it is collected.
        tail, head = self._engine.word(self._tail), self._engine.word(self._head)
        if tail == head:
            return Copied(b"", tail, head, b"", 0)
        posted = self._engine.word(self.context + K_REQUEST_HEAD)
        return Copied(
            self._engine.read(self._completions, self._sizes[1]),
            tail,
            head,
            self._engine.read(self._requests, self._sizes[0]),
            posted,
        )

    def listen(self) -> None:
        self._calls.listen(self.context)

    @property
    def seen(self) -> int:
        """Bytes of completions that were found so far."""
        return self._engine.word(self._seen)

    @property
    def has_news(self) -> bool:
        return self._engine.word(self._head) > self.seen

    def go_on(self) -> None:
        """After its thread was stopped."""
        from mako.engine.completing import SERVE
        from mako.engine.layout import C_CONTROL

        if self._lent:
            self._engine.set_word(self.context + C_CONTROL, SERVE)
        else:
            self.thread = self._crew.launch(self.context, SERVE)

    def lend(self) -> int:
        self._crew.stop([self.thread])
        self._lent = True
        self.go_on()
        return self.context

    def take_back(self) -> None:
        if self._lent:
            from mako.engine.completing import SERVE

            self.thread = self._crew.launch(self.context, SERVE)
            self._lent = False

    def _places(self) -> Iterator[tuple[int, int, int]]:
        tail, head = self._engine.word(self._tail), self._engine.word(self._head)
        return places_in(self._engine.read(self._completions, self._sizes[1]), tail, head)

    def set_masks(self, mask: int) -> None:
        for place, _, _ in self._places():
            self._engine.set_word(self._completions + place + D_MASK, mask)

    def mark_lost(self, partition: int, final: int) -> int:
        """Have results say that they are discarded, where they depend on what a partition lost;
        how many there are. Who was answered, or set aside, or marked before, counts elsewhere."""
        count = 0
        engine, discarded = self._engine, int(Status.DISCARDED)
        for place, timestamp, mask in self._places():
            if not mask >> partition & 1 or timestamp <= final:
                continue
            at = self._completions + place
            answered = engine.word(at + D_ORIGIN) & FLAG_ANSWERED
            if not answered and engine.word(at + D_OUTCOME) != discarded:
                engine.set_word(at + D_OUTCOME, discarded)
                count += 1
        return count

    def give_back(self, pumped: Pumped | None) -> None:
        """Give back what the worker, which has stopped, had."""
        if pumped is not None:
            pumped.detach(self.context)
        for place, size in zip((self._requests, self._completions), self._sizes, strict=True):
            if place != 0:
                self._engine.release(self.context, place, size)
        self._engine.give_context(self.context)
