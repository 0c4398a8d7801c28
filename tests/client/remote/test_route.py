"""A client whose leader is gone: where it goes, whom it listens to, and what it is told there."""

from typing import Any

import pytest

from mako.wire.hello import hello_parts
from mako.wire.requests import Operation, unpack_requests
from tests.client.remote.scripted import SERVER, Played, about, redirect, result


@pytest.fixture
def played() -> Played:
    made = Played()
    made.serve()
    return made


def dead_leader() -> tuple[Played, Any]:
    """A call whose server has died; another one, which it is connected to, has not noticed."""
    played = Played("a:1", "b:2", "c:3")
    played.serve()
    call = played.run(once=True)
    played.sent()
    played.lose()
    assert played.dial() == "a:1"
    played.core.lost(played.now, "connection refused")
    assert played.serve(leads=False, leader="a:1") == "b:2"
    assert played.core.connection, "it listens"
    return played, call


def test_a_server_that_is_listened_to_tells_who_leads() -> None:
    played, call = dead_leader()
    played.feed(redirect("c:3"))
    at = played.now
    assert played.serve() == "c:3"
    assert played.now == at, "without a pause"
    assert played.calls() == [call.id]


def test_a_server_that_is_listened_to_may_become_the_leader() -> None:
    played, call = dead_leader()
    for leads in (False, True):  # It is elected, and a little later it serves.
        played.feed(redirect("b:2"))
        assert [request for _, body in played.sent() for request in unpack_requests(body)] == [
            [0, Operation.DESCRIBE]
        ]
        played.feed(about(leads=leads, leader="b:2"))
        assert played.core.ready is leads
    assert played.calls() == [call.id]
    assert played.dialled == ["a:1", "a:1", "b:2"]


def test_a_leader_that_comes_back_is_gone_to_although_it_was_shunned() -> None:
    played, call = dead_leader()
    played.feed(redirect("a:1"))
    assert played.serve() == "a:1"
    assert played.calls() == [call.id]


def test_who_listens_in_vain_asks_another_and_believes_it() -> None:
    """A leader that could not be reached is tried again when the next server names it, too."""
    played, call = dead_leader()
    begun = played.now
    assert played.serve(leads=False, leader="a:1") == "c:3"
    assert 0 < played.now - begun <= 0.005
    begun = played.now
    assert played.dial() == "a:1"
    assert played.now == begun
    played.core.lost(played.now, "connection refused")
    assert played.serve(leads=False, leader="a:1") == "c:3", "it is listened to meanwhile"
    begun = played.now
    played.dial()
    assert 0.005 <= played.now - begun <= 0.02, "longer than before"
    assert not call.ended


def test_a_server_that_is_being_left_is_left_although_it_leads_again(played: Played) -> None:
    """Else calls would be sent to it, and back, without a pause when it is deposed once more."""
    flying = played.run()
    played.sent()
    played.feed(redirect(""), redirect("a:1"))  # Deposed and elected again; it is asked.
    played.wait(2.1)  # It says nothing for so long that it is left, once it has answered.
    waiting = played.run()
    played.feed(about(leads=True))
    assert not played.core.ready
    assert waiting.id not in played.calls()
    played.feed(result(flying.id, value=1))
    assert flying.value == 1
    assert not played.core.connection
    assert played.serve()
    assert played.calls() == [waiting.id]


def test_whoever_is_left_may_still_say_where_to_go(played: Played) -> None:
    flying = played.run()
    played.sent()
    played.feed(redirect("b:2"), redirect("c:3"))
    played.feed(result(flying.id, value=1))
    assert played.serve() == "c:3"


def test_news_while_a_server_describes_itself_shorten_nothing() -> None:
    """It was just elected: the push comes before the description, which says the same."""
    played = Played("a:1", "b:2")
    call = played.asking.request(Operation.PING, deadline=played.now + 9)
    assert played.dial() == "a:1"
    played.sent()
    played.feed(b"".join(hello_parts(SERVER, reply=True)), redirect("a:1"))
    played.wait(1.9)
    assert played.core.connection
    played.feed(about(leads=True))
    assert played.calls()[-1] == call.id


def test_a_server_that_leads_now_has_time_to_say_so() -> None:
    played, call = dead_leader()
    played.feed(redirect("b:2"))
    played.wait(1.9)
    assert played.core.connection
    played.feed(about(leads=True))
    assert played.calls()[-1] == call.id


def test_what_was_sent_to_a_deposed_server_is_answered_while_it_is_listened_to(
    played: Played,
) -> None:
    """It knows no leader yet. Its answers come; nothing new goes to it; then it is left."""
    first = played.run()
    played.sent()
    played.feed(redirect(""))
    late = played.run()
    assert played.calls() == []
    played.feed(result(first.id, value=4))
    assert first.value == 4
    played.feed(redirect("b:2"))
    assert played.serve() == "b:2"
    assert played.calls() == [late.id]


def test_who_stays_is_not_sent_on() -> None:
    played = Played(stay=True)
    played.serve(leads=False, leader="b:2")
    played.feed(redirect("c:3"))
    assert played.core.ready
