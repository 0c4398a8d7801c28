"""The rest of turns: no tick and no timer from when it begins until somebody kicks."""

from collections.abc import Sequence
from typing import Any

import trio
import trio.testing

from mako.server.turns import Turns


class Idle:
    """A driver that has nothing to do, and counts its ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self.outbox: Sequence[Any] = ()

    def tick(self, now_ms: int) -> None:
        self.ticks += 1

    def pump(self) -> None:
        pass

    def begin_write(self) -> bool:
        return False


async def test_who_rests_does_nothing_until_a_kick(autojump_clock: trio.testing.MockClock) -> None:
    driver = Idle()
    resting = False
    turns = Turns(
        driver,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        now_ms=lambda: 0,
        tick_seconds=0.01,
        before=lambda now: now + 1e6,
        after=lambda: None,
        inline=True,
        rests=lambda: resting,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.sleep(1.005)
        assert driver.ticks == 100
        resting = True
        await trio.sleep(0.5)
        before = driver.ticks, turns.turns
        await trio.sleep(1000)
        assert (driver.ticks, turns.turns) == before
        turns.kick()
        await trio.sleep(0.001)
        assert turns.turns == before[1] + 1, "a kick has its turn at once"
        resting = False
        turns.kick()
        await trio.sleep(1.005)
        assert driver.ticks > before[0] + 90
        nursery.cancel_scope.cancel()
