"""Whoever runs for long gives way to other partitions that wait for its worker."""

from typing import cast

import pytest

from mako.engine.pumped import Pumped
from mako.server.giving_way import (
    AGAIN_MAX,
    HELD_UP_SECONDS,
    LET_THROUGH_SECONDS,
    GivingWay,
)


class FakePumped:
    """Workers for whom something has come since the turn that they began at a time, and what they
    run."""

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}
        self.what: tuple[int, ...] = (1,)
        self.asked: list[tuple[int, bool]] = []

    def awaited(self) -> dict[int, int]:
        return dict(self.waiting)

    def runs(self, number: int) -> tuple[int, ...]:
        return self.what

    def give_way(self, number: int, *, final: bool) -> None:
        self.asked.append((number, final))


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.pumped = FakePumped()
        self.told: list[tuple[int, int, bool]] = []
        self.giving_way = GivingWay(self.tell)

    def tell(self, own: int, number: int, *, final: bool) -> None:
        self.told.append((own, number, final))

    def look(self, seconds: float = 0.0) -> list[tuple[int, bool]]:
        """Who has to give way now, after some time."""
        self.now += seconds
        self.giving_way.look(3, cast(Pumped, self.pumped), self.now)
        asked, self.pumped.asked = self.pumped.asked, []
        return asked


@pytest.fixture
def world() -> World:
    return World()


def test_who_is_waited_for_for_long_gives_way(world: World) -> None:
    world.pumped.waiting = {0: 7, 1: 7}
    assert world.look() == []
    assert world.look(0.9 * HELD_UP_SECONDS) == []
    world.pumped.waiting = {0: 7, 1: 8}  # The other one has begun a turn.
    assert world.look(0.2 * HELD_UP_SECONDS) == [(0, False)]
    assert world.told == [(3, 0, False)]
    assert world.look(0.02) == [(0, False)], "until it has noticed"
    assert world.told == [(3, 0, False)]


def test_the_time_counts_from_when_something_came(world: World) -> None:
    """A long transaction that nobody waits for is nobody's concern."""
    assert world.look(10 * HELD_UP_SECONDS) == []
    world.pumped.waiting = {0: 7}
    assert world.look() == []
    assert world.look(0.9 * HELD_UP_SECONDS) == []
    world.pumped.waiting = {}
    assert world.look(0.2 * HELD_UP_SECONDS) == []
    world.pumped.waiting = {0: 7}
    assert world.look(0.1) == []


def test_for_a_while_it_gives_way_at_once(world: World) -> None:
    """The others have only come to their next round."""
    assert held_up(world, 1) == [(0, False)]
    for turn in (2, 3):
        world.pumped.waiting = {0: turn}
        assert world.look(0.3 * LET_THROUGH_SECONDS) == [(0, False)]
    assert world.told == [(3, 0, False)], "which is not counted"
    world.pumped.what = (2,)
    world.pumped.waiting = {0: 4}
    assert world.look() == [], "something else runs"
    world.pumped.what = (1,)
    assert world.look(0.5 * LET_THROUGH_SECONDS) == [], "the while is over"


def held_up(world: World, turn: int) -> list[tuple[int, bool]]:
    world.pumped.waiting = {0: turn}
    assert world.look(LET_THROUGH_SECONDS) == []
    return world.look(HELD_UP_SECONDS)


def test_what_holds_others_up_again_and_again_is_ended(world: World) -> None:
    finals = [held_up(world, turn) for turn in range(AGAIN_MAX + 1)]
    assert finals == [*[[(0, False)]] * AGAIN_MAX, [(0, True)]]
    assert world.look(0.1) == [(0, True)], "and not run again if it has not noticed at once"
    world.pumped.what = (2,)
    assert held_up(world, AGAIN_MAX + 1) == [(0, False)]
    assert [final for _, _, final in world.told] == [False] * AGAIN_MAX + [True, False]


def test_different_ones_are_counted_each_for_itself(world: World) -> None:
    for turn in range(3 * AGAIN_MAX):
        world.pumped.what = (turn // 2,)
        assert held_up(world, turn) == [(0, False)]


def test_two_that_take_turns_are_both_ended(world: World) -> None:
    """Or each of them would be run again for ever, and the watchdog count from the start."""
    finals = []
    for turn in range(2 * AGAIN_MAX + 2):
        world.pumped.what = (turn % 2,)
        finals += [final for _, final in held_up(world, turn)]
    assert finals == [False] * 2 * AGAIN_MAX + [True] * 2


def test_what_begins_behind_one_that_was_ended_is_only_run_again(world: World) -> None:
    for turn in range(AGAIN_MAX + 1):
        asked = held_up(world, turn)
    assert asked == [(0, True)]
    world.pumped.what = (2,)
    assert world.look(0.02) == [(0, False)], "in the same turn"
