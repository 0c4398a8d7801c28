"""The client's core with scripted bytes and a virtual clock: no socket, no sleep."""

import random

import pytest

import mako
from mako.call_format import (
    BATCH_BYTES,
    CALL_EARLY,
    CALL_FLAGS,
    CALL_ONCE,
    GET,
    IS_BYTES,
    IS_EARLY,
    IS_NOTICE,
    PUT,
)
from mako.client.remote.asking import value_of
from mako.client.remote.calls import State
from mako.ids import Outcome, Status
from mako.wire.errors import WireError
from mako.wire.hello import hello_parts
from mako.wire.requests import Operation
from tests.client.remote.scripted import (
    KV,
    SERVER,
    Played,
    about,
    goodbye,
    redirect,
    reply,
    result,
)

#: The flags of the first call in a frame of calls.
_FLAGS_AT = BATCH_BYTES + CALL_FLAGS


@pytest.fixture
def played() -> Played:
    made = Played()
    made.serve()
    return made


def test_calls_made_together_travel_in_one_frame(played: Played) -> None:
    calls = [played.run(i, i) for i in range(5)]
    frames = played.sent()
    assert len(frames) == 1
    played.feed(*(result(call.id, value=10 + i) for i, call in enumerate(calls)))
    assert [call.value for call in calls] == [10, 11, 12, 13, 14]
    assert all(call.ended and call.error is None for call in calls)


def test_answers_come_in_any_order_and_in_any_pieces(played: Played, seed: int) -> None:
    calls = [played.run(i, i) for i in range(50)]
    played.sent()
    chance = random.Random(seed)
    answers = [result(call.id, value=7 * i) for i, call in enumerate(calls)]
    chance.shuffle(answers)
    stream = b"".join(answers)
    while stream:
        cut = chance.randint(1, 100)
        played.feed(stream[:cut])
        stream = stream[cut:]
    assert [call.value for call in calls] == [7 * i for i in range(50)]


def test_an_early_result_is_there_before_the_durable_one(played: Played) -> None:
    call = played.run(early=True)
    played.sent()
    played.feed(result(call.id, flags=IS_EARLY, value=4, timestamp=77))
    assert (call.state, call.value, call.timestamp) == (State.EARLY, 4, 77)
    played.feed(result(call.id, flags=IS_NOTICE, value=4, timestamp=77))
    assert call.ended
    assert call.error is None


def test_values_come_back(played: Played) -> None:
    there = played.asking.on_key(GET, KV, b"k", b"", 200)
    empty = played.asking.on_key(GET, KV, b"k", b"", 200)
    missing = played.asking.on_key(GET, KV, b"k", b"", 200)
    played.sent()
    played.feed(
        result(there.id, flags=IS_BYTES, value=3, data=b"abc"),
        result(empty.id, value=0),
        result(missing.id, value=-1),
    )
    assert [value_of(call) for call in (there, empty, missing)] == [b"abc", b"", None]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Outcome.EXISTS, mako.Exists),
        (Outcome.NOT_FOUND, mako.NotFound),
        (Outcome.ROLLED_BACK, mako.RolledBack),
        (Status.NO_PROCEDURE, mako.Rejected),
        (Status.WRONG_ARGUMENTS, mako.Rejected),
        (Status.NO_TABLE, mako.SchemaError),
        (Status.UNKNOWN, mako.Unknown),
        (999, mako.Rejected),
    ],
)
def test_each_status_is_an_error_that_says_what_to_do(
    played: Played, status: int, kind: type[mako.Error]
) -> None:
    call = played.run()
    played.sent()
    played.feed(result(call.id, status))
    assert isinstance(call.error, kind)
    assert str(call.error).startswith("add: ")
    assert "\n" not in str(call.error)


