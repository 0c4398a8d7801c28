"""Workers and threads in real parallel over a few hot rows: what they did is serializable.

The checkers themselves are tested in test_history: each of them finds a wrong history.
"""

import random
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako.ids import Outcome
from tests.engine import appending
from tests.engine.history import (
    BEGINNING,
    History,
    check_serializable,
    check_snapshot,
    check_timestamps,
    edges_among,
    writers_of,
)
from tests.engine.running import DEADLINE_S, together, until

WORKERS: Final = 2
#: Transactions of a run: a second of two workers at most, and of the checks after it.
ENOUGH: Final = 15_000


@pytest.fixture
def db() -> Iterator[mako.Database]:
    # Workers that nothing holds up fill hundreds of MB in a second in which the thread that holds
    # a snapshot gets no processor.
    with mako.open(memory="2GiB", sessions=12) as made:
        yield made


def committed(drive: mako.Drive) -> int:
    return sum(kind.committed for kind in drive.sample().kinds)


def conflicts(drive: mako.Drive) -> int:
    return sum(drive.sample().aborts.values())


# --- List-append inside the kernel ---------------------------------------------------------------


def append_lists(seed: int) -> tuple[int, History, dict[Any, int], list[dict[str, Any]]]:
    """One run of two workers: conflicts, history, timestamps, and what snapshots saw."""
    looks: list[dict[str, Any]] = []

    def look() -> None:
        with db.snapshot() as snapshot:
            looks.append(snapshot.run(appending.look, WORKERS, out=appending.SEEN)[1])

    def done() -> bool:
        """Each has written its last one: committed it, and not only begun it."""
        look()
        return drive.sample().kinds[0].committed == WORKERS * appending.WRITING_MAX

    with mako.open(memory="256MiB", sessions=6) as db:
        db.create(appending.LIST, appending.LOG)
        db.run(appending.load)
        look()  # It is compiled before the workers start.
        drive = db.drive(
            appending.WORKLOAD, workers=WORKERS, states=appending.states(WORKERS), seed=seed
        )
        with drive:
            until(done)
        assert drive.sample().stopped == ""
        history, timestamps = appending.read_history(db, drive.states())
        return conflicts(drive), history, timestamps, looks


