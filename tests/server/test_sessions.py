"""What a client leaves open is ended, each kind after its own time, and there is not too much."""

from collections.abc import Iterator

import pytest

from mako.engine.engine import Engine
from mako.ids import Status
from mako.schema import BytesTable
from mako.server.sessions import (
    AGE_MAX,
    IDLE_MAX,
    SESSIONS_MAX,
    SNAPSHOT_IDLE_MAX,
    Refused,
    ServedSnapshot,
    ServedTransaction,
    Session,
    Sessions,
)

TABLE = 50


class World:
    """The sessions of one connection, and time as a number."""

    def __init__(self) -> None:
        self.engine = Engine(32 << 20, contexts=SESSIONS_MAX + 4)
        self.table = self.engine.create_table(BytesTable("table", id=TABLE))
        self.sessions = Sessions()
        self.now = 100.0

    def begin(self) -> int:
        return self.sessions.add(lambda: ServedTransaction(self.engine, self.now))

    def snapshot(self) -> int:
        return self.sessions.add(lambda: ServedSnapshot(self.engine, self.now))

    def find(self, number: object) -> Session:
        return self.sessions.find(number, self.now)

    def lasts(self, number: int, seconds: float) -> bool:
        """Whether one is still there after some more time, as the ticks of a connection see it."""
        self.now += seconds
        self.sessions.expire(self.now)
        return number in self.sessions._open


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.sessions.close_all()
    assert made.engine.sessions == 0
    made.engine.close()


def test_a_transaction_that_rests_is_aborted(world: World) -> None:
    number = world.begin()
    transaction = world.sessions.transaction(number, world.now)
    transaction.put(world.table, b"key", b"value", replace=True)
    assert world.lasts(number, IDLE_MAX)
    assert not world.lasts(number, 0.1)
    with pytest.raises(Refused) as refused:
        world.find(number)
    assert refused.value.status == Status.NO_SESSION
    assert world.engine.sessions == 0
    reader = ServedTransaction(world.engine, world.now)
    assert reader.get(world.table, b"key") is None
    reader.abort()


def test_a_transaction_does_not_last_for_being_used(world: World) -> None:
    """What it has read is kept for it all the time."""
    number = world.begin()
    for _ in range(10):
        assert world.lasts(number, AGE_MAX / 10)
        world.find(number)
    assert not world.lasts(number, 0.1)


def test_a_snapshot_may_rest_for_longer_and_last_as_long_as_it_is_used(world: World) -> None:
    assert SNAPSHOT_IDLE_MAX > 2 * IDLE_MAX
    number = world.snapshot()
    for _ in range(5):
        assert world.lasts(number, SNAPSHOT_IDLE_MAX)
        world.find(number)
    assert not world.lasts(number, SNAPSHOT_IDLE_MAX + 0.1)


def test_a_context_in_which_a_thread_works_is_not_given_back(world: World) -> None:
    number = world.snapshot()
    session = world.find(number)
    session.busy = True
    assert world.lasts(number, 10 * SNAPSHOT_IDLE_MAX)
    with pytest.raises(Refused) as refused:
        world.find(number)
    assert refused.value.status == Status.BUSY
    world.sessions.end(number)  # Its client has gone.
    assert world.engine.sessions == 1
    session.rest()
    assert world.engine.sessions == 0


def test_a_connection_has_only_so_many_and_none_of_another_one(world: World) -> None:
    numbers = [world.begin() if i % 2 else world.snapshot() for i in range(SESSIONS_MAX)]
    for begin in (world.begin, world.snapshot):
        with pytest.raises(Refused, match=f"{SESSIONS_MAX} transactions and snapshots are") as more:
            begin()
        assert more.value.status == Status.LIMIT
    assert world.engine.sessions == SESSIONS_MAX
    with pytest.raises(Refused) as refused:
        Sessions().find(numbers[0], world.now)
    assert refused.value.status == Status.NO_SESSION
    world.sessions.end(numbers[0])
    assert world.begin() not in numbers, "who still asks for the old one does not get this one"


@pytest.mark.parametrize("number", [True, 1.0, "1", None, [1], 2])
def test_a_session_is_named_by_its_number(world: World, number: object) -> None:
    assert world.snapshot() == 1
    assert not world.sessions.is_snapshot(number)
    world.sessions.end(number)
    assert len(world.sessions) == 1
    with pytest.raises(Refused) as refused:
        world.find(number)
    assert refused.value.status == Status.NO_SESSION


def test_a_snapshot_is_not_written(world: World) -> None:
    number = world.snapshot()
    with pytest.raises(Refused, match="cannot be written") as refused:
        world.sessions.transaction(number, world.now)
    assert refused.value.status == Status.REFUSED
    assert world.sessions.is_snapshot(number)
    assert not world.sessions.is_snapshot(world.begin())


def test_the_end_of_a_leadership_ends_transactions_alone(world: World) -> None:
    begun, snapshot = world.begin(), world.snapshot()
    world.sessions.abort_transactions()
    assert (begun in world.sessions._open, snapshot in world.sessions._open) == (False, True)
    assert world.engine.sessions == 1
