"""Servers that go silent, and calls that wait for a while: a core with a virtual clock."""

from typing import Any

import pytest

import mako
from mako.call_format import GET
from mako.client.remote.core import PATIENCE, SILENCE_MAX
from mako.ids import Outcome, Status
from mako.wire.requests import ClientKind, Operation, unpack_requests
from tests.client.remote.scripted import KV, Played, redirect, reply, result


def played(**options: Any) -> Played:
    made = Played(**options)
    made.serve()
    return made


def pings(one: Played) -> list[int]:
    """The ids of the questions whether the server is there, all that is sent now."""
    found = [unpack_requests(body) for kind, body in one.sent() if kind == ClientKind.REQUEST]
    assert all(request[1:] == [Operation.PING] for some in found for request in some)
    return [request[0] for some in found for request in some]


# --- a server that says nothing any more -------------------------------------------------------


def test_a_silent_server_is_asked_and_then_left_for_the_next() -> None:
    one = played()
    call = one.asking.on_key(GET, KV, b"k", b"", one.now + 30)
    assert one.calls() == [call.id]
    one.listen(PATIENCE - 0.5)
    assert pings(one) == []
    one.listen(1)
    assert len(pings(one)) == 1
    one.listen(SILENCE_MAX - PATIENCE - 1)
    assert one.core.connection
    assert pings(one) == [], "once is enough"
    one.listen(1)
    assert not one.core.connection
    assert "says nothing any more" in one.core.trouble
    assert one.serve() != one.dialled[0]
    assert one.calls() == [call.id]


def test_what_was_sent_to_a_silent_server_is_unknown() -> None:
    one = played()
    write = one.run(limit=30)
    bound = one.core.connection
    get = one.asking.request(Operation.GET, 1, 9, [b"k"], deadline=one.now + 30, bound=bound)
    one.sent()
    one.listen(SILENCE_MAX)
    assert isinstance(write.error, mako.Unknown)
    assert isinstance(get.error, mako.ConnectionLost)


def test_calls_of_a_second_each_leave_a_silent_server_too() -> None:
    """Each ends at its deadline, and the next one is sent into the same connection."""
    one = played()
    for _ in range(int(SILENCE_MAX) + 1):
        if one.core.connection:
            call = one.run(limit=0.9)
            one.sent()
            one.listen(1)
            assert isinstance(call.error, mako.Unknown)
    assert not one.core.connection
    assert one.serve() != one.dialled[0]


def test_a_long_wait_at_a_server_that_is_there_is_no_silence() -> None:
    one = played()
    call = one.run(limit=100)
    one.sent()
    for _ in range(20):
        one.listen(3)
        for ping in pings(one):
            one.feed(reply(ping))
    assert one.core.connection
    one.feed(result(call.id, value=3))
    assert call.value == 3


def test_who_asks_nothing_expects_nothing() -> None:
    one = played()
    call = one.run()
    one.sent()
    one.feed(result(call.id))
    one.listen(100)
    assert one.core.connection
    assert pings(one) == []


def test_a_silence_that_nobody_listened_to_is_none() -> None:
    """The answer may be there, and nobody has looked: nobody waited."""
    one = played()
    call = one.run(limit=1000)
    one.sent()
    one.wait(500)
    assert one.core.connection
    one.feed(result(call.id))
    assert call.error is None


def test_a_silent_server_that_is_said_to_lead_is_not_believed_at_once() -> None:
    one = played()
    silent = one.dialled[0]
    one.run(limit=30)
    one.sent()
    one.listen(SILENCE_MAX)
    one.run(limit=30)
    other = one.serve(leads=False, leader=silent)
    assert one.core.connection, "it is listened to"
    third = next(each for each in ("a:1", "b:2", "c:3") if each not in (silent, other))
    one.feed(redirect(third))
    assert one.dial() == third


# --- calls that wait before they are sent again ------------------------------------------------

_SHIFTED = [("added", 3, ["a"]), ("add", 9, ["a", "b"])]


def number_sent(one: Played) -> int:
    """The number of the procedure in the only call that is sent now."""
    ((kind, body),) = one.sent()
    assert kind == ClientKind.CALL
    return int.from_bytes(body[16 + 16 : 16 + 20], "little")


@pytest.mark.parametrize(
    ("status", "once"),
    [
        (Status.BUSY, False),
        (Outcome.UNAVAILABLE, False),
        (Status.DISCARDED, False),
        (Status.UNKNOWN, True),
    ],
)
def test_what_waits_to_be_sent_again_gets_the_numbers_of_the_next_server(
    status: int, *, once: bool
) -> None:
    """With the old ones another procedure would run."""
    one = played()
    call = one.run(4, 5, once=once)
    assert number_sent(one) == 3
    one.feed(result(call.id, status))
    one.lose()
    one.serve(procedures=_SHIFTED)
    one.wait(1)
    assert number_sent(one) == 9
    one.feed(result(call.id, value=9))
    assert call.value == 9


def test_what_waits_for_a_procedure_that_the_next_server_has_not_ends() -> None:
    one = played()
    waits, other = one.run(limit=100), one.run(limit=100)
    one.sent()
    one.feed(result(waits.id, Status.BUSY), result(other.id, Status.BUSY))
    one.lose()
    one.serve(procedures=[("other", 0, [])])
    for call in (waits, other):
        assert isinstance(call.error, mako.Rejected)
    one.wait(1)
    assert one.sent() == []


def test_who_stays_at_a_follower_asks_it_again_after_pauses() -> None:
    one = Played(stay=True)
    one.serve(leads=False, leader="b:2", hosted=True)
    call = one.asking.on_key(GET, KV, b"k", b"", one.now + 10)
    request = one.asking.request(Operation.BEGIN, deadline=one.now + 10)
    asked = 0
    while not (call.ended and request.ended):
        sent = one.calls()
        assert one.calls() == []
        asked += len(sent)
        assert asked < 100
        for number in sent:
            if number == call.id:
                one.feed(redirect("b:2"), result(number, Status.NOT_LEADER))
            else:
                one.feed(reply(number, Status.NOT_LEADER, text="b:2"))
            assert one.calls() == [], "not at once"
        when = one.core.next_time()
        assert when is not None
        one.wait(max(when - one.now, 1e-6))
    assert asked > 10
    assert isinstance(call.error, mako.NotLeader)
    assert isinstance(request.error, mako.NotLeader)
