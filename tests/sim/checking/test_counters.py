"""Counters and banks: missing, invented and doubled money is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.sim.checking import Outcome, Transaction, Verdict
from mako.sim.checking.counters import FEW, reachable
from tests.sim.checking.writing import counters, tx

UNKNOWN, ABORTED, DISCARDED = Outcome.UNKNOWN, Outcome.ABORTED, Outcome.DISCARDED

WRONG: dict[str, tuple[str, list[Transaction]]] = {
    "lost transfer": (
        "read 'a' as 100; acknowledged before it began are 90",
        [tx("a+=-10 b+=10", 0, 1), tx("a@100", 2, 3)],
    ),
    "doubled transfer": ("counter", [tx("a+=-10 b+=10", 0, 1), tx("a@80", 2, 3)]),
    "aborted transfer": (
        "counter",
        [tx("a+=-10 b+=10", 0, 1, outcome=ABORTED), tx("a@90", 2, 3)],
    ),
    "discarded transfer": (
        "counter",
        [tx("a+=-10 b+=10", 0, 1, outcome=DISCARDED), tx("a@90", 2, 3)],
    ),
    "transfer of the future": ("counter", [tx("a@90", 0, 1), tx("a+=-10 b+=10", 2, 3)]),
    "half a transfer": ("total", [tx("a+=-10 b+=10", 0, 10), tx("a@90 b@100", 5, 6)]),
    "half an unknown transfer": (
        "saw 190 in all accounts, 200 are there",
        [tx("a+=-10 b+=10", 0, outcome=UNKNOWN), tx("a@90 b@100", 5, 6)],
    ),
    "half a transfer at a snapshot": (
        "total",
        [tx("a+=-10 b+=10", 0, 10), tx("a@90 b@100", 50, 60, at=7)],
    ),
    "unknown transfers do not add up": (
        "and -10, -20 may be in it",
        [tx("a+=-10", 0, outcome=UNKNOWN), tx("a+=-20", 0, outcome=UNKNOWN), tx("a@85", 5, 6)],
    ),
    "own transfer seen before it was made": ("counter", [tx("a@90 a+=-10 b+=10", 0, 1)]),
    "own transfer seen in part": ("total", [tx("a+=-10 a@90 b@95 b+=10", 0, 1)]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_a_bank_cannot_show(name: str) -> None:
    words, transactions = WRONG[name]
    report = counters(*transactions, initial={"a": 100, "b": 100}, accounts=("a", "b"))
    assert report.verdict is Verdict.VIOLATION
    assert any(words in str(finding) for finding in report.findings)


RIGHT: dict[str, list[Transaction]] = {
    "before and after": [
        tx("a@100 b@100", 0, 1),
        tx("a+=-10 b+=10", 2, 3),
        tx("a@90 b@110", 4, 5),
    ],
    "meanwhile, either": [
        tx("a+=-10 b+=10", 0, 10),
        tx("a@100 b@100", 5, 6),
        tx("a@90 b@110", 7, 8),
    ],
    "unknown, either": [
        tx("a+=-10 b+=10", 0, outcome=UNKNOWN),
        tx("a@100", 5, 6),
        tx("a@90", 7, 8),
    ],
    "its own": [tx("a@100 a+=-10 b+=10 a@90 b@110", 0, 1), tx("a@90 b@110", 2, 3)],
    "an aborted one may have seen anything": [tx("a@3 b@4", outcome=ABORTED), tx("a@100")],
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_a_bank_can_show(name: str) -> None:
    report = counters(*RIGHT[name], initial={"a": 100, "b": 100}, accounts=("a", "b"))
    assert (report.verdict, report.findings) == (Verdict.OK, [])


def test_too_many_unknown_ones_are_given_up_within_their_bounds() -> None:
    for count, amount, decided in ((FEW, 1 << 40, True), (60, 2, True), (60, 1 << 40, False)):
        unknown = [tx(f"a+={amount}", 0, outcome=UNKNOWN) for _ in range(count)]
        wrong, right = tx(f"a@{amount + 1}", 5, 6), tx(f"a@{amount}", 5, 6)
        doubt = Verdict.UNKNOWN
        assert counters(*unknown, right).verdict is (Verdict.OK if decided else doubt)
        assert counters(*unknown, wrong).verdict is (Verdict.VIOLATION if decided else doubt)
        assert counters(*unknown, tx(f"a@{-amount}", 5, 6)).verdict is Verdict.VIOLATION
        assert counters(*unknown, tx(f"a@{61 * amount}", 5, 6)).verdict is Verdict.VIOLATION


def test_sums_that_can_be_reached() -> None:
    assert reachable(0, []) is True
    assert reachable(5, [2, 3, 7]) is True
    assert reachable(6, [2, 3, 7]) is False
    assert reachable(-1, [2, -3]) is True
    assert reachable(13, [1 << n for n in range(18)]) is True


@given(st.lists(st.integers(-9, 9), max_size=16), st.integers(-40, 40))
def test_sums_that_can_be_reached_are_those_of_all_subsets(parts: list[int], wanted: int) -> None:
    sums = {0}
    for part in parts:
        sums |= {one + part for one in sums}
    assert reachable(wanted, parts) == (wanted in sums)
