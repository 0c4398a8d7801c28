"""The threads of an engine: the processor time that they have used."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mako.engine import layout
from mako.engine.engine import Engine
from mako.engine.worker import DRAIN
from mako.server.workers import Crew, WorkerThread, _Threads


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
        assert before <= found <= time.thread_time()
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
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith(refused):
            raise RuntimeError("can't start new thread")
        start(self)

    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 5.0)
    try:
        before = len(list(Path("/proc/self/fd").iterdir())), engine.kept, engine.logging
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                crew.launch(engine.context(0), DRAIN)
        assert not crew.works()
        after = len(list(Path("/proc/self/fd").iterdir())), engine.kept, engine.logging
        assert after == before
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
        monkeypatch.setattr(time, "time_ns", lambda: time.monotonic_ns() + 7_000)
        threads.tell_time()
        assert 0 <= engine.word(context + layout.K_OFFSET) <= 7_000
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
    event = os.eventfd(0)
    worker = WorkerThread(0, event, threading.Thread())
    worker.wake()
    assert os.eventfd_read(event) == 1
    worker.close()
    other = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        assert other == event, "the lowest number that is free"
        worker.wake()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
    finally:
        os.close(other)
