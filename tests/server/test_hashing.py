"""Hashes at a timestamp to come: waited for, or refused, under a clock that jumps."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

import pytest
import trio
import trio.testing

from mako.engine.engine import Engine
from mako.ids import MILLISECOND_SHIFT
from mako.replication.partition import Partition
from mako.server import hashing
from mako.server.http import NoHash
from mako.server.status import StateHash

SECOND = 1000 << MILLISECOND_SHIFT
NOW = 1000 * SECOND


class Replica:
    """A partition as far as hashing sees it: an engine, and a watermark that a test moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watermark = NOW

    async def hash_at(self, timestamp: int) -> StateHash:
        return await hashing.hash_at(cast(Partition, self), timestamp)


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    engine = Engine(16 << 20, contexts=2)
    made = Replica(engine)

    def compute(_engine: Engine, _context: int, timestamp: int) -> str:
        assert made.watermark >= timestamp, "nobody computes before the state is complete"
        return "00ff"

    monkeypatch.setattr(hashing, "_hash", compute)
    free = len(engine._free_contexts)
    yield made
    assert len(engine._free_contexts) == free, "the context was given back"
    engine.close()


async def refused(replica: Replica, timestamp: int) -> NoHash:
    with pytest.raises(NoHash) as caught:
        await replica.hash_at(timestamp)
    return caught.value


async def test_the_watermark_is_waited_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "WAIT_SECONDS", 600.0)  # By a real clock, see below.
    found: list[StateHash] = []

    async def ask() -> None:
        found.append(await replica.hash_at(NOW + SECOND))

    # A clock that jumps would do so while a thread computes, and hide that it was too early.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.1)  # A thread that did not wait would be done.
        assert not found
        replica.watermark = NOW + 2 * SECOND
    assert found == [StateHash(timestamp=NOW + SECOND, hash="00ff")]


async def test_a_watermark_that_is_there_is_enough(replica: Replica) -> None:
    assert (await replica.hash_at(NOW)).hash == "00ff"


async def test_a_watermark_that_stands_still_is_not_waited_for_for_ever(
    replica: Replica, autojump_clock: trio.testing.MockClock
) -> None:
    begin = trio.current_time()
    error = await refused(replica, NOW + SECOND)
    assert trio.current_time() - begin == pytest.approx(hashing.WAIT_SECONDS)
    assert error.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert "stands still" in str(error)


async def test_an_engine_that_was_replaced_is_not_hashed(
    replica: Replica, autojump_clock: trio.testing.MockClock
) -> None:
    old, new = replica.engine, Engine(16 << 20, contexts=2)

    async def replace() -> None:
        await trio.sleep(1.0)
        replica.engine = new
        replica.watermark += 2 * SECOND

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace)
        error = await refused(replica, NOW + SECOND)
    assert "took the place" in str(error)
    replica.engine = old
    new.close()


@pytest.mark.parametrize(
    ("timestamp", "status"),
    [(NOW - 1, HTTPStatus.CONFLICT), (NOW + 6 * SECOND, HTTPStatus.BAD_REQUEST)],
)
async def test_neither_the_past_nor_the_far_future(
    replica: Replica, timestamp: int, status: HTTPStatus
) -> None:
    assert (await refused(replica, timestamp)).status == status


async def test_without_a_free_context_there_is_none(replica: Replica) -> None:
    taken: list[Any] = [replica.engine.take_context() for _ in range(2)]
    assert (await refused(replica, NOW)).status == HTTPStatus.SERVICE_UNAVAILABLE
    for context in taken:
        replica.engine.give_context(context)
