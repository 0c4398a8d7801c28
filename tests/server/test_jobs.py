"""What a client asks for that takes long, while it goes away, and while the log is written."""

import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from mako.server import hub
from mako.server.drive import Drive
from mako.server.driving import Drives, Preparation
from mako.server.hub import Hub
from mako.server.turns import Turns
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import ClientKind, Operation, frame, pack_requests
from tests.server.test_drives import COUNT, STATES, Backend, backend
from tests.server.test_turns import Filling

__all__ = ["backend"]


class Compiling:
    """Compilers that have done when the test says so."""

    def __init__(self) -> None:
        self.done = threading.Event()
        #: Those at work so far, and drives that have begun.
        self.begun = 0
        self.made = 0
        self._news = trio.Event()

    def compile(self) -> None:
        trio.from_thread.run_sync(self._begin)
        assert self.done.wait(60)

    def _begin(self) -> None:
        self.begun += 1
        self._news.set()

    async def until(self, count: int) -> None:
        """Until so many are at work."""
        while self.begun < count:
            self._news = trio.Event()
            await self._news.wait()


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiling]:
    made = Compiling()
    prepare = Drives.prepare

    def prepare_slowly(
        self: Drives, name: str, states: list[bytes], seed: int, rate: float
    ) -> Preparation:
        prepared = prepare(self, name, states, seed, rate)

        def make() -> Drive:
            made.made += 1
            return prepared.make()

        return Preparation(made.compile, make)

    monkeypatch.setattr(Drives, "prepare", prepare_slowly)
    yield made
    made.done.set()


def asking_for(drives: int) -> bytes:
    """What a client sends that wants so many drives."""
    hello = b"".join(hello_parts(Hello(0, Role.CLIENT, PROCESS_NONE, "t", 1, "t")))
    request = int(Operation.DRIVE), COUNT.name, STATES, 1, 0.0
    asked = [[number, *request] for number in range(1, drives + 1)]
    return hello + frame(ClientKind.REQUEST, pack_requests(asked))


async def test_a_client_that_goes_while_its_drive_is_compiled_is_gone_at_once_and_nothing_begins(
    backend: Backend, compiling: Compiling
) -> None:
    served = Hub(backend)
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.serve, server)
        try:
            await client.send_all(asking_for(1))
            await compiling.until(1)
            assert len(served.connections) == 1
            await client.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            assert len(served.connections) == 0, "though its compiler is at work"
        finally:
            compiling.done.set()
    assert compiling.made == 0
    assert not backend.drives.active


async def test_the_log_does_not_wait_for_what_clients_ask_for(
    backend: Backend, compiling: Compiling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is one of trio's, of which there is one left here."""
    monkeypatch.setattr(hub, "JOBS_MAX", 2)
    threads = trio.to_thread.current_default_thread_limiter()
    threads.total_tokens = 1
    served = Hub(backend)
    log = Filling(0)
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.serve, server)
        try:
            await client.send_all(asking_for(3))
            await compiling.until(1)
            await trio.testing.wait_all_tasks_blocked()
            assert threads.borrowed_tokens == 0
            await compiling.until(2)
            turns = Turns(
                log,  # type: ignore[arg-type]
                None,  # type: ignore[arg-type]
                now_ms=lambda: 0,
                tick_seconds=3600,
                before=lambda now: now + 3600,
                after=lambda: None,
            )
            nursery.start_soon(turns.run)
            await log.ended.wait()
            assert log.done == ["begin", "write", "sync", "end"]
            await trio.testing.wait_all_tasks_blocked()
            assert compiling.begun == 2, "a third one waits for a thread of theirs"
        finally:
            compiling.done.set()
            nursery.cancel_scope.cancel()
