"""A reader in a thread of its own loses its processor while what it looks at is discarded."""

import pytest

from mako.engine import access, sets
from tests.replication.test_across import drain
from tests.replication.test_left_out import FAILED, OWN_ONLY, Replicas, read
from tests.replication.test_partition import follow


def test_what_is_discarded_meanwhile_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look at the version and that at the watermarks, which the next epoch has raised:
    they would let it pass."""
    replicas = Replicas()
    leader, follower, log = replicas.first, replicas.second, replicas.log
    replicas.go_on()
    replicas.leave_out(follower)
    at = follower.across.stable_over(OWN_ONLY)
    follower.across.hear(FAILED, 1, follower.watermark + (1 << 20))  # Counts in its next epoch.
    leader.catch_up(replicas.failed())
    leader.apply(drain(leader, log, 1))

    lacking = sets.lacking
    looks: list[int] = []

    def look_late(tx: int, version: int, foreign: int) -> int:
        looks.append(version)
        if len(looks) == 1:
            follow(follower, log.entries)
        return int(lacking(tx, version, foreign))

    monkeypatch.setattr(access, "lacking", look_late)
    assert read(follower, at) == b"v"
    assert looks
    assert read(follower, at) == b"v"
    for each in (leader, follower):
        each.close()
