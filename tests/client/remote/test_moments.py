"""A snapshot of several partitions: one timestamp, whatever each of them answers and when."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mako.client.remote import moments
from mako.client.remote.calls import Call
from mako.client.remote.lanes import Lane
from mako.client.remote.moments import Moment, Step
from mako.errors import (
    Closed,
    ConnectionLost,
    NotLeader,
    Rejected,
    TooStale,
    TransactionTooOld,
    Unknown,
)
from mako.ids import Status
from mako.wire.requests import Operation, unpack_requests
from tests.client.remote.scripted import Played, reply

SNAPSHOT, MOVE = Operation.SNAPSHOT, Operation.MOVE_SNAPSHOT


def answered(timestamp: int, value: Any, connection: int = 1) -> Call:
    call = Call("test", deadline=0.0)
    call.timestamp, call.value, call.connection = timestamp, value, connection
    call.end()
    return call


def failed(error: Exception) -> Call:
    call = Call("test", deadline=0.0)
    call.end(error)
    return call


def opened(*timestamps: int, max_staleness: float | None = None) -> Moment:
    """Of partitions that have answered, partition p with the session 10 + p and an age of p."""
    moment = Moment(range(len(timestamps)), max_staleness)
    for step, timestamp in zip(moment.steps(), timestamps, strict=True):
        assert step.operation is SNAPSHOT
        moment.take(step, answered(timestamp, [10 + step.partition, step.partition]))
    return moment


def test_one_partition_is_asked_once() -> None:
    moment = Moment([3], 1.5)
    assert moment.steps() == [Step(3, SNAPSHOT, (1500,))]
    moment.take(moment.steps()[0], answered(77, [5, 20]))
    assert moment.steps() == []
    moment.finish()
    assert (moment.timestamp, moment.staleness) == (77, 0.02)


@pytest.mark.parametrize(
    ("partitions", "over"), [([1], (0b010,)), ([0, 2], (0b101,)), ([0, 1, 2], ())]
)
def test_who_is_not_of_all_partitions_says_of_which(
    partitions: list[int], over: tuple[int, ...]
) -> None:
    moment = Moment(partitions, 1.5, total=3)
    assert moment.steps() == [Step(each, SNAPSHOT, (1500, *over)) for each in partitions]


def test_nothing_is_asked_where_there_is_nothing_to_read() -> None:
    moment = Moment([], None)
    assert moment.steps() == []
    assert moment.timestamp == 0


def test_a_moment_is_not_below_what_was_acknowledged() -> None:
    moment = Moment([3], None, 25)
    (step,) = moment.steps()
    moment.take(step, answered(20, [7, 0]))
    assert moment.steps() == [Step(3, MOVE, (7, 25), 1)]


def test_those_that_are_behind_are_moved_to_the_highest() -> None:
    moment = opened(70, 90, 80, 90)
    assert moment.steps() == [Step(0, MOVE, (10, 90), 1), Step(2, MOVE, (12, 90), 1)]
    for step in moment.steps():
        moment.take(step, answered(90, 300 + step.partition))
    assert moment.steps() == []
    moment.finish()
    assert {each.timestamp for each in moment.opened.values()} == {90} == {moment.timestamp}
    assert moment.staleness == 0.302


def test_those_that_agree_are_not_asked_again() -> None:
    assert opened(90, 90, 90).steps() == []


@pytest.mark.parametrize("error", [ConnectionLost("cut"), TransactionTooOld("idle")])
def test_a_session_that_is_lost_meanwhile_is_opened_again(error: Exception) -> None:
    moment = opened(70, 90)
    moment.take(moment.steps()[0], failed(error))
    assert moment.steps() == [Step(0, SNAPSHOT, (-1,))]
    moment.take(moment.steps()[0], answered(95, [44, 0], connection=2))
    assert moment.steps() == [Step(1, MOVE, (11, 95), 1)], "now the other one is behind"
    moment.take(moment.steps()[0], answered(95, 0))
    assert moment.steps() == []
    assert (moment.timestamp, moment.opened[0].connection) == (95, 2)


def test_an_error_names_the_partition() -> None:
    moment = Moment([0, 1], None)
    step = moment.steps()[1]
    for error in (NotLeader("nobody leads"), TimeoutError("wait"), TooStale("old"), Closed("it")):
        with pytest.raises(type(error), match=rf"^partition 1: {error}$"):
            moment.take(step, failed(error))
    with pytest.raises(ConnectionLost, match=r"^partition 1: lost \(refused\)$"):
        moment.take(step, failed(ConnectionLost("lost")), "refused")
    alone = Moment([1], None)
    with pytest.raises(TooStale, match=r"^old$"):
        alone.take(alone.steps()[0], failed(TooStale("old")))
    with pytest.raises(ConnectionLost, match=r"^lost \(refused\)$"):
        alone.take(alone.steps()[0], failed(ConnectionLost("lost")), "refused")


@pytest.mark.parametrize("error", [TimeoutError("late"), Unknown("no answer came")])
def test_a_partition_that_does_not_come_to_the_moment_is_named(error: Exception) -> None:
    moment = opened(70, 90)
    with pytest.raises(TimeoutError, match="partition 0 has not come to the moment of the others"):
        moment.take(moment.steps()[0], failed(error))


def test_a_server_that_cannot_move_it_is_named() -> None:
    moment = opened(70, 90)
    with pytest.raises(Rejected, match="partition 0: there is no operation 33"):
        moment.take(moment.steps()[0], failed(Rejected("there is no operation 33")))


def test_a_moment_that_was_waited_for_too_long_is_too_old() -> None:
    moment = opened(70, 90, max_staleness=0.2)
    moment.take(moment.steps()[0], answered(90, 200))
    moment.finish()
    moment = opened(70, 90, max_staleness=0.2)
    moment.take(moment.steps()[0], answered(90, 201))
    with pytest.raises(TooStale, match="partition 0 came to the moment of all 201 ms after it"):
        moment.finish()


class Replica:
    """A partition whose stable timestamp moves on, and the sessions that are open at it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.stable = chance.randrange(1, 50)
        self.connection = 1
        self.sessions: dict[int, int] = {}

    def answer(self, step: Step) -> Call:
        while self.chance.random() < 0.5:
            self.stable += self.chance.randrange(20)
        if self.chance.random() < 0.2:  # Another one leads, or the client was cut off.
            self.connection += 1
            self.sessions.clear()
        if step.operation is SNAPSHOT:
            number = len(self.sessions) + 1
            self.sessions[number] = self.stable
            return answered(self.stable, [number, 0], self.connection)
        number, wanted = step.arguments
        if step.bound != self.connection:
            return failed(ConnectionLost("cut"))
        assert self.sessions[number] < wanted, "it is moved on, and only if it has to be"
        self.stable = max(self.stable, wanted)
        self.sessions[number] = wanted
        return answered(wanted, 0, self.connection)


