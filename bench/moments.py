"""Snapshots that see what was acknowledged before.

A transaction is acknowledged when those partitions have passed it that took part in it, and a
snapshot shows what all have passed, a moment later. Of one partition the two are the same.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: Seconds until a snapshot has to show it.
PATIENCE: Final = 60.0
_PAUSE: Final = 0.02


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
