"""When a process says that clients may be sent to it: `/readyz` is what a load balancer asks."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio.testing

from mako.server.observing import READY_LAG_MS, Observer

Clock = trio.testing.MockClock


class World:
    """A process with two replicas that are well, and what is said of it."""

    def __init__(self) -> None:
        self.nodes = [SimpleNamespace(returning=False) for _ in range(2)]
        self.facts: list[dict[str, Any]] = [
            {"partition": i, "leader": "p2", "watermark": 7, "watermark_lag_ms": READY_LAG_MS}
            for i in range(2)
        ]
        self.server = SimpleNamespace(
            plan=SimpleNamespace(name="p1", partitions=(0, 1), names={2: "p2", 3: "p3"}),
            hosted={i + 1: self._hosted(i) for i in range(2)},
            forming=SimpleNamespace(missing=[]),
            ending=False,
        )
        self.observer = Observer(cast(Any, self.server), cast(Any, None), "mako")

    def _hosted(self, partition: int) -> SimpleNamespace:
        return SimpleNamespace(
            node=self.nodes[partition], status=lambda: self.facts[partition], partition=None
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_it_is_ready_when_all_its_replicas_are(world: World, autojump_clock: Clock) -> None:
    assert world.observer.ready() == (True, "ready")
    world.server.ending = True
    assert world.observer.ready() == (False, "is ending")


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ({"leader": ""}, "partition 1 has no leader"),
        ({"watermark": 0}, "partition 1 has no watermark yet"),
        (
            {"watermark_lag_ms": READY_LAG_MS + 1},
            f"partition 1 is {READY_LAG_MS + 1} ms behind the clock",
        ),
    ],
)
async def test_one_replica_that_would_disappoint_a_client_is_enough(
    world: World, autojump_clock: Clock, fact: dict[str, Any], text: str
) -> None:
    world.facts[1] |= fact
    assert world.observer.ready() == (False, text)


async def test_a_replica_without_a_vote_is_not_shown_to_clients(
    world: World, autojump_clock: Clock
) -> None:
    world.nodes[1].returning = True
    text = "partition 1 is being brought up: its disk was lost, or is new"
    assert world.observer.ready() == (False, text)


@pytest.mark.parametrize(("missing", "whom"), [([2, 3], "p2, p3"), ([], "its replicas")])
async def test_before_there_are_replicas_it_says_whom_it_waits_for(
    world: World, autojump_clock: Clock, missing: list[int], whom: str
) -> None:
    world.server.hosted, world.server.forming.missing = {}, missing
    assert world.observer.ready() == (False, f"waits for {whom}")
