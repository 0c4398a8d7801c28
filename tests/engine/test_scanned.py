"""A procedure writes and deletes the rows that its scans have found, wherever they are."""

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, put

pytestmark = pytest.mark.interpreted

PAIR: Final = mako.Table(
    "pair", id=8, key={"place": 8, "high": 56, "low": 64}, row={"v": "i8", "text": "S80"}
)
PLACES: Final = 3
FIND, ADD, DROP, PUT, INSERT, KEYED, DROPPED = STEPS = range(1, 8)


@mako.procedure
def account_steps(tx: Any, place: int, steps: int, limit: int, down: int) -> int:
    """Scan a place, and take a step, a digit each, with what was found: what they see.

    Of every digit: 1 look at all, 2 add to each row of the scan, 3 delete each second one, 4 put
    and 5 insert a row beside the first, 6 add to the first and 7 delete the last by its key.
    """
    seen = 0
    number = 0
    while steps > 0:
        step = steps % 10
        number += 1
        if down != 0:
            rows = tx.scan_back(ACCOUNT, (place,), (place + 1,), limit)
        else:
            rows = tx.scan(ACCOUNT, (place,), (place + 1,), limit)
        for i in range(rows.count):
            seen = (seen * 131 + rows.key(i).number * 7 + rows.row(i).v) % 1_000_000_007
            if step == 2:
                row = rows.write(i)
                row.v += number
                seen = (seen * 131 + row.v) % 1_000_000_007
            elif step == 3 and i % 2 == 0:
                rows.delete(i)
        if rows.count > 0 and 4 <= step <= 7:
            first = rows.key(0).number
            last = rows.key(rows.count - 1).number
            if step == 4:
                tx.put(ACCOUNT, (place, first + 1)).v = number
            elif step == 5:
                tx.insert(ACCOUNT, (place, first + 1)).v = number
            elif step == 6:
                tx.write(ACCOUNT, (place, first)).v += number
            else:
                tx.delete(ACCOUNT, (place, last))
        steps //= 10
    return int(seen)


@mako.procedure
def content(tx: Any, place: int) -> int:
    """A number that tells all rows of a place."""
    rows = tx.scan(ACCOUNT, (place,), (place + 1,), 1000)
    seen = rows.count
    for i in range(rows.count):
        seen = (seen * 131 + rows.key(i).number * 7 + rows.row(i).v) % 1_000_000_007
    return int(seen)


