"""Which calls a client keeps until when."""

import pytest

import mako
from mako.client.remote.calls import Call
from mako.client.remote.deadlines import _KEPT_MIN, Deadlines
from mako.ids import Outcome
from tests.client.remote.scripted import Played, result


@pytest.fixture
def played() -> Played:
    made = Played()
    made.serve()
    return made


def call(number: int, deadline: float) -> Call:
    made = Call("put", deadline=deadline)
    made.id = number
    return made


def test_they_come_in_the_order_of_their_deadlines() -> None:
    deadlines = Deadlines()
    third, first, second = call(1, 3.0), call(2, 1.0), call(3, 2.0)
    for each in (third, first, second):
        deadlines.add(each)
    assert deadlines.next() == 1.0
    assert deadlines.pop(0.9) is None
    second.end()
    assert deadlines.pop(3.0) is first
    assert deadlines.next() == 3.0
    assert deadlines.pop(3.0) is third
    assert deadlines.next() is None
    assert deadlines.pop(9.0) is None


def test_one_that_waits_does_not_keep_those_that_have_ended_behind_it() -> None:
    deadlines = Deadlines()
    waits = call(1, 3600.0)
    deadlines.add(waits)
    for number in range(2, 10 * _KEPT_MIN):
        made = call(number, 3600.0 + number)
        deadlines.add(made)
        made.end()
    assert len(deadlines) <= _KEPT_MIN + 1
    assert deadlines.next() == 3600.0
    assert deadlines.pop(3600.0) is waits


def test_a_call_whose_worker_was_stopped_between_two_tries_is_asked_again(played: Played) -> None:
    call = played.run(limit=10, once=True)
    for outcome in (Outcome.CHANGED, Outcome.LOCKED, Outcome.LOG_FULL):
        assert played.calls() == [call.id]
        played.feed(result(call.id, outcome))
        assert not call.ended
        played.wait(1)
    played.sent()
    played.wait(10)
    assert isinstance(call.error, mako.Unknown)  # It was sent once more, and not answered.


def test_who_meets_conflicts_up_to_the_deadline_is_told_so(played: Played) -> None:
    call = played.run(limit=0.5)
    played.sent()
    played.feed(result(call.id, Outcome.LOCKED))
    played.now += 0.6
    played.core.expire(played.now)
    assert isinstance(call.error, mako.Conflict)
    assert "faster every time" in str(call.error)
