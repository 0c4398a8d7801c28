"""What a client tells of calls that were answered late, cannot be sent, or were told to wait."""

from typing import Any

import pytest

import mako
from mako.client.remote.addresses import addresses_of
from mako.config.cluster import _is_address
from mako.ids import Outcome
from mako.wire.errors import WireError
from mako.wire.frame import LATER
from mako.wire.requests import Operation
from tests.client.remote.conftest import Clock
from tests.client.remote.scripted import Played, goodbye, result
from tests.server import procedures as p
from tests.server.loopback import Loopback

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def played() -> Played:
    made = Played()
    made.serve()
    return made


def test_a_server_that_is_full_for_now_is_asked_again(played: Played) -> None:
    call = played.run(limit=60)
    played.lose()
    played.dial()
    played.sent()
    with pytest.raises(WireError):
        played.feed(goodbye(f"p1 has 1000 connections of clients; {LATER}"))
    played.lose()
    assert not call.ended
    played.serve()
    assert call.id in played.calls()


def test_an_argument_that_cannot_be_sent_is_the_trouble_of_its_call_alone(played: Played) -> None:
    before = played.run()
    bound = played.core.connection
    wrong = [
        played.asking.request(
            Operation.RUN_AT, 1, 0, [argument], None, deadline=played.now + 9, bound=bound
        )
        for argument in (1 << 70, object())
    ]
    behind = played.run()
    assert played.calls() == [before.id, behind.id]
    for call in wrong:
        assert isinstance(call.error, mako.SchemaError)
        assert "an argument cannot be sent" in str(call.error)


@pytest.mark.parametrize("operation", [Operation.GET, Operation.PUT, Operation.STATE_HASH])
def test_what_is_late_before_its_commit_has_committed_nothing(
    played: Played, operation: Operation
) -> None:
    bound = played.core.connection
    late = played.asking.request(operation, 1, deadline=played.now + 5, bound=bound)
    commit = played.asking.request(Operation.COMMIT, 1, deadline=played.now + 5, bound=bound)
    played.sent()
    played.wait(6)
    assert isinstance(late.error, TimeoutError)
    assert isinstance(commit.error, mako.Unknown)


def test_what_made_a_call_fail_is_seen_by_what_comes_after(played: Played) -> None:
    call = played.run()
    played.sent()
    played.feed(result(call.id, Outcome.NOT_FOUND, timestamp=70))
    assert played.core.acknowledged == 70


def test_an_answer_that_came_in_time_counts_though_nobody_read_it(
    server: Loopback, clock: Clock
) -> None:
    """Whoever submits may do something else for long."""
    with mako.connect(server.address) as db:
        db.run(p.add, 1, 0)
        answer: Any = db.submit(p.add, 1, 5)
        with mako.connect(server.address) as other:
            while other.run(p.value_of, 1) != 5:
                pass
            other.wait_watermark(other.watermark)
        clock.jump()
        assert answer.result() == 5


def test_a_long_value_that_was_put_is_no_error(remote: mako.RemoteDatabase) -> None:
    answer = remote.table("long").submit_put(b"k", bytes(100_000))
    answer.result()
    answer.wait_durable()
    assert remote.table("long").get(b"k") == bytes(100_000)


def test_more_keys_than_a_request_takes_are_refused_for_good(remote: mako.RemoteDatabase) -> None:
    with pytest.raises(mako.Rejected, match="10001 keys at once; ask for 10000 at most"):
        remote.get_many([b"%d" % i for i in range(10_001)])
    batch = mako.WriteBatch()
    for i in range(10_001):
        batch.put(b"%d" % i, b"")
    with pytest.raises(mako.Rejected, match="10001 writes at once; split them, 10000 at most"):
        remote.write(batch)


def test_calls_that_run_once_are_not_sent_again_for_ever(server: Loopback) -> None:
    with pytest.raises(mako.ConfigError, match=r"give 300 at most"):
        mako.connect(server.address, once=True, timeout=3600)


@pytest.mark.parametrize("host", ["10.0.0..1", "a..b", "x" * 64])
def test_a_host_that_no_name_can_be_is_refused_where_it_is_written(host: str) -> None:
    assert not _is_address(host)
    with pytest.raises(mako.ConfigError, match="is no address; give host:port"):
        addresses_of(f"{host}:7001")
