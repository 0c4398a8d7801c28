"""Snapshots that see what was acknowledged before."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bench.moments import passed, snapshot_from


class Moving:
    """Two partitions. Each snapshot is of 10 more than the one before."""

    partitions = (0, 1)

    def __init__(self) -> None:
        self.at = 0
        self.open = 0

    def status(self, *, partition: int) -> dict[str, int]:
        return {"watermark": (70, 90)[partition]}

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        self.at += 10
        self.open += 1
        yield SimpleNamespace(timestamp=self.at)
        self.open -= 1


def test_the_partition_that_is_ahead_counts() -> None:
    assert passed(Moving()) == 90
    assert passed(SimpleNamespace()) == 0, "an embedded database shows what it has acknowledged"


def test_a_snapshot_that_is_too_early_is_not_taken() -> None:
    db = Moving()
    with snapshot_from(db, 25) as snapshot:
        assert snapshot.timestamp == 30
        assert db.open == 1
    assert db.open == 0


def test_a_snapshot_that_does_not_come_is_not_waited_for_without_end() -> None:
    with pytest.raises(TimeoutError, match="none of 500"), snapshot_from(Moving(), 500, patience=0):
        pass
