"""The scheduler itself: what it finds, what it promises, and that runs can be had again."""

import random
from collections.abc import Iterator, Sequence

import pytest

from mako.engine import interpreted
from mako.engine.interpreted import cas, load_acquire, pause, store_release
from tests.interpreted.loom import (
    Diverged,
    Livelock,
    Replay,
    Run,
    Scheduler,
    Switch,
    Task,
    exhaust,
    format_switches,
    parse_switches,
    strategy_of,
)

WORD = 1 << 12  # an address that no mapping has


@pytest.fixture(autouse=True)
def words() -> Iterator[None]:
    interpreted.add_region(WORD, memoryview(bytearray(64)))
    yield
    interpreted.remove_region(WORD)


def increment() -> None:
    """A lost update waiting to happen: two points with nothing that holds them together."""
    store_release(WORD, load_acquire(WORD) + 1)


def locked_increment() -> None:
    while not cas(WORD + 8, 0, 1):
        pause()
    increment()
    store_release(WORD + 8, 0)


def play(tasks: Sequence[Task], switches: Sequence[Switch] = ()) -> Run:
    interpreted.st8(WORD, 0)
    return Scheduler(Replay(switches)).execute(tasks)


def outcomes(tasks: Sequence[Task], preemptions: int) -> dict[tuple[Switch, ...], int]:
    """What is in the word after each schedule."""
    return {
        switches: interpreted.ld8(WORD)
        for switches in exhaust(lambda given: play(tasks, given), preemptions=preemptions)
    }


def test_without_switches_tasks_run_one_after_the_other() -> None:
    order: list[int] = []

    def task(number: int) -> Task:
        def body() -> None:
            for _ in range(3):
                load_acquire(WORD)
                order.append(number)

        return body

    play([task(0), task(1)])
    assert order == [0, 0, 0, 1, 1, 1]


def test_all_schedules_with_one_preemption_contain_the_lost_update() -> None:
    found = outcomes([increment, increment], preemptions=1)
    assert set(found.values()) == {1, 2}
    assert found[()] == 2


def test_without_preemptions_only_the_order_of_the_tasks_differs() -> None:
    assert outcomes([increment, increment], preemptions=0) == {(): 2, ((0, 1),): 2}


def test_every_schedule_is_run_once() -> None:
    # Two tasks of two points each: as many interleavings as ways to choose 2 of 4 places.
    orders: set[str] = set()
    for _ in exhaust(lambda given: record(orders, given), preemptions=4):
        pass
    assert len(orders) == 6


def record(orders: set[str], switches: Sequence[Switch]) -> Run:
    done: list[str] = []

    def task(name: str) -> Task:
        def body() -> None:
            for _ in range(2):
                load_acquire(WORD)
                done.append(name)

        return body

    run = play([task("a"), task("b")], switches)
    orders.add("".join(done))
    return run


def test_no_schedule_breaks_what_a_lock_holds_together() -> None:
    found = outcomes([locked_increment, locked_increment], preemptions=3)
    assert len(found) > 20
    assert set(found.values()) == {2}


def test_random_schedules_find_the_lost_update(seed: int) -> None:
    rng = random.Random(seed)
    found = set()
    for _ in range(200):
        interpreted.st8(WORD, 0)
        Scheduler(strategy_of(rng, 2, 4)).execute([increment, increment])
        found.add(interpreted.ld8(WORD))
    assert found == {1, 2}


def test_the_switches_of_a_run_replay_it(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        interpreted.st8(WORD, 0)
        tasks = [locked_increment, increment, increment]
        run = Scheduler(strategy_of(rng, 3, 12)).execute(tasks)
        value = interpreted.ld8(WORD)
        again = play(tasks, parse_switches(format_switches(run.switches)))
        assert interpreted.ld8(WORD) == value
        assert again.points == run.points


def test_a_pause_lets_the_others_go_on() -> None:
    def waiter() -> None:
        while load_acquire(WORD) == 0:
            pause()

    play([waiter, waiter, increment])
    assert interpreted.ld8(WORD) == 1


def test_tasks_that_never_end_are_a_livelock() -> None:
    def waiter() -> None:
        while True:
            pause()

    with pytest.raises(Livelock):
        Scheduler(Replay(), points_max=100).execute([waiter, waiter])


def test_what_a_task_raises_ends_the_run() -> None:
    def failing() -> None:
        load_acquire(WORD)
        raise KeyError("from a task")

    with pytest.raises(KeyError, match="from a task"):
        play([increment, failing, increment], [(0, 1)])
    load_acquire(WORD)  # The scheduler has let go of the engine.


def test_a_schedule_of_another_program_is_refused() -> None:
    with pytest.raises(Diverged):
        play([increment, increment], [(1, 7)])