@pytest.mark.parametrize("seed", range(50))
def test_all_are_at_one_timestamp_whatever_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    replicas = [Replica(chance) for _ in range(chance.randint(2, 6))]
    moment = Moment(range(len(replicas)), None)
    while steps := moment.steps():
        for step in steps:
            moment.take(step, replicas[step.partition].answer(step))
    for partition, each in moment.opened.items():
        replica = replicas[partition]
        assert each.timestamp == moment.timestamp <= replica.stable
        if each.connection == replica.connection:
            assert replica.sessions[each.number] == moment.timestamp
    assert len(moment.opened) == len(replicas)


# --- What nobody waits for any more ------------------------------------------------------------


def asked(played: Played) -> list[list[Any]]:
    """The requests that the core sends now, without their ids."""
    return [request[1:] for _, body in played.sent() for request in unpack_requests(body)]


@pytest.fixture
def played() -> Played:
    made = Played("a:1")
    made.serve()
    return made


def lane_of(played: Played) -> Lane[None]:
    lane = Lane(played.core, None, once=False)
    lane.asking = played.asking  # type: ignore[misc]
    return lane


def test_what_is_opened_after_all_is_closed(played: Played) -> None:
    moment, lane = Moment([0, 1], None), lane_of(played)
    step = moment.steps()[0]
    call = moments._ask(moment, lane.asking, step, played.now + 10)
    assert call is not None
    assert asked(played) == [[SNAPSHOT, -1]]
    moments._abandon(moment, lane, step, call)
    assert asked(played) == []
    played.feed(reply(call.id, 0, 90, [7, 0]))
    assert asked(played) == [[Operation.CLOSE, 7]]


def test_what_was_not_even_sent_is_not_asked(played: Played) -> None:
    moment, lane = Moment([0, 1], None), lane_of(played)
    step = moment.steps()[0]
    call = moments._ask(moment, lane.asking, step, played.now + 10)
    assert call is not None
    moments._abandon(moment, lane, step, call)
    assert asked(played) == []


def test_what_was_opened_is_closed_if_the_whole_is_not(played: Played) -> None:
    moment, lane = Moment([0, 1], None), lane_of(played)
    step = moment.steps()[0]
    call = moments._ask(moment, lane.asking, step, played.now + 10)
    assert call is not None
    asked(played)
    played.feed(reply(call.id, 0, 90, [7, 0]))
    moments._abandon(moment, lane, step, call)
    assert moment.opened[0].number == 7
    moments._leave(moment, lane, played.now + 10)
    assert asked(played) == [[Operation.CLOSE, 7]]


def test_a_move_belongs_to_the_connection_that_has_the_session(played: Played) -> None:
    moment, lane = Moment([0, 1], None), lane_of(played)
    for step, timestamp in zip(moment.steps(), (70, 90), strict=True):
        moment.take(step, answered(timestamp, [7, 0], played.core.connection))
    (step,) = moment.steps()
    call = moments._ask(moment, lane.asking, step, played.now + 10)
    assert call is not None
    assert asked(played) == [[MOVE, 7, 90]]
    played.lose()
    moment.take(step, call)
    assert moment.steps() == [Step(0, SNAPSHOT, (-1,))]
    played.serve()
    again = moments._ask(moment, lane.asking, moment.steps()[0], played.now + 10)
    assert again is not None
    played.sent()
    played.feed(reply(again.id, 0, 80, [1, 0]))
    moment.take(moment.steps()[0], again)
    assert moment.opened[0].connection == 2
    played.lose()
    (step,) = moment.steps()
    assert moments._ask(moment, lane.asking, step, played.now + 10) is None
    assert moment.steps() == [Step(0, SNAPSHOT, (-1,))]


def test_a_refusal_of_the_server_ends_it(played: Played) -> None:
    moment, lane = Moment([0, 1], 1.0), lane_of(played)
    step = moment.steps()[0]
    call = moments._ask(moment, lane.asking, step, played.now + 10)
    assert call is not None
    assert asked(played) == [[SNAPSHOT, 1000]]
    played.feed(reply(call.id, Status.STALE, text="this replica is 1200 ms behind"))
    with pytest.raises(TooStale, match="partition 0: snapshot: this replica is 1200 ms behind"):
        moment.take(step, call)
