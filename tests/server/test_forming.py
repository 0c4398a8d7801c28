"""A process without a log asks the others: it is of a new cluster, or its disk was lost."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from mako.entry import Configuration, HardState, Index, NodeId, Term
from mako.replication.contract import DriverSettings
from mako.server import process
from mako.server.events import EventLog
from mako.server.forming import Forming, Verdict
from mako.server.plan import ReplicaPlan, ServerPlan, group_of
from mako.server.process import ServerProcess
from mako.sim.model import ModelMachine
from mako.storage.wal import WalSettings
from mako.wire.hello import Hello, Role

CLUSTER = 9
GROUP = group_of(0)
FIRST = Configuration(frozenset({NodeId(1), NodeId(2), NodeId(3)}))


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([], Verdict.WAITING),
        ([(2, False)], Verdict.WAITING),
        ([(2, False), (2, False)], Verdict.WAITING),
        ([(2, False), (3, False)], Verdict.NEW),
        ([(2, True)], Verdict.RETURNING),
        ([(2, True), (3, False)], Verdict.RETURNING),
        ([(2, False), (3, True)], Verdict.RETURNING),
        ([(2, False), (3, False), (3, True)], Verdict.RETURNING),
    ],
)
def test_one_with_a_history_is_enough_and_without_one_all_have_to_answer(
    answers: list[tuple[int, bool]], verdict: Verdict
) -> None:
    forming = Forming(frozenset({2, 3}))
    for number, has_history in answers:
        forming.on_answer(number, has_history=has_history)
    assert forming.verdict is verdict
    assert list(forming.missing) == sorted({2, 3} - {number for number, _ in answers})


def test_nothing_is_asked_of_those_who_came_later() -> None:
    forming = Forming(frozenset({2, 3}))
    for has_history in (True, False):
        forming.on_answer(4, has_history=has_history)
        assert forming.verdict is Verdict.WAITING
    forming.on_answer(2, has_history=False)
    assert forming.verdict is Verdict.WAITING
    assert list(forming.missing) == [3]


def test_who_is_the_only_voter_has_nobody_to_ask() -> None:
    assert Forming(frozenset()).verdict is Verdict.NEW


def plan_of(first: set[int], later: set[int], everybody: int) -> ServerPlan:
    """Of process 1; process n has node n of the only group."""
    numbers = range(1, everybody + 1)
    members = Configuration(frozenset(map(NodeId, first)))
    replica = ReplicaPlan(0, NodeId(1), members, later=frozenset(map(NodeId, later)))
    return ServerPlan(
        cluster_id=CLUSTER,
        process=1,
        name="p1",
        replicas=[replica],
        process_of={(GROUP, NodeId(n)): n for n in numbers},
        names={n: f"p{n}" for n in numbers},
        addresses=dict.fromkeys(numbers, ("127.0.0.1", 0)),
        listen=[("127.0.0.1", 0)],
        http=None,
        folder=None,
        wal=WalSettings(),
        driver=DriverSettings(cluster_id=CLUSTER),
    )


@pytest.mark.parametrize(
    ("first", "later", "everybody", "asked"),
    [
        ({1, 2, 3}, set(), 4, {2, 3}),  # The fourth one has a learner.
        ({1}, {2, 3}, 3, {2, 3}),  # It began alone, and others joined.
        ({1, 2}, {4, 5}, 5, {2, 4, 5}),
        ({1}, set(), 3, {2, 3}),  # Nobody else votes.
        ({1}, set(), 1, set()),
    ],
)
def test_whoever_may_have_followed_this_disk_is_asked(
    first: set[int], later: set[int], everybody: int, asked: set[int]
) -> None:
    """A group that began with one voter is not formed anew when the disk of that one is lost."""
    assert plan_of(first, later, everybody).witnesses() == asked


# --- The process ----------------------------------------------------------------------------------


class World:
    """Process 1 of three with a voter each, and a fourth one that has a learner."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        numbers = range(1, 5)
        self.plan = ServerPlan(
            cluster_id=CLUSTER,
            process=1,
            name="p1",
            replicas=[ReplicaPlan(0, NodeId(1), FIRST)],
            process_of={(GROUP, NodeId(n)): n for n in numbers},
            names={n: f"p{n}" for n in numbers},
            addresses=dict.fromkeys(numbers, ("127.0.0.1", 0)),
            listen=[("127.0.0.1", 0)],
            http=None,
            folder=folder,
            wal=WalSettings(segment_bytes=8192, reserve_bytes=4096, keep_bytes=8192, keep_ms=1),
            driver=DriverSettings(cluster_id=CLUSTER),
        )

    def start(self) -> ServerProcess:
        hello = Hello(CLUSTER, Role.PEER, 1, "p1", 1, "t")
        log = cast(EventLog, lambda event, **facts: self.told.append(event))
        return ServerProcess(self.plan, log, lambda: 0, hello=lambda: hello)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    def hosted(*_: object, **__: object) -> SimpleNamespace:
        backend = SimpleNamespace(administration=None)
        return SimpleNamespace(
            backend=backend, connections=None, partition=ModelMachine(), close=lambda: None
        )

    monkeypatch.setattr(process, "Hosted", hosted)
    monkeypatch.setattr(process, "Hub", lambda *_: None)
    return World(tmp_path / "p1")


@pytest.fixture
def started(world: World) -> Iterator[ServerProcess]:
    made = world.start()
    yield made
    made.close()


def is_returning(found: ServerProcess) -> bool:
    (hosted,) = found.hosted.values()
    on_disk = found._folder.load()
    assert on_disk is not None
    assert on_disk.formed
    assert on_disk.is_returning(GROUP) == cast(Any, hosted.node).returning
    return on_disk.is_returning(GROUP)


@pytest.mark.parametrize("last", [False, True])
async def test_it_votes_only_if_all_others_have_said_that_they_never_did(
    nursery: trio.Nursery, world: World, started: ServerProcess, *, last: bool
) -> None:
    """What process 4 says, which has no voter, makes no difference."""
    nursery.start_soon(started.form)
    for number, has_history in ((4, not last), (2, False)):
        started.on_greeted(number, has_history=has_history)
        await trio.testing.wait_all_tasks_blocked()
        assert not started.formed.is_set()
        assert started._folder.load() is None, "nothing is decided"
    assert started.hosted == {}
    started.on_greeted(3, has_history=last)
    await started.formed.wait()
    assert is_returning(started) == last
    decided = "its disk was lost or is new: it returns without a vote"
    assert world.told[-1] == (decided if last else "begins a new cluster")


async def test_one_that_has_voted_is_not_waited_for_the_others(
    nursery: trio.Nursery, started: ServerProcess
) -> None:
    nursery.start_soon(started.form)
    started.on_greeted(3, has_history=True)
    await started.formed.wait()
    assert is_returning(started)


def test_a_term_is_a_history_and_a_log_without_one_is_none(world: World) -> None:
    """It is said in each hello; what is forgotten with the disk left only after it was there."""
    for term in (0, 1):
        made = world.start()
        assert not made.history
        made.store.append(GROUP, HardState(Term(term), NodeId(0), Index(0)))
        made.store.seal()
        made.store.write()
        made.store.sync()
        assert made.history == (term > 0)
        made.close()
    again = world.start()
    assert again.history
    again.close()
