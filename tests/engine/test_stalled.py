"""Nobody inherits from a partition that makes nothing durable: who would is refused (DESIGN §6)."""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine.commit import unless_refused
from mako.engine.completing import DRIVE
from mako.engine.layout import (
    C_CONTROL,
    C_DETAIL,
    C_HISTOGRAMS,
    C_MASK,
    HISTOGRAM_BYTES,
    K_FAILED,
    K_FAILED_DETAIL,
)
from mako.engine.mesh import _report
from mako.engine.station import refused_as_stalled
from mako.ids import TABLE_ID_LAST, Outcome
from mako.procedure import Procedure
from tests.engine.partitioned import ACCOUNT, Cluster, Done, change, delete, insert, put
from tests.engine.test_partitions import BASE, look, refuse, transfer

pytestmark = pytest.mark.interpreted

#: The partition that will stall.
STILL = 2


def until_done(cluster: Cluster, number: int) -> Done:
    """Without the watermark of STILL, which would let go of what depends on it."""
    for _ in range(10_000):
        cluster.pass_time(1_000)
        for partition in (0, 1):
            cluster.serve(partition)
            cluster.turn(partition)
        for done in cluster.done():
            if done.number == number:
                return done
    raise AssertionError("it is not done")


def stall(cluster: Cluster, *partitions: int) -> None:
    """These partitions take STILL for one that stalls."""
    for partition in partitions:
        cluster.mesh.station_of(cluster.engines[partition]).set_stalled([STILL])


def unstall(cluster: Cluster, partition: int) -> None:
    cluster.mesh.station_of(cluster.engines[partition]).set_stalled([])


