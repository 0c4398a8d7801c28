"""Old versions stay as long as a snapshot may read them, and not much longer.

A long snapshot reads exactly its state while everything under it is updated, deleted and
inserted again; when it is closed, what only it needed comes back.
"""

import random
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, Final

import pytest

import mako
from mako.client import transaction
from mako.engine import layout
from tests.conftest import INTERPRETED
from tests.engine.running import together, until

ROWS: Final = 200
CHANGES: Final = 300 if INTERPRETED else 20_000
TEXT: Final = b"x" * 100

ROW: Final = mako.Table("row", id=1, key={"number": 32}, row={"value": "i8", "text": "S100"})
STATE: Final = mako.Row({"number": "i8", "value": "i8", "delete": "i8"}, name="state")


@pytest.fixture
def db() -> Iterator[mako.Database]:
    # Room for what two workers at a given rate leave behind a snapshot in more than a minute.
    with mako.open(memory="512MiB", sessions=6) as made:
        yield made


@mako.procedure
def load(tx: Any, count: int) -> int:
    for number in range(count):
        row = tx.insert(ROW, (number,))
        row.value = number
    return count


@mako.procedure
def change(tx: Any, number: int, value: int) -> int:
    """Write a row, or delete it if `value` is negative; whether it was there."""
    found, _ = tx.find(ROW, (number,))
    if value >= 0:
        row = tx.put(ROW, (number,))
        row.value = value
    elif found:
        tx.delete(ROW, (number,))
    return 1 if found else 0


@mako.function
def draw_change(random: Any, state: Any) -> int:
    state.number = random.uniform(0, ROWS - 1)
    state.value += 1
    state.delete = random.uniform(0, 3) == 0
    return 0


@mako.function
def execute_change(tx: Any, state: Any) -> None:
    if state.delete == 1:
        found, _ = tx.find(ROW, (state.number,))
        if found:
            tx.delete(ROW, (state.number,))
    else:
        row = tx.put(ROW, (state.number,))
        row.value = state.value


@mako.procedure
def sum_values(tx: Any) -> int:
    rows = tx.scan_back(ROW, (0,), (ROWS,), ROWS)
    total = 0
    for at in range(rows.count):
        total += rows.row(at).value
    return total


CHANGE: Final = mako.Workload(
    "change", kinds=("change",), state=STATE, generate=draw_change, execute=execute_change
)


def content(snapshot: mako.Snapshot) -> dict[tuple[int, ...], int]:
    return {key: row["value"] for key, row in snapshot.table(ROW).scan()}


