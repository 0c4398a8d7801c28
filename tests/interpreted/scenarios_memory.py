"""Commits and readers against closing, snapshots and reclamation."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from mako.engine import layout as at
from mako.engine import memory
from mako.engine.atomics import ld8, st8
from tests.interpreted.loom import Task
from tests.interpreted.programs import (
    delete,
    put,
    read_all,
    rows,
    run,
    scenario,
    update_all,
)
from tests.interpreted.world import Stopped, Tx, World


@scenario("closing", rows(1, 2))
def closing(world: World, rng: random.Random) -> list[Task]:
    """Commits against a keeper that closes and drains, and a snapshot at what it closed."""

    def writer(number: int) -> None:
        for _ in range(2):
            run(world, number, update_all(1, 2))

    def keeper() -> None:
        for _ in range(3):
            world.turn()

    def looker() -> None:
        world.turn()
        snapshot = world.snapshot(3)
        snapshot.read(2)
        snapshot.read(1)
        snapshot.close()

    return [lambda: writer(0), lambda: writer(1), keeper, looker]


@scenario("closing-one", rows(1), preemptions=2)
def closing_one(world: World, rng: random.Random) -> list[Task]:
    """One commit against one turn of the keeper."""

    def keeper() -> None:
        world.turn()

    return [lambda: run(world, 0, update_all(1)), keeper]


@scenario("snapshot", rows(1, 2, 3), quiet=False, kinds=("word", "bytes"))
def snapshot(world: World, rng: random.Random) -> list[Task]:
    """Rows are replaced, deleted and reclaimed while snapshots read them again and again."""

    def delete_and_put(tx: Tx) -> None:
        tx.delete(3)
        tx.put(4)

    def writer() -> None:
        for _ in range(3):
            run(world, 0, update_all(1, 2), settle=True)
        run(world, 0, delete_and_put, settle=True)
        run(world, 0, update_all(1), settle=True)

    def looker(number: int) -> None:
        for _ in range(2):
            opened = world.snapshot(number)
            for key in (1, 2, 3, 4):
                opened.read(key)
            opened.pass_boundary()
            opened.scan(0, 9, reverse=number == 2)
            opened.close()

    return [writer, lambda: looker(1), lambda: looker(2)]


def _replaced(world: World) -> None:
    """A row whose replacement is not closed yet."""
    rows(1)(world)
    run(world, 0, update_all(1))


@scenario("opening", _replaced, preemptions=3)
def opening(world: World, rng: random.Random) -> list[Task]:
    """A snapshot is opened while the horizon passes it."""

    def closer() -> None:
        world.idle(0)

    def looker() -> None:
        opened = world.snapshot(1)
        opened.read(1)
        opened.close()

    return [looker, closer]


@scenario("running-reader", rows(1, 2))
def running_reader(world: World, rng: random.Random) -> list[Task]:
    """What a running transaction read stays as it is, whoever frees what."""

    def writer() -> None:
        for _ in range(3):
            run(world, 0, update_all(1), settle=True)

    return [writer, lambda: run(world, 1, read_all(1, 2, 1))]


@scenario("reinsert", rows(5, 6), quiet=False, kinds=("word", "bytes"))
def reinsert(world: World, rng: random.Random) -> list[Task]:
    """A deleted row is written again while its tombstone is being reclaimed."""

    def deleter() -> None:
        run(world, 0, delete(5), settle=True)
        for _ in range(2):
            run(world, 0, read_all(6), settle=True)

    def writer() -> None:
        for key in (5, 7):
            run(world, 1, put(key), settle=True)
        run(world, 1, update_all(5))

    return [deleter, writer, lambda: run(world, 2, read_all(5, 7))]


@scenario("session", rows(1, 2, 3), quiet=False)
def session(world: World, rng: random.Random) -> list[Task]:
    """An interactive transaction pins nothing between its calls, so versions and records that
    it noted are freed and used again meanwhile."""

    def user() -> None:
        tx = world.session(1)
        with suppress(Stopped):
            tx.read(1)
            tx.read(2)
            tx.put(3)
            tx.commit()

    def writer() -> None:
        for _ in range(3):
            run(world, 0, update_all(1), settle=True)
        run(world, 0, delete(2), settle=True)
        run(world, 0, read_all(1), settle=True)
        run(world, 0, put(4, 2), settle=True)

    return [user, writer]


@scenario("session-write", rows(1, 2, 3), quiet=False)
def session_write(world: World, rng: random.Random) -> list[Task]:
    """The record an interactive transaction will write is used for another key meanwhile."""

    def user() -> None:
        tx = world.session(1)
        with suppress(Stopped):
            tx.put(1)
            tx.read(2)
            tx.commit()

    def writer() -> None:
        run(world, 0, delete(1), settle=True)
        for _ in range(2):
            run(world, 2, update_all(3))
            world.idle(0)
        run(world, 0, put(9))

    return [user, writer]


def _nearly_full(world: World) -> None:
    """What is left of memory: one chunk for all, and two more for deletes."""
    rows(1)(world)
    left = ld8(world.base + at.BUMP) - world.base
    st8(world.base + at.SOFT_LIMIT, left + at.CHUNK_BYTES)
    st8(world.base + at.SIZE, left + 3 * at.CHUNK_BYTES)


@scenario("end-of-memory", _nearly_full, preemptions=2, by_hand=True)
def end_of_memory(world: World, rng: random.Random) -> list[Task]:
    """Two limits, one end: no two contexts are given the same memory, and none is lost."""
    given: list[int] = []
    ended: list[int] = []
    first = ld8(world.base + at.BUMP)

    def take(number: int, act: Callable[[int, int, int], int]) -> None:
        block = act(world.contexts[number], at.POOL_VALUES, at.CHUNK_BYTES)
        if block != 0:
            assert block not in given, "a block is given to one"
            given.append(block)

    def taker(number: int, act: Callable[[int, int, int], int]) -> None:
        take(number, act)
        ended.append(number)
        if len(ended) == 3:
            take(number, memory.allocate_reserved)
            taken = [first + i * at.CHUNK_BYTES for i in range(len(given) + 1)]
            assert [*sorted(given), ld8(world.base + at.BUMP)] == taken, "nothing is lost"
            st8(world.base + at.BUMP, first)

    return [
        lambda: taker(0, memory.allocate),
        lambda: taker(1, memory.allocate),
        lambda: taker(2, memory.allocate_reserved),
    ]
