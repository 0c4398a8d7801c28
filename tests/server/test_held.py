"""Results that are taken out of a ring, and judged later."""

import random
import struct
from functools import partial

from mako.call_format import IS_BYTES, IS_NOTICE, RESULT_BYTES
from mako.engine.layout import COMPLETION_RING_BYTES, D_BYTES, FLAG_ANSWERED, FLAG_EARLY, RING_SKIP
from mako.ids import Status
from mako.server.gated import Gated, Waiting
from mako.server.held import (
    ASIDE_BYTES_MAX,
    DROPPED_BYTES_MAX,
    Held,
    Judged,
    Result,
    places_in,
    results_in,
)
from mako.wire.requests import read_results


def completion(number: int, timestamp: int, *, flags: int = 0, data: bytes = b"") -> bytes:
    """As a worker writes it, for connection 3."""
    size = D_BYTES + len(data)
    words = (size, number, 0, timestamp, -1, 10 * number, 7, 3 << 8 | flags)
    return struct.pack("<8q", *words) + data


def packed(timestamp: int, connection: int = 1) -> Result:
    return Result(timestamp, connection, struct.pack("<IHHqqqqq", 48, 0, 4, 9, timestamp, 1, 5, 0))


def test_a_ring_is_read_around_its_end() -> None:
    ring = bytearray(COMPLETION_RING_BYTES)
    first = completion(1, 100, flags=FLAG_EARLY)
    second = completion(2, 101, data=b"12345678")
    third = completion(3, 102, flags=FLAG_EARLY | FLAG_ANSWERED)
    start = COMPLETION_RING_BYTES - len(first) - 16
    ring[start : start + len(first)] = first
    ring[-16:-8] = struct.pack("<q", RING_SKIP)
    ring[: len(second + third)] = second + third
    turns = 5 * COMPLETION_RING_BYTES
    end = turns + COMPLETION_RING_BYTES + len(second + third)
    found = list(results_in(bytes(ring), turns + start, end))
    assert [(one.timestamp, one.connection) for one in found] == [(100, 3), (101, 3), (102, 3)]
    assert list(read_results(found[0].packed)) == [(1, 0, IS_NOTICE, 100, 10, 7, b"")]
    # The value of a get is as long as its result says.
    assert struct.unpack_from("<IHH", found[1].packed) == (56, 0, IS_BYTES)
    assert found[1].packed[48:] == b"12345678"
    assert found[2].packed == b""


def test_results_are_judged_once_and_wait_for_their_time() -> None:
    held = Held()
    for timestamp in (12, 10, 11, 13):
        held.add(packed(timestamp))
    assert held.open
    judged, lost = held.judge(11, Status.DISCARDED)
    assert judged == Judged(durable=2, lost=2)
    assert [next(read_results(one.packed))[:4] for one in lost] == [
        (9, Status.DISCARDED, 4, 12),
        (9, Status.DISCARDED, 4, 13),
    ]
    assert not held.open
    assert held.take_due(9, 0) == []
    assert held.take_due(10, 0) == [packed(10)]
    assert held.due
    assert held.judge(0, Status.DISCARDED) == (Judged(), [])
    assert held.take_due(20, 0) == [packed(11)]
    assert not held.due


def test_results_of_a_connection_that_left_are_dropped() -> None:
    held = Held()
    for timestamp in range(6):
        held.add(packed(timestamp, 1 + timestamp % 2))
    held.judge(3, Status.UNKNOWN)
    for timestamp in range(6):
        held.add(packed(10 + timestamp, 1 + timestamp % 2))
    assert held.drop(1) == 2 + 3
    assert held.drop(1) == 0
    assert [one.connection for one in held.take_due(20, 0)] == [2, 2]


def is_due(until: int, when: int, mask: int) -> bool:
    del mask
    return when <= until


class Looked(Result):
    """A result that counts who looks whose it is."""

    looks = 0

    @property
    def connection(self) -> int:
        Looked.looks += 1
        return self[1]


def test_connections_that_leave_do_not_look_at_what_others_have() -> None:
    held, count, connections = Held(), 3000, 300
    for i in range(count):
        result = packed(i + 1, i % connections)
        held.add(Looked(*result))
        held.set_aside(Looked(*result))
        if i % 3 == 0:
            held.judge(i + 1, Status.UNKNOWN)
    Looked.looks = 0
    for connection in range(connections):
        assert held.drop(connection) == 2 * count // connections
    assert Looked.looks <= 2 * 2 * count, "each of them is looked at once or twice"
    assert (held.open, held.due, held.aside) == (False, False, False)