def test_what_was_not_executed_goes_to_the_leader(played: Played) -> None:
    call = played.run()
    assert played.calls() == [call.id]
    played.feed(redirect("b:2"), result(call.id, Status.NOT_LEADER))
    assert not call.ended
    assert played.serve() == "b:2"
    assert played.calls() == [call.id]
    assert call.tries == 1
    played.feed(result(call.id, value=3))
    assert call.value == 3


def test_a_deposed_server_may_still_answer_what_it_was_asked(played: Played) -> None:
    """A redirect is no reason to throw away answers that are on their way."""
    first, second = played.run(), played.run()
    played.sent()
    played.feed(redirect("b:2"))
    assert not played.core.leaves(played.now)
    late = played.run()
    assert played.calls() == []  # Nothing new goes to it.
    played.feed(result(first.id, value=1))
    played.feed(result(second.id, Status.NOT_LEADER))
    assert first.value == 1
    assert played.serve() == "b:2"
    assert played.calls() == [late.id, second.id]


def test_a_commit_that_a_deposed_server_was_asked_for_is_waited_for(played: Played) -> None:
    bound = played.core.connection
    ask, until = played.asking.request, played.now + 10
    commits = [ask(Operation.COMMIT, i, 0, deadline=until, bound=bound) for i in range(3)]
    read = ask(Operation.GET, 9, 40, [b"k"], deadline=until, bound=bound)
    played.sent()
    played.feed(redirect("b:2"))
    assert not played.core.leaves(played.now)
    played.feed(reply(commits[0].id, timestamp=7), reply(commits[1].id, Status.DISCARDED))
    assert not read.ended
    played.feed(reply(commits[2].id, Status.NOT_LEADER))
    assert commits[0].error is None
    assert isinstance(commits[1].error, mako.Discarded)
    # It was not executed, so it is known.
    assert isinstance(commits[2].error, mako.ConnectionLost)
    assert isinstance(read.error, mako.ConnectionLost)
    assert played.serve() == "b:2"


@pytest.mark.parametrize("status", [Status.DISCARDED, Status.UNKNOWN])
def test_a_wait_for_what_was_undone_is_not_repeated(played: Played, status: Status) -> None:
    """The watermark of the next leader passes its timestamp as well, which says nothing."""
    call = played.asking.request(Operation.WAIT_WATERMARK, 5, deadline=played.now + 10)
    played.sent()
    played.feed(redirect("b:2"), reply(call.id, status))
    wanted = mako.Discarded if status is Status.DISCARDED else mako.Unknown
    assert isinstance(call.error, wanted)


def test_a_deposed_server_that_never_answers_is_left_in_time(played: Played) -> None:
    call = played.run()
    played.sent()
    played.feed(redirect("b:2"))
    played.wait(1.9)
    assert played.core.connection
    played.wait(0.2)
    assert not played.core.connection
    assert isinstance(call.error, mako.Unknown)


def test_a_redirect_loop_is_bounded_by_the_deadline() -> None:
    """a says b leads, b says a does: ever longer pauses, and an error at the end."""
    played = Played("a:1", "b:2")
    call = played.asking.request(Operation.PING, deadline=played.now + 10)
    while not call.ended:
        address = played.serve(leads=False, leader="b:2" if len(played.dialled) % 2 else "a:1")
        assert address in ("a:1", "b:2")
        assert len(played.dialled) < 100
    assert isinstance(call.error, mako.NotLeader)
    assert 10 < len(played.dialled) < 40
    assert played.now <= 100 + 10 + 1


def test_without_a_leader_it_asks_around_with_pauses() -> None:
    played = Played()
    call = played.asking.request(Operation.PING, deadline=played.now + 5)
    while not call.ended:
        played.serve(leads=False)
    assert isinstance(call.error, mako.NotLeader)
    assert set(played.dialled) == {"a:1", "b:2", "c:3"}
    assert len(played.dialled) < 30


