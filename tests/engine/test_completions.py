"""Whatever is committed is reported: without room for its completion a request is not run."""

from collections.abc import Iterator

import pytest

from mako.engine import layout
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.test_partitions import BASE, look, transfer

pytestmark = pytest.mark.interpreted

NUMBERS = (1, 2, 3)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=2)
    for place in range(2):
        for number in NUMBERS:
            made.run(place, put, place, number, 50)
    yield made
    made.close()


def leave_room(cluster: Cluster, count: int) -> None:
    """All of the ring of partition 0 but so many completions is of what nobody has collected."""
    engine, home = cluster.engines[0], cluster.homes[0]
    taken = layout.COMPLETION_RING_BYTES - count * layout.D_BYTES
    head = engine.word(home + layout.K_COMPLETION_HEAD)
    engine.set_word(home + layout.K_COMPLETION_TAIL, head - taken)


def uncollected(cluster: Cluster) -> int:
    engine, home = cluster.engines[0], cluster.homes[0]
    return engine.word(home + layout.K_COMPLETION_HEAD) - engine.word(
        home + layout.K_COMPLETION_TAIL
    )


def test_a_request_that_could_not_be_reported_waits(cluster: Cluster) -> None:
    leave_room(cluster, 3)
    first = [cluster.post(0, put, 0, 1, value) for value in (60, 61)]
    while cluster.serve(0):
        pass
    assert cluster.has_requests(0)
    assert uncollected(cluster) <= layout.COMPLETION_RING_BYTES
    done = cluster.done()
    assert [each.number for each in done] == first[: len(done)]
    assert len(done) < 2
    assert cluster.serve(0), "there is room again"
    while cluster.serve(0):
        pass
    done += cluster.done()
    assert [(each.number, each.outcome) for each in done] == [
        (number, Outcome.COMMITTED) for number in first
    ]


def test_what_has_moved_to_a_lane_keeps_its_place(cluster: Cluster) -> None:
    """Others that come later do not take it, however long it takes."""
    leave_room(cluster, 9)
    moved = [cluster.post(0, transfer, 0, number, 1, number, 5) for number in NUMBERS]
    for _ in moved:
        assert cluster.serve(0)
    others = [cluster.post(0, put, 0, 9, value) for value in range(10)]
    while cluster.serve(0):
        pass
    assert cluster.has_requests(0)
    while cluster.mesh.busy:
        for place in (0, 1):
            cluster.turn(place)
    assert uncollected(cluster) <= layout.COMPLETION_RING_BYTES
    done = {each.number: each.outcome for each in cluster.done()}
    assert set(moved) <= set(done)
    done |= {each.number: each.outcome for each in cluster.settle()}
    assert done == dict.fromkeys([*moved, *others], Outcome.COMMITTED)
    assert cluster.run(0, look, 0, 1, 1, 1).value == 45 * BASE + 55
