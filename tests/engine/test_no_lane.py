"""What needs a lane, and finds none, does not hold up what needs none."""

import struct
from collections.abc import Iterator

import pytest

from mako.engine import builtin
from mako.engine.builtin import address_of
from mako.engine.layout import FLAG_BYTES
from mako.engine.worker import LANE_WAIT_NS
from mako.ids import Outcome, Status
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.test_partitions import transfer

pytestmark = pytest.mark.interpreted

LANES = 2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """All lanes of the worker of partition 0 have a transaction that waits for partition 1."""
    made = Cluster([ACCOUNT], lanes=LANES)
    for n in range(4):
        made.run(0, put, 0, n, 50)
        made.run(1, put, 1, n, 50)
    for n in range(LANES):
        made.post(0, transfer, 0, n, 1, n, 5)
        assert made.serve(0)
    yield made
    made.close()


def test_who_finds_no_lane_waits_for_a_moment(cluster: Cluster) -> None:
    late = cluster.post(0, transfer, 0, 2, 1, 2, 5)
    assert not cluster.serve(0)
    cluster.pass_time(LANE_WAIT_NS - 1)
    assert not cluster.serve(0)
    while cluster.mesh.busy:
        cluster.turn(0), cluster.turn(1)
    done = cluster.done()
    assert cluster.serve(0), "there are lanes again"
    while cluster.mesh.busy:
        cluster.turn(0), cluster.turn(1)
    (last,) = cluster.done()
    assert (last.number, last.outcome) == (late, Outcome.COMMITTED)
    assert [one.outcome for one in done] == [Outcome.COMMITTED] * LANES


def test_then_it_is_told_to_come_back_and_those_behind_it_are_run(cluster: Cluster) -> None:
    away = [cluster.post(0, transfer, 0, n, 1, n, 5) for n in (2, 3)]
    local = cluster.post(0, put, 0, 3, 60)
    assert not cluster.serve(0)
    cluster.pass_time(LANE_WAIT_NS)
    # Nobody waits once more: it is known that lanes are short.
    assert [cluster.serve(0) for _ in range(3)] == [True] * 3
    done = {one.number: one.outcome for one in cluster.done()}
    assert done == {**dict.fromkeys(away, Status.BUSY), local: Outcome.COMMITTED}
    assert cluster.mesh.station_of(cluster.engines[0]).counts().turned_away == 2


def test_lanes_that_are_free_again_are_waited_for_anew(cluster: Cluster) -> None:
    cluster.post(0, transfer, 0, 2, 1, 2, 5)
    assert not cluster.serve(0)
    cluster.pass_time(LANE_WAIT_NS)
    assert cluster.serve(0)
    while cluster.mesh.busy:
        cluster.turn(0), cluster.turn(1)
    for n in range(LANES):
        cluster.post(0, transfer, 0, n, 1, n, 5)
        assert cluster.serve(0)
    cluster.done()
    cluster.post(0, transfer, 0, 2, 1, 2, 5)
    assert not cluster.serve(0)
    assert cluster.done() == []


def get(cluster: Cluster, number: int) -> int:
    """Ask partition 0 for a row of its own, as clients do: room for any value is kept."""
    table = cluster.engines[0].tables[int(ACCOUNT.id)].address
    key = ACCOUNT.pack_key((0, number))
    words = struct.pack("<3q", table, len(key), 0) + key
    return cluster.post_entry(0, address_of(builtin.get), words, origin=FLAG_BYTES)


def test_who_reads_a_locked_row_does_not_hold_up_others() -> None:
    """Reads that wait in lanes keep nearly all of the ring of completions."""
    cluster = Cluster([ACCOUNT], lanes=16)
    for place, number in ((0, 1), (0, 2), (1, 1)):
        cluster.run(place, put, place, number, 50)
    moved = cluster.post(1, transfer, 1, 1, 0, 1, 5)
    cluster.serve(1)
    for partition in (1, 0, 1, 1, 0):  # It is prepared at partition 0, and nobody decides.
        cluster.turn(partition)
    waiting = [get(cluster, 1) for _ in range(8)]
    while cluster.serve(0):
        pass
    others = [get(cluster, 2) for _ in range(20)] + [cluster.post(0, put, 0, 3, 7)]
    cluster.pass_time(LANE_WAIT_NS)
    done = []
    while cluster.serve(0):
        done += cluster.done()
    outcomes = {each.number: each.outcome for each in done}
    assert all(outcomes.pop(number) is Outcome.COMMITTED for number in others)
    assert set(outcomes) < set(waiting), "one was told to come back"
    assert set(outcomes.values()) == {Status.BUSY}
    outcomes |= {each.number: each.outcome for each in cluster.settle()}
    assert outcomes.pop(moved) is Outcome.COMMITTED
    assert set(outcomes) == set(waiting)
    cluster.close()


def test_a_clock_that_is_set_back_turns_nobody_away(cluster: Cluster) -> None:
    cluster.post(0, transfer, 0, 2, 1, 2, 5)
    assert not cluster.serve(0)
    cluster.pass_time(-10 * LANE_WAIT_NS)
    assert not cluster.serve(0)
    cluster.pass_time(LANE_WAIT_NS)
    assert cluster.serve(0)