def test_nobody_to_talk_to_is_connection_lost() -> None:
    played = Played()
    call = played.asking.request(Operation.PING, deadline=played.now + 5)
    while not call.ended:
        played.dial()
        played.core.lost(played.now, "connection refused")
    assert isinstance(call.error, mako.ConnectionLost)
    assert set(played.dialled) == {"a:1", "b:2", "c:3"}
    assert len(played.dialled) < 3 * 18  # A round of all, then a pause, up to a second.


def test_a_mute_server_is_left_for_the_next(played: Played) -> None:
    played.lose()
    first = played.dial()
    played.wait(2.1)
    assert not played.core.connection
    assert played.serve() != first


def test_a_write_that_was_sent_is_unknown_when_the_connection_is_lost(played: Played) -> None:
    sent, read = played.run(), played.asking.on_key(GET, KV, b"k", b"", played.now + 9)
    assert played.calls() == [sent.id, read.id]
    queued = played.run()
    played.lose()
    assert isinstance(sent.error, mako.Unknown)
    assert sent.error.maybe_committed
    played.serve()
    # What was not sent, and what only reads, goes on.
    assert played.calls() == [read.id, queued.id]


def test_what_is_run_once_is_sent_again_with_the_same_id(played: Played) -> None:
    call = played.run(once=True)
    assert played.calls() == [call.id]
    for _ in range(3):
        played.lose()
        played.serve()
        assert played.calls() == [call.id]
    assert call.tries == 3
    played.feed(result(call.id, value=8))
    assert call.value == 8


def test_an_early_result_of_a_lost_connection_is_unknown(played: Played) -> None:
    call = played.run(early=True, once=True)
    played.sent()
    played.feed(result(call.id, flags=IS_EARLY, value=1))
    played.lose()
    assert isinstance(call.error, mako.Unknown)


def test_what_was_discarded_is_run_again_unless_its_result_was_shown(played: Played) -> None:
    durable, early = played.run(), played.run(early=True)
    played.sent()
    played.feed(result(early.id, flags=IS_EARLY, value=1))
    played.feed(result(durable.id, Status.DISCARDED), result(early.id, Status.DISCARDED))
    assert isinstance(early.error, mako.Discarded)
    assert early.error.retryable
    assert not durable.ended
    played.wait(0.1)
    assert played.calls() == [durable.id]


def test_a_discarded_second_run_does_not_mean_that_the_first_is(played: Played) -> None:
    """The second one only found the row of the first, at a timestamp above the final watermark;
    the first lies below it and lasts. So nobody is told early of a second run, and it is asked
    for again until what it found is durable."""
    call = played.run(early=True, once=True)
    ((_, first),) = played.sent()
    played.lose()  # The leader has executed it, and its answer is lost.
    played.serve()
    ((_, second),) = played.sent()
    assert first[_FLAGS_AT] == CALL_EARLY | CALL_ONCE
    assert second[_FLAGS_AT] == CALL_ONCE
    played.feed(result(call.id, Status.DISCARDED, timestamp=90))
    assert not call.ended
    played.wait(0.1)
    assert played.calls() == [call.id]
    played.feed(result(call.id, value=3, timestamp=95))
    assert (call.error, call.value, call.timestamp) == (None, 3, 95)


def test_a_second_run_that_is_discarded_until_the_end_is_unknown(played: Played) -> None:
    call = played.run(limit=1, early=True, once=True)
    played.sent()
    played.lose()
    played.serve()
    played.sent()
    played.feed(result(call.id, Status.DISCARDED))
    played.wait(1.5)
    assert isinstance(call.error, mako.Unknown)


