"""Threads that wait for the watermark: each goes on when its own timestamp is reached, or fails."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mako.errors import Closed, DatabaseFailed
from mako.server.waits import Waits


class Waiter:
    """Waits in threads, and knows when each of them is asleep."""

    def __init__(self, pool: ThreadPoolExecutor, waits: Waits) -> None:
        self.pool = pool
        self.waits = waits

    def begin(self, timestamp: int, timeout: float | None = None) -> Future[bool]:
        waits = threading.Event()
        future = self.pool.submit(self.waits.wait, timestamp, 100, timeout, waits.set)
        waits.wait()
        return future


def test_each_goes_on_when_its_own_timestamp_is_reached() -> None:
    waits = Waits()
    with ThreadPoolExecutor(3) as pool:
        waiter = Waiter(pool, waits)
        futures = {timestamp: waiter.begin(timestamp) for timestamp in (30, 10, 20)}
        assert waits.some
        waits.wake(9)
        assert not any(future.done() for future in futures.values())
        waits.wake(20)
        assert futures[10].result() is True
        assert futures[20].result() is True
        assert not futures[30].done()
        waits.wake(35)
        assert futures[30].result() is True
    assert not waits.some
    assert waits.highest == 30


def test_what_is_reached_already_stirs_nobody() -> None:
    waits = Waits()
    waits.wake(50)
    assert waits.wait(50, 100, None, lambda: pytest.fail("nothing to do"))
    assert waits.highest == 0


def test_a_timeout_leaves_no_one_behind() -> None:
    waits = Waits()
    assert waits.wait(10, 100, 0.0, lambda: None) is False
    assert not waits.some
    # It was reached between the end of the time and the look: that counts.
    assert waits.wait(10, 100, 0.0, lambda: waits.wake(10)) is True


def test_what_no_clock_has_drawn_is_not_asked_for() -> None:
    waits = Waits()
    assert waits.wait(1000, 100, 0.0, lambda: None) is False
    assert waits.highest == 100


def test_everybody_gets_an_error_of_his_own_and_the_first_one_stays() -> None:
    waits = Waits()
    waits.wake(5)
    with ThreadPoolExecutor(2) as pool:
        waiter = Waiter(pool, waits)
        futures = [waiter.begin(10), waiter.begin(20)]
        waits.fail(lambda: DatabaseFailed("the disk"))
        errors = [future.exception() for future in futures]
    assert [str(error) for error in errors] == ["the disk"] * 2
    assert errors[0] is not errors[1]
    waits.fail(lambda: Closed("closed"))
    with pytest.raises(DatabaseFailed, match="the disk"):
        waits.wait(30, 100, None, lambda: None)
    assert waits.wait(5, 100, None, lambda: None), "what was durable before is so still"
