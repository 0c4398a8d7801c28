"""How many workers clients may drive, beside what a replica and sessions need."""

from typing import Any

import pytest

import mako
from mako.replication.contract import REPLICA_CONTEXTS, DriverSettings
from mako.server import driving
from mako.server.driving import Drives
from mako.server.observing import HASHES_MAX
from mako.server.plan import UNDRIVEN, ServerPlan


class Count:
    """A workload whose states have eight bytes."""

    size = 8

    def __init__(self) -> None:
        self.state = self

    def unpack(self, state: bytes) -> dict[str, int]:
        return {"worker": state[0]}


class FakeEngine:
    def __init__(self, session_limit: int) -> None:
        self.session_limit = session_limit
        self.sessions = 0


class FakeCrew:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine


class FakeDrive:
    def __init__(self, crew: FakeCrew, workload: Count, *, workers: int, **more: object) -> None:
        self.workers = workers

    def stop(self) -> None:
        if self.workers == 1:
            raise mako.OutOfMemory("a drive of one ends badly")


def plan(*, sessions: int = 8, spare: int = 8) -> ServerPlan:
    return ServerPlan(
        cluster_id=9,
        process=1,
        name="a",
        replicas=[],
        process_of={},
        names={},
        addresses={},
        listen=[],
        http=None,
        folder=None,
        sessions=sessions,
        spare=spare,
        driver=DriverSettings(cluster_id=9),
    )


class World:
    """A leader with contexts for ten guests, of which eight may be sessions."""

    def __init__(self) -> None:
        self.engine = FakeEngine(8)
        crew: Any = FakeCrew(self.engine)
        workload: Any = Count()
        self.drives = Drives(crew, {"count": workload}, guests=plan().guests)

    def drive(self, workers: int) -> int:
        return self.drives.start(self.drives.prepare("count", [bytes(8)] * workers, 1, 0.0))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(driving, "Drive", FakeDrive)
    return World()


def test_what_drives_and_sessions_leave_is_enough_for_all_else() -> None:
    for sessions in (3, 32):
        made = plan(sessions=sessions)
        assert sessions <= made.guests
        assert sessions + made.spare - made.guests == UNDRIVEN > HASHES_MAX
    assert plan(spare=2).guests == plan(spare=2).sessions


def test_drives_have_what_sessions_leave_and_no_more(world: World) -> None:
    world.engine.sessions = 3
    with pytest.raises(mako.ConfigError, match="8 workers, and 7 more may drive a workload now"):
        world.drive(8)
    world.drive(5)
    with pytest.raises(mako.ConfigError, match="3 workers, and 2 more"):
        world.drive(3)
    world.drive(2)
    world.engine.sessions = 0
    with pytest.raises(mako.ConfigError, match="4 workers, and 3 more"):
        world.drive(4)


def test_one_that_was_prepared_before_others_began_is_refused_then(world: World) -> None:
    late = world.drives.prepare("count", [bytes(8)] * 6, 1, 0.0)
    world.drive(6)
    with pytest.raises(mako.ConfigError, match="6 workers, and 4 more"):
        world.drives.start(late)


def test_sessions_have_what_drives_leave(world: World) -> None:
    first, second = world.drive(2), world.drive(5)
    assert world.engine.session_limit == 3
    world.drives.end(first)
    assert world.engine.session_limit == 5
    world.drives.end(second)
    assert world.engine.session_limit == 8
    world.drive(6)
    world.drives.stop()
    assert world.engine.session_limit == 8, "the next leadership begins with all of them"


def test_a_drive_that_ends_badly_leaves_its_contexts_to_sessions(world: World) -> None:
    world.drive(5)
    bad = world.drive(1)
    assert world.engine.session_limit == 4
    with pytest.raises(mako.OutOfMemory):
        world.drives.end(bad)
    assert world.engine.session_limit == 5


def test_a_drive_of_an_embedded_database_leaves_the_replica_its_own() -> None:
    from mako.server.drive import _check

    engine: Any = FakeEngine(6)
    engine.context_count, engine.replicated = 6 + REPLICA_CONTEXTS, True
    workload: Any = mako.Workload.__new__(mako.Workload)
    object.__setattr__(workload, "name", "count")
    states = [{"worker": 0}] * 7
    _check(engine, workload, 6, states[:6], 1, 0.0)
    with pytest.raises(mako.ConfigError, match="7 workers; give 1 to 6"):
        _check(engine, workload, 7, states, 1, 0.0)