def test_what_may_last_and_fails_the_second_time_is_unknown(played: Played) -> None:
    """What did not run has not looked for the row; and behind what ran and failed the first one may
    still wait its turn."""
    refused = [played.run(once=True) for _ in range(2)]
    rolled_back, new = played.run(once=True), played.run(once=True)
    played.sent()
    played.feed(redirect("b:2"), result(new.id, Status.NOT_LEADER))
    played.lose()
    played.serve()
    played.sent()
    played.feed(
        result(refused[0].id, Status.NO_TABLE),
        result(refused[1].id, Status.WRONG_ARGUMENTS),
        result(rolled_back.id, Outcome.ROLLED_BACK),
        result(new.id, Status.NO_TABLE),
    )
    for call in (*refused, rolled_back):
        assert isinstance(call.error, mako.Unknown)
    assert "takes another number of arguments" in str(refused[1].error)
    assert isinstance(new.error, mako.SchemaError)


def test_busy_backs_off_longer_each_time_up_to_a_second(played: Played) -> None:
    call = played.run(limit=1000)
    pauses = []
    for _ in range(12):
        assert played.calls() == [call.id]
        played.feed(result(call.id, Status.BUSY))
        assert played.calls() == []
        when = played.core.next_time()
        assert when is not None
        pauses.append(when - played.now)
        played.now = when
    assert 0 < pauses[0] <= 0.005
    assert 0.5 <= pauses[-1] <= 1.0
    assert pauses[5] > pauses[0]


def test_busy_until_the_end_is_busy(played: Played) -> None:
    call = played.run(limit=1)
    played.sent()
    played.feed(result(call.id, Status.BUSY))
    played.wait(1.1)
    assert isinstance(call.error, mako.Busy)


def test_who_was_busy_until_the_end_has_said_why(played: Played) -> None:
    asked = played.asking.request(Operation.SNAPSHOT, -1, deadline=played.now + 1)
    played.sent()
    played.feed(reply(asked.id, Status.BUSY, text="this replica is being brought up"))
    played.wait(1.1)
    assert isinstance(asked.error, mako.Busy)
    assert str(asked.error) == "snapshot: this replica is being brought up"


def test_no_answer_in_time(played: Played) -> None:
    write, read = played.run(limit=1), played.asking.on_key(GET, KV, b"k", b"", played.now + 1)
    once = played.run(limit=1, once=True)
    played.sent()
    unsent = played.run(limit=1)
    played.wait(1.5)
    assert all(isinstance(call.error, mako.Unknown) for call in (write, once))
    assert all(isinstance(call.error, TimeoutError) for call in (read, unsent))
    played.feed(result(write.id, value=1))  # Too late: it is ignored.
    assert isinstance(write.error, mako.Unknown)


def test_what_may_have_committed_is_never_said_not_to_have(played: Played) -> None:
    early, once = played.run(limit=1, early=True), played.run(limit=1, once=True)
    played.sent()
    played.feed(redirect("b:2"), result(early.id, Status.NOT_LEADER))
    played.lose()  # `once` may have run; `early` has not.
    assert (early.lost, once.lost) == (False, True)
    played.serve()
    played.sent()
    played.feed(result(early.id, flags=IS_EARLY, value=1))
    played.feed(redirect("c:3"), result(once.id, Status.NOT_LEADER))
    played.wait(1.5)
    assert isinstance(early.error, mako.Unknown)  # It had been refused before, elsewhere.
    assert isinstance(once.error, mako.Unknown)


def test_a_transaction_ends_with_its_connection(played: Played) -> None:
    def ask(operation: Operation) -> object:
        bound = played.core.connection
        return played.asking.request(operation, 1, deadline=played.now + 5, bound=bound)

    put, commit = ask(Operation.PUT), ask(Operation.COMMIT)
    played.sent()
    late = ask(Operation.ABORT)
    bound = played.core.connection
    played.lose()
    assert isinstance(put.error, mako.ConnectionLost)  # type: ignore[attr-defined]
    assert isinstance(late.error, mako.ConnectionLost)  # type: ignore[attr-defined]
    assert isinstance(commit.error, mako.Unknown)  # type: ignore[attr-defined]
    played.serve()
    with pytest.raises(mako.ConnectionLost):
        played.asking.request(Operation.GET, 1, deadline=played.now + 5, bound=bound)


