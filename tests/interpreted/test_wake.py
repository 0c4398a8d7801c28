"""A worker that falls asleep and a submitter, interleaved in every way that has two switches.

The submitter runs its first steps when the worker has done some of its own; then the worker
goes on until it sleeps, and the submitter ends. A step is one atomic. If the worker sleeps on
then, with a request in its ring and nobody to wake it, the request is lost.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import greenlet
import pytest

from mako.engine import completing, interpreted, layout, mailbox, worker
from mako.engine.closing import set_word
from mako.engine.engine import Engine

WORKER_STEPS = 60
SUBMITTER_STEPS = 7


@dataclass
class Race:
    """What one interleaving did."""

    served: int = 0
    slept: int = 0
    woken: bool = False
    lost: bool = False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(worker, "IDLE_SPINS", 2)
    made = Engine(16 << 20, contexts=2, ring_bytes=1 << 16)
    yield made
    interpreted.set_switch(None)
    made.close()


def race(engine: Engine, before: int, between: int, monkeypatch: pytest.MonkeyPatch) -> Race:
    """Let the worker do `before` steps, the submitter `between`, the worker all it can."""
    happened = Race()
    context = engine.context(0)
    rings = engine.context(1) + layout.C_READSET
    mailbox.open_rings(context, rings, rings + layout.REQUEST_RING_BYTES, -1)
    set_word(context + layout.C_CONTROL, completing.SERVE)
    set_word(context + layout.C_STATE, completing.IDLE)
    main = greenlet.getcurrent()
    left = {"worker": before, "submitter": between}

    def run(tx: int, arguments: int, result: int) -> int:
        happened.served += 1
        set_word(context + layout.C_CONTROL, completing.STOP)
        return 0

    entry = interpreted.register_entry(run)

    def serve() -> None:
        worker.work(context)

    def submit() -> None:
        slot = mailbox.request_slot(context, mailbox.REQUEST_ARGUMENTS)
        happened.woken = bool(mailbox.post(context, slot, 0, entry))

    def step(name: str) -> None:
        here = greenlet.getcurrent()
        who = "worker" if here is workers else "submitter" if here is submitters else ""
        if who and left[who] >= 0:
            left[who] -= 1
            if left[who] < 0:
                main.switch()

    def sleep(event: int, scratch: int) -> None:
        happened.slept += 1
        while not happened.woken:
            main.switch()
        happened.woken = False

    monkeypatch.setattr(worker, "wait_event", sleep)
    workers, submitters = greenlet.greenlet(serve), greenlet.greenlet(submit)
    interpreted.set_switch(step)
    for turn in (workers, submitters, workers, submitters, submitters, workers, workers):
        if not turn.dead:
            turn.switch()
    happened.lost = happened.served == 0
    interpreted.set_switch(None)
    return happened


def outcomes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Race]:
    return [
        race(engine, before, between, monkeypatch)
        for before in range(WORKER_STEPS)
        for between in range(SUBMITTER_STEPS)
    ]


def test_no_request_is_left_to_a_sleeper(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = outcomes(engine, monkeypatch)
    assert not [each for each in seen if each.lost]
    assert {each.slept for each in seen} == {0, 1}  # The race was run on both sides of it.


def _post_looking_first(tx: int, slot: int, number: int, entry: int) -> int:
    """`post` without M1: it reads the state before it writes the head."""
    asleep = interpreted.load_acquire(tx + layout.C_STATE) == completing.SLEEPING
    interpreted.st8(slot + layout.Q_ID, number)
    interpreted.st8(slot + layout.Q_ENTRY, entry)
    interpreted.store_seq(tx + layout.K_REQUEST_HEAD, mailbox.REQUEST_ARGUMENTS)
    return int(asleep)


def test_a_submitter_that_looks_first_loses_requests(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exploration finds the fault it is there for."""
    broken: Callable[..., Any] = _post_looking_first
    monkeypatch.setattr(mailbox, "post", broken)
    assert [each for each in outcomes(engine, monkeypatch) if each.lost]