class Model:
    """The rows of one place."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}

    def act(self, steps: int, limit: int, down: int) -> tuple[Outcome, int]:
        rows, seen, at = dict(self.rows), 0, 0
        while steps > 0:
            step, steps, at = steps % 10, steps // 10, at + 1
            found = sorted(rows, reverse=bool(down))[:limit]
            for i, key in enumerate(found):
                seen = (seen * 131 + key * 7 + rows[key]) % 1_000_000_007
                if step == ADD:
                    rows[key] += at
                    seen = (seen * 131 + rows[key]) % 1_000_000_007
                elif step == DROP and i % 2 == 0:
                    del rows[key]
            if found and step in (PUT, INSERT):
                if step == INSERT and found[0] + 1 in rows:
                    return Outcome.EXISTS, 0
                rows[found[0] + 1] = at
            elif found and step == KEYED:
                rows[found[0]] += at
            elif found and step == DROPPED:
                del rows[found[-1]]
        self.rows = rows
        return Outcome.COMMITTED, seen

    def content(self) -> int:
        seen = len(self.rows)
        for key in sorted(self.rows):
            seen = (seen * 131 + key * 7 + self.rows[key]) % 1_000_000_007
        return seen


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT, PAIR], partitions=PLACES)
    yield made
    made.close()


def test_what_a_scan_has_found_is_written_here_and_elsewhere(cluster: Cluster, seed: int) -> None:
    rng = random.Random(seed)
    models = [Model() for _ in range(PLACES)]
    for _ in range(250):
        place, home = rng.randrange(PLACES), rng.randrange(PLACES)
        model = models[place]
        if len(model.rows) < 3:
            number = rng.randrange(1, 60)
            model.rows[number] = number
            assert cluster.run(home, put, place, number, number).outcome == Outcome.COMMITTED
            continue
        steps = int("".join(str(rng.choice(STEPS)) for _ in range(rng.randrange(1, 5))))
        limit, down = rng.choice([2, 5, 100]), rng.randrange(2)
        expected = model.act(steps, limit, down)
        done = cluster.run(home, account_steps, place, steps, limit, down)
        assert (done.outcome, done.value) == expected, (home, place, steps, limit, down)
        assert cluster.run(place, content, place).value == model.content(), (home, place, steps)


@mako.procedure
def fill(tx: Any, place: int, count: int) -> int:
    for i in range(count):
        row = tx.put(PAIR, (place, i // 4, i))
        row.v = i
        row.text = b"something that a row has"
    return count


@mako.procedure
def double(tx: Any, place: int, drops: int) -> int:
    """Double all rows of a place, and delete each one that `drops` divides."""
    rows = tx.scan(PAIR, (place,), (place + 1,), 1000)
    for i in range(rows.count):
        if rows.key(i).low % drops == 0:
            rows.delete(i)
        else:
            rows.write(i).v *= 2
    return int(rows.count)


@mako.procedure
def total(tx: Any, place: int) -> int:
    rows = tx.scan(PAIR, (place,), (place + 1,), 1000)
    count = 0
    for i in range(rows.count):
        if rows.row(i).text == b"something that a row has":
            count += rows.row(i).v
    return count


def test_keys_of_two_words_and_a_lane_that_was_used_before(cluster: Cluster) -> None:
    """What a larger range has left in the heap of a lane is not taken for anything."""
    for place, count in ((1, 40), (2, 12)):
        assert cluster.run(place, fill, place, count).outcome == Outcome.COMMITTED
    for place, count, drops in ((1, 40, 7), (2, 12, 5)):
        done = cluster.run(0, double, place, drops)
        assert (done.outcome, done.value) == (Outcome.COMMITTED, count)
        assert done.mask == 1 | 1 << place
        expected = sum(2 * i for i in range(count) if i % drops)
        assert cluster.run(place, total, place).value == expected


@mako.procedure
def write_and_drop(tx: Any, place: int) -> int:
    rows = tx.scan(ACCOUNT, (place,), (place + 1,), 10)
    tx.delete(ACCOUNT, (place, rows.key(0).number))
    rows.write(0).v = 1
    return 0


@mako.procedure
def drop_twice(tx: Any, place: int) -> int:
    rows = tx.scan(ACCOUNT, (place,), (place + 1,), 10)
    rows.delete(0)
    rows.delete(0)
    return 0


@mako.procedure
def write_what_was_inserted_and_dropped(tx: Any, place: int) -> int:
    tx.insert(ACCOUNT, (place, 6)).v = 1
    rows = tx.scan(ACCOUNT, (place,), (place + 1,), 10)
    tx.delete(ACCOUNT, (place, 6))
    rows.write(1).v = 99
    return 0


@mako.procedure
def drop_twice_what_was_inserted(tx: Any, place: int) -> int:
    tx.insert(ACCOUNT, (place, 6)).v = 1
    rows = tx.scan(ACCOUNT, (place,), (place + 1,), 10)
    rows.delete(1)
    rows.delete(1)
    return 0


@pytest.mark.parametrize("home", [1, 0], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    "procedure",
    [
        write_and_drop,
        drop_twice,
        write_what_was_inserted_and_dropped,
        drop_twice_what_was_inserted,
    ],
)
def test_a_row_that_the_transaction_has_deleted_is_gone(
    cluster: Cluster, home: int, procedure: mako.Procedure
) -> None:
    cluster.run(1, put, 1, 5, 9)
    assert cluster.run(home, procedure, 1).outcome == Outcome.NOT_FOUND
    assert cluster.run(1, content, 1).value == 131 + 5 * 7 + 9


def test_a_row_that_changes_after_the_scan_is_a_conflict(cluster: Cluster) -> None:
    """The scan has read it: the write of another one in between is not lost."""
    for number in range(4):
        cluster.run(1, put, 1, number, 10)
    first = cluster.post(0, account_steps, 1, ADD, 100, 0)
    second = cluster.post(2, account_steps, 1, ADD, 100, 0)
    done = {each.number: each.outcome for each in cluster.settle()}
    assert done == {first: Outcome.COMMITTED, second: Outcome.COMMITTED}
    model = Model()
    model.rows = dict.fromkeys(range(4), 12)
    assert cluster.run(1, content, 1).value == model.content()
