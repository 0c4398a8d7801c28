"""The connections of an engine that goes: each ends, and only who was greeted is told why.

A client takes a goodbye before the greeting for one that would come again (`mako.client.remote`
gives up), and this one does not: the replica is there again in a moment.
"""

from collections.abc import Iterator

import pytest

import mako
from mako.client.remote.calls import Call
from mako.engine.engine import Engine
from mako.net.limits import DEFAULT_LIMITS
from mako.server.backend import LoneBackend
from mako.server.clients import ClientConnection
from mako.server.connections import Connections
from mako.server.workers import Crew
from mako.wire.errors import WireError
from mako.wire.hello import HELLO_TIMEOUT_S
from mako.wire.requests import Operation
from tests.client.remote.scripted import Played, goodbye

REASON = "this replica was brought up by a snapshot; connect again"


@pytest.fixture
def connections() -> Iterator[Connections]:
    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 5.0)
    backend = LoneBackend(crew, {})
    yield Connections(backend)
    backend.close()
    crew.close()
    engine.close()


class Served:
    """A connection whose other end is the core of a client; every byte arrives at once."""

    def __init__(self, connections: Connections) -> None:
        self.client = Played()
        self._sent: list[bytes] = []
        #: Why it was ended.
        self.reasons: list[str] = []
        self.connection = ClientConnection(connections._backend, self._sent.append, 100.0)
        connections.add(self)
        self.client.dial()

    def exchange(self) -> None:
        """Until neither end has more to say."""
        while data := self.client.core.take(self.client.now):
            self.connection.receive(data, self.client.now)
            self.client.feed(*self._sent)
            self._sent.clear()

    def ask(self, operation: Operation) -> Call:
        client = self.client
        return client.asking.request(operation, deadline=client.now + 10)

    def finish(self, reason: str) -> None:
        """As `mako.server.hub` does it: the stream ends later, and only then it is removed."""
        self.reasons.append(reason)
        trouble = "the connection has ended"
        if reason:
            with pytest.raises(WireError) as said:
                self.client.feed(goodbye(reason))
            trouble = str(said.value)
        self.client.core.lost(self.client.now, trouble)

    def begin_jobs(self) -> None:
        raise AssertionError("nobody asks for one")

    def unblocked(self) -> None:
        raise AssertionError("it was not blocked")


def test_who_was_greeted_is_told_why_and_goes_on(connections: Connections) -> None:
    served = Served(connections)
    begun = served.ask(Operation.BEGIN)
    served.exchange()
    assert begun.ended
    assert len(served.connection.sessions) == 1
    connections.drop_all(REASON)
    assert served.reasons == [REASON]
    assert len(served.connection.sessions) == 0, "what it had of the engine is given back"
    asked = served.ask(Operation.PING)
    assert REASON in served.client.core.trouble
    served.client.serve()
    assert asked.id in served.client.calls()


def test_who_was_not_greeted_is_told_nothing_and_goes_on(connections: Connections) -> None:
    served = Served(connections)
    asked = served.ask(Operation.PING)
    hello = served.client.core.take(served.client.now)
    served.connection.receive(hello[:-1], served.client.now)
    assert not served.connection.greeted
    connections.drop_all(REASON)
    assert served.reasons == [""]
    assert not asked.ended
    served.client.serve()
    assert asked.id in served.client.calls()


def test_all_that_are_there_end(connections: Connections) -> None:
    several = [Served(connections) for _ in range(4)]
    several[1].exchange()
    connections.remove(several[3])
    connections.drop_all(REASON)
    assert [served.reasons for served in several] == [[""], [REASON], [""], []]


def test_who_is_not_greeted_for_good_is_told_why(connections: Connections) -> None:
    """The other side of it: no hello in time is a reason that lasts."""
    served = Served(connections)
    asked = served.ask(Operation.PING)
    connections.tick(served.client.now + HELLO_TIMEOUT_S + 1)
    assert served.reasons == ["no hello came in time"]
    assert isinstance(asked.error, mako.Rejected)


def test_who_does_not_end_a_frame_that_it_began_is_cut_off(connections: Connections) -> None:
    served = Served(connections)
    served.exchange()
    now, limit = served.client.now, DEFAULT_LIMITS.partial_frame_s
    connections.tick(now + 100)
    assert served.reasons == [], "whoever rests between two frames may"
    asked = served.ask(Operation.PING)
    data = served.client.core.take(now)
    served.connection.receive(data[:5], now + 100)
    connections.tick(now + 100 + limit)
    served.connection.receive(data[5:] + data[:5], now + 101 + limit)
    connections.tick(now + 101 + 2 * limit)
    assert served.reasons == [], "it has ended one, and begun another one later"
    served.connection.receive(data[5:6], now + 101 + 2 * limit)
    connections.tick(now + 102 + 2 * limit)
    assert len(served.reasons) == 1
    assert "did not end within 10 s" in served.reasons[0]
    assert not asked.ended, "it is asked elsewhere"


def test_who_is_not_read_from_has_its_time_to_end_a_frame(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(connections)
    served.exchange()
    served.ask(Operation.PING)
    now, limit = served.client.now, DEFAULT_LIMITS.partial_frame_s
    served.connection.receive(served.client.core.take(now)[:5], now)
    with monkeypatch.context() as full:
        full.setattr(ClientConnection, "blocked", True)
        connections.tick(now + limit + 1)
    connections.tick(now + limit + 2)
    assert served.reasons == []
    connections.tick(now + 2 * limit + 2)
    assert len(served.reasons) == 1
