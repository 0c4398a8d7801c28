"""Requests that are long: alone too long for a frame, or only together."""

import pytest

import mako
from mako.call_format import PUT
from mako.client.remote.calls import Call, State
from mako.server.hub import AHEAD_BYTES_MAX
from mako.wire.errors import WireError
from mako.wire.requests import (
    CLIENT_BODY_MAX,
    REQUEST_BYTES_MAX,
    REQUESTS_MAX,
    Operation,
    pack_request,
    pack_requests,
    request_frames,
    unpack_requests,
)
from tests.client.remote.scripted import KV, Played, reply


@pytest.fixture
def played() -> Played:
    made = Played()
    made.serve()
    return made


def put(played: Played, size: int) -> Call:
    return played.asking.on_key(PUT, KV, b"k", bytes(size), played.now + 5)


def test_what_no_frame_takes_is_refused_before_it_is_sent(played: Played) -> None:
    before, long, after = put(played, 40_000), put(played, 3 << 20), put(played, 40_000)
    assert played.calls() == [before.id, after.id], "the others are not held up"
    assert long.state is State.ENDED
    assert isinstance(long.error, mako.ValueTooLarge)
    assert "split the value or the batch" in str(long.error)
    played.feed(reply(before.id, timestamp=9), reply(after.id, timestamp=10))
    assert (before.timestamp, after.timestamp) == (9, 10)


def test_requests_that_are_long_together_travel_in_several_frames(played: Played) -> None:
    calls = [put(played, 700_000) for _ in range(5)]
    frames = played.sent()
    assert len(frames) == 3
    assert all(len(body) <= CLIENT_BODY_MAX for _, body in frames)
    sent = [request[0] for _, body in frames for request in unpack_requests(body)]
    assert sent == [call.id for call in calls]


def test_what_is_under_way_has_a_bound(played: Played) -> None:
    """The server reads so much ahead, whatever it has no room for: to send never waits for long."""
    calls = [put(played, 1 << 20) for _ in range(12)]
    first = played.calls()
    assert first == [call.id for call in calls[:4]]
    assert played.core._flying_bytes + REQUEST_BYTES_MAX < AHEAD_BYTES_MAX
    assert not played.core.has_room
    played.feed(*(reply(number, timestamp=9) for number in first[:2]))
    assert played.calls() == [call.id for call in calls[4:6]]
    while left := [call.id for call in calls if call.state is State.SENT]:
        played.feed(*(reply(number, timestamp=9) for number in left))
        played.calls()
    assert all(call.error is None and call.ended for call in calls)
    assert played.core._flying_bytes == 0


def test_the_longest_request_fits_and_one_byte_more_does_not(played: Played) -> None:
    empty = len(pack_request([put(played, 40_000).id + 1, *put(played, 40_000).request]))
    room = REQUEST_BYTES_MAX - empty + 40_000
    # A length of more than 65,535 takes two bytes more.
    fits, does_not = put(played, room - 2), put(played, room - 1)
    bodies = [body for _, body in played.sent()]
    assert len(bodies[-1]) <= CLIENT_BODY_MAX
    assert fits.state is State.SENT
    assert isinstance(does_not.error, mako.ValueTooLarge)


def test_a_frame_has_only_so_many_requests() -> None:
    ping = [7, int(Operation.PING)]
    assert len(unpack_requests(pack_requests([ping] * REQUESTS_MAX))) == REQUESTS_MAX
    with pytest.raises(WireError, match="at most 4096"):
        unpack_requests(pack_requests([ping] * (REQUESTS_MAX + 1)))


def test_no_requests_are_no_frame() -> None:
    assert request_frames([]) == []
    ping = pack_request([7, int(Operation.PING)])
    assert len(request_frames([ping] * 1000)) == 1