def test_appends_by_two_workers_are_serializable_in_timestamp_order(seed: int) -> None:
    """No cycle, timestamps that order it, and snapshots that saw whole prefixes of it."""
    for attempt in range(20):  # The system may have them run one after the other, some times.
        met, history, timestamps, looks = append_lists(seed + attempt)
        assert len(timestamps) == WORKERS * appending.WRITING_MAX
        check_serializable(history)
        edges = edges_among(history, timestamps)
        check_timestamps(edges, timestamps)
        for seen in looks[:: max(1, len(looks) // 20)]:
            whole = {
                appending.transaction(worker, number)
                for worker in range(1, WORKERS + 1)
                for number in range(1, seen["numbers"][worker] + 1)
            }
            check_snapshot(history, edges, dict(enumerate(seen["lengths"])), whole)
        if met > 20:
            return
    raise AssertionError("two workers never met: this proves nothing; give them two cores")


# --- Money ---------------------------------------------------------------------------------------

ACCOUNT: Final = mako.Table("account", id=11, key={"number": 16}, row={"balance": "i8"})
TRANSFER: Final = mako.Row({"source": "i8", "target": "i8", "amount": "i8"}, name="transfer")
ACCOUNTS: Final = 8
START: Final = 1000


@mako.procedure
def load_accounts(tx: Any) -> int:
    for number in range(ACCOUNTS):
        account = tx.insert(ACCOUNT, (number,))
        account.balance = START
    return ACCOUNTS


@mako.function
def draw_transfer(random: Any, state: Any) -> int:
    state.source = random.uniform(0, ACCOUNTS - 1)
    state.target = random.uniform(0, ACCOUNTS - 1)
    state.amount = random.uniform(1, 50)
    return 0


@mako.function
def transfer(tx: Any, state: Any) -> None:
    source = tx.write(ACCOUNT, (state.source,))
    if source.balance < state.amount:
        tx.rollback()
    source.balance -= state.amount
    target = tx.write(ACCOUNT, (state.target,))
    target.balance += state.amount


@mako.procedure
def total(tx: Any) -> int:
    """The sum over all accounts; -1 if one is overdrawn."""
    rows = tx.scan(ACCOUNT, (0,), (ACCOUNTS,), ACCOUNTS)
    money = 0
    for at in range(rows.count):
        if rows.row(at).balance < 0:
            return -1
        money += rows.row(at).balance
    return money


TRANSFERS: Final = mako.Workload(
    "transfers", kinds=("transfer",), state=TRANSFER, generate=draw_transfer, execute=transfer
)


def test_no_snapshot_sees_half_a_transfer(db: mako.Database, seed: int) -> None:
    db.create(ACCOUNT)
    db.run(load_accounts)
    assert db.run(total) == ACCOUNTS * START  # Compiled before the workers start.
    sums: list[int] = []
    timestamps: list[int] = []

    def done() -> bool:
        for _ in range(20):
            with db.snapshot() as snapshot:
                timestamps.append(snapshot.timestamp)
                sums.append(snapshot.run(total))
        # A transaction that reads everything is serializable too, or it is run again.
        sums.append(db.run(total))
        return committed(drive) > ENOUGH and conflicts(drive) > 20 and len(sums) > 400

    states = [{"source": 0, "target": 0, "amount": 0}] * WORKERS
    with db.drive(TRANSFERS, workers=WORKERS, states=states, seed=seed) as drive:
        until(done)
    assert set(sums) == {ACCOUNTS * START}
    assert timestamps == sorted(timestamps)
    assert timestamps[0] < timestamps[-1]


# --- Phantoms ------------------------------------------------------------------------------------

ITEM: Final = mako.Table("item", id=21, key={"group": 8, "number": 24}, row={"worker": "i8"})
ITEM_STATE: Final = mako.Row(
    {
        "worker": "i8",
        "group": "i8",
        "number": "i8",
        "down": "i8",
        "wrong": "i8",
        "found": "i8",
        "inserted": "i8",
        "deleted": "i8",
        "change": "i8",
    },
    name="items",
)
GROUPS: Final = 2
NUMBERS: Final = 1 << 20
ITEMS_MAX: Final = 5


@mako.function
def draw_item(random: Any, state: Any) -> int:
    """Count what the transaction before did, which has committed, and draw the next one."""
    state.inserted += state.change == 1
    state.deleted += state.change == -1
    state.wrong += state.found > ITEMS_MAX
    state.found = 0
    state.change = 0
    state.group = random.uniform(0, GROUPS - 1)
    state.number = random.uniform(0, NUMBERS - 1)
    state.down = random.uniform(0, 1)
    return 0


@mako.function
def change_item(tx: Any, state: Any) -> None:
    """Insert into a group that has room, delete from one that has none: all by a scan.

    Two inserts into one group have no record in common: only the gaps that the scans saw tell
    one of them that the group is full.
    """
    first, end = (state.group, 0), (state.group, NUMBERS)
    if state.down == 1:
        rows = tx.scan_back(ITEM, first, end, 100)
    else:
        rows = tx.scan(ITEM, first, end, 100)
    state.found = rows.count
    state.change = 0
    if rows.count < ITEMS_MAX:
        found, _ = tx.find(ITEM, (state.group, state.number))
        if not found:
            row = tx.insert(ITEM, (state.group, state.number))
            row.worker = state.worker
            state.change = 1
    else:
        rows.delete(state.number % rows.count)
        state.change = -1


@mako.procedure
def largest_group(tx: Any) -> int:
    most = 0
    for group in range(GROUPS):
        most = max(most, tx.scan(ITEM, (group, 0), (group, NUMBERS), 100).count)
    return most


ITEMS: Final = mako.Workload(
    "items", kinds=("change",), state=ITEM_STATE, generate=draw_item, execute=change_item
)


def test_no_group_grows_beyond_what_every_insert_saw(db: mako.Database, seed: int) -> None:
    db.create(ITEM)
    most = [db.run(largest_group)]

    def done() -> bool:
        for _ in range(20):
            with db.snapshot() as snapshot:
                most.append(snapshot.run(largest_group))
        return committed(drive) > 2 * ENOUGH and drive.sample().aborts["phantom"] > 20

    zero = dict.fromkeys((field.name for field in ITEM_STATE.fields), 0)
    states = [{**zero, "worker": worker} for worker in range(WORKERS)]
    with db.drive(ITEMS, workers=WORKERS, states=states, seed=seed) as drive:
        until(done)
    assert max(most) <= ITEMS_MAX
    finished = drive.states()
    assert [state["wrong"] for state in finished] == [0] * WORKERS
    # What is there is what was inserted less what was deleted; the last one of each worker may
    # have been stopped before it was counted.
    there = len(db.table(ITEM).scan())
    counted = sum(state["inserted"] - state["deleted"] for state in finished)
    assert abs(there - counted) <= WORKERS


PAIRS: Final = 8
SIDE: Final = mako.Table("side", id=22, key={"pair": 8, "side": 8}, row={"worker": "i8"})
SIDE_STATE: Final = mako.Row({"pair": "i8", "side": "i8", "delay": "i8"}, name="side")


@mako.function
def draw_side(random: Any, state: Any) -> int:
    state.pair = random.uniform(0, PAIRS - 1)
    state.side = random.uniform(0, 1)
    state.delay = random.uniform(0, 16)
    return 0


@mako.function
def take_side(tx: Any, state: Any) -> None:
    """Take a side of a pair if the other one is free; give it back if it is taken."""
    found, _ = tx.find(SIDE, (state.pair, state.side))
    if found:
        tx.delete(SIDE, (state.pair, state.side))
        return
    other, _ = tx.find(SIDE, (state.pair, 1 - state.side))
    if not other:
        for at in range(state.delay):  # Time for the other worker to come between.
            tx.read(ACCOUNT, (at % ACCOUNTS,))
        tx.insert(SIDE, (state.pair, state.side))


@mako.procedure
def pairs_with_both(tx: Any) -> int:
    both = 0
    for pair in range(PAIRS):
        both += tx.scan(SIDE, (pair, 0), (pair, 2), 4).count == 2
    return both


SIDES: Final = mako.Workload(
    "sides", kinds=("take",), state=SIDE_STATE, generate=draw_side, execute=take_side
)


def test_a_point_that_was_missed_stays_missed_until_the_commit(
    db: mako.Database, seed: int
) -> None:
    """Each side is taken because the other one is not there: both never are."""
    db.create(SIDE, ACCOUNT)
    db.run(load_accounts)
    both = [db.run(pairs_with_both)]

    def done() -> bool:
        for _ in range(20):
            with db.snapshot() as snapshot:
                both.append(snapshot.run(pairs_with_both))
        # Fewer would prove nothing: what was missed did appear.
        return committed(drive) > 2 * ENOUGH and drive.sample().aborts["phantom"] > 20

    states = [{"pair": 0, "side": 0, "delay": 0}] * WORKERS
    with db.drive(SIDES, workers=WORKERS, states=states, seed=seed) as drive:
        until(done)
    assert max(both) == 0


# --- Interactive transactions --------------------------------------------------------------------


def test_interactive_threads_are_serializable(db: mako.Database, seed: int) -> None:
    """Python threads append whole lists to byte-string rows, and retry by themselves."""
    table = db.table("lists")
    keys = [b"key/%d" % number for number in range(3)]
    for key in keys:
        table.put(key, b"")
    reads: list[list[tuple[Any, bytes, int]]] = []
    appends: list[list[tuple[Any, bytes, int, Any]]] = []
    lock = threading.Lock()
    meeting = threading.Barrier(4)

    def life(thread: int) -> None:
        draw = random.Random(seed * 31 + thread)
        for number in range(500):
            name = b"%d.%d" % (thread, number)
            chosen = draw.sample(keys, draw.randint(1, 3))
            writes = [key for key in chosen if draw.random() < 0.5]
            # Now and then all have read the same before one of them commits: left to chance, they
            # hardly meet on a fast machine.
            meets = [number % 100 == 0]
            if meets[0]:
                chosen = writes = keys
            seen: dict[bytes, list[bytes]] = {}

            @mako.transactional(max_retries=10_000)
            def act(
                tx: mako.Transaction,
                chosen: list[bytes] = chosen,
                writes: list[bytes] = writes,
                seen: dict[bytes, list[bytes]] = seen,
                name: bytes = name,
                meets: list[bool] = meets,
            ) -> None:
                for key in chosen:
                    value = tx.get(key, table=table)
                    seen[key] = value.split(b" ")[1:]
                    if key in writes:
                        tx.put(key, value + b" " + name, table=table)
                if meets and meets.pop():  # Not again when it is run again.
                    meeting.wait(DEADLINE_S)

            act(db)
            with lock:
                reads.append([(name, key, len(seen[key])) for key in chosen])
                appends.append(
                    [
                        (name, key, len(seen[key]), seen[key][-1] if seen[key] else BEGINNING)
                        for key in writes
                    ]
                )

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together(*[lambda thread=thread: life(thread) for thread in range(4)])
    finally:
        sys.setswitchinterval(interval)
    assert db._engine.outcomes()[Outcome.CHANGED] > 0, "the threads never met"
    writers = writers_of([append for made in appends for append in made])
    for key in keys:
        assert table.get(key).split(b" ")[1:] == writers[key]
    check_serializable(History(dict(writers), [read for made in reads for read in made]))


def test_threads_that_run_procedures_lose_no_transfer(db: mako.Database, seed: int) -> None:
    """Compiled procedures hold no GIL: threads of Python run them in parallel, too."""
    db.create(ACCOUNT)
    db.run(load_accounts)
    counts = [0] * 3

    def life(thread: int) -> None:
        draw = random.Random(seed + thread)
        for _ in range(2000):
            db.run(move, draw.randrange(ACCOUNTS), draw.randrange(ACCOUNTS), draw.randint(1, 5))
            counts[thread] += 1

    together(*[lambda thread=thread: life(thread) for thread in range(3)])
    assert counts == [2000] * 3
    assert db.run(total) in (ACCOUNTS * START, -1)
    rows = db.table(ACCOUNT).scan()
    assert sum(row["balance"] for _, row in rows) == ACCOUNTS * START


@mako.procedure
def move(tx: Any, source: int, target: int, amount: int) -> int:
    payer = tx.write(ACCOUNT, (source,))
    payer.balance -= amount
    payee = tx.write(ACCOUNT, (target,))
    payee.balance += amount
    return amount
