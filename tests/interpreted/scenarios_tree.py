"""Splits and repairs of the tree, and everything at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress

from tests.interpreted.loom import Task
from tests.interpreted.programs import (
    delete,
    insert,
    miss,
    put,
    read_all,
    rows,
    run,
    scenario,
    until,
    update_all,
)
from tests.interpreted.world import Stopped, Tx, World


def read_and_scan(key: int, first: int, end: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        tx.read(key)
        tx.scan(first, end)

    return body


def scan_back(tx: Tx) -> None:
    tx.scan(0, 99, reverse=True)


@scenario("split", rows(10, 20, 30, 40), kinds=("word", "pair", "bytes"))
def split(world: World, rng: random.Random) -> list[Task]:
    """Leaves and inner nodes split under readers, scans and other inserters."""

    def inserter(number: int, keys: Iterable[int]) -> None:
        for key in keys:
            run(world, number, insert(key))

    def looker() -> None:
        for key in (20, 40):
            run(world, 2, read_and_scan(key, 15, 45))
        run(world, 2, scan_back)

    return [
        lambda: inserter(0, (15, 25, 35, 45, 55)),
        lambda: inserter(1, (12, 22, 32, 42, 11)),
        looker,
    ]


def _sparse(world: World) -> None:
    """Three levels, every leaf with few rows."""
    rows(*range(10, 74, 4))(world)


@scenario("prune", _sparse, kinds=("word", "pair", "bytes"), quiet=False)
def prune(world: World, rng: random.Random) -> list[Task]:
    """Leaves become empty and leave, inner nodes merge, under readers and inserters."""
    first = rng.randrange(10, 30, 4)

    def deleter(number: int, keys: Iterable[int]) -> None:
        for key in keys:
            run(world, number, delete(key), settle=True)
        for _ in range(2):
            run(world, number, read_all(70), settle=True)

    def looker() -> None:
        for key in (26, 50, 33):
            run(world, 2, read_and_scan(key, 12, 60))
        run(world, 2, scan_back)

    def inserter() -> None:
        for key in (21, 37, 51):
            run(world, 3, miss(key + 1, key))

    return [
        lambda: deleter(0, range(first, first + 24, 4)),
        lambda: deleter(1, range(first + 24, first + 40, 4)),
        looker,
        inserter,
    ]


@scenario("prune-idle", _sparse, kinds=("word", "bytes"), quiet=False)
def prune_idle(world: World, rng: random.Random) -> list[Task]:
    """Idle workers, which pin nothing, repair the tree that they and others take apart."""
    first = rng.randrange(10, 30, 4)

    def deleter(number: int, keys: Iterable[int]) -> None:
        for key in keys:
            run(world, number, delete(key))
            world.idle(number)
        for _ in range(3):
            run(world, number, miss(99, 5 + number))
            world.idle(number)

    return [
        lambda: deleter(0, range(first, first + 24, 8)),
        lambda: deleter(1, range(first + 4, first + 28, 8)),
        lambda: deleter(2, range(first + 24, first + 40, 4)),
    ]


def _taken_over(*more: int) -> Callable[[World], None]:
    """Two leaves. The first has only a tombstone, due to be reclaimed: it will take over what
    is in the second, which then leaves the tree."""

    def fill(world: World) -> None:
        rows(10, 20, 30, 40, 50, *more)(world)
        run(world, 0, delete(20, 30, 40))
        world.reclaim_all()
        run(world, 0, delete(10))
        world.turn()

    return fill


@scenario("take-over", _taken_over(60), quiet=False)
def take_over(world: World, rng: random.Random) -> list[Task]:
    """An insert and a miss in a leaf that leaves the tree full of rows."""
    return [lambda: world.idle(0), lambda: run(world, 1, miss(55, 65))]


@scenario("take-over-used", _taken_over(), quiet=False)
def take_over_used(world: World, rng: random.Random) -> list[Task]:
    """An interactive transaction misses a key in a leaf whose memory becomes another leaf."""

    def user() -> None:
        tx = world.session(1)
        with suppress(Stopped):
            tx.read(55)
            tx.put(50)
            tx.commit()

    def mover() -> None:
        world.idle(0)
        run(world, 0, put(55))
        run(world, 2, put(5))
        world.idle(0)
        run(world, 2, put(6))
        world.idle(0)
        for key in (52, 53, 54, 56):
            run(world, 0, put(key))

    return [user, mover]


@scenario("take-over-ahead", _taken_over(60), quiet=False)
def take_over_ahead(world: World, rng: random.Random) -> list[Task]:
    """A row asked for ahead is in a leaf that leaves the tree; then its record is used for
    another key, and then it is read. Only the first part is interleaved."""
    done: set[str] = set()

    def user() -> None:
        def ask(tx: Tx) -> None:
            tx.prefetch(50)
            for key in (1, 2, 3, 4):
                tx.prefetch(key)

        run(world, 1, ask)
        done.add("asked")
        until(lambda: "used again" in done)
        run(world, 1, read_all(50))

    def mover() -> None:
        world.idle(0)
        until(lambda: "asked" in done)
        run(world, 0, delete(50), settle=True)
        for _ in range(2):
            run(world, 2, update_all(60))
            world.idle(0)
        run(world, 0, put(70))
        done.add("used again")

    return [user, mover]


@scenario("ahead", rows(*range(10, 90, 10)), quiet=False, kinds=("word", "pair"))
def rows_ahead(world: World, rng: random.Random) -> list[Task]:
    """Rows that are asked for ahead, against the leaves they are in leaving the tree and their
    records being used for other keys."""
    keys = rng.sample(range(10, 90, 10), 5)

    def user() -> None:
        for _ in range(3):
            tx = world.begin(1)
            with suppress(Stopped):
                for key in keys:
                    tx.prefetch(key)
                for key in keys[:2]:
                    tx.read(key)
                tx.put(95)
                tx.commit()
            world.at_rest(1)

    def mover() -> None:
        for key in (30, 40, 50, 60):
            run(world, 0, delete(key), settle=True)
        for key in (91, 92, 93):
            run(world, 0, put(key), settle=True)

    return [user, mover]


def _anything(tx: Tx, rng: random.Random, keys: int) -> None:
    """A few random steps."""
    for _ in range(rng.randint(1, 4)):
        key = rng.randrange(keys)
        match rng.choice(("read", "update", "update", "put", "insert", "delete", "scan", "ahead")):
            case "read":
                tx.read(key)
            case "update":
                tx.update(key)
            case "put":
                tx.put(key)
            case "insert":
                tx.insert(key)
            case "delete":
                tx.delete(key)
            case "scan":
                end = key + rng.randint(1, keys)
                tx.scan(key, end, rng.choice((1, 2, 100)), reverse=rng.random() < 0.5)
            case "ahead" if tx.world.kind != 3:
                tx.prefetch(key)
            case _:
                pass


def _mix(world: World, rng: random.Random) -> list[Task]:
    keys = rng.choice((4, 12, 30))

    def worker(number: int, own: random.Random) -> None:
        for _ in range(own.randint(2, 5)):
            what = own.random()
            if what < 0.12:
                opened = world.snapshot(number)
                for _ in range(3):
                    opened.read(own.randrange(keys))
                opened.pass_boundary()
                opened.scan(0, keys, reverse=own.random() < 0.5)
                opened.close()
            elif what < 0.24:
                tx = world.session(number)
                with suppress(Stopped):
                    tx.read(own.randrange(keys))
                    tx.put(own.randrange(keys))
                    tx.read(own.randrange(keys))
                    tx.commit()
            elif what < 0.34:
                world.turn()
            else:
                run(world, number, lambda tx: _anything(tx, own, keys), settle=own.random() < 0.7)

    seeds = [rng.randrange(1 << 32) for _ in range(3)]
    return [lambda i=i: worker(i, random.Random(seeds[i])) for i in range(3)]  # type: ignore[misc]


scenario("mix", rows(*range(0, 12, 2)), kinds=("word", "pair", "bytes"), seeds=150, quiet=False)(
    _mix
)
scenario("mix-shared", rows(*range(0, 12, 2)), seeds=150, quiet=False, kept_bytes=0)(_mix)
scenario("mix-impatient", rows(*range(0, 12, 2)), seeds=150, quiet=False, spin_max=3)(_mix)
