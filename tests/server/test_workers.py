"""The threads of an engine: the processor time that they have used."""

import fcntl
import os
import threading
import time
from types import SimpleNamespace
from typing import cast

import pytest

from mako.engine import layout
from mako.engine.completing import DRAIN
from mako.engine.engine import Engine
from mako.server.workers import Crew, WorkerThread, _Threads

#: A number of a file that others do not come to: they are given the lowest one.
HIGH = 700


def of_this_thread() -> WorkerThread:
    return WorkerThread(0, 0, threading.current_thread())


def test_the_time_is_that_of_the_thread_alone() -> None:
    busy = threading.Event()

    def spin() -> None:
        while not busy.wait(0):
            sum(range(100))

    other = threading.Thread(target=spin)
    other.start()
    try:
        before = time.thread_time()
        found = of_this_thread().cpu_seconds
        # Python makes seconds of the two clocks in different ways, which need not round alike.
        assert before - 1e-9 <= found <= time.thread_time() + 1e-9
    finally:
        busy.set()
        other.join()


def test_a_thread_that_has_ended_is_no_error_and_its_last_figure_stays() -> None:
    thread = SimpleNamespace(native_id=1 << 24)  # Linux numbers none so high.
    ended = WorkerThread(0, 0, cast(threading.Thread, thread))
    assert ended.cpu_seconds == 0
    ended.used_s = 1.5
    assert ended.cpu_seconds == 1.5


def test_who_has_not_begun_has_used_nothing() -> None:
    assert WorkerThread(0, 0, threading.Thread()).cpu_seconds == 0


@pytest.mark.parametrize("refused", ["mako-watchdog", "mako-keeper", "mako-worker"])
def test_a_thread_that_the_system_refuses_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    start, this = threading.Thread.start, threading.get_ident()
    eventfd, close = os.eventfd, os.close
    events: set[int] = set()

    def open_event(*arguments: int) -> int:
        made = eventfd(*arguments)
        if threading.get_ident() == this:  # What others open, or close, is their affair.
            events.add(made)
        return made

    def close_file(number: int) -> None:
        if threading.get_ident() == this:
            events.discard(number)
        close(number)

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith(refused):
            raise RuntimeError("can't start new thread")
        start(self)

    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 5.0)
    try:
        before = engine.kept, engine.logging
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            patch.setattr(os, "eventfd", open_event)
            patch.setattr(os, "close", close_file)
            with pytest.raises(RuntimeError, match="new thread"):
                crew.launch(engine.context(0), DRAIN)
        assert not crew.works()
        assert not events
        assert (engine.kept, engine.logging) == before
        assert crew._threads._keeper is None, "none is believed to run"
        assert (crew._watchdog is None) == (refused == "mako-watchdog")
    finally:
        crew.close()
        engine.close()


def test_workers_are_told_when_the_clock_of_the_wall_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or those that began before would be ahead of it for ever, and hold up what is told."""
    engine = Engine(16 << 20, contexts=4)
    threads = Crew(engine, 5.0)._threads
    context = engine.context(0)
    threads._running.append(WorkerThread(context, 0, threading.Thread()))
    try:
        # Clocks that stand still: between two readings any time may pass.
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic_ns", lambda: 5_000_000)
            patch.setattr(time, "time_ns", lambda: 5_007_000)
            threads.tell_time()
        assert engine.word(context + layout.K_OFFSET) == 7_000
    finally:
        threads._running.clear()
        engine.close()


def test_the_watchdog_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(_Threads, "tell_time", lambda self: told.set())
    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 0.2)
    try:
        crew.watch()
        assert told.wait(60)
    finally:
        crew.close()
        engine.close()


def test_who_has_ended_is_not_woken_through_the_number_of_another_file() -> None:
    made = os.eventfd(0)
    # A high number, which no other thread of this process is given in between.
    event = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(made)
    worker = WorkerThread(0, event, threading.Thread())
    worker.wake()
    assert os.eventfd_read(event) == 1
    worker.close()
    made = os.eventfd(0, os.EFD_NONBLOCK)
    other = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(made)
    try:
        assert other == event, "the lowest number that is free"
        worker.wake()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
    finally:
        os.close(other)
