"""A driven worker that has the thread of a serving one does its work, too."""

import os
from collections.abc import Iterator

import pytest

from mako.engine import layout
from mako.engine.mailbox import listen
from mako.engine.worker import turn_both
from tests.engine.partitioned import ACCOUNT, Cluster, put

pytestmark = pytest.mark.interpreted


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=2)
    yield made
    made.close()


def test_who_collects_is_woken_when_the_guest_has_done_something(cluster: Cluster) -> None:
    engine, home = cluster.engines[0], cluster.homes[0]
    event = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        engine.set_word(home + layout.C_GUEST, home)
        engine.set_word(home + layout.K_LISTENER, event)
        listen(home)
        for _ in range(3):
            turn_both(home, cluster.now_ns)
        with pytest.raises(BlockingIOError):  # Nobody has anything to collect.
            os.eventfd_read(event)
        number = cluster.post(0, put, 0, 1, 7)
        turn_both(home, cluster.now_ns)
        assert os.eventfd_read(event) == 1
        assert [done.number for done in cluster.done()] == [number]
    finally:
        engine.set_word(home + layout.C_GUEST, 0)
        os.close(event)