def test_a_connection_with_the_number_of_one_that_left_has_its_own() -> None:
    held = Held()
    for timestamp in (1, 2, 3):
        held.add(packed(timestamp, 1))
        held.add(packed(timestamp, 2))
        held.set_aside(packed(timestamp, 1))
        held.set_aside(packed(timestamp, 2))
    assert held.drop(1) == 6
    assert held.count_aside(0) == 3
    held.add(packed(4, 1))
    held.set_aside(packed(5, 1))
    assert [one.connection for one in held.those_aside()].count(1) == 1
    assert [(one.timestamp, one.connection) for one in held.take_aside(lambda at, _: at > 1)] == []
    assert [one[:2] for one in held.take_aside(lambda at, _: at < 3)] == [(1, 2), (2, 2)]
    held.reopen()
    judged, lost = held.judge(2, Status.UNKNOWN)
    assert judged == Judged(durable=2, lost=4)
    assert sorted(one[:2] for one in lost) == [(3, 2), (3, 2), (4, 1), (5, 1)]
    assert [one[:2] for one in held.take_due(9, 9)] == [(1, 2), (2, 2)]
    assert held.drop(1) == held.drop(2) == 0


def test_what_is_kept_against_a_list() -> None:
    """Random steps against the one-line definitions of what they do."""
    chance = random.Random(4)
    for _ in range(30):
        held = Held()
        stored: dict[str, list[tuple[int, int]]] = {"open": [], "due": [], "aside": []}
        for step in range(300):
            what = chance.choice(("add", "add", "aside", "aside", "drop", "judge", "due", "take"))
            connection, at = chance.randrange(5), chance.randrange(40)
            if what == "add":
                held.add(packed(step, connection))
                stored["open"].append((step, connection))
            elif what == "aside":
                held.set_aside(packed(step, connection))
                stored["aside"].append((step, connection))
            elif what == "drop":
                gone = sum(c == connection for some in stored.values() for _, c in some)
                assert held.drop(connection) == gone
                for name, some in stored.items():
                    stored[name] = [one for one in some if one[1] != connection]
            elif what == "judge":
                if chance.random() < 0.3:
                    held.reopen()
                    stored["open"] += stored["aside"]
                    stored["aside"] = []
                judged, lost = held.judge(step - at, Status.UNKNOWN)
                durable = [one for one in stored["open"] if one[0] <= step - at]
                ended = [one for one in stored["open"] if one[0] > step - at]
                assert judged == (len(durable), len(ended))
                assert sorted(one[:2] for one in lost) == sorted(ended)
                stored["due"] += durable
                stored["open"] = []
            elif what == "due":
                taken = held.take_due(step - at, step - at)
                assert [one[:2] for one in taken] == sorted(
                    one for one in stored["due"] if one[0] <= step - at
                )
                stored["due"] = [one for one in stored["due"] if one[0] > step - at]
            else:
                taken = held.take_aside(partial(is_due, step - at))
                assert [one[:2] for one in taken] == sorted(
                    one for one in stored["aside"] if one[0] <= step - at
                )
                stored["aside"] = [one for one in stored["aside"] if one[0] > step - at]
            assert held.open == bool(stored["open"])
            assert held.due == bool(stored["due"])
            assert held.aside == bool(stored["aside"])
            assert held.count_aside(0) == len(stored["aside"])
            assert sorted(one[:2] for one in held.those_aside()) == sorted(stored["aside"])


def test_places_of_a_ring_are_found_around_its_end() -> None:
    ring = bytearray(COMPLETION_RING_BYTES)
    first, second = completion(1, 100), completion(2, 101, data=b"12345678")
    start = COMPLETION_RING_BYTES - len(first) - 16
    ring[start : start + len(first)] = first
    ring[-16:-8] = struct.pack("<q", RING_SKIP)
    ring[: len(second)] = second
    end = COMPLETION_RING_BYTES + len(second)
    assert list(places_in(bytes(ring), start, end)) == [(start, 100, -1), (0, 101, -1)]


def dependent(timestamp: int, mask: int) -> Result:
    signed = mask - (mask >> 63 << 64)
    words = struct.pack("<IHHqqqqq", 48, 0, 4, 9, timestamp, signed, 5, 0)
    return Result(timestamp, 1, words)


def test_what_depends_on_who_has_lost_it_is_discarded_judged_or_not() -> None:
    held = Held()
    for timestamp in (10, 20, 30):
        held.add(dependent(timestamp, 1 << 63 | 1))
        held.add(dependent(timestamp, 1))
    held.judge(99, Status.DISCARDED)
    held.add(dependent(25, 1 << 63 | 1))
    held.add(dependent(15, 1 << 63 | 1))
    assert held.lost(62, 0) == []
    ended = held.lost(63, 20)
    assert [(one.timestamp, statuses(one)) for one in ended] == [(25, 71), (30, 71)]
    assert sorted(one.timestamp for one in held.take_due(99, 99)) == [10, 10, 20, 20, 30]
    _, ended = held.judge(0, Status.UNKNOWN)
    assert [one.timestamp for one in ended] == [15]


def statuses(result: Result) -> int:
    return int(struct.unpack_from("<IHH", result.packed)[1])