def test_a_server_that_numbers_procedures_otherwise_gets_its_own_numbers(played: Played) -> None:
    call = played.run(4, 5, once=True)
    played.sent()
    played.lose()
    played.serve(procedures=[("add", 9, ["a", "b"])])
    ((_, body),) = played.sent()
    assert int.from_bytes(body[16 + 16 : 16 + 20], "little") == 9
    played.feed(result(call.id, value=9))
    assert call.value == 9


def test_a_server_without_the_procedure_is_told_apart(played: Played) -> None:
    sent = played.run(once=True)
    played.sent()
    played.lose()
    new = played.run(once=True)
    played.serve(procedures=[("other", 0, [])])
    assert isinstance(new.error, mako.Rejected)
    assert isinstance(sent.error, mako.Unknown)  # The server before may have run it.
    assert "no such procedure" in str(sent.error)


def test_confirmed_is_the_lowest_id_that_may_come_again(played: Played) -> None:
    def confirmed() -> int:
        ((_, body),) = played.sent()
        return int.from_bytes(body[8:16], "little")

    played.run()
    assert confirmed() == 0  # Nothing was ever run once.
    first, second = played.run(once=True), played.run(once=True)
    assert confirmed() == first.id
    played.feed(result(first.id))
    third = played.run(once=True)
    assert confirmed() == second.id
    played.feed(result(third.id), result(second.id))
    fourth = played.run()
    assert confirmed() == fourth.id + 1


def test_at_most_so_many_calls_are_under_way(played: Played) -> None:
    calls = [played.run(limit=100) for _ in range(5000)]
    sent = played.calls()
    assert len(sent) == 2048
    assert not played.core.has_room
    assert played.calls() == []
    played.feed(*(result(number) for number in sent))
    assert played.calls() == [call.id for call in calls[2048:4096]]


def test_wrong_arguments_are_found_before_anything_is_sent(played: Played) -> None:
    with pytest.raises(mako.SchemaError, match=r"add takes 2 arguments \(a, b\), 3 given"):
        played.run(1, 2, 3)
    with pytest.raises(mako.SchemaError, match="argument 2 is 9223372036854775808"):
        played.run(1, 1 << 63)
    with pytest.raises(mako.Rejected, match="no procedure nope"):
        played.asking.procedure("nope", (), 200, early=False, once=None)
    with pytest.raises(mako.SchemaError, match="not a procedure"):
        played.asking.procedure(3, (), 200, early=False, once=None)  # type: ignore[arg-type]
    assert played.sent() == []


def test_a_long_value_goes_the_other_way(played: Played) -> None:
    call = played.asking.on_key(PUT, KV, b"k", b"x" * 40_000, played.now + 5)
    assert call.request[0] == Operation.WRITE
    assert played.calls() == [call.id]
    played.feed(reply(call.id, timestamp=9))
    assert call.timestamp == 9


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        result(1)[:12] + b"\xff" * 44,
        b"\x05\x00\x00\x00\x21\x00\x00\x00\x00",  # A result of one byte.
        b"\x05\x00\x00\x00\x23\x00\x00\x00\xc1",  # What is never msgpack.
        b"\x04\x00\x00\x00\x3f\x00\x00\x00",  # A kind nobody knows.
        b"\xff\xff\xff\xff\x21\x00\x00\x00",
    ],
)
def test_garbage_from_a_server_is_one_error(played: Played, garbage: bytes) -> None:
    with pytest.raises(WireError) as error:
        played.feed(garbage)
    assert "\n" not in str(error.value)


def test_a_refused_hello_ends_at_once() -> None:
    played = Played()
    call = played.asking.request(Operation.PING, deadline=played.now + 5)
    played.dial()
    played.sent()
    with pytest.raises(WireError):
        played.feed(goodbye("this is cluster 7, not 8"))
    assert isinstance(call.error, mako.Rejected)
    assert "this is cluster 7, not 8" in str(call.error)


