"""A partition whose memory is full refuses what needs room there, and holds up nothing else."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako.engine import lane as lanes
from mako.engine.coordinator import FULL_MAX
from mako.engine.reclaim import reclaim_some_at_rest
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, LANES, Cluster, put
from tests.engine.test_partitions import transfer

pytestmark = pytest.mark.interpreted

BLOB: Final = mako.Table(
    "blob", id=9, key={"place": 8, "number": 32}, row={"v": "i8", "b": "S60000"}
)


@mako.procedure
def store(tx: Any, place: int, number: int) -> int:
    tx.put(BLOB, (place, number)).v = number
    return 0


@mako.procedure
def store_both(tx: Any, place: int, other: int, number: int) -> int:
    tx.put(ACCOUNT, (other, number)).v = number
    tx.put(BLOB, (place, number)).v = number
    return 0


@mako.procedure
def drop(tx: Any, place: int, number: int) -> int:
    tx.delete(BLOB, (place, number))
    return 0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT, BLOB], partitions=3)
    for place in range(3):
        made.run(place, put, place, 1, 50)
    yield made
    made.close()


def fill(cluster: Cluster, place: int) -> None:
    for number in range(1000):
        if cluster.run(place, store, place, number).outcome is Outcome.OUT_OF_MEMORY:
            return
    raise AssertionError("it is never full")


def free_lanes(cluster: Cluster, partition: int) -> bool:
    engine = cluster.engines[partition]
    states = {engine.word(each + lanes.L_STATE) for each in cluster.mesh.lanes_of(engine)}
    return states == {lanes.FREE}


def test_what_needs_room_where_there_is_none_is_told_so(cluster: Cluster) -> None:
    fill(cluster, 1)
    numbers = [cluster.post(0, store, 1, 2000 + n) for n in range(LANES)]
    done = {each.number: each.outcome for each in cluster.settle()}
    assert done == dict.fromkeys(numbers, Outcome.OUT_OF_MEMORY)
    assert free_lanes(cluster, 0), "nobody waits for room any more"
    assert cluster.run(0, transfer, 0, 1, 2, 1, 5).outcome is Outcome.COMMITTED


@pytest.mark.parametrize("full", [0, 1], ids=["here", "elsewhere"])
def test_room_that_is_made_in_time_is_waited_for(cluster: Cluster, full: int) -> None:
    fill(cluster, full)
    asked = cluster.post(0, store_both, full, 1 - full, 3000)
    for _ in range(4):
        cluster.serve(0)
        for partition in (0, 1, 0):
            cluster.turn(partition)
        cluster.pass_time(100_000)
    assert cluster.done() == []
    for number in range(4):
        cluster.post(full, drop, full, number)
        assert cluster.serve(full)
    for _ in range(2):  # What was written over is freed once that is durable.
        cluster.agree()
        reclaim_some_at_rest(cluster.homes[full])
    done = {each.number: each.outcome for each in cluster.settle()}
    assert done.pop(asked) is Outcome.COMMITTED
    assert set(done.values()) == {Outcome.COMMITTED}


def test_a_memory_that_stays_full_is_tried_a_few_times(cluster: Cluster) -> None:
    fill(cluster, 0)
    engine = cluster.engines[0]
    asked = cluster.post(0, store_both, 0, 1, 3000)
    tries = set()
    for _ in range(100_000):
        cluster.serve(0)
        for partition in (0, 1):
            cluster.turn(partition)
        cluster.pass_time(10_000)
        tries |= {engine.word(each + lanes.L_FULL) for each in cluster.mesh.lanes_of(engine)}
        found = cluster.done()
        if found:
            break
    assert [(each.number, each.outcome) for each in found] == [(asked, Outcome.OUT_OF_MEMORY)]
    assert max(tries) == FULL_MAX + 1
