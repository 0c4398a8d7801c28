"""Transactions against transactions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from tests.interpreted.loom import Task
from tests.interpreted.programs import (
    deleted,
    miss,
    put,
    read_all,
    rows,
    run,
    scenario,
    update_all,
)
from tests.interpreted.world import Tx, World


@scenario("lost-update", rows(1), preemptions=2)
def lost_update(world: World, rng: random.Random) -> list[Task]:
    """Two writers read and replace the same row."""
    return [lambda: run(world, 0, update_all(1)), lambda: run(world, 1, update_all(1))]


@scenario("two-writers", rows(1, 2))
def two_writers(world: World, rng: random.Random) -> list[Task]:
    """Two writers of the same rows, in opposite order, and a reader of both."""
    return [
        lambda: run(world, 0, update_all(1, 2)),
        lambda: run(world, 1, update_all(2, 1)),
        lambda: run(world, 2, read_all(2, 1)),
    ]


@scenario("write-skew", rows(1, 2), preemptions=2)
def write_skew(world: World, rng: random.Random) -> list[Task]:
    """Each reads the row the other writes."""

    def skew(read: int, write: int) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            tx.read(read)
            tx.update(write)

        return body

    return [lambda: run(world, 0, skew(1, 2)), lambda: run(world, 1, skew(2, 1))]


@scenario("reader", rows(1, 2), preemptions=2)
def reader(world: World, rng: random.Random) -> list[Task]:
    """A transaction that only reads has a place in the order of timestamps, too."""
    return [lambda: run(world, 0, update_all(1, 2)), lambda: run(world, 1, read_all(1, 2))]


@scenario("overwritten-read", rows(1, 2), preemptions=2)
def overwritten_read(world: World, rng: random.Random) -> list[Task]:
    """A writer reads a row that the other writer, who reads nothing else, replaces."""

    def body(tx: Tx) -> None:
        tx.read(1)
        tx.update(2)

    return [lambda: run(world, 0, body), lambda: run(world, 1, lambda tx: tx.put(1))]


@scenario("phantom", rows(10, 30), kinds=("word", "pair", "bytes"))
def phantom(world: World, rng: random.Random) -> list[Task]:
    """Two count the rows of a range and add one to it; a third takes one away."""

    def add(key: int, *, reverse: bool) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            tx.scan(0, 99, reverse=reverse)
            tx.put(key)

        return body

    def take(tx: Tx) -> None:
        tx.scan(0, 99, 1)
        tx.delete(30)

    return [
        lambda: run(world, 0, add(20, reverse=False)),
        lambda: run(world, 1, add(25, reverse=True)),
        lambda: run(world, 2, take),
    ]


@scenario("empty-range", rows(10, 90), preemptions=2)
def empty_range(world: World, rng: random.Random) -> list[Task]:
    """Each inserts into the range the other found empty, with a limit that was not reached."""

    def body(first: int, mine: int) -> Callable[[Tx], None]:
        def act(tx: Tx) -> None:
            tx.scan(first, first + 10, 1, reverse=first > 30)
            tx.insert(mine)

        return act

    return [lambda: run(world, 0, body(20, 45)), lambda: run(world, 1, body(40, 25))]


@scenario("point-miss", rows(10), preemptions=2)
def point_miss(world: World, rng: random.Random) -> list[Task]:
    """Both miss, and insert the other's key."""
    return [lambda: run(world, 0, miss(20, 30)), lambda: run(world, 1, miss(30, 20))]


@scenario("point-miss-split", rows(10, 20, 30, 40), kinds=("word", "bytes"))
def point_miss_split(world: World, rng: random.Random) -> list[Task]:
    """The same in a leaf that the insert splits."""
    return [
        lambda: run(world, 0, miss(25, 35)),
        lambda: run(world, 1, miss(35, 25)),
        lambda: run(world, 2, miss(5, 45)),
    ]


@scenario("tombstone-miss", deleted((10,), (20, 30)))
def tombstone_miss(world: World, rng: random.Random) -> list[Task]:
    """Both miss a deleted row, and write the other's; a third reclaims the tombstones."""

    def reclaimer() -> None:
        world.idle(0)
        run(world, 0, read_all(10), settle=True)

    return [
        lambda: run(world, 1, miss(20, 30)),
        lambda: run(world, 2, miss(30, 20)),
        reclaimer,
    ]


@scenario("delete-misses", rows(10))
def delete_misses(world: World, rng: random.Random) -> list[Task]:
    """Deletes and updates of rows that are not there have read that they are not."""

    def body(missed: int, mine: int) -> Callable[[Tx], None]:
        def act(tx: Tx) -> None:
            if mine == 20:
                tx.delete(missed)
            else:
                tx.update(missed)
            tx.insert(mine)

        return act

    return [lambda: run(world, 0, body(30, 20)), lambda: run(world, 1, body(20, 30))]


@scenario("same-key", rows(10), quiet=False)
def same_key(world: World, rng: random.Random) -> list[Task]:
    """Two inserters of the same key, and a reader of it."""

    def inserter(number: int) -> None:
        run(world, number, lambda tx: tx.insert(20), settle=True)

    def both(tx: Tx) -> None:
        tx.read(20)
        tx.scan(0, 99)

    return [lambda: inserter(0), lambda: inserter(1), lambda: run(world, 2, both)]


@scenario("own-insert-undone", rows(10), quiet=False)
def own_insert_undone(world: World, rng: random.Random) -> list[Task]:
    """An own insert that is deleted again leaves nothing, but it has seen that the key was free,
    and after it the key is free."""

    def cancel(tx: Tx) -> None:
        tx.insert(20)
        tx.delete(20)
        tx.put(30)

    def blind(tx: Tx) -> None:
        tx.put(20)
        tx.delete(20)
        tx.put(40)

    return [
        lambda: run(world, 0, cancel),
        lambda: run(world, 1, miss(30, 20)),
        lambda: run(world, 2, blind),
    ]


@scenario("placeholder", rows(1, 10), quiet=False)
def placeholder(world: World, rng: random.Random) -> list[Task]:
    """An insert that is linked and aborted again, against readers and an insert of its key."""

    def doomed_insert(tx: Tx) -> None:
        tx.insert(20)
        tx.update(1)

    def both(tx: Tx) -> None:
        tx.read(20)
        tx.put(15)
        tx.scan(10, 99)

    def late(tx: Tx) -> None:
        tx.read(15)
        tx.put(20)

    def spoiler() -> None:
        run(world, 3, update_all(1), settle=True)

    return [
        lambda: run(world, 0, doomed_insert, settle=True),
        lambda: run(world, 1, both, settle=True),
        lambda: run(world, 2, late, settle=True),
        spoiler,
    ]


def _contended(world: World) -> None:
    rows(1, 10, 20, 30, 40)(world)


@scenario("placeholder-impatient", _contended, quiet=False, spin_max=1, seeds=150)
def placeholder_impatient(world: World, rng: random.Random) -> list[Task]:
    """Inserts are undone while the leaf is locked by others whenever it is looked at."""

    def doomed_inserts(tx: Tx) -> None:
        tx.insert(25)
        tx.insert(26)
        tx.update(1)

    def inserter(number: int, keys: Iterable[int]) -> None:
        for key in keys:
            run(world, number, put(key), settle=True)

    def spoiler() -> None:
        for _ in range(2):
            run(world, 3, update_all(1), settle=True)

    return [
        lambda: run(world, 0, doomed_inserts, settle=True),
        lambda: inserter(1, (24, 22, 27)),
        lambda: inserter(2, (23, 21, 28)),
        spoiler,
    ]
