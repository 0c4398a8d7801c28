"""The bell that a process waits for between its turns, under virtual time."""

import pytest
import trio
import trio.testing

from mako.server.bell import Bell

Clock = trio.testing.MockClock


async def test_a_ring_before_the_wait_ends_it_and_counts_once(autojump_clock: Clock) -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    begin = trio.current_time()
    await bell.wait_until(begin + 5)
    assert trio.current_time() == begin
    await bell.wait_until(begin + 5)
    assert trio.current_time() == begin + 5


async def test_a_ring_ends_the_wait(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    bell = Bell()
    begin = trio.current_time()

    async def ring_twice() -> None:
        await trio.sleep(2)
        bell.ring()
        bell.ring()

    nursery.start_soon(ring_twice)
    await bell.wait_until(begin + 5)
    assert trio.current_time() == begin + 2
    await bell.wait_until(begin + 5)
    assert trio.current_time() == begin + 5


async def test_without_a_moment_it_waits_for_the_ring(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    bell = Bell()

    async def ring() -> None:
        await trio.sleep(1000)
        bell.ring()

    begin = trio.current_time()
    nursery.start_soon(ring)
    await bell.wait_until()
    assert trio.current_time() == begin + 1000


async def test_a_moment_that_has_passed_lets_others_run(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    bell = Bell()
    ran: list[int] = []

    async def run() -> None:
        ran.append(1)

    for rings in (False, True):
        nursery.start_soon(run)
        for _ in range(2):  # Whose turn comes first is trio's choice.
            if rings:
                bell.ring()
            await bell.wait_until(trio.current_time() - 1)
        assert ran.pop() == 1


@pytest.mark.parametrize("seconds", [1, 5])
async def test_who_waits_can_be_cancelled(seconds: float, autojump_clock: Clock) -> None:
    """Also when its moment has come, too."""
    bell = Bell()
    returns = 0
    with trio.move_on_after(seconds) as scope:
        while True:
            await bell.wait_until(trio.current_time() + 5)
            returns += 1
    assert scope.cancelled_caught
    assert returns <= 1
    bell.ring()
    await bell.wait_until()


async def test_who_is_always_late_can_be_cancelled() -> None:
    """Each of its moments has passed when it begins to wait, as after a long turn."""
    bell = Bell()
    returns = 0
    with trio.CancelScope() as scope:
        while returns < 100:
            if returns == 3:
                scope.cancel()
            await bell.wait_until(trio.current_time() - 1)
            returns += 1
    assert scope.cancelled_caught
    assert returns == 3
