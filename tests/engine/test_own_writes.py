"""A transaction sees what it has written itself, also where the row is in another partition."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import pytest

import mako
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, delete, put

pytestmark = pytest.mark.interpreted

PUT, INSERT, DELETE, WRITE, FIND = STEPS = range(1, 6)
#: Where the row is.
PLACE: Final = 1
BEFORE: Final = 7


@mako.procedure
def act(tx: Any, number: int, steps: int) -> int:
    """Take the steps, a digit each, with one row; what they see."""
    seen = 0
    at = 0
    while steps > 0:
        step = steps % 10
        at += 1
        if step == 1:
            tx.put(ACCOUNT, (1, number)).v = at
        elif step == 2:
            tx.insert(ACCOUNT, (1, number)).v = at
        elif step == 3:
            tx.delete(ACCOUNT, (1, number))
        elif step == 4:
            own = tx.write(ACCOUNT, (1, number))
            seen = seen * 100 + own.v
            own.v += 10
        else:
            found, row = tx.find(ACCOUNT, (1, number))
            seen = seen * 100 + (row.v if found else 99)
        steps //= 10
    return int(seen)


def expected(row: int | None, steps: tuple[int, ...]) -> tuple[Outcome, int, int | None]:
    """How it ends, what the steps see, and the row then."""
    before, seen = row, 0
    for at, step in enumerate(steps, 1):
        if step == INSERT and row is not None:
            return Outcome.EXISTS, 0, before
        if step in (DELETE, WRITE) and row is None:
            return Outcome.NOT_FOUND, 0, before
        if step in (PUT, INSERT):
            row = at
        elif step == DELETE:
            row = None
        else:
            seen = seen * 100 + (99 if row is None else row)
            if step == WRITE and row is not None:
                row += 10
    return Outcome.COMMITTED, seen, row


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=2)
    yield made
    made.close()


@pytest.mark.parametrize("home", [PLACE, 0], ids=["here", "elsewhere"])
def test_own_writes_are_seen(cluster: Cluster, home: int) -> None:
    now: int | None = None
    for before, *taken in product((None, BEFORE), STEPS, STEPS):
        steps = (*taken, FIND)
        if before is None and now is not None:
            cluster.run(PLACE, delete, PLACE, 1)
        elif before is not None and now != before:
            cluster.run(PLACE, put, PLACE, 1, before)
        outcome, seen, now = expected(before, steps)
        done = cluster.run(home, act, 1, sum(step * 10**i for i, step in enumerate(steps)))
        assert (done.outcome, done.value) == (outcome, seen), (before, steps)
        row = cluster.run(PLACE, act, 1, FIND).value
        assert row == (99 if now is None else now), (before, steps)
