"""Rings are drained in the order of timestamps, and up to the closed one (L1, L2)."""

import random
from collections.abc import Iterator

import pytest

from mako.engine.closing import close, set_word
from mako.engine.draining import drain_ordered, forget_logged
from mako.engine.engine import Engine
from mako.engine.interactive import session_begin, session_commit, session_put
from mako.engine.layout import (
    C_ARGUMENTS,
    C_FLOOR,
    C_LOG_BASE,
    C_LOG_HEAD,
    C_LOG_TAIL,
    C_TIMESTAMP,
    LOGGING,
    NONE,
)
from mako.engine.region import Region
from mako.engine.ring import SKIP
from mako.log_format import TRANSACTION
from mako.schema import BytesTable

pytestmark = pytest.mark.interpreted

WORKERS = 4
RING_BYTES = 64 << 10


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(16 << 20, contexts=WORKERS + 1, ring_bytes=RING_BYTES, now_ms=5)
    engine.create_table(BytesTable("t", id=1))
    set_word(engine.base + LOGGING, 1)
    yield engine
    engine.close()


def put(engine: Engine, context: int, value: bytes) -> int:
    """Commit one row from a context; its timestamp."""
    session_begin(context)
    engine.write(context + C_ARGUMENTS, b"key")
    place = session_put(context, engine.tables[1].address, 3, len(value), 1)
    assert place > 0
    engine.write(place, value)
    assert session_commit(context) == 0
    return engine.word(context + C_TIMESTAMP)


def put_at(engine: Engine, context: int, timestamp: int, value: bytes) -> None:
    """The same, but dated `timestamp`: it was raised to that."""
    start = engine.word(context + C_LOG_HEAD)
    put(engine, context, value)
    base, place = engine.word(context + C_LOG_BASE), start % RING_BYTES
    if engine.word(base + place) == SKIP:
        place = 0
    assert engine.word(base + place + 8) > timestamp
    engine.set_word(base + place + 8, timestamp)


def near_the_end(engine: Engine, context: int, size: int) -> None:
    """The ring of a context is empty, and begins again after so many bytes of somebody's values."""
    engine.write(engine.word(context + C_LOG_BASE) + RING_BYTES - size, b"\x7f" * size)
    for count in (C_LOG_HEAD, C_LOG_TAIL):
        engine.set_word(context + count, RING_BYTES - size)


def drained(
    engine: Engine, closed: int, room: int = 1 << 20, most: int = 1 << 20
) -> tuple[list[int], int]:
    """The timestamps of what is taken, and up to where it is closed."""
    space = Region(1 << 20)
    length, count, up_to = drain_ordered(engine.base, closed, space.base, room, most)
    data = space.read(space.base, length)
    space.close()
    found, at = [], 0
    while at < length:
        timestamp, _, _, size = TRANSACTION.unpack_from(data, at)
        found.append(timestamp)
        at += TRANSACTION.size + size
    assert len(found) == count
    return found, up_to


def test_several_rings_give_one_ascending_log(engine: Engine, seed: int) -> None:
    draw = random.Random(seed)
    contexts = [engine.take_context() for _ in range(WORKERS)]
    for context in contexts:
        near_the_end(engine, context, 8 * draw.randrange(1, 40))
    written: list[int] = []
    taken: list[int] = []
    for _ in range(300):
        drawing, *raised = draw.sample(contexts, draw.choice([1, 1, 1, 2, 3]))
        timestamp = put(engine, drawing, b"v" * draw.randrange(200))
        for context in raised:
            put_at(engine, context, timestamp, b"v" * draw.randrange(200))
        written += [timestamp] * (1 + len(raised))
        if draw.random() < 0.1:
            closed = close(engine.base)
            found, up_to = drained(engine, closed, draw.choice([300, 1000, 1 << 20]), 1000)
            assert all(timestamp <= up_to for timestamp in found)
            assert up_to <= closed
            taken += found
            assert [t for t in written if t <= up_to] == taken
    while len(taken) < len(written):
        found, _ = drained(engine, close(engine.base), room=300)
        taken += found
    assert taken == written


def test_nothing_above_the_closed_timestamp_is_taken(engine: Engine) -> None:
    slow, fast = engine.take_context(), engine.take_context()
    first = put(engine, fast, b"1")
    set_word(slow + C_FLOOR, first)  # Somebody is in the middle of a commit.
    second = put(engine, fast, b"2")
    assert drained(engine, close(engine.base)) == ([first], first)
    set_word(slow + C_FLOOR, NONE)
    assert drained(engine, close(engine.base)) == ([second], second)


def test_what_does_not_fit_stays_and_closes_less(engine: Engine) -> None:
    one, other = engine.take_context(), engine.take_context()
    times = [put(engine, context, b"v" * 100) for context in (one, other, one, other)]
    closed = close(engine.base)
    assert drained(engine, closed, room=300) == (times[:2], times[2] - 1)
    assert drained(engine, closed) == (times[2:], closed)


def test_what_has_one_timestamp_is_taken_whole_or_not_at_all(engine: Engine) -> None:
    """L1, where one was drawn here and another one was raised to the same."""
    one, other = engine.take_context(), engine.take_context()
    first, tied = put(engine, one, b"v" * 100), put(engine, one, b"v" * 100)
    put_at(engine, other, tied, b"v" * 100)
    closed = close(engine.base)
    assert drained(engine, closed, room=300) == ([first], tied - 1)
    assert drained(engine, closed, room=300) == ([tied, tied], closed)


def test_a_tie_that_is_larger_than_an_entry_gets_a_larger_one(engine: Engine) -> None:
    contexts = [engine.take_context() for _ in range(3)]
    tied = put(engine, contexts[0], b"v" * 100)
    for context in contexts[1:]:
        put_at(engine, context, tied, b"v" * 100)
    closed = close(engine.base)
    assert drained(engine, closed, room=300, most=300) == ([], tied - 1)
    assert drained(engine, closed, room=300, most=500) == ([tied] * 3, closed)


def test_what_is_forgotten_is_not_drained(engine: Engine) -> None:
    one, other = engine.take_context(), engine.take_context()
    near_the_end(engine, one, 8)
    put(engine, one, b"1")
    put(engine, other, b"2")
    assert forget_logged(engine.base) == 2
    assert drained(engine, close(engine.base))[0] == []
    last = put(engine, one, b"3")
    assert drained(engine, close(engine.base))[0] == [last]
