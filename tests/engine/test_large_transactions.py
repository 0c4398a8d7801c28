"""Transactions that replace or delete thousands of rows: what they retire comes back in time, and
a full memory can be emptied by them."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

import mako
from mako import Database
from tests.engine.running import until

ROWS: Final = 1000
#: What 1000 rows and the versions that wait for a few transactions take, many times over.
SLACK: Final = 4 << 20
ROW: Final = mako.Table("row", id=1, key={"number": 32}, row={"value": "i8", "text": "S100"})
BLOB: Final = mako.Table("blob", id=2, key={"number": 32}, row={"text": "S200"})
STATE: Final = mako.Row({"number": "i8"}, name="state")


@mako.procedure
def update(tx: Any, count: int) -> None:
    for number in range(count):
        tx.put(ROW, (number,)).value += 1


@mako.function
def draw(random: Any, state: Any) -> int:
    state.number += 1
    return 0


@mako.function
def update_300(tx: Any, state: Any) -> None:
    for number in range(300):
        tx.write(ROW, (number,)).value += 1


UPDATE: Final = mako.Workload(
    "update", kinds=("update",), state=STATE, generate=draw, execute=update_300
)


@mako.procedure
def insert_blobs(tx: Any, first: int, count: int) -> None:
    for number in range(first, first + count):
        tx.insert(BLOB, (number,))


@mako.procedure
def delete_blobs(tx: Any, first: int, count: int) -> None:
    for number in range(first, first + count):
        tx.delete(BLOB, (number,))


@pytest.fixture
def db() -> Iterator[Database]:
    with mako.open(memory="64MiB", sessions=6) as made:
        made.create(ROW, BLOB)
        yield made


def run(db: Database) -> None:
    db.run(update, ROWS)


def transact(db: Database) -> None:
    with db.transaction() as tx:
        rows = tx.table(ROW)
        for number in range(ROWS):
            rows.put((number,), {"value": number, "text": b""})


def submit(db: Database) -> None:
    db.submit(update, ROWS).result()


@pytest.mark.parametrize("act", [run, transact, submit], ids=lambda act: act.__name__)
def test_memory_does_not_grow_by_transactions_of_a_thousand_updates(
    db: Database, act: Callable[[Database], None]
) -> None:

    def is_little(most: int) -> bool:
        """After one more: where whoever closes has lost its processor, some are waited for."""
        act(db)
        return db.memory_bytes < most and db._engine.retired < 12 * ROWS

    for _ in range(100):
        act(db)
    until(lambda: is_little(SLACK))
    used = db.memory_bytes
    for _ in range(200):
        act(db)
    until(lambda: is_little(used + SLACK // 4))
    assert len(db.table(ROW).scan()) == ROWS


def test_memory_does_not_grow_by_a_drive_of_large_transactions(db: Database) -> None:
    run(db)
    with db.drive(UPDATE, workers=2, states=[{"number": 0}] * 2) as drive:
        until(lambda: drive.sample().stopped or drive.sample().kinds[0].committed > 1000)
        until(lambda: drive.sample().stopped or drive.sample().kinds[0].committed > 10_000)
    # They have replaced seven times as many bytes as there is memory.
    assert drive.sample().stopped == ""


# --- out of a full memory -------------------------------------------------------------------------


def fill(insert: Callable[[int], None]) -> int:
    """Insert a hundred rows at a time until memory is full; how many fit."""
    count = 0
    while True:
        try:
            insert(count)
        except mako.OutOfMemory:
            return count
        count += 100


def check_counts(counts: list[int]) -> None:
    """Blocks of tombstones stay small, so somewhat less fits after the first time, and then no
    less."""
    first, *later = counts
    assert first > 20_000
    assert min(later) > 0.9 * first
    assert later[-1] > 0.97 * later[0]


@pytest.fixture
def small() -> Iterator[Database]:
    with mako.open(memory="16MiB", sessions=4) as made:
        made.create(BLOB)
        yield made


@pytest.mark.parametrize("step", [1000, 3000])
def test_interactive_deletes_empty_a_full_memory(small: Database, step: int) -> None:
    def insert(first: int) -> None:
        with small.transaction() as tx:
            for number in range(first, first + 100):
                tx.put(b"%08d" % number, b"v" * 200)

    counts = []
    for _ in range(3):  # What was the reserve is free blocks after the first time.
        counts.append(fill(insert))
        for first in range(0, counts[-1], step):
            with small.transaction() as tx:
                for number in range(first, min(first + step, counts[-1])):
                    assert tx.delete(b"%08d" % number)
        assert list(small.items()) == []
    check_counts(counts)


@pytest.mark.parametrize("step", [1000, 3000])
def test_deletes_of_procedures_empty_a_full_memory(small: Database, step: int) -> None:
    def insert(first: int) -> None:
        small.run(insert_blobs, first, 100)

    counts = []
    for _ in range(3):
        counts.append(fill(insert))
        for first in range(0, counts[-1], step):
            small.run(delete_blobs, first, min(step, counts[-1] - first))
        assert small.table(BLOB).scan() == []
    check_counts(counts)