MANY = 1000


class Compared(int):
    """A timestamp that counts how often it is compared with another one for equality."""

    count = 0

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return int(self) == other

    __hash__ = int.__hash__


def shuffled() -> list[int]:
    order = list(range(1, MANY + 1))
    random.Random(1).shuffle(order)
    return order


def test_of_many_that_wait_each_is_looked_at_once() -> None:
    gated: Gated[int] = Gated()
    asked: list[int] = []
    for timestamp in shuffled():
        gated.add(Compared(timestamp), 0b11, timestamp)

    def is_even(one: Waiting[int]) -> bool:
        asked.append(one.item)
        return one.item % 2 == 0

    Compared.count = 0
    assert [one.item for one in gated.remove(is_even)] == list(range(2, MANY + 1, 2))
    assert sorted(asked) == list(range(1, MANY + 1))
    # A heap and sorting compare, too; looking for each among those that go takes n * n / 2.
    assert Compared.count < MANY * MANY / 10
    assert gated.take(lambda at, mask: True) == list(range(1, MANY + 1, 2))


def test_many_results_are_discarded_in_one_pass() -> None:
    """The workers stand still meanwhile."""
    held = Held()
    results = [dependent(at, 0b11)._replace(timestamp=Compared(at)) for at in shuffled()]
    for result in results:
        held.add(result)
    held.judge(MANY, Status.DISCARDED)
    for result in results:
        held.add(result)
        held.set_aside(result)
    Compared.count = 0
    assert len(held.lost(1, MANY // 2)) == 3 * MANY // 2
    assert Compared.count < MANY * MANY / 10
    assert len(held.lost(1, 0)) == 3 * MANY // 2


def read_of(connection: int, timestamp: int, size: int, *, flags: int = IS_BYTES) -> Result:
    """What a packed get has found: so many bytes."""
    words = (RESULT_BYTES + size, 0, flags, 9, timestamp, 1, size, 0)
    return Result(timestamp, connection, struct.pack("<IHHqqqqq", *words) + bytes(size))


def test_values_that_are_set_aside_have_a_bound_for_each_connection() -> None:
    held = Held()
    half = ASIDE_BYTES_MAX // 2
    assert held.set_aside(read_of(1, 1, half))
    assert held.set_aside(read_of(1, 2, half))
    assert not held.set_aside(read_of(1, 3, 8))
    assert held.set_aside(packed(3, 1)), "what has no value does not count"
    assert held.set_aside(read_of(2, 4, half))
    assert len(held.take_aside(lambda at, _: at == 1)) == 1
    assert held.set_aside(read_of(1, 5, half))
    assert not held.set_aside(read_of(1, 6, 8))
    assert len(held.lost(0, 4)) == 1
    assert held.set_aside(read_of(1, 6, half))
    held.reopen()
    assert held.set_aside(read_of(1, 7, 2 * half))


def test_who_reads_and_has_no_room_is_busy() -> None:
    (number, status, flags, *_, data) = next(read_results(read_of(1, 5, 800).busy().packed))
    assert (number, status, flags, data) == (9, Status.BUSY, 0, b"")


def test_what_was_told_is_not_kept_twice() -> None:
    held = Held()
    early = read_of(1, 5, ASIDE_BYTES_MAX + 8, flags=IS_BYTES | IS_NOTICE)
    assert held.set_aside(early)
    (found,) = held.take_aside(lambda at, mask: True)
    assert len(found.packed) == RESULT_BYTES
    assert next(read_results(found.packed))[:4] == (9, 0, IS_NOTICE, 5)
    assert (found.timestamp, found.mask) == (early.timestamp, early.mask)


def test_values_of_those_who_have_left_do_not_pile_up() -> None:
    """Those who stay have more results, but short ones."""
    held = Held()
    for timestamp in range(1000):
        held.set_aside(packed(timestamp, 1))
    for connection in range(2, 200):
        for timestamp in range(4):
            assert held.set_aside(read_of(connection, timestamp, ASIDE_BYTES_MAX // 4))
        held.drop(connection)
        kept = [one.item.result for one in held._aside.waiting]
        assert sum(one.value_bytes for one in kept) <= DROPPED_BYTES_MAX + ASIDE_BYTES_MAX
    assert len(held.take_aside(lambda at, mask: True)) == 1000


def test_what_a_connection_has_aside_is_its_own_though_its_number_was_used_before() -> None:
    held = Held()
    half = ASIDE_BYTES_MAX // 2
    held.set_aside(packed(1, 2))
    held.set_aside(read_of(1, 1, half))
    held.drop(1)
    assert held.set_aside(read_of(1, 2, half))
    assert len(held.take_aside(lambda at, _: at == 1)) == 1
    assert held.set_aside(read_of(1, 3, half))
    assert not held.set_aside(read_of(1, 4, 8))
