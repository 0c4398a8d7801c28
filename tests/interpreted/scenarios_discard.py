"""Taking back what is above a final watermark, with readers and reclamation around it."""

from __future__ import annotations

import random

from mako.engine import closing
from mako.engine import layout as at
from mako.engine.atomics import ld8
from tests.interpreted.loom import Task
from tests.interpreted.programs import rows, run, scenario, until
from tests.interpreted.world import Tx, World

KEYS = range(1, 7)


def _some_deleted(world: World) -> None:
    """Rows, and the tombstone of one that is due, and has not left the tree."""
    rows(1, 2, 3, 4)(world)
    world.advance(closing.close(world.base))
    run(world, 0, lambda tx: _write(tx, 4, "delete"))
    world.advance(closing.close(world.base))
    closing.close(world.base)


def _write(tx: Tx, key: int, how: str) -> None:
    if how == "delete":
        tx.delete(key)
    else:
        tx.put(key)


def _ahead(world: World) -> None:
    """Rows, and what a leader that will be deposed has done to them since."""
    rows(1, 2)(world)
    world.advance(closing.close(world.base))
    for key, how in ((1, "put"), (1, "put"), (2, "delete"), (3, "put")):
        run(world, 0, lambda tx, k=key, h=how: _write(tx, k, h))  # type: ignore[misc]


@scenario("discard-readers", _ahead, preemptions=2, replicated=True, by_hand=True)
def discard_readers(world: World, rng: random.Random) -> list[Task]:
    """Somebody reads at a snapshot in the middle of a discard, and memory is used again."""

    def recovery() -> None:
        world.discard(0, ld8(world.base + at.STABLE))
        run(world, 0, lambda tx: _write(tx, 2, "put"))

    def looker() -> None:
        opened = world.snapshot(1)
        opened.read(1)
        opened.scan(0, 9)
        opened.close()

    return [looker, recovery]


@scenario("discard-queued", rows(1), replicated=True)
def discard_queued(world: World, rng: random.Random) -> list[Task]:
    """A tombstone is the head again, after it was taken for one that is written over, while an
    older one of the same record is still queued elsewhere."""

    def story() -> None:
        run(world, 1, lambda tx: _write(tx, 1, "delete"))
        run(world, 0, lambda tx: _write(tx, 1, "put"))
        run(world, 0, lambda tx: _write(tx, 1, "delete"))
        deleted = closing.close(world.base)
        run(world, 0, lambda tx: _write(tx, 1, "put"))
        world.advance(deleted)
        world.idle(0)
        world.discard(0, deleted)

    return [story]


@scenario(
    "discard",
    _some_deleted,
    kinds=("word", "bytes"),
    quiet=False,
    replicated=True,
)
def discard(world: World, rng: random.Random) -> list[Task]:
    """Two leaders, one after the other: what the first did above a final watermark goes.

    Each runs two workers, while the watermark follows somewhere behind. Snapshots read at it all
    the time, also while the discard is under way.
    """
    rounds = 2
    ready = [0] * rounds
    discarded = [False] * rounds

    def worker(number: int, seed: int) -> None:
        draw = random.Random(seed)
        for turn in range(rounds):
            for _ in range(3):
                key, how = draw.choice(KEYS), draw.choice(["delete", "put", "put"])
                run(world, number, lambda tx, k=key, h=how: _write(tx, k, h))  # type: ignore[misc]
                closed = closing.close(world.base)
                if number == 0 and draw.random() < 0.5:  # There is one who advances.
                    world.advance(closed)
                if draw.random() < 0.5:
                    world.idle(number)
            ready[turn] += 1
            until(lambda done=turn: discarded[done])  # type: ignore[misc]
        run(world, number, lambda tx: _write(tx, draw.choice(KEYS), "put"))

    def recovery(seed: int) -> None:
        draw = random.Random(seed)
        for turn in range(rounds):
            until(lambda now=turn: ready[now] == 2)  # type: ignore[misc]
            stable = ld8(world.base + at.STABLE)
            world.discard(2, draw.randint(stable, max(stable, ld8(world.base + at.CLOCK))))
            discarded[turn] = True
            world.idle(2)

    def looker() -> None:
        for _ in range(4):
            opened = world.snapshot(3)
            for key in KEYS:
                opened.read(key)
            opened.pass_boundary()
            opened.scan(0, 9)
            opened.close()

    seeds = [rng.randrange(1 << 30) for _ in range(3)]
    return [
        lambda: worker(0, seeds[0]),
        lambda: worker(1, seeds[1]),
        lambda: recovery(seeds[2]),
        looker,
    ]
