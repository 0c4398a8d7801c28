"""What a seat makes of the answers that it gets."""

import threading
from array import array
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import mako
from bench.demo.terminals import ACKNOWLEDGED, DISCARDED, LASTING, ROLLED_BACK, UNKNOWN, Seat
from bench.tpcc.lookup import Acknowledged, Receipt
from bench.workload import Request


class Told:
    """A terminal that notes what it is told."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.acknowledged = Acknowledged()

    def draw(self) -> Request:
        return Request(0, mako.Procedure(lambda tx: 0), ())

    def receipt(self, result: int) -> Receipt | None:
        return Receipt((1, 1), result, is_order=True) if result else None

    def told(self, result: int) -> None:
        self.results.append(result)


class Answer:
    """A transaction that ends as it is told to."""

    def __init__(self, ending: int | Exception, timestamp: int) -> None:
        self.ending = ending
        self.timestamp = timestamp
        #: What it returned when it was executed.
        self._call = SimpleNamespace(value=10 * timestamp)

    def wait_durable(self) -> int:
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending


class Answering:
    """A database that gives these answers, one after the other, and calls `at_end` at the last."""

    def __init__(
        self, answers: list[tuple[int | Exception, int]], at_end: Callable[[], None]
    ) -> None:
        self.answers = answers
        self.at_end = at_end

    def submit(self, *_: Any) -> Answer:
        ending, timestamp = self.answers.pop(0)
        if not self.answers:
            self.at_end()
        return Answer(ending, timestamp)


def seated(*answers: tuple[int | Exception, int], terminals: int = 2) -> tuple[Seat, list[Told]]:
    """A seat whose terminals have got all of these answers."""
    stop = threading.Event()
    told = [Told() for _ in range(terminals)]
    db: Any = Answering(list(answers), stop.set)
    asking: Any = told
    seat = Seat(db, 1, asking)
    seat.run(stop)
    return seat, told


def test_each_terminal_is_told_of_its_own_transactions() -> None:
    seat, told = seated((1, 10), (2, 11), (3, 12), (4, 13), (5, 14))
    assert [each.results for each in told] == [[1, 3, 5], [2, 4]]
    assert seat.counts == Counter({ACKNOWLEDGED: 5})
    assert len(seat.times) == 5


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (mako.RolledBack(), ROLLED_BACK),
        (mako.Discarded("undone"), DISCARDED),
        (mako.Unknown("who knows"), UNKNOWN),
        (mako.Busy("no room"), "Busy"),
        (TimeoutError("late"), "TimeoutError"),
    ],
)
def test_what_was_not_acknowledged_is_counted_by_its_ending(error: Exception, ending: str) -> None:
    seat, told = seated((error, 0), (7, 10), terminals=1)
    assert seat.counts == Counter({ending: 1, ACKNOWLEDGED: 1})
    assert told[0].results == [7]
    assert not seat.orphans


def test_what_its_leader_took_along_is_judged_by_the_final_watermark() -> None:
    unknown = mako.Unknown("its leader is gone")
    seat, _ = seated((unknown, 99), (unknown, 100), (unknown, 101), (unknown, 0))
    seat.judge(100)
    assert +seat.counts == Counter({LASTING: 2, DISCARDED: 1, UNKNOWN: 1})
    seat.judge(98)
    assert +seat.counts == Counter({LASTING: 2, DISCARDED: 1, UNKNOWN: 1}), "once"


def test_what_lasts_though_nobody_was_told_is_looked_up() -> None:
    unknown = mako.Unknown("its leader is gone")
    seat, told = seated((unknown, 99), (unknown, 101), (unknown, 0), (unknown, 100))
    seat.judge(100)
    assert [dict(each.acknowledged.orders) for each in told] == [
        {(1, 1): array("q", [990])},
        {(1, 1): array("q", [1000])},
    ]
