"""A worker that is lent: somebody else does its work, in his thread, until it is taken back."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mako.engine.completing import SERVE
from mako.engine.engine import Engine
from mako.engine.layout import C_CONTROL
from mako.ids import Status
from mako.server.backend import LoneBackend
from mako.server.rings import Rings
from mako.server.serving import Serving
from mako.server.workers import Crew
from tests.server.test_drives import NoThreads


@dataclass
class World:
    engine: Engine
    crew: Crew
    serving: Serving

    @property
    def rings(self) -> Rings:
        (found,) = self.serving._workers
        return found

    @property
    def serves(self) -> bool:
        """Whether the worker is told to, in a thread of its own."""
        control = self.engine.word(self.rings.context + C_CONTROL)
        running = self.crew._threads._running
        return control == SERVE and [self.rings.thread] == running


@pytest.fixture
def world() -> Iterator[World]:
    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 5.0)
    backend = LoneBackend(crew, {})
    yield World(engine, crew, backend.serving)
    backend.close()
    crew.close()
    engine.close()


def test_who_is_lent_has_no_thread_until_he_is_taken_back(world: World) -> None:
    before = world.rings.thread
    assert world.serves
    assert world.serving.lend(0) == world.rings.context
    assert not before.thread.is_alive()
    world.serving.pause()
    world.serving.resume()
    assert not world.crew.works(), "nor after everybody was stopped for a while"
    world.serving.take_back(0)
    assert world.serves
    assert world.rings.thread.thread.is_alive()


def test_only_who_is_lent_is_taken_back(world: World) -> None:
    for _ in range(2):
        before = world.rings.thread
        world.serving.take_back(0)
        assert world.rings.thread is before
        assert world.serves
        world.serving.lend(0)
        world.serving.take_back(0)
    world.serving.lend(0)
    world.serving.stop(Status.NOT_LEADER)
    world.serving.take_back(0)
    assert not world.crew.works(), "its leadership has ended meanwhile"


def test_who_is_refused_a_thread_stays_lent_and_is_taken_back_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serving.lend(0)
    with monkeypatch.context() as patch:
        patch.setattr(Crew, "launch", NoThreads.launch)
        with pytest.raises(RuntimeError, match="new thread"):
            world.serving.take_back(0)
    world.serving.pause()
    world.serving.resume()
    assert not world.crew.works()
    world.serving.take_back(0)
    assert world.serves
    assert world.rings.thread.thread.is_alive()
