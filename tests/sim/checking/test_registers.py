"""Linearizability of registers, on small histories; test_random compares with trying all orders."""

import pytest

from mako.sim.checking import Outcome, Report, Transaction, Verdict
from mako.sim.checking.evidence import Evidence
from mako.sim.checking.registers import check_registers
from tests.sim.checking.writing import history, linearizability, tx

UNKNOWN, ABORTED = Outcome.UNKNOWN, Outcome.ABORTED

WRONG: dict[str, tuple[str, list[Transaction]]] = {
    "old value after a newer one was acknowledged": (
        "t2, which read 1",
        [tx("r=1", 0, 1), tx("r=2", 2, 3), tx("r?1", 4, 5)],
    ),
    "value of the future": ("t0, which read 1", [tx("r?1", 0, 1), tx("r=1", 2, 3)]),
    "back and forth": (
        "t3, which read 1",
        [tx("r=1", 0, 1), tx("r=2", 2, 20), tx("r?2", 3, 4), tx("r?1", 5, 6)],
    ),
    "aborted value": ("t1, which read 1", [tx("r=1", 0, 1, outcome=ABORTED), tx("r?1", 2, 3)]),
    "two read and replaced the same": (
        "cannot have come",
        [tx("r?- r=1"), tx("r?- r=2")],
    ),
    "an unknown write that came and went": (
        "t3, which read 1",
        [
            tx("r=1", 0, 1),
            tx("r=2", 2, outcome=UNKNOWN),
            tx("r?2", 4, 5),
            tx("r?1", 6, 7),
        ],
    ),
    "one register of several": ("register 'q'", [tx("r=1 q=1", 0, 1), tx("r?1 q?-", 2, 3)]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_not_linearizable(name: str) -> None:
    words, transactions = WRONG[name]
    report = linearizability(*transactions)
    assert report.verdict is Verdict.VIOLATION
    assert words in str(report.findings[0])


RIGHT: dict[str, list[Transaction]] = {
    "what overlaps may have either order": [
        tx("r=1", 0, 10),
        tx("r=2", 0, 10),
        tx("r?2", 11, 12),
        tx("r?2", 13, 14),
    ],
    "an unknown write may come late": [
        tx("r=1", 0, outcome=UNKNOWN),
        tx("r?-", 5, 6),
        tx("r=2", 7, 8),
        tx("r?1", 9, 10),
    ],
    "the same value twice": [tx("r=1", 0, 1), tx("r=2", 2, 3), tx("r=1", 4, 5), tx("r?1", 6, 7)],
    "deleted": [tx("r=1", 0, 1), tx("r=-", 2, 3), tx("r?-", 4, 5)],
    "a snapshot may be old": [tx("r=1", 0, 1), tx("r?-", 2, 3, at=0), tx("r?1", 2, 3)],
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_is_linearizable(name: str) -> None:
    report = linearizability(*RIGHT[name])
    assert (report.verdict, report.findings) == (Verdict.OK, [])


def test_a_register_may_begin_with_a_value() -> None:
    assert linearizability(tx("r?7"), initial={"r": 7}).verdict is Verdict.OK
    assert linearizability(tx("r?7"), initial={"r": 8}).verdict is Verdict.VIOLATION


def test_a_search_that_is_too_long_is_given_up() -> None:
    # Twenty writes at once, two of each value, so that a read does not tell which: any subset may
    # have taken effect.
    report = check_with(5_000, *writes_and_reads(range(10), range(10)))
    assert report.verdict is Verdict.UNKNOWN
    assert report.gave_up == ["register 'r' needs too long a search"]


def test_values_that_were_written_once_need_no_long_search() -> None:
    report = check_with(5_000, *writes_and_reads(range(20)))
    assert report.verdict is Verdict.VIOLATION
    assert "t30, which read 21, cannot have come at any moment" in str(report.findings[0])


def writes_and_reads(*values: range) -> list[Transaction]:
    """All written at once, ten of them seen in turn; then what nobody has written."""
    writes = [tx(f"r={n}", 0, 100) for some in values for n in some]
    reads = [tx(f"r?{n}", 10 * n + 1, 10 * n + 2) for n in range(10)]
    return [*writes, *reads, tx("r?21", 98, 99)]


def check_with(states_max: int, *transactions: Transaction) -> Report:
    return check_registers(Evidence(history(*transactions)), states_max=states_max)


def test_unknown_writes_that_nobody_saw_cost_nothing() -> None:
    writes = [tx(f"r={n}", n, outcome=UNKNOWN) for n in range(200)]
    reads = [tx("r?-", n, n + 1) for n in range(200, 400)]
    last = [tx("r=500", 500, 501), tx("r?500", 502, 503)]
    assert check_with(1_000, *writes, *reads, *last).verdict is Verdict.OK
