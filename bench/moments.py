"""Snapshots that see what was acknowledged before.

A transaction is acknowledged when those partitions have passed it that took part in it, and a
snapshot shows what all have passed, a moment later. Of one partition the two are the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from mako.errors import TransactionTooOld

#: Seconds until a snapshot has to show it.
PATIENCE: Final = 60.0
_PAUSE: Final = 0.02
#: How often a snapshot may become too old.
_ATTEMPTS: Final = 6

Result = TypeVar("Result")


def passed(db: Any) -> int:
    """The timestamp up to which anything may have been acknowledged by the leaders of a cluster;
    0 of a database that has one partition."""
    partitions = getattr(db, "partitions", ())
    if len(partitions) < 2:
        return 0
    return max(int(db.status(partition=each)["watermark"]) for each in partitions)


@contextmanager
def snapshot_from(db: Any, timestamp: int, *, patience: float = PATIENCE) -> Iterator[Any]:
    """A snapshot at `timestamp` or later. TimeoutError if there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        with db.snapshot() as snapshot:
            if snapshot.timestamp >= timestamp:
                yield snapshot
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"snapshots are of {snapshot.timestamp}, and none of {timestamp}")
        time.sleep(_PAUSE)


def again(check: Callable[[], Result]) -> Result:
    """Servers compile a procedure when it first runs, and meanwhile the snapshot may become too
    old in another partition. Once all are compiled one snapshot lasts for all of them."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return check()
        except TransactionTooOld:
            continue
    return check()


def sums_over(
    db: Any, procedures: Sequence[Any], ranges: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """For each of `procedures` the sum of what it finds in all ranges, each of which is in its
    partition: at one snapshot, which shows what was acknowledged before."""
    since = passed(db)

    def at_once() -> tuple[int, ...]:
        with snapshot_from(db, since) as snapshot:
            return tuple(_sum_over(snapshot, procedure, ranges) for procedure in procedures)

    return again(at_once)


def _sum_over(snapshot: Any, procedure: Any, ranges: Sequence[tuple[int, int]]) -> int:
    if len(ranges) == 1:
        return int(snapshot.run(procedure, *ranges[0]))
    return sum(
        int(snapshot.run(procedure, *each, partition=place)) for place, each in enumerate(ranges)
    )
