"""Turns that rest, without tick and timer until somebody kicks; a write within the turn that meets
a full disk."""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import trio
import trio.testing

from mako.replication.aside import Aside
from mako.server.turns import Turns


class Idle:
    """A driver that has nothing to do, and counts its ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self.passed: list[tuple[int, int]] = []
        self.aside = Aside()
        self.outbox: Sequence[Any] = ()

    def tick(self, now_ms: int, passing_ms: int) -> None:
        self.ticks += 1
        self.passed.append((now_ms, passing_ms))

    def pump(self) -> None:
        pass

    def begin_write(self) -> bool:
        return False


def turns_of(
    driver: Idle, rests: Callable[[], bool], now_ms: Callable[[], int] = lambda: 0
) -> Turns:
    return Turns(
        driver,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        now_ms=now_ms,
        tick_seconds=0.01,
        before=lambda now: now + 1e6,
        after=lambda: None,
        inline=True,
        rests=rests,
    )


async def test_who_rests_does_nothing_until_a_kick(autojump_clock: trio.testing.MockClock) -> None:
    driver = Idle()
    resting = False
    turns = turns_of(driver, rests=lambda: resting)
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


async def test_a_step_of_the_wall_clock_is_none_of_the_clock_that_measures(
    autojump_clock: trio.testing.MockClock,
) -> None:
    driver = Idle()
    offset_ms = 0
    turns = turns_of(
        driver, rests=lambda: False, now_ms=lambda: round(1000 * trio.current_time()) + offset_ms
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.sleep(0.105)
        offset_ms = -3_600_000
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    walls, passed = zip(*driver.passed, strict=True)
    assert min(walls) < 0 < max(walls), "the log is dated by it"
    assert {after - before for before, after in pairwise(passed)} == {10}


class Filling(Idle):
    """A driver with one write to do, whose disk is full at first."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals
        self.done: list[str] = []
        self.ended = trio.Event()

    def begin_write(self) -> bool:
        if "begin" in self.done:
            return False
        self.done.append("begin")
        return True

    def write(self, now_ms: int) -> bool:
        self.done.append("write")
        self.refusals -= 1
        return self.refusals < 0

    def sync(self) -> None:
        self.done.append("sync")

    def end_write(self) -> None:
        self.done.append("end")
        self.ended.set()


async def test_a_write_within_the_turn_that_finds_the_disk_full_is_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for refusals in (0, 2):
        driver = Filling(refusals)
        turns = turns_of(driver, rests=lambda: False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            await driver.ended.wait()
            nursery.cancel_scope.cancel()
        assert driver.done == ["begin", *["write"] * (refusals + 1), "sync", "end"]


async def test_turns_go_on_while_work_is_done_aside(
    autojump_clock: trio.testing.MockClock,
) -> None:
    driver = Idle()
    turned = threading.Event()
    ended = trio.Event()
    turns = turns_of(driver, rests=lambda: False)
    worked: list[bool] = []

    def work() -> bool:
        worked.append(turns.work_here)
        return turned.wait(60)

    driver.aside.put(work, lambda done: ended.set() if done else None)

    def pump() -> None:
        if driver.ticks >= 10:
            turned.set()

    driver.pump = pump  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await ended.wait()
        before = turns.turns
        await trio.sleep(1)
        assert turns.turns > before
        nursery.cancel_scope.cancel()
    assert not driver.aside.is_busy
    assert worked == [True], "who closes all from there does not wait for the turns"
    assert not turns.work_here
