"""A leader that stops its workers does not wait for what they run."""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine.engine import Engine
from mako.engine.layout import C_PROGRESS
from mako.engine.watching import give_way
from mako.ids import Outcome, Status
from mako.server.backend import LoneBackend
from mako.server.deploy import Deployed
from mako.server.drive import Drive
from mako.server.workers import Crew
from mako.wire.frame import FrameReader
from mako.wire.requests import ClientKind, pack_procedure, read_results
from tests.client import procedures as p
from tests.engine.running import until

OK = int(Outcome.COMMITTED)
#: Seconds after which the watchdog ends what did not give way. Far more than a test takes that
#: waits for a processor between two steps: what is ended is not run again.
LIMIT = 60.0


@mako.procedure
def wait_for(tx: Any, key: int) -> Any:
    """The value of a counter; until it is there, it looks for it."""
    found, row = tx.find(p.COUNTER, (key,))
    while not found:
        found, row = tx.find(p.COUNTER, (key,))
    return row.value


class Server:
    """A partition whose leader has no patience, and a connection to it."""

    def __init__(self) -> None:
        self.engine = Engine(32 << 20, contexts=8)
        give_way(self.engine.context(0), 0)  # Compiled before the watchdog counts.
        self.crew = Crew(self.engine, LIMIT, 0.0)
        self.backend = LoneBackend(self.crew, {wait_for.name: Deployed(0, wait_for)})
        self._frames: list[bytes] = []
        self._reader = FrameReader(1 << 20)
        number = self.backend.serving.open(self._frames.append)
        assert number is not None
        self._number = number

    def post(self, number: int, key: int) -> None:
        call = pack_procedure(0, number, 0, [key])
        self.backend.serving.post(self._number, 1, memoryview(call))

    def call(self, number: int, key: int) -> None:
        """Post a call, and have the worker begin it."""
        context = self.backend.serving._workers[0].context
        before = self.engine.word(context + C_PROGRESS)
        self.post(number, key)
        until(lambda: self.engine.word(context + C_PROGRESS) > before)

    def answers(self) -> list[tuple[int, int, int]]:
        """Number, status and value of those that there are."""
        self.backend.serving.collect()
        data = b"".join(self._frames)
        self._frames.clear()
        return [
            (number, status, value)
            for kind, _, body in self._reader.feed(data)
            if kind == ClientKind.RESULT
            for number, status, _, _, value, *_ in read_results(bytes(body))
        ]

    def answer(self) -> tuple[int, int, int]:
        """The next one, as soon as it is there."""
        found: list[tuple[int, int, int]] = []

        def is_there() -> bool:
            found.extend(self.answers())
            return bool(found)

        until(is_there)
        (one,) = found
        return one

    def close(self) -> None:
        self.backend.close()
        self.crew.close()
        self.engine.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_what_runs_when_a_leader_pauses_is_run_again(server: Server) -> None:
    server.call(1, 5)
    server.backend.serving.pause()
    assert server.answers() == []
    server.engine.run(p.add, [5, 7])
    server.backend.serving.resume()
    assert server.answer() == (1, OK, 7)


def test_what_runs_when_a_leader_rests_was_not_executed(server: Server) -> None:
    server.call(1, 5)
    server.post(2, 6)
    server.backend.serving.stop(Status.NOT_LEADER)
    assert server.answers() == [(1, int(Status.NOT_LEADER), 0), (2, int(Status.NOT_LEADER), 0)]


@pytest.mark.parametrize(
    "workload", [p.ENDLESS_WORKLOAD, p.ENDLESS_GENERATOR], ids=lambda workload: workload.name
)
def test_a_drive_that_pauses_has_not_failed(server: Server, workload: mako.Workload) -> None:
    server.engine.create_table(p.COUNTER)
    server.engine.run(p.add, [1, 5])
    states = [{"left": 3}]
    with Drive(server.crew, workload, workers=1, states=states, seed=1, rate=0) as drive:
        if workload is p.ENDLESS_WORKLOAD:
            until(lambda: drive.sample().kinds[0].committed == 3)
        for _ in range(2):
            drive.pause()
            drive.resume()
    assert drive.sample().stopped == ""
