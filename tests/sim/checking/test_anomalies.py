"""Each anomaly of the literature as the smallest history that has it; and histories without."""

import pytest

from mako.sim.checking import HistoryError, Outcome, Transaction, Verdict
from tests.sim.checking.writing import serializability, tx

ABORTED, DISCARDED, UNKNOWN = Outcome.ABORTED, Outcome.DISCARDED, Outcome.UNKNOWN

#: Name -> the rule that must be broken, words of the finding, the transactions.
WRONG: dict[str, tuple[str, str, list[Transaction]]] = {
    "write cycle": (
        "G0",
        "t0 < t1 < t0",
        [tx("x+1 y+1"), tx("x+2 y+2"), tx("x[1,2]"), tx("y[2,1]")],
    ),
    "aborted read": ("G1a", "was aborted", [tx("x+1", outcome=ABORTED), tx("x[1]")]),
    "discarded read": ("G1a", "was discarded", [tx("x+1", outcome=DISCARDED), tx("x[1]")]),
    "aborted read of a register": (
        "G1a",
        "saw 5 in 'r'",
        [tx("r=5", outcome=ABORTED), tx("r?5")],
    ),
    "aborted read by one who counts because he was seen": (
        "G1a",
        "t1 saw 1",
        [tx("x+1", outcome=ABORTED), tx("x[1] y+2", outcome=UNKNOWN), tx("y[2]")],
    ),
    "dirty update": (
        "dirty update",
        "t1 appended 2 to 'x' on top of 1",
        [tx("x+1", outcome=ABORTED), tx("x+2"), tx("x[1,2]")],
    ),
    "intermediate read": ("G1b", "at the end of 'x'", [tx("x+1 x+2"), tx("x[1]")]),
    "intermediate read of a register": ("G1b", "wrote over", [tx("r=1 r=2"), tx("r?1")]),
    "split appends": (
        "split appends",
        "3 is behind the first",
        [tx("x+1 x+2"), tx("x+3"), tx("x[1,3,2]")],
    ),
    "appends of one transaction in another order": (
        "split appends",
        "appended 1 and then 2",
        [tx("x+1 x+2"), tx("x+3"), tx("x[2,1,3]")],
    ),
    "circular information flow": ("G1c", "t0 < t1 < t0", [tx("x+1 y[2]"), tx("y+2 x[1]")]),
    "circular information flow over registers": (
        "G1c",
        "t0 < t1 < t0",
        [tx("q=1 r?2"), tx("r=2 q?1")],
    ),
    "read skew": (
        "G-single",
        "half a transaction was seen",
        [tx("x+1 y+1"), tx("x[1] y[]")],
    ),
    "lost update": ("G-single", "lost update", [tx("x[] x+1"), tx("x[] x+2"), tx("x[1,2]")]),
    "lost update that nobody read": ("G2", "lost update", [tx("x[] x+1"), tx("x[] x+2")]),
    "lost update of a register": ("G2", "lost update", [tx("r?- r=1"), tx("r?- r=2")]),
    "lost update of a register behind a write": (
        "G2",
        "lost update",
        [tx("r=0"), tx("r?0 r=1"), tx("r?0 r=2")],
    ),
    "write skew": (
        "G2",
        "write skew",
        [tx("x[] y+1"), tx("y[] x+2"), tx("x[2] y[1]")],
    ),
    "write skew over what nobody saw": (
        "G2",
        "write skew",
        [tx("x[] x+1 y[]"), tx("y+2 x[]")],
    ),
    "write skew over registers": ("G2", "write skew", [tx("q?- r=1"), tx("r?- q=2")]),
    "long fork": (
        "G2",
        "long fork",
        [tx("x+1"), tx("y+2"), tx("x[1] y[]"), tx("x[] y[2]")],
    ),
    "read-only transaction that closes a cycle": (
        "G2",
        "t",
        [tx("x[] y[] x+1"), tx("y[] y+2"), tx("x[] y[2]"), tx("x[1] y[2]")],
    ),
    "stale read": (
        "G-single-realtime",
        "stale read",
        [tx("x+1", 0, 10), tx("x[]", 11, 20), tx("x[1]")],
    ),
    "stale read of a register": (
        "G-single-realtime",
        "stale read",
        [tx("r=1", 0, 10), tx("r?-", 11, 20)],
    ),
    "acknowledged append behind one that came later": (
        "G0-realtime",
        "t0 < t1 < t0",
        [tx("x+1", 0, 10), tx("x+2", 11, 20), tx("x[2,1]")],
    ),
    "acknowledged append that is behind one that came later": (
        "G0-realtime",
        "t0 < t1 < t0",
        [tx("x+2", 0, 10), tx("x+1", 11, 20), tx("x[1]", 5, 30)],
    ),
    "stale read over a pause in which nothing began and ended": (
        "G-single-realtime",
        "t0 < t3 < t0",
        [tx("x+1", 0, 10), tx("z[]", 11, 90), tx("z[]", 5, 13), tx("x[]", 20, 30), tx("x[1]")],
    ),
    "future read": (
        "G1c-realtime",
        "t0 < t1 < t0",
        [tx("x[1]", 0, 10), tx("x+1", 11, 20)],
    ),
    "lost append": ("lost append", "t0 appended 1", [tx("x+1", 0, 10), tx("x[]", 11, 20)]),
    "half of an unknown transaction": (
        "G-single-realtime",
        "without 2 of t0",
        [tx("x+1 y+2", outcome=UNKNOWN), tx("x[1]", 5, 10), tx("y[]", 11, 20)],
    ),
    "timestamp inversion": (
        "G2-realtime",
        "timestamp inversion",
        [
            tx("z[] w+V", 1, 50, name="V", timestamp=18),
            tx("x[] z+X", 2, 51, name="X", timestamp=21),
            tx("x+U", 3, 10, name="U", timestamp=22),
            tx("w[]", 12, 20, name="T", timestamp=1),
        ],
    ),
    "duplicate": ("duplicate", "has 1 twice", [tx("x+1"), tx("x[1,1]")]),
    "garbage": ("garbage", "nobody wrote", [tx("x[7]")]),
    "garbage in a register": ("garbage", "nobody wrote", [tx("r?7")]),
    "incompatible order": (
        "incompatible order",
        "list 'x' was [1, 2] to t2 and [2] to t3",
        [tx("x+1"), tx("x+2"), tx("x[1,2]"), tx("x[2]")],
    ),
    "own append not seen": ("internal", "after it had appended [1]", [tx("x+1 x[]")]),
    "own append of the future": ("internal", "before it appended 1", [tx("x[1] x+1")]),
    "own write of the future": ("internal", "before it wrote that", [tx("r?1 r=1")]),
    "own write not seen": ("internal", "after writing 1", [tx("r=1 r?-")]),
    "non-repeatable read": ("internal", "first and as", [tx("x+1"), tx("x[] x[1]")]),
    "early result with a value that was never installed": (
        "G1a",
        "t1 saw 1",
        [tx("x+1", outcome=ABORTED), tx("x[1]", outcome=DISCARDED, early=5)],
    ),
    "early result that contradicts itself": (
        "internal",
        "first and as",
        [tx("x+1"), tx("x[] x[1]", outcome=DISCARDED, early=5)],
    ),
    "session order in spite of skew": (
        "G-single-realtime",
        "stale read",
        [tx("x+1", 0, 10, client=1), tx("x[]", 11, 20, client=1), tx("x[1]", client=2)],
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_an_anomaly_is_found_and_named(name: str) -> None:
    rule, words, transactions = WRONG[name]
    report = serializability(*transactions, skew=500 if name.startswith("session") else 0)
    assert report.verdict is Verdict.VIOLATION
    texts = [str(finding) for finding in report.findings if finding.rule == rule]
    assert any(words in text for text in texts), [str(finding) for finding in report.findings]


RIGHT: dict[str, list[Transaction]] = {
    "one after the other": [tx("x+1 y[]", 0, 1), tx("x[1] y+2", 2, 3), tx("y[2] x[1]", 4, 5)],
    "what overlaps may have either order": [tx("x+1", 0, 10), tx("x[]", 10, 20), tx("x[1]", 5, 10)],
    "unknown and never seen": [tx("x+1", outcome=UNKNOWN), tx("x[]", 50, 60)],
    "unknown and seen": [tx("x+1", outcome=UNKNOWN), tx("x[1]", 50, 60)],
    "unknown, seen late": [
        tx("x+1", outcome=UNKNOWN),
        tx("x[]", 50, 60),
        tx("x[1]", 70, 80),
    ],
    "an unknown reader that nobody saw may have seen anything": [
        tx("x+1", outcome=DISCARDED),
        tx("x[1] y+2", outcome=UNKNOWN, early=5),
        tx("y[]", 50, 60),
    ],
    "discarded, and seen by what was discarded with it": [
        tx("x+1", outcome=DISCARDED),
        tx("x[1]", outcome=DISCARDED, early=5),
        tx("x[]", 50, 60),
    ],
    "an aborted transaction may have read anything": [tx("x+1"), tx("x[] x[1]", outcome=ABORTED)],
    "own appends": [tx("x[] x+1 x[1] x+2 x[1,2]"), tx("x[1,2] x+3")],
    "own appends behind others": [tx("x+1"), tx("x+2 x[1,2] x+3"), tx("x[1,2,3]")],
    "an early result is not strict": [
        tx("x+1", 0, 100, early=10),
        tx("x[]", 50, 60),
        tx("x[1]", 110, 120),
    ],
    "a snapshot may be old": [tx("x+1", 0, 10), tx("x[]", 20, 30, at=3), tx("x[1]", 20, 30)],
    "a deleted register tells nothing of the beginning": [
        tx("r=1", 0, 1),
        tx("r=-", 2, 3),
        tx("r?-", 4, 5),
    ],
    "a value that is written twice tells nothing": [
        tx("r=1", 0, 1),
        tx("r=1 q?-", 2, 3),
        tx("r?1 q=1", 4, 5),
    ],
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_can_be_is_ok(name: str) -> None:
    report = serializability(*RIGHT[name])
    assert [str(finding) for finding in report.findings] == []
    assert report.verdict is Verdict.OK


def test_clocks_that_may_be_wrong_order_less() -> None:
    stale = [tx("x+1", 0, 10, client=1), tx("x[]", 15, 20, client=2)]
    assert serializability(*stale, skew=2).verdict is Verdict.VIOLATION
    assert serializability(*stale, skew=3).verdict is Verdict.OK
    assert serializability(*stale, skews={1: 5}).verdict is Verdict.OK
    assert serializability(*stale, skews={1: 4}).verdict is Verdict.VIOLATION


def test_without_a_transaction_that_counts_nothing_is_known() -> None:
    assert serializability().verdict is Verdict.UNKNOWN
    assert serializability(tx("x+1", outcome=UNKNOWN)).verdict is Verdict.UNKNOWN


def test_the_smallest_cycle_is_told_in_words() -> None:
    # Beside the lost update of two there is a way around over four.
    report = serializability(
        tx("x[] x+1"), tx("x[] x+2"), tx("x[1,2] y+3"), tx("y[3]"), tx("x[1] y[]")
    )
    (finding,) = report.findings
    assert finding.text == "lost update: t0 < t1 < t0"
    assert finding.steps == (
        "t1 appended 2 to 'x' behind 1 of t0 (ww)",
        "t1 read 'x' as [], without 1 of t0 (rw)",
    )


def test_a_smaller_cycle_of_another_kind_is_told_first() -> None:
    # Even without real time the reader is too old, but over more transactions.
    report = serializability(
        tx("x+1 y+1", 0, 10),
        tx("y[1] z+1", 0, 20),
        tx("z[1] w+1", 0, 90),
        tx("x[] w[1]", 30, 90),
        tx("x[1]", 30, 90),
    )
    assert [(finding.rule, len(finding.steps)) for finding in report.findings] == [
        ("G-single-realtime", 2),
        ("G-single", 4),
    ]


def test_each_knot_of_transactions_is_told_once() -> None:
    knots = [tx(f"x{n}[] x{n}+{value}") for n in range(3) for value in range(4)]
    report = serializability(*knots)
    assert report.found == 3


def test_values_of_a_list_must_be_unique() -> None:
    with pytest.raises(HistoryError, match="values of a list must be unique"):
        serializability(tx("x+1"), tx("x+1"))


def test_a_key_is_of_one_kind() -> None:
    with pytest.raises(HistoryError, match="'x' is used as two kinds"):
        serializability(tx("x+1"), tx("x=1"))