def refused(cluster: Cluster) -> list[int]:
    return [refused_as_stalled(engine) for engine in cluster.engines]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The first row of partition 0 depends on STILL."""
    made = Cluster([ACCOUNT], partitions=3)
    for partition in range(3):
        for number in (1, 2):
            made.run(partition, put, partition, number, 50)
    number = made.post(0, transfer, 0, 1, STILL, 1, 5)
    found: list[Done] = []
    while not found:
        made.pass_time(1_000)
        made.serve(0)
        for partition in range(3):
            made.turn(partition)
        found = made.done()
    assert [(done.number, done.mask) for done in found] == [(number, 0b101)]
    yield made
    made.close()


def ask(cluster: Cluster, partition: int, procedure: Procedure, *arguments: int) -> Done:
    return until_done(cluster, cluster.post(partition, procedure, *arguments))


@pytest.mark.parametrize(
    ("procedure", "arguments"),
    [
        (put, (0, 1, 9)),
        (change, (0, 1)),
        (delete, (0, 1)),
        (look, (0, 1, 0, 2)),
        (insert, (0, 1, 9)),
        (refuse, (0, 1)),
    ],
    ids=["put", "write", "delete", "read", "exists", "rolled back"],
)
def test_who_reads_or_overwrites_what_depends_on_it_is_refused(
    cluster: Cluster, procedure: Procedure, arguments: tuple[int, ...]
) -> None:
    """Also to be told that a row is there it would have to wait."""
    stall(cluster, 0)
    assert ask(cluster, 0, procedure, *arguments).outcome is Outcome.UNAVAILABLE
    assert refused(cluster) == [1, 0, 0]
    assert ask(cluster, 0, look, 0, 2, 0, 2).value == 50 * BASE + 50, "others go on"
    unstall(cluster, 0)
    assert ask(cluster, 0, look, 0, 1, 0, 1).value == 45 * BASE + 45, "it has no effect"


def test_what_it_has_made_durable_is_for_everybody(cluster: Cluster) -> None:
    stall(cluster, 0)
    cluster.settle()  # Everybody hears how far it has come.
    assert ask(cluster, 0, change, 0, 1).mask == 0b001
    assert refused(cluster) == [0, 0, 0]


def test_a_coordinator_asks_nobody_for_what_it_would_refuse(cluster: Cluster) -> None:
    stall(cluster, 0)
    number = cluster.post(0, transfer, 0, 1, 1, 1, 5)
    cluster.serve(0)
    cluster.turn(1)  # Rows.
    cluster.turn(0)
    assert [(done.number, done.outcome) for done in cluster.done()] == [
        (number, Outcome.UNAVAILABLE)
    ]
    assert cluster.mesh.busy == 0
    assert refused(cluster) == [1, 0, 0]
    assert ask(cluster, 0, transfer, 0, 2, 1, 1, 5).outcome is Outcome.COMMITTED
    assert ask(cluster, 1, look, 1, 1, 0, 2).value == 55 * BASE + 45


@pytest.mark.parametrize("who", [0, 1], ids=["participant", "coordinator"])
def test_either_side_refuses_what_both_would_wait_for(cluster: Cluster, who: int) -> None:
    """A participant says no; and a coordinator withdraws what a participant said yes to."""
    stall(cluster, who)
    done = ask(cluster, 1, transfer, 1, 1, 0, 1, 5)
    assert done.outcome is Outcome.UNAVAILABLE
    for partition in (0, 1):
        cluster.turn(partition)
    assert cluster.mesh.busy == 0, "nobody holds anything"
    assert refused(cluster) == [int(who == 0), int(who == 1), 0]
    unstall(cluster, who)
    done = ask(cluster, 1, transfer, 1, 1, 0, 1, 5)
    assert (done.outcome, done.mask) == (Outcome.COMMITTED, 0b111)
    assert ask(cluster, 1, look, 1, 1, 0, 1).value == 45 * BASE + 50


@mako.procedure
def too_long(tx: Any, place: int, number: int) -> int:
    """After it has read a row it names a key that there cannot be."""
    value = tx.read(ACCOUNT, (place, number)).v
    found, _ = tx.find(ACCOUNT, (place, -number))
    return int(value) if found else 0


def test_whatever_else_goes_wrong_is_not_waited_for_either(cluster: Cluster) -> None:
    stall(cluster, 0)
    assert ask(cluster, 0, too_long, 0, 1).outcome is Outcome.UNAVAILABLE
    assert ask(cluster, 0, too_long, 0, 2).outcome is Outcome.KEY_TOO_LARGE


@pytest.mark.parametrize("outcome", Outcome)
def test_what_says_nothing_of_rows_stays_what_it_is(cluster: Cluster, outcome: Outcome) -> None:
    """A conflict is run again, what is remote comes again, and a timeout is told at once."""
    stall(cluster, 0)
    engine, home = cluster.engines[0], cluster.homes[0]
    nothing = (
        Outcome.LOCKED, Outcome.CHANGED, Outcome.PHANTOM, Outcome.LOG_FULL, Outcome.REMOTE,
        Outcome.TIMED_OUT,
    )  # fmt: skip
    for mask in (0, 1 << 1, 1 << STILL):
        engine.set_word(home + C_MASK, mask)
        stays = mask != 1 << STILL or outcome in nothing
        assert unless_refused(home, outcome) == (outcome if stays else Outcome.UNAVAILABLE)
    engine.set_word(home + C_MASK, 0)


@pytest.mark.parametrize("closed", [False, True], ids=["stalls", "out of reach"])
def test_nobody_prepares_with_a_partition_with_which_nothing_is_durable(
    cluster: Cluster, *, closed: bool
) -> None:
    """Neither for it, as its participant, nor with it."""
    cluster.settle()
    if closed:
        cluster.mesh.station_of(cluster.engines[STILL]).set_closed([0])
    else:
        stall(cluster, 0)
    number = cluster.post(STILL, transfer, STILL, 1, 0, 2, 5)
    (done,) = [done for done in cluster.settle() if done.number == number]
    assert done.outcome is Outcome.UNAVAILABLE
    assert cluster.mesh.busy == 0
    assert ask(cluster, 0, put, 0, 2, 7).mask == 0b001, "no row of it waits for who stalls"


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, Outcome.UNAVAILABLE])
def test_a_refused_transaction_of_a_drive_is_none_that_ended(
    cluster: Cluster, outcome: Outcome
) -> None:
    """Neither among the latencies, nor for the worker, which goes on."""
    engine, home = cluster.engines[0], cluster.homes[0]
    lane = next(iter(cluster.mesh.lanes_of(engine)))
    control = engine.word(home + C_CONTROL)
    engine.set_word(home + C_CONTROL, DRIVE)
    before = engine.read(home + C_HISTOGRAMS, HISTOGRAM_BYTES)
    _report(home, lane, outcome, cluster.now_ns)
    engine.set_word(home + C_CONTROL, control)
    after = engine.read(home + C_HISTOGRAMS, HISTOGRAM_BYTES)
    assert (after != before) == (outcome is Outcome.COMMITTED)
    assert engine.word(home + K_FAILED) == 0


def test_a_drive_that_fails_says_what_its_transaction_was_about(cluster: Cluster) -> None:
    """The one that was run in a lane, and not the last one of the worker itself."""
    engine, home = cluster.engines[0], cluster.homes[0]
    lane = next(iter(cluster.mesh.lanes_of(engine)))
    control = engine.word(home + C_CONTROL)
    engine.set_word(home + C_CONTROL, DRIVE)
    engine.set_word(home + C_DETAIL, int(TABLE_ID_LAST))
    engine.set_word(lane + C_DETAIL, int(ACCOUNT.id))
    _report(home, lane, Outcome.NOT_FOUND, cluster.now_ns)
    engine.set_word(home + C_CONTROL, control)
    assert engine.word(home + K_FAILED) == Outcome.NOT_FOUND
    assert engine.word(home + K_FAILED_DETAIL) == ACCOUNT.id