def rewrite(db: mako.Database, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for value in range(count):
        db.run(change, draw.randrange(ROWS), -1 if draw.random() < 0.25 else value)


def deleted(db: mako.Database) -> None:
    for number in range(ROWS):
        db.run(change, number, -1)


@pytest.mark.interpreted
@pytest.mark.parametrize("act", [rewrite, deleted], ids=lambda act: act.__name__)
def test_a_long_snapshot_reads_exactly_its_state(
    db: mako.Database, seed: int, act: Callable[..., None]
) -> None:
    db.create(ROW)
    db.run(load, ROWS)
    with db.snapshot() as snapshot:
        before = content(snapshot)
        assert before == {(number,): number for number in range(ROWS)}
        for _ in range(3):
            act(db, CHANGES // 3, seed) if act is rewrite else act(db)
            assert content(snapshot) == before
            assert list(snapshot.table(ROW).scan(reverse=True)) == [
                *reversed(list(snapshot.table(ROW).scan()))
            ]
            assert [snapshot.table(ROW).get(key)["value"] for key in before] == [*before.values()]
            assert snapshot.run(sum_values) == sum(before.values())
    with db.snapshot() as later:
        assert content(later) != before


@pytest.mark.interpreted
def test_memory_goes_down_after_the_snapshot_is_closed(db: mako.Database, seed: int) -> None:
    db.create(ROW)
    db.run(load, ROWS)
    rewrite(db, 50, seed)
    small = db.memory_bytes
    snapshot = db.snapshot()
    rewrite(db, CHANGES, seed)
    large = db.memory_bytes
    # Every change left a version of more than a hundred bytes behind.
    assert large - small > CHANGES * 0.6 * 100
    snapshot.close()
    assert db.memory_bytes - small < (large - small) // 10 + 50_000


@pytest.mark.interpreted
def test_each_of_several_snapshots_keeps_its_own_state(db: mako.Database, seed: int) -> None:
    db.create(ROW)
    db.run(load, ROWS)
    draw = random.Random(seed)
    held: list[tuple[mako.Snapshot, dict[tuple[int, ...], int]]] = []
    for _ in range(12):
        rewrite(db, CHANGES // 100 + 10, draw.randrange(1 << 30))
        if len(held) == 4:
            held.pop(draw.randrange(4))[0].close()
        snapshot = db.snapshot()
        held.append((snapshot, content(snapshot)))
        for other, state in held:
            assert content(other) == state
    for snapshot, _ in held:
        snapshot.close()


@pytest.mark.interpreted
def test_deleted_rows_leave_the_index_once_nobody_sees_them(db: mako.Database) -> None:
    db.create(ROW)
    db.run(load, ROWS)
    table = db._engine.tables[1].address

    def root_level() -> int:
        word = db._engine.word
        return word(word(table + layout.T_ROOT) + layout.N_LEVEL)

    snapshot = db.snapshot()
    deleted(db)
    assert content(snapshot) == {(number,): number for number in range(ROWS)}
    assert root_level() == 1
    snapshot.close()
    db.run(change, ROWS + 1, 1)
    word = db._engine.word
    assert root_level() == 0
    assert word(word(table + layout.T_ROOT) + layout.N_COUNT) == 1


def test_a_snapshot_stands_still_while_two_workers_write(db: mako.Database, seed: int) -> None:
    db.create(ROW)
    db.run(load, ROWS)
    states = [{"number": 0, "value": 0, "delete": 0}] * 2
    with db.snapshot() as snapshot:
        want = snapshot.run(sum_values)
        before = content(snapshot)
        with db.drive(CHANGE, workers=2, states=states, seed=seed, rate=40_000) as drive:
            seen = set()

            def done() -> bool:
                seen.add(snapshot.run(sum_values))
                return drive.sample().kinds[0].committed > 20_000

            until(done)
            # Another one, over rows that are changed all the time, agrees with itself.
            with db.snapshot() as moving:
                first = content(moving)
                drive.reset()
                until(lambda: drive.sample().kinds[0].committed > 2_000)
                assert content(moving) == first
                assert moving.run(sum_values) == sum(first.values())
        assert drive.sample().stopped == ""
        assert seen == {want}
        assert content(snapshot) == before


def test_an_interactive_transaction_survives_that_what_it_read_is_freed(
    db: mako.Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its calls it pins nothing: what it read may be gone, and it must notice."""
    # However long it takes to compile what happens meanwhile, and to run it.
    monkeypatch.setattr(transaction, "AGE_MAX", inf)
    db.create(ROW)
    db.run(load, ROWS)
    tx = db.begin()
    table = db.table(ROW)
    assert tx.get((5,), table=table)["value"] == 5
    assert tx.get((ROWS + 5,), table=table) is None
    assert len(list(tx.scan((100,), (110,), table=table))) == 10
    deleted(db)
    rewrite(db, 2000, seed)
    tx.put((7,), {"value": 1, "text": TEXT}, table=table)
    with pytest.raises(mako.Conflict):
        tx.commit()


def test_threads_open_and_close_snapshots_while_others_write(db: mako.Database, seed: int) -> None:
    """Snapshots are handed out and given back all the time; each agrees with itself."""
    db.create(ROW)
    db.run(load, ROWS)
    db.run(change, 1, 1)

    def read(thread: int) -> None:
        draw = random.Random(seed + thread)
        for _ in range(150):
            with db.snapshot() as snapshot:
                first = content(snapshot)
                key = (draw.randrange(ROWS),)
                row = snapshot.table(ROW).get(key)
                assert (row["value"] if row else None) == first.get(key)
                assert snapshot.run(sum_values) == sum(first.values())

    together(
        lambda: read(1),
        lambda: read(2),
        lambda: rewrite(db, 4000, seed),
        lambda: rewrite(db, 4000, seed + 1),
    )
