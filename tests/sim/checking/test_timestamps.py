"""Timestamps that do not explain what was seen, and snapshots that are not what was asked for."""

import pytest

from mako.sim.checking import Outcome, Transaction, Verdict
from tests.sim.checking.writing import snapshots, timestamps, tx

UNKNOWN = Outcome.UNKNOWN

WRONG: dict[str, tuple[str, str, list[Transaction]]] = {
    "lower timestamp after an acknowledgement": (
        "real time",
        "t1 at 5 began after t0 at 6",
        [tx("x+1", 0, 1, timestamp=6), tx("y+1", 2, 3, timestamp=5)],
    ),
    "list against timestamps": (
        "one order",
        "2 of t1 at 5 behind that of t0 at 6",
        [tx("x+1", timestamp=6), tx("x+2", timestamp=5), tx("x[1,2]", timestamp=7)],
    ),
    "two appends at one timestamp": (
        "one order",
        "behind that of",
        [tx("x+1", timestamp=5), tx("x+2", timestamp=5), tx("x[1,2]", timestamp=7)],
    ),
    "transaction with a value of the future": (
        "reads",
        "t1 at 4 read 'x' as [1], with t0 at 5",
        [tx("x+1", timestamp=5), tx("x[1]", timestamp=4)],
    ),
    "transaction without a value of the past": (
        "reads",
        "t2 at 9 read 'x' as [], without t0 at 5",
        [tx("x+1", timestamp=5), tx("x[1]", timestamp=6), tx("x[]", timestamp=9)],
    ),
    "transaction without a value that nobody saw": (
        "reads",
        "without t0 at 5",
        [tx("x+1", timestamp=5), tx("x[]", timestamp=9)],
    ),
    "snapshot with a value of the future": (
        "reads",
        "t1 at 4 read",
        [tx("x+1", timestamp=5), tx("x[1]", at=4)],
    ),
    "snapshot without a value at its timestamp": (
        "reads",
        "t1 at 5 read",
        [tx("x+1", timestamp=5), tx("x[]", at=5), tx("x[1]", timestamp=6)],
    ),
    "half a transaction at a snapshot": (
        "reads",
        "'y' as [], without t0",
        [tx("x+1 y+2", timestamp=5), tx("x[1] y[]", at=7)],
    ),
    "old value of a register": (
        "reads",
        "'r' as 1, and 2 is of t1 at 6",
        [tx("r=1", timestamp=5), tx("r=2", timestamp=6), tx("r?1", at=6)],
    ),
    "value of a register of the future": (
        "reads",
        "and None is of the beginning",
        [tx("r=1", timestamp=5), tx("r?1", at=4)],
    ),
    "deleted register": (
        "reads",
        "and None is of t1 at 6",
        [tx("r=1", timestamp=5), tx("r=-", timestamp=6), tx("r?1", at=7)],
    ),
    "counter": ("reads", "up to there it is 3", [tx("c+=3", timestamp=5), tx("c@0", at=5)]),
    "counter of the future": ("reads", "it is 0", [tx("c+=3", timestamp=5), tx("c@3", at=4)]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_timestamps_that_explain_nothing(name: str) -> None:
    rule, words, transactions = WRONG[name]
    report = timestamps(*transactions)
    assert report.verdict is Verdict.VIOLATION
    assert any(words in str(f) for f in report.findings if f.rule == rule), report.findings


RIGHT: dict[str, list[Transaction]] = {
    "all kinds": [
        tx("x+1 r=5 c+=2", 0, 1, timestamp=3),
        tx("x[1] r?5 c@2", 2, 3, timestamp=7),
        tx("x[1] x+2 r=6 c+=1", 2, 3, timestamp=9),
        tx("x[1,2] r?6 c@3", 2, 3, at=9),
        tx("x[1] r?5 c@2", 4, 5, at=8),
        tx("x[] r?- c@0", 4, 5, at=2),
    ],
    "without a timestamp it may be anywhere": [
        tx("x+1 r=5 c+=2", outcome=UNKNOWN),
        tx("x[1] r?- c@2", at=5),
        tx("x[] r?5 c@0", at=6),
    ],
    "at the same timestamp, on either side": [
        tx("x+1", timestamp=5),
        tx("x[]", timestamp=5),
        tx("x[1]", timestamp=5),
    ],
    "what overlaps": [tx("x+1", 0, 5, timestamp=6), tx("y+1", 5, 9, timestamp=5)],
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_timestamps_that_explain_all(name: str) -> None:
    report = timestamps(*RIGHT[name])
    assert (report.verdict, report.findings) == (Verdict.OK, [])


OLD: dict[str, tuple[str, list[Transaction]]] = {
    "older than allowed by its own account": ("staleness", [tx("", at=5, oldest=10, age=11)]),
    "without what was acknowledged long before": (
        "staleness",
        [tx("x+1", 0, 100, timestamp=6), tx("", 111, 120, at=5, oldest=10)],
    ),
    "back in a session": (
        "session",
        [tx("", 0, 1, at=5, session="s"), tx("", 2, 3, at=4, session="s")],
    ),
}


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_snapshot_that_is_too_old(name: str) -> None:
    rule, transactions = OLD[name]
    report = snapshots(*transactions)
    assert report.rules == {rule}


def test_a_snapshot_that_is_fresh_enough() -> None:
    report = snapshots(
        tx("x+1", 0, 100, timestamp=6),
        tx("", 110, 120, at=5, oldest=10, age=10),
        tx("", 500, 501, at=5),
        tx("", 0, 10, at=5, session="s"),
        tx("", 10, 11, at=4, session="s"),
        tx("", 20, 21, at=5, session="other"),
        tx("", 20, 21, at=7, session="s"),
    )
    assert (report.verdict, report.looked_at) == (Verdict.OK, 5), "one asks for nothing"
