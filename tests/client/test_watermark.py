"""Waiting for the watermark: it comes, or the wait ends in time."""

from typing import Any

import pytest

import mako
from mako import Database

pytestmark = pytest.mark.interpreted


def test_what_is_committed_is_waited_for(db: Database) -> None:
    with db.transaction() as tx:
        tx.put(b"a", b"1")
    db.wait_watermark(tx.commit_ts)
    assert db.watermark >= tx.commit_ts
    db.wait_watermark(tx.commit_ts, timeout=0)
    db.wait_watermark(0)


@pytest.mark.parametrize("timeout", [0, -1, 0.02])
def test_what_does_not_come_is_not_waited_for_longer(db: Database, timeout: float) -> None:
    beyond = db.watermark + (1 << 50)
    with pytest.raises(TimeoutError, match=rf"not reached {beyond}; wait longer"):
        db.wait_watermark(beyond, timeout)


@pytest.mark.parametrize("timestamp", [-1, 1 << 63, 1.5, "1", None, True])
def test_only_timestamps_are_waited_for(db: Database, timestamp: Any) -> None:
    with pytest.raises(mako.SchemaError, match="commit_ts"):
        db.wait_watermark(timestamp, timeout=0)


def test_a_closed_database_has_no_watermark(db: Database) -> None:
    db.close()
    with pytest.raises(mako.Closed, match="open it again"):
        db.wait_watermark(1)
