"""A driven worker that has the thread of a serving one does its work, too."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from mako.engine import layout
from mako.engine.closing import activate
from mako.engine.completing import DRIVE, STOP
from mako.engine.mailbox import listen
from mako.engine.worker import _wait_until_due, turn_both
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


def test_a_guest_has_the_time_of_the_wall_that_its_host_is_told(cluster: Cluster) -> None:
    """It has no thread, so nobody tells it; and what it proposes would be ahead for as long."""
    host, guest = cluster.homes
    cluster.engines[0].set_word(host + layout.C_GUEST, guest)
    try:
        cluster.engines[0].set_word(host + layout.K_OFFSET, 7_000)
        turn_both(host, cluster.now_ns)
        assert cluster.engines[1].word(guest + layout.K_OFFSET) == 7_000
    finally:
        cluster.engines[0].set_word(host + layout.C_GUEST, 0)


def test_who_waits_for_the_next_arrival_does_not_hold_up_the_others(cluster: Cluster) -> None:
    """What the last transaction might have seen is freed: whoever sees it rest ends the wait."""
    engine, home = cluster.engines[0], cluster.homes[0]
    engine.set_word(home + layout.K_DUE, time.monotonic_ns() + 20_000_000_000)
    engine.set_word(home + layout.C_CONTROL, DRIVE)
    ended = threading.Event()

    def stop() -> None:
        while engine.word(home + layout.C_ACTIVE) != layout.NONE and not ended.is_set():
            os.sched_yield()
        engine.set_word(home + layout.C_CONTROL, STOP)

    stopper = threading.Thread(target=stop)
    try:
        activate(home)
        assert engine.word(home + layout.C_ACTIVE) != layout.NONE
        stopper.start()
        assert _wait_until_due(home) == -1
    finally:
        ended.set()
        stopper.join()
