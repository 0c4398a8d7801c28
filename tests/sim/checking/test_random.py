"""Histories drawn at random: the checkers say what trying all orders says."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mako.sim.checking import History, Outcome, Report, Verdict, check, overall
from mako.sim.checking.dependencies import Dependencies
from mako.sim.checking.evidence import Evidence
from mako.sim.checking.graph import KIND_BITS
from mako.sim.checking.registers import STATES_MAX, PrunedSearch, Search, check_registers
from mako.sim.checking.serializability import check_serializability
from tests.sim.checking.database import Database, Recording, mutate, possible

SEEDS = st.integers(0, 1 << 32)


def explained(history: History) -> bool:
    """Whether the order that the graph leaves open explains every read: a proof of serializability
    that does not trust the checker."""
    dependencies = Dependencies(evidence := Evidence(history))
    after = dependencies.graph.after
    before = [0] * len(after)
    for edges in after:
        for edge in edges:
            before[edge >> KIND_BITS] += 1
    ready = [node for node, count in enumerate(before) if not count]
    serial: list[int] = []
    for node in ready:
        for edge in after[node]:
            before[edge >> KIND_BITS] -= 1
            if not before[edge >> KIND_BITS]:
                ready.append(edge >> KIND_BITS)
        if node < len(history.transactions) and evidence.counted[node]:
            serial.append(node)
    database = Database(history)
    return len(ready) == len(after) and all(
        database.explains(history.transactions[node].operations) for node in serial
    )


@given(SEEDS)
@settings(max_examples=60)
def test_what_a_database_records_is_ok(seed: int) -> None:
    history = Recording(random.Random(seed), 60, clients=5).history
    reports = check(history)
    assert [str(finding) for report in reports for finding in report.findings] == []
    assert overall(reports) is Verdict.OK
    names = {report.checker for report in reports}
    assert names >= {"strict serializability", "linearizability", "counters", "timestamps"}


@given(SEEDS, st.integers(2, 7), st.integers(0, 2))
@settings(max_examples=400)
def test_few_list_transactions_are_judged_as_by_trying_all_orders(
    seed: int, count: int, changes: int
) -> None:
    draw = random.Random(seed)
    recording = Recording(draw, count, clients=3, keys=2, kinds="l", faults=0.5, snapshots=0)
    history = recording.history
    for _ in range(changes):
        history, _ = mutate(draw, history)
    report = check_serializability(Evidence(history))
    if report.verdict is not Verdict.UNKNOWN:
        assert (report.verdict is Verdict.OK) == possible(without_early(history))


@given(SEEDS, st.integers(2, 7))
@settings(max_examples=200)
def test_few_transactions_of_one_register_are_judged_as_by_trying_all_orders(
    seed: int, count: int
) -> None:
    draw = random.Random(seed)
    settings_ = {"clients": 3, "keys": 1, "kinds": "r", "longest": 1, "snapshots": 0.0}
    history = Recording(draw, count, faults=0.4, **settings_).history  # type: ignore[arg-type]
    shuffle_register_reads(draw, history)
    report = check_registers(Evidence(history))
    if report.verdict is not Verdict.UNKNOWN:
        assert (report.verdict is Verdict.OK) == possible(history)


@given(SEEDS, st.integers(8, 14), st.sampled_from(["once", "twice"]))
@settings(max_examples=200)
def test_the_search_without_what_leads_nowhere_says_what_the_whole_one_says(
    seed: int, count: int, written: str
) -> None:
    draw = random.Random(seed)
    settings_ = {"clients": 5, "keys": 1, "kinds": "r", "longest": 2, "snapshots": 0.0}
    history = Recording(draw, count, faults=0.4, **settings_).history  # type: ignore[arg-type]
    shuffle_register_reads(draw, history)
    if written == "twice":
        write_some_values_twice(history)
    verdicts = []
    for search in (PrunedSearch, Search):
        report = Report("linearizability")
        evidence = Evidence(history)
        for key, register in evidence.index.registers.items():
            search(evidence, key, register, report, STATES_MAX).run()
        verdicts.append(report.verdict)
        assert not report.gave_up
    assert verdicts[0] is verdicts[1]


def write_some_values_twice(history: History) -> None:
    """Two values become one, wherever they were written and read."""
    for one in history.transactions:
        one.operations = [
            done if done.value is None else done._replace(value=done.value // 2)
            for done in one.operations
        ]


@given(SEEDS, st.integers(2, 7))
@settings(max_examples=200)
def test_what_can_be_is_never_called_a_violation(seed: int, count: int) -> None:
    """With registers of several keys the checkers need not find all; they must not find more."""
    draw = random.Random(seed)
    recording = Recording(draw, count, clients=3, keys=2, kinds="lrc", faults=0.4, snapshots=0)
    history = recording.history
    shuffle_register_reads(draw, history)
    history, _ = mutate(draw, history)
    for one in history.transactions:
        one.timestamp = None
    if overall(check(history)) is Verdict.VIOLATION:
        assert not possible(without_early(history))


def without_early(history: History) -> History:
    """Only what was acknowledged or is unknown: `possible` does not know early results."""
    kept = [one for one in history.transactions if one.outcome in (Outcome.OK, Outcome.UNKNOWN)]
    return History(kept, history.initial, history.accounts, history.skew, history.skews)


def shuffle_register_reads(draw: random.Random, history: History) -> None:
    """Some reads of registers see what another read of the same register saw."""
    reads = [
        (one, place)
        for one in history.transactions
        for place, done in enumerate(one.operations)
        if done.kind == "read" and one.outcome is Outcome.OK
    ]
    for one, place in reads:
        if draw.random() < 0.3:
            other, from_ = draw.choice(reads)
            done, seen = one.operations[place], other.operations[from_]
            if done.key == seen.key:
                one.operations[place] = seen


@given(SEEDS, st.sampled_from([0.0, 0.3]))
@settings(max_examples=200)
def test_a_changed_read_is_found_or_explained(seed: int, faults: float) -> None:
    draw = random.Random(seed)
    history = Recording(draw, 40, clients=5, kinds="l", longest=4, faults=faults).history
    changed, number = mutate(draw, history)
    reports = {report.checker: report for report in check(changed)}
    serial = reports["strict serializability"]
    if serial.verdict is Verdict.OK:
        assert explained(changed)
    # Where all timestamps are known there is one order, and it does not explain the change.
    if not faults and number >= 0:
        assert overall(reports.values()) is Verdict.VIOLATION


@pytest.mark.parametrize("where", ["begin", "end"])
def test_a_transaction_that_is_moved_in_time_is_found(where: str) -> None:
    """Moved behind all others, or ahead of them: then what it saw or wrote is out of order."""
    found = 0
    for seed in range(30):
        history = Recording(random.Random(seed), 30, kinds="l", faults=0, snapshots=0).history
        one = history.transactions[15]
        one.begin, one.end = (10_000, 10_001) if where == "begin" else (-2, -1)
        if check_serializability(Evidence(history)).verdict is Verdict.VIOLATION:
            found += 1
        else:
            assert explained(history)
    assert found > 15
