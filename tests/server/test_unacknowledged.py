"""Results that nobody was told yet, in copies of rings."""

import struct

from mako.engine.layout import COMPLETION_RING_BYTES, RING_SKIP
from mako.server.held import result_of
from mako.server.unacknowledged import Copied, Unacknowledged, set_aside, unacknowledged
from tests.server.traced import completion, request, rings

NAMES = {1000: "move", 2000: "put"}
ONCE = 3000


def test_results_and_who_asked_for_them() -> None:
    waiting = [
        completion(50, 3, 1),
        completion(51, 1 << 63, 2, connection=4, early=True, more=b"x" * 16),
        completion(52, 1, 3, answered=True),
        completion(53, 1, 4, outcome=6),
    ]
    asked = [
        request(1, 1000, 5, 6),
        request(1, 2000, connection=4),
        request(2, ONCE, 2000, 7, 8, connection=4),
        request(4, 4000),
    ]
    found = list(unacknowledged(rings(waiting, asked), NAMES))
    assert found == [
        Unacknowledged(50, 3, 0, 3, 1, "move", is_early=False),
        Unacknowledged(51, 1 << 63, 0, 4, 2, "put", is_early=True),
        Unacknowledged(53, 1, 6, 3, 4, "", is_early=False),
    ]


def test_what_is_set_aside_is_told_without_a_name() -> None:
    early = completion(51, 1 << 63, 2, connection=4, early=True, more=b"x" * 16)
    found = [set_aside(result_of(each)) for each in (completion(50, 3, 1, outcome=6), early)]
    assert found == [
        Unacknowledged(50, 3, 6, 3, 1, "", is_early=False),
        Unacknowledged(51, 1 << 63, 0, 4, 2, "", is_early=True),
    ]


def test_a_request_whose_place_was_taken_has_no_name() -> None:
    found = list(unacknowledged(rings([completion(50, 3, 1)], [request(9, 1000)], laps=2), NAMES))
    assert [one.name for one in found] == [""]


def test_a_ring_begins_again() -> None:
    last = completion(50, 1, 1)
    end = COMPLETION_RING_BYTES - len(last) - 64
    ring = bytearray(COMPLETION_RING_BYTES)
    ring[end : end + len(last)] = last
    ring[end + len(last) :][:8] = b""
    struct.pack_into("<q", ring, end + len(last), RING_SKIP)
    first = completion(51, 1, 2)
    ring[: len(first)] = first
    copied = Copied(bytes(ring), end, COMPLETION_RING_BYTES + len(first), b"", 0)
    assert [one.timestamp for one in unacknowledged(copied, NAMES)] == [50, 51]


def test_nothing_waits() -> None:
    assert list(unacknowledged(Copied(b"", 64, 64, b"", 0), NAMES)) == []
