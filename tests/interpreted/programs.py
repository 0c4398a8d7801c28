"""What scenarios are made of: small programs whose interleavings are explored.

A scenario fills a table once; then, for each schedule, a function of the world makes its tasks.
Tasks end quietly when their transaction is aborted: what must hold is in `checks`. Register one
with `scenario`; `tests.interpreted.scenarios` has them all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mako.engine.interpreted import pause
from tests.interpreted.loom import Task
from tests.interpreted.world import Stopped, Tx, World

Body = Callable[[World, random.Random], list[Task]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A program to explore.

    `seeds` schedules are drawn in the default run of the tests; `preemptions` is up to how
    many preemptions every schedule is tried when asked for all (None: there are too many).
    `by_hand`: so many take minutes; the default run tries one preemption less.
    `quiet`: run without preemptions nothing in it aborts.
    """

    name: str
    fill: Callable[[World], None]
    tasks: Body
    kind: str = "word"
    seeds: int = 60
    preemptions: int | None = None
    quiet: bool = True
    fanout: int = 4
    spin_max: int | None = None  # rounds of a spin, if not as many as usual
    kept_bytes: int | None = None  # free memory a context keeps for itself, likewise
    replicated: bool = False  # the watermark moves with `World.advance` only
    by_hand: bool = False


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    name: str,
    fill: Callable[[World], None],
    *,
    kinds: tuple[str, ...] = ("word",),
    seeds: int = 60,
    preemptions: int | None = None,
    quiet: bool = True,
    fanout: int = 4,
    spin_max: int | None = None,
    kept_bytes: int | None = None,
    replicated: bool = False,
    by_hand: bool = False,
) -> Callable[[Body], Body]:
    """Register the function that makes the tasks, once per kind of key."""

    def register(tasks: Body) -> Body:
        for kind in kinds:
            full = name if kind == "word" else f"{name}-{kind}"
            assert full not in SCENARIOS, "names are unique"
            SCENARIOS[full] = Scenario(
                full,
                fill,
                tasks,
                kind,
                seeds,
                preemptions,
                quiet,
                fanout,
                spin_max,
                kept_bytes,
                replicated,
                by_hand,
            )
        return tasks

    return register


def rows(*keys: int) -> Callable[[World], None]:
    """A table of rows with these keys."""

    def fill(world: World) -> None:
        for key in keys:
            tx = world.begin(0)
            tx.put(key)
            tx.commit()
        world.at_rest(0)
        world.turn()

    return fill


def deleted(present: Iterable[int], gone: Iterable[int]) -> Callable[[World], None]:
    """A table of rows, and of tombstones that nobody has reclaimed yet."""

    def fill(world: World) -> None:
        rows(*present, *gone)(world)
        for key in gone:
            tx = world.begin(0)
            tx.delete(key)
            tx.commit()
        world.at_rest(0)

    return fill


def run(world: World, number: int, body: Callable[[Tx], None], *, settle: bool = False) -> None:
    """One attempt of a transaction in context `number`; a conflict ends it quietly."""
    tx = world.begin(number)
    with suppress(Stopped):
        body(tx)
        tx.commit()
    if settle:
        world.settle(number)
    world.at_rest(number)


def update_all(*keys: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        for key in keys:
            tx.update(key)

    return body


def read_all(*keys: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        for key in keys:
            tx.read(key)

    return body


def until(condition: Callable[[], bool]) -> None:
    """Wait for another task."""
    while not condition():
        pause()


def put(*keys: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        for key in keys:
            tx.put(key)

    return body


def insert(*keys: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        for key in keys:
            tx.insert(key)

    return body


def delete(*keys: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        for key in keys:
            tx.delete(key)

    return body


def miss(missed: int, mine: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        tx.read(missed)
        tx.put(mine)

    return body
