"""Small programs whose interleavings are explored.

A scenario is a function of a `Stage`: it fills the table when it is called for the first time
and returns its tasks; the stage calls it once for the set-up and once per schedule. Tasks end
quietly when their transaction is aborted: what must hold is in `checks`.
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
    spin_max: int | None = None


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
) -> Callable[[Body], Body]:
    """Register the function that makes the tasks, once per kind of key."""

    def register(tasks: Body) -> Body:
        for kind in kinds:
            full = name if kind == "word" else f"{name}-{kind}"
            assert full not in SCENARIOS, "names are unique"
            SCENARIOS[full] = Scenario(
                full, fill, tasks, kind, seeds, preemptions, quiet, fanout, spin_max
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


# --- transactions against transactions --------------------------------------------------------


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


def miss(missed: int, mine: int) -> Callable[[Tx], None]:
    def body(tx: Tx) -> None:
        tx.read(missed)
        tx.put(mine)

    return body


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
        world.settle(0)
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


# --- closing, snapshots, reclamation ------------------------------------------------------------


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
        world.settle(0)

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
            world.settle(0)
        run(world, 0, put(9))

    return [user, writer]


# --- the tree -----------------------------------------------------------------------------------


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


@scenario("take-over", _taken_over(60), quiet=False, preemptions=2)
def take_over(world: World, rng: random.Random) -> list[Task]:
    """An insert and a miss in a leaf that leaves the tree full of rows."""
    return [lambda: world.settle(0), lambda: run(world, 1, miss(55, 65))]


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
        world.settle(0)
        run(world, 0, put(55))
        run(world, 2, put(5))
        world.settle(0)
        run(world, 2, put(6))
        world.settle(0)
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
        world.settle(0)
        until(lambda: "asked" in done)
        run(world, 0, delete(50), settle=True)
        for _ in range(2):
            run(world, 2, update_all(60))
            world.settle(0)
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


# --- everything --------------------------------------------------------------------------------


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
scenario("mix-impatient", rows(*range(0, 12, 2)), seeds=150, quiet=False, spin_max=3)(_mix)
