"""What runs in the thread of a worker gives way to others that wait for the worker."""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine import lane, layout
from mako.engine.completing import DRIVE, IDLE, RUNNING, SERVE, STOP
from mako.engine.entries import workload_entries
from mako.engine.watching import give_way
from mako.engine.worker import _drive_one, doom
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.pumping import PumpedMesh
from tests.engine.test_partitions import look, transfer

pytestmark = pytest.mark.interpreted

STATE = mako.Row({"number": "i8"}, name="state")


@mako.function
def draw(random: Any, state: Any) -> int:
    state.number += 1
    return 0


@mako.function
def count(tx: Any, state: Any) -> None:
    tx.put(ACCOUNT, (0, 1)).v = state.number


COUNT = mako.Workload("count", kinds=("count",), state=STATE, generate=draw, execute=count)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=2, pumped=True)
    yield made
    made.close()


def interrupt(cluster: Cluster, context: int, *, final: bool = False, ahead: int = 1) -> None:
    """An attempt in a context of partition 0 that has not begun is given up as soon as it has: the
    next one, or the one that is so far ahead."""
    engine = cluster.engines[0]
    number = engine.word(context + layout.C_PROGRESS) + ahead
    if not final:
        engine.set_word(context + layout.C_INTERRUPTED, number)
    doom(context, number)


@pytest.mark.parametrize("control", [SERVE, STOP])
def test_a_request_that_gives_way_stays_in_its_ring(cluster: Cluster, control: int) -> None:
    cluster.engines[0].set_word(cluster.homes[0] + layout.C_CONTROL, control)
    number = cluster.post(0, put, 0, 1, 7)
    interrupt(cluster, cluster.homes[0])
    assert not cluster.serve(0)
    assert cluster.has_requests(0)
    assert cluster.done() == []
    assert cluster.serve(0)
    assert [(done.number, done.outcome) for done in cluster.done()] == [(number, Outcome.COMMITTED)]
    assert cluster.run(0, look, 0, 1, 0, 2).value == 7_000


def test_a_request_that_is_given_up_for_good_is_over(cluster: Cluster) -> None:
    cluster.post(0, put, 0, 1, 7)
    interrupt(cluster, cluster.homes[0], final=True)
    assert cluster.serve(0)
    assert [done.outcome for done in cluster.done()] == [Outcome.TIMED_OUT]


def busy_lane(cluster: Cluster) -> int:
    """A lane of partition 0 that waits for rows of partition 1, and is about to run again."""
    assert cluster.serve(0)
    engine = cluster.engines[0]
    (found,) = [
        each
        for each in cluster.mesh.lanes_of(engine)
        if engine.word(each + lane.L_STATE) == lane.READING
    ]
    return found


@pytest.mark.parametrize(("final", "outcome"), [(False, "COMMITTED"), (True, "TIMED_OUT")])
def test_a_transaction_over_partitions_that_gives_way_is_run_again(
    cluster: Cluster, *, final: bool, outcome: str
) -> None:
    for place in range(2):
        cluster.run(place, put, place, 1, 50)
    number = cluster.post(0, transfer, 0, 1, 1, 1, 5)
    interrupt(cluster, busy_lane(cluster), final=final)
    done = cluster.finish(number)
    assert done.outcome is Outcome[outcome]
    left = 50_050 if final else 45_055
    assert cluster.run(0, look, 0, 1, 1, 1).value == left


