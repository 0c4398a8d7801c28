"""Histories and facts as lines, and back; what is refused; the recorder's side."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mako.sim.checkers import Violation
from mako.sim.checking import (
    History,
    HistoryError,
    Outcome,
    Record,
    Report,
    Verdict,
    check,
    overall,
)
from mako.sim.checking.facts import (
    Announced,
    Closed,
    Discarded,
    Fact,
    FinalWatermark,
    Installed,
    Told,
)
from mako.sim.checking.report import FINDINGS_MAX
from tests.sim.checking.database import Recording
from tests.sim.checking.writing import tx


def test_a_history_is_recorded_as_it_happens() -> None:
    history = History(initial={"a": 100})
    one = history.begin("c", 10)
    one.append("x", 1)
    one.write("r", None)
    one.add("a", -3)
    one.saw_early(15)
    other = history.begin("d", 12)
    other.saw_list("x", [1])
    other.saw("r", None)
    other.saw_count("a", 97)
    third = history.begin("e", 13)
    one.ok(20, 7)
    other.ok(21)
    third.failed(22, Outcome.UNKNOWN)
    assert (one.end, one.timestamp, one.early, third.end) == (20, 7, 15, None)
    assert overall(check(history)) is Verdict.OK


@given(st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_what_is_saved_is_read_back(draw: object) -> None:
    recording = Recording(draw, 20)  # type: ignore[arg-type]
    history = recording.history
    history.skew, history.skews = 3, {"c": 5, 1: 2}
    one = history.transactions[0]
    one.session, one.oldest, one.age, one.name = "s", 4, 2, "first"
    assert History.parse(history.lines()) == history


FACTS: list[Fact] = [
    Announced(0, 1, 7),
    FinalWatermark(1, 2, 0),
    Installed(
        0, "a", 5, frozenset({0, 2}), {0: 1, 2: 0}, 0, frozenset({0, 2}), frozenset({"b", 3})
    ),
    Installed(1, 4, 5, frozenset({1}), {1: 0}),
    Discarded(0, "a"),
    Closed(0, 1, 4, {"a": 5, 7: 9}),
    Told("a"),
]


def test_facts_are_saved_and_read_back() -> None:
    record = Record(History([tx("x+1", 0, 1)]), list(FACTS))
    again = Record()
    again.read(record.lines())
    assert again == record


def test_several_files_add_up() -> None:
    record = Record()
    record.read(History([tx("x+1", 0, 1)], initial={"a": 1}, skew=2).lines())
    record.read(History([tx("x[1]", 2, 3)], initial={"b": 2}, skew=1).lines())
    assert len(record.history.transactions) == 2
    assert (record.history.initial, record.history.skew) == ({"a": 1, "b": 2}, 2)


GOOD_LINE = {"client": 1, "begin": 1, "end": 2, "outcome": "ok", "ops": [["append", "x", 1]]}

BAD: dict[str, str] = {
    "{": "line 2 is not JSON",
    "[]": "line 2 is not an object",
    '{"history": 2}': "version 2 of the form, 1 is known",
    '{"fact": "guess"}': "line 2 is not a fact: no 'guess'",
    '{"fact": "told"}': "line 2 is not a fact",
    '{"fact": "announced", "partition": 0, "epoch": 0, "watermark": "7"}': "watermark is not",
    json.dumps(GOOD_LINE | {"client": [1]}): "client is not a number or a name",
    json.dumps(GOOD_LINE | {"begin": 0.5}): "begin is not a whole number",
    json.dumps(GOOD_LINE | {"timestamp": "7"}): "timestamp is not a whole number",
    json.dumps(GOOD_LINE | {"outcome": "maybe"}): "no 'maybe'",
    json.dumps(GOOD_LINE | {"end": None}): "it is ok and has no end",
    json.dumps(GOOD_LINE | {"end": 0}): "it ended before it began",
    json.dumps(GOOD_LINE | {"ops": [["pop", "x", 1]]}): "no 'pop'",
    json.dumps(GOOD_LINE | {"ops": [["list", "x", 1]]}): "is not an operation",
    json.dumps(GOOD_LINE | {"ops": [["list", "x", [[1]]]]}): "line 2 is not a transaction",
    json.dumps(GOOD_LINE | {"ops": [["add", "x", "1"]]}): "is not an operation",
    json.dumps(GOOD_LINE | {"ops": [["read", ["x"], 1]]}): "is not an operation",
    json.dumps({"client": 1}): "no 'begin'",
}


@pytest.mark.parametrize("line", sorted(BAD))
def test_a_line_that_is_none_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(HistoryError, match="line 2") as caught:
        Record().read(["\n", line])
    assert BAD[line] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_simulator_takes_the_first_finding_for_a_violation() -> None:
    report = Report("x")
    report.raise_first()
    report.add("G1a", "what happened", ["why"])
    with pytest.raises(Violation, match="G1a: what happened\n    why") as caught:
        report.raise_first()
    assert caught.value.rule == "G1a"


def test_a_report_keeps_some_findings_of_each_rule_and_counts_all() -> None:
    report = Report("x")
    for _ in range(FINDINGS_MAX + 5):
        report.add("a", "")
    report.add("b", "")
    assert (len(report.findings), report.found) == (FINDINGS_MAX + 1, FINDINGS_MAX + 6)


def test_one_violation_is_a_violation_and_one_doubt_a_doubt() -> None:
    fine, doubt, wrong, nothing = (Report(name, looked_at=1) for name in "abcd")
    nothing.looked_at = 0
    doubt.give_up("too long")
    wrong.add("a", "b")
    assert overall([fine, nothing]) is Verdict.OK
    assert overall([fine, doubt]) is Verdict.UNKNOWN
    assert overall([fine, doubt, wrong]) is Verdict.VIOLATION
    assert overall([nothing]) is Verdict.UNKNOWN
