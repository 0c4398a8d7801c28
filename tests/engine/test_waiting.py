"""What has to wait for a lane of its own worker waits outside: only a turn lets a lane go on."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine import lane, layout
from mako.engine.completing import DRIVE, SERVE, STOP
from mako.engine.entries import workload_entries
from mako.engine.ring import drain
from mako.engine.worker import _drive_one
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, Done, put
from tests.engine.running import DEADLINE_S, until
from tests.engine.test_partitions import look, transfer

pytestmark = pytest.mark.interpreted


@mako.procedure
def change_and_roll_back(tx: Any, place: int, number: int) -> int:
    row = tx.write(ACCOUNT, (place, number))
    row.v += 1
    tx.rollback()
    return 0


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
    made = Cluster([ACCOUNT], partitions=2, logging=True)
    for engine, home in zip(made.engines, made.homes, strict=True):
        engine.set_word(home + layout.C_CONTROL, SERVE)
    yield made
    made.close()


def serve(cluster: Cluster, partition: int) -> bool:
    """As the worker's thread does. It must come back, whatever others do."""
    engine, home = cluster.engines[partition], cluster.homes[partition]
    served: list[bool] = []
    thread = threading.Thread(target=lambda: served.append(cluster.serve(partition)))
    thread.start()
    thread.join(DEADLINE_S)
    spins = thread.is_alive()
    if spins:
        engine.set_word(home + layout.C_CONTROL, STOP)
        thread.join()
    assert not spins, "it waits for what only a turn of its own can bring about"
    return served[0]


def test_who_rolls_back_over_a_prepared_row_moves_to_a_lane(cluster: Cluster) -> None:
    for place in range(2):
        cluster.run(place, put, place, 1, 50)
    cluster.post(0, transfer, 0, 1, 1, 1, 5)
    cluster.serve(0)
    cluster.turn(1)  # Rows.
    cluster.turn(0)
    cluster.turn(1)  # It is prepared there.
    states = [cluster.engines[1].word(each + lane.L_STATE) for each in lanes_of(cluster, 1)]
    assert lane.HOLDING in states
    number = cluster.post(1, change_and_roll_back, 1, 1)
    assert serve(cluster, 1)
    assert not cluster.has_requests(1)
    outcomes = {done.number: done.outcome for done in cluster.settle()}
    assert outcomes == {number - 1: Outcome.COMMITTED, number: Outcome.ROLLED_BACK}


def lanes_of(cluster: Cluster, partition: int) -> list[int]:
    return cluster.mesh.station_of(cluster.engines[partition]).lanes


def test_who_finds_the_log_full_takes_turns_meanwhile(cluster: Cluster) -> None:
    home = cluster.homes[0]
    committed = 0
    while True:
        number = cluster.post(0, put, 0, committed % 7, committed)
        if not serve(cluster, 0):
            break
        assert [done.outcome for done in cluster.done()] == [Outcome.COMMITTED]
        committed += 1
    assert committed > 10
    assert cluster.has_requests(0)
    assert not serve(cluster, 0)
    assert cluster.engines[0].word(home + layout.C_FLOOR) == layout.NONE, "nothing is held"
    drain(home, 0, 0)
    assert serve(cluster, 0)
    assert [(done.number, done.outcome) for done in cluster.done()] == [(number, Outcome.COMMITTED)]


def test_a_driven_worker_that_finds_the_log_full_takes_turns_meanwhile(cluster: Cluster) -> None:
    engine, home = cluster.engines[0], cluster.homes[0]
    cluster.run(0, put, 0, 1, 0)
    generate, execute = workload_entries(COUNT)
    engine.set_word(home + layout.K_GENERATE, generate.address)
    engine.set_word(home + layout.K_EXECUTE, execute.address)
    engine.set_word(home + layout.K_STATE, engine.allocate(home, STATE.size))
    engine.set_word(home + layout.K_STATE_BYTES, STATE.size)
    engine.set_word(home + layout.C_CONTROL, DRIVE)
    ended: list[int] = []

    def drive() -> None:
        while not ended or ended[-1] >= 0:
            ended.append(_drive_one(home, cluster.now_ns))

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        full = layout.C_OUTCOMES + 8 * Outcome.LOG_FULL
        until(lambda: engine.word(home + full) > 0)
        committed = len(ended)
        number = cluster.post(1, look, 0, 1, 1, 1)
        cluster.serve(1)
        found: list[Done] = []

        def is_done() -> bool:
            cluster.turn(1)
            found.extend(cluster.done())
            return any(done.number == number for done in found)

        until(is_done)
        assert len(ended) == committed
        drain(home, 0, 0)
        until(lambda: len(ended) > committed)
    finally:
        engine.set_word(home + layout.C_CONTROL, STOP)
        thread.join()
    assert ended[-1] == -1