def test_a_workload_that_gives_way_goes_on(cluster: Cluster) -> None:
    engine, home = cluster.engines[0], cluster.homes[0]
    generate, execute = workload_entries(COUNT)
    engine.set_word(home + layout.K_GENERATE, generate.address)
    engine.set_word(home + layout.K_EXECUTE, execute.address)
    engine.set_word(home + layout.K_STATE, engine.allocate(home, STATE.size))
    engine.set_word(home + layout.K_STATE_BYTES, STATE.size)
    engine.set_word(home + layout.C_CONTROL, DRIVE)
    engine.set_word(home + layout.K_FAILED, 0)
    mesh = cluster.mesh
    assert isinstance(mesh, PumpedMesh)
    cluster.post(1, look, 0, 2, 1, 2)
    cluster.serve(1)
    mesh.carry()
    interrupt(cluster, home, ahead=2)  # Before it runs it draws its inputs.
    assert _drive_one(home, cluster.now_ns) > 0
    assert engine.word(home + layout.K_FAILED) == 0
    assert mesh.pumped[0].awaited() == {}, "it has taken its turn before it ran again"
    assert cluster.run(0, look, 0, 1, 0, 2).value == 1_000
    interrupt(cluster, home, ahead=2)
    engine.set_word(home + layout.C_CONTROL, STOP)
    assert _drive_one(home, cluster.now_ns) == -1, "told to stop, it does not try again"
    assert engine.word(home + layout.K_FAILED) == 0
    assert cluster.run(0, look, 0, 1, 0, 2).value == 1_000


def given_up(cluster: Cluster, context: int) -> bool:
    engine = cluster.engines[0]
    number = engine.word(context + layout.C_PROGRESS)
    return engine.word(context + layout.C_DOOMED) == number != 0


def test_what_runs_in_a_thread_is_that_of_its_lanes_and_its_guest_too(cluster: Cluster) -> None:
    cluster.post(0, look, 0, 1, 1, 1)
    engine, home = cluster.engines[0], cluster.homes[0]
    found = busy_lane(cluster)
    driven = engine.take_context()
    try:
        for context in (home, found, driven):
            engine.set_word(context + layout.C_PROGRESS, 100)
        engine.set_word(driven + layout.C_GUEST, home)
        give_way(driven, 0)
        assert not any(given_up(cluster, each) for each in (home, found, driven)), "nothing runs"
        for runs in (driven, found, home):
            engine.set_word(runs + layout.C_STATE, RUNNING)
            give_way(driven, 0)
            assert given_up(cluster, runs)
            assert engine.word(runs + layout.C_INTERRUPTED) == 100
    finally:
        for context in (home, found, driven):
            engine.set_word(context + layout.C_STATE, IDLE)
        engine.set_word(driven + layout.C_GUEST, 0)
        engine.give_context(driven)


def test_who_is_waited_for_is_who_has_mail_since_its_last_turn(cluster: Cluster) -> None:
    mesh = cluster.mesh
    assert isinstance(mesh, PumpedMesh)
    pumped = mesh.pumped[1]
    cluster.turn(1)
    began = cluster.now_ns
    assert pumped.awaited() == {}
    cluster.post(0, look, 0, 1, 1, 1)
    cluster.serve(0)
    cluster.pass_time(1000)
    mesh.carry()
    assert pumped.awaited() == {0: began}
    cluster.turn(1)
    assert pumped.awaited() == {}


def test_the_same_is_run_again_until_a_request_ends(cluster: Cluster) -> None:
    mesh = cluster.mesh
    assert isinstance(mesh, PumpedMesh)
    pumped, home = mesh.pumped[0], cluster.homes[0]
    cluster.post(0, put, 0, 1, 7)
    before = pumped.runs(0)
    interrupt(cluster, home)
    cluster.serve(0)
    assert pumped.runs(0) == before
    cluster.serve(0)
    assert pumped.runs(0) != before
    engine = cluster.engines[0]
    before = pumped.runs(0)
    engine.set_word(home + layout.K_RANDOM, 1)  # A workload has drawn something else.
    assert pumped.runs(0) != before
    before = pumped.runs(0)
    lane_ = pumped.station.lanes[0]
    engine.set_word(lane_ + layout.C_PROGRESS, 1)
    engine.set_word(lane_ + layout.C_STATE, RUNNING)
    assert pumped.runs(0) != before
    engine.set_word(lane_ + layout.C_STATE, IDLE)
    engine.set_word(home + layout.C_STATE, RUNNING)
    pumped.give_way(0, final=False)
    assert given_up(cluster, home)
    engine.set_word(home + layout.C_STATE, IDLE)