def test_a_connection_that_ends_before_the_greeting_is_no_refusal() -> None:
    """A server that has no time for anybody now ends it without a word: another one is asked."""
    played = Played()
    call = played.asking.request(Operation.PING, deadline=played.now + 9)
    first = played.dial()
    played.sent()
    played.lose()
    assert not call.ended
    assert played.serve() != first
    assert call.id in played.calls()


def test_a_goodbye_after_the_greeting_is_no_refusal() -> None:
    """Before it has described itself, too: whoever has greeted a client does not refuse it."""
    played = Played()
    call = played.asking.request(Operation.PING, deadline=played.now + 9)
    played.dial()
    played.sent()
    played.feed(b"".join(hello_parts(SERVER, reply=True)))
    with pytest.raises(WireError, match="the server closed the connection: connect again"):
        played.feed(goodbye("connect again"))
    played.lose()
    assert not call.ended
    played.serve()
    assert call.id in played.calls()


def test_each_connection_is_greeted_anew(played: Played) -> None:
    """A refusal is one although an earlier connection was greeted: the server is another one."""
    sent = played.run(once=True)
    played.sent()
    played.lose()
    call = played.run()
    played.dial()
    played.sent()
    with pytest.raises(WireError):
        played.feed(goodbye("this is cluster 7, not 8"))
    assert isinstance(call.error, mako.Rejected)
    assert isinstance(sent.error, mako.Unknown)  # The server before may have run it.


def test_after_closing_nothing_is_asked(played: Played) -> None:
    sent, once = played.run(), played.run(once=True)
    read = played.asking.on_key(GET, KV, b"k", b"", played.now + 5)
    bound = played.core.connection
    commit, put = (
        played.asking.request(what, 1, deadline=played.now + 5, bound=bound)
        for what in (Operation.COMMIT, Operation.PUT)
    )
    played.sent()
    queued = played.run()
    played.core.close()
    for call in (sent, once, commit):
        assert isinstance(call.error, mako.Unknown), call.name
    for call in (read, put, queued):
        assert isinstance(call.error, mako.Closed), call.name
    with pytest.raises(mako.Closed):
        played.run()


@pytest.mark.parametrize("once", [False, True])
def test_random_troubles_end_every_call_once(seed: int, *, once: bool) -> None:
    """Servers that lose connections, send on, are busy: whatever happens, every call ends, and
    what is not run once is never sent twice unless the server said that it had no effect."""
    chance = random.Random(seed)
    played = Played(seed=chance.randrange(1 << 30), once=once)
    calls = []
    may_have_effect: set[int] = set()
    for _ in range(400):
        if not played.core.connection:
            played.serve()
        if played.core.ready and chance.random() < 0.6:
            calls += [
                played.run(limit=chance.uniform(0.5, 20)) for _ in range(chance.randint(1, 5))
            ]
        sent = played.calls()
        if 0 in sent:  # It was listened to, and has news.
            sent.remove(0)
            played.feed(about(leads=chance.random() < 0.5, leader="c:3"))
        if not once:
            assert not may_have_effect & set(sent)
        may_have_effect |= set(sent)
        for number in sent:
            what = chance.random()
            if what < 0.5:
                played.feed(result(number))
            elif what < 0.6:
                may_have_effect.discard(number)
                played.feed(result(number, Status.BUSY))
            elif what < 0.65 and played.core.connection:
                may_have_effect.discard(number)
                played.feed(redirect("b:2"), result(number, Status.NOT_LEADER))
            if not played.core.connection:
                break
        if chance.random() < 0.2 and played.core.connection:
            played.lose()
        played.wait(chance.uniform(0, 0.3))
    played.wait(1000)
    assert calls
    assert all(call.ended for call in calls)
