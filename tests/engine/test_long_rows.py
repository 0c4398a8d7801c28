"""Rows of other partitions that do not fit into one message: they come in several, or it is said
that it is too much."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako.engine import lane
from mako.engine.channel import H_HEAD, MESSAGE_MAX
from mako.engine.closing import get_word
from mako.ids import Outcome
from tests.engine.partitioned import Cluster
from tests.engine.pumping import PumpedMesh

pytestmark = pytest.mark.interpreted

#: So many rows fit into a message, and one more does not.
FIT: Final = 8
BIG: Final = mako.Table(
    "big", id=8, key={"place": 8, "number": 32}, row={"v": "i8", "text": "S60000"}
)
assert FIT * BIG.row_size < MESSAGE_MAX - 4096 < MESSAGE_MAX < (FIT + 1) * BIG.row_size


@mako.procedure
def put_big(tx: Any, place: int, count: int) -> int:
    for number in range(count):
        tx.put(BIG, (place, number)).v = number + 1
    return count


@mako.procedure
def sum_big(tx: Any, place: int, count: int) -> int:
    for number in range(count):
        tx.prefetch(BIG, (place, number))
    total = 0
    for number in range(count):
        total += tx.read(BIG, (place, number)).v
    return int(total)


@mako.procedure
def walk_big(tx: Any, place: int, count: int) -> int:
    rows = tx.scan(BIG, (place, 0), (place, count), 100)
    total = 0
    for at in range(rows.count):
        total += rows.row(at).v
    return int(total)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([BIG], partitions=2)
    yield made
    made.close()


def test_writes_of_more_than_a_message_are_too_large(cluster: Cluster) -> None:
    assert cluster.run(0, put_big, 1, FIT + 1).outcome is Outcome.TOO_LARGE
    assert cluster.mesh.busy == 0
    assert cluster.run(1, walk_big, 1, 100).value == 0
    assert cluster.run(1, put_big, 1, FIT + 1).outcome is Outcome.COMMITTED, "at home"
    assert cluster.run(0, put_big, 1, FIT).outcome is Outcome.COMMITTED


@pytest.mark.parametrize("count", [FIT, FIT + 1, 3 * FIT])
def test_rows_that_are_asked_for_at_once_come_in_as_many_messages_as_it_takes(
    cluster: Cluster, count: int
) -> None:
    assert cluster.run(1, put_big, 1, count).outcome is Outcome.COMMITTED
    done = cluster.run(0, sum_big, 1, count)
    assert (done.outcome, done.value) == (Outcome.COMMITTED, count * (count + 1) // 2)


def test_no_answer_is_longer_than_a_message() -> None:
    """Or it lies over the end of its ring."""
    cluster = Cluster([BIG], partitions=2, pumped=True)
    mesh = cluster.mesh
    assert isinstance(mesh, PumpedMesh)
    try:
        cluster.run(1, put_big, 1, FIT + 1)
        number = cluster.post(0, sum_big, 1, FIT + 1)
        cluster.serve(0)
        mesh.carry()
        cluster.turn(1)
        (port,) = mesh.pumped[1].pairs[0].asked[:1]
        answers = mesh.pumped[1].station.port_word(port, lane.P_ANSWER)
        assert 0 < get_word(answers + H_HEAD) <= MESSAGE_MAX
        assert cluster.finish(number).outcome is Outcome.COMMITTED
    finally:
        cluster.close()


def test_a_range_of_more_than_a_message_is_too_large(cluster: Cluster) -> None:
    assert cluster.run(1, put_big, 1, FIT + 1).outcome is Outcome.COMMITTED
    assert cluster.run(0, walk_big, 1, FIT + 1).outcome is Outcome.TOO_LARGE
    assert cluster.mesh.busy == 0
    done = cluster.run(0, walk_big, 1, FIT)
    assert (done.outcome, done.value) == (Outcome.COMMITTED, FIT * (FIT + 1) // 2)
