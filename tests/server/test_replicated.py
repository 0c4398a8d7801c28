"""When a replicated partition may acknowledge: what is durable, and behind which all clocks are."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.engine.engine import Engine
from mako.ids import TIMESTAMP_MAX, timestamp_of_ms
from mako.server.gated import EVERYBODY
from mako.server.replicated import ReplicatedBackend
from mako.server.workers import Crew
from mako.wire.hello import PROCESS_NONE, Hello, Role

OWN = 0b01


class World:
    """Partition 0 of two, of which everything is durable unless the test says otherwise."""

    def __init__(self) -> None:
        self.engine = Engine(16 << 20, contexts=4, now_ms=0, replicated=True)
        self.now_ms = 0
        #: Up to where each of the partitions of a mask has made everything durable.
        self.durable: dict[int, int] = {0: TIMESTAMP_MAX, 1: TIMESTAMP_MAX}
        across = SimpleNamespace(stalled=0, reached=self._reached, stable_over=self._stable)
        self.partition = SimpleNamespace(engine=self.engine, stable=TIMESTAMP_MAX, across=across)
        self.plan = SimpleNamespace(clock_offset_ms=0, guests=1, planted=frozenset())
        hosted = SimpleNamespace(partition=self.partition, plan=self.plan, pumped=None)
        self.backend = ReplicatedBackend(
            cast(Any, hosted),
            {},
            {},
            lambda: Hello(9, Role.PEER, PROCESS_NONE, "a", 1, "t"),
            lambda: self.now_ms,
            lambda engine: Crew(engine, 5.0),
        )

    def _stable(self, mask: int) -> int:
        return min(at for partition, at in self.durable.items() if mask >> partition & 1)

    def _reached(self, mask: int, timestamp: int) -> bool:
        return timestamp <= self._stable(mask)

    def told_at(self, timestamp: int, mask: int, first_ms: int) -> int:
        """The first moment from one on at which it may be told."""
        self.now_ms = first_ms
        while not self.backend.passed(timestamp, mask):
            self.now_ms += 1
            assert self.now_ms < first_ms + 2000, "it is never told"
        return self.now_ms


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.backend.close()
    made.engine.close()


@pytest.mark.parametrize("mask", [OWN, 0b11, EVERYBODY])
@pytest.mark.parametrize("offset_ms", [1, 21])
def test_what_is_durable_is_told_once_all_clocks_have_passed_it(
    world: World, mask: int, offset_ms: int
) -> None:
    """Else who begins after that, where the clock is behind, might get an earlier timestamp."""
    world.plan.clock_offset_ms = offset_ms
    for count in (0, 5):
        at = timestamp_of_ms(5_000, count)
        # The least timestamp of a millisecond has passed as soon as that one begins.
        assert world.told_at(at, mask, 4_000) == 5_000 + offset_ms - (count == 0)


def test_what_time_has_passed_is_told_once_it_is_durable(world: World) -> None:
    world.now_ms = 10_000
    at = timestamp_of_ms(5_000)
    world.durable[1] = world.partition.stable = at - 1
    told = [world.backend.passed(at, mask) for mask in (OWN, 0b10, 0b11, EVERYBODY)]
    assert told == [True, False, False, False]
    assert world.backend.gate() == at - 1
    world.durable[1] = world.partition.stable = at
    assert all(world.backend.passed(at, mask) for mask in (OWN, 0b10, 0b11, EVERYBODY))
    assert world.backend.gate() == at
    world.partition.stable = TIMESTAMP_MAX
    assert world.backend.gate() == timestamp_of_ms(10_001)


def test_a_snapshot_is_of_the_engine_that_serves(world: World) -> None:
    """That of the partition may just have been replaced, and nobody reads that one yet."""
    world.durable = {0: 700, 1: 600}
    assert [world.backend.readable(over) for over in (OWN, 0b11)] == [700, 600]
    world.durable = {0: TIMESTAMP_MAX, 1: TIMESTAMP_MAX}
    assert world.backend.readable(OWN) == TIMESTAMP_MAX
    world.partition.engine = object()
    assert world.backend.readable(OWN) == world.engine.stable < 600
