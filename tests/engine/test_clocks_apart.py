"""Timestamps of other partitions that are too far ahead of the time are refused (DESIGN §7)."""

from collections.abc import Iterator

import pytest

from mako.engine import lane as lanes
from mako.engine.closing import set_word
from mako.ids import MILLISECOND_SHIFT, Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.test_partitions import transfer

pytestmark = pytest.mark.interpreted

ALLOWED_MS = 200
HOUR_MS = 3_600_000


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT])
    for engine in made.engines:
        for mesh in made.mesh.station_of(engine).meshes:
            set_word(mesh + lanes.H_AHEAD, ALLOWED_MS << MILLISECOND_SHIFT)
    made.run(0, put, 0, 1, 50)
    made.run(1, put, 1, 2, 7)
    yield made
    made.close()


def set_ahead(cluster: Cluster, partition: int, ms: int) -> int:
    """The clock of its host is so far ahead of the other one's; its time."""
    ahead = cluster.now_ns // 1_000_000 + ms
    cluster.engines[partition].tick(ahead)
    return ahead


def clock_ms(cluster: Cluster, partition: int) -> int:
    return int(cluster.engines[partition].clock) >> MILLISECOND_SHIFT


def is_apart(cluster: Cluster, partition: int, other: int) -> bool:
    """Whether a worker of a partition found another one an hour ahead, less what a run takes."""
    there, by = cluster.mesh.station_of(cluster.engines[partition]).apart
    return there == other and HOUR_MS - 100 < by <= HOUR_MS


def test_a_proposal_that_is_too_far_ahead_is_refused(cluster: Cluster) -> None:
    set_ahead(cluster, 0, HOUR_MS)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.UNAVAILABLE
    # Or nothing of that partition could be acknowledged for an hour.
    assert clock_ms(cluster, 1) <= cluster.now_ns // 1_000_000
    assert is_apart(cluster, 1, 0)
    assert cluster.mesh.station_of(cluster.engines[1]).counts().apart == 1
    # Transactions of its own go on, on both sides.
    assert cluster.run(0, put, 0, 1, 51).outcome is Outcome.COMMITTED
    assert cluster.run(1, put, 1, 2, 8).outcome is Outcome.COMMITTED
    assert cluster.mesh.busy == 0


def test_who_asks_a_partition_whose_clock_is_too_far_ahead_gives_up(cluster: Cluster) -> None:
    set_ahead(cluster, 0, HOUR_MS)
    assert cluster.run(1, transfer, 1, 2, 0, 1, 5).outcome is Outcome.UNAVAILABLE
    assert clock_ms(cluster, 1) <= cluster.now_ns // 1_000_000
    assert is_apart(cluster, 1, 0)
    assert cluster.mesh.busy == 0


@pytest.mark.parametrize("first", [0, 1])
def test_what_clocks_may_differ_by_is_no_reason_to_refuse(cluster: Cluster, first: int) -> None:
    ahead = set_ahead(cluster, 0, ALLOWED_MS - 1)
    assert cluster.run(first, transfer, first, 1 + first, 1 - first, 2 - first, 5).outcome is (
        Outcome.COMMITTED
    )
    assert cluster.mesh.station_of(cluster.engines[1]).apart == (0, 0)
    assert clock_ms(cluster, 1) >= ahead


def test_without_a_limit_any_clock_is_followed(cluster: Cluster) -> None:
    for mesh in cluster.mesh.station_of(cluster.engines[1]).meshes:
        set_word(mesh + lanes.H_AHEAD, 0)
    ahead = set_ahead(cluster, 0, HOUR_MS)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED
    assert clock_ms(cluster, 1) >= ahead


def test_who_is_as_far_ahead_is_no_reason_to_refuse(cluster: Cluster) -> None:
    """As on one host whose clock was set back, or in a turn of a worker that was halted in it."""
    for partition in (0, 1):
        set_ahead(cluster, partition, HOUR_MS)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED
    assert cluster.run(1, transfer, 1, 2, 0, 1, 5).outcome is Outcome.COMMITTED
    assert [cluster.mesh.station_of(engine).apart for engine in cluster.engines] == [(0, 0)] * 2
