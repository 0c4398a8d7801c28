"""An update that is lost fails the check, of however many keys a transaction is."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import mako
from bench.micro.benchmark import Micro, create
from bench.micro.terminals import Terminal
from bench.micro.workload import READ, READ_MODIFY_WRITE, RECORD
from bench.options import MicroOptions
from bench.workload import CheckResult, Done, Status

KEYS = 20


class Records:
    """A database in a dictionary; procedures are called as the functions of Python they are."""

    def __init__(self) -> None:
        self.rows: dict[int, SimpleNamespace] = defaultdict(
            lambda: SimpleNamespace(value=0, writes=0)
        )

    @contextmanager
    def snapshot(self) -> Iterator["Records"]:
        yield self

    timestamp = 0

    def run(self, procedure: Any, *arguments: int) -> int:
        result: int = procedure(self, *arguments)
        return result

    def scan(
        self, table: mako.Table, first: Sequence[int], end: Sequence[int], limit: int
    ) -> SimpleNamespace:
        assert table is RECORD
        assert end[0] - first[0] <= limit
        rows = [self.rows[number] for number in range(first[0], end[0])]
        return SimpleNamespace(count=len(rows), row=rows.__getitem__)

    def prefetch(self, _table: mako.Table, _key: Sequence[int]) -> None:
        pass

    def write(self, _table: mako.Table, key: Sequence[int]) -> SimpleNamespace:
        return self.rows[key[0]]

    read = write


def micro(ops: int, read_pct: int = 30) -> tuple[Any, Micro]:
    return Records(), create(MicroOptions(workers=2, keys=KEYS, ops=ops, read_pct=read_pct))


def kind_of(terminal: Terminal) -> Any:
    return terminal.state()["kind"]


def work(db: Any, terminals: Sequence[Any], rounds: int = 50) -> None:
    for _ in range(rounds):
        for terminal in terminals:
            request = terminal.draw()
            terminal.told(db.run(request.procedure, *request.arguments))


def lose(db: Any, terminal: Any) -> None:
    """It is told that its next update is durable, which is nowhere."""
    terminal.draw()
    while kind_of(terminal) != READ_MODIFY_WRITE:
        terminal.told(0)
        terminal.draw()
    terminal.told(0)


def writes_of(results: Sequence[CheckResult]) -> CheckResult:
    (found,) = [result for result in results if result.clause == "writes"]
    return found


@pytest.mark.parametrize("ops", [1, 2, 5])
def test_an_acknowledged_update_that_is_lost_is_missing(ops: int) -> None:
    db, benchmark = micro(ops)
    terminals = benchmark.terminals(2, 1)
    work(db, terminals)
    before = writes_of(benchmark.check(db, after_load=False))
    assert before.status is Status.PASS
    lose(db, terminals[1])
    values, after = benchmark.check(db, after_load=False)
    assert values.status is not Status.FAIL
    assert after.status is Status.FAIL
    writes = int(before.detail.split()[-1])
    assert after.detail == f"it is {writes} of {writes + ops}"


@pytest.mark.parametrize("ops", [1, 2])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_one_whose_answer_was_lost_has_run_once_or_not_at_all(ops: int, times: int) -> None:
    db, benchmark = micro(ops, read_pct=0)
    (terminal,) = benchmark.terminals(1, 1)
    work(db, [terminal])
    request = terminal.draw()
    for _ in range(times):
        db.run(request.procedure, *request.arguments)
    found = writes_of(benchmark.check(db, after_load=False))
    assert found.status is (Status.FAIL if times == 2 else Status.PASS)
    assert found.detail == f"it is {(50 + times) * ops} of {50 * ops} to {51 * ops}"


def test_the_sum_of_values_says_nothing_where_none_changes() -> None:
    db, benchmark = micro(1)
    work(db, benchmark.terminals(1, 1))
    values, _ = benchmark.check(db, after_load=False)
    assert (values.status, values.detail) == (
        Status.SKIP,
        "a transaction of one key changes none",
    )
    db.rows[3].value = 7
    assert benchmark.check(db, after_load=False)[0].status is Status.FAIL


# --- Workers -----------------------------------------------------------------------------------


def driven(committed: int, drawn: int, *, at_once: bool = False) -> Done:
    """What two workers have done, of which each has read 100 times."""
    states = [{"n_transactions": 100 + drawn // 2, "n_reads": 100} for _ in range(2)]
    return Done(states, {"read": 200, "read_modify_write": committed}, at_once=at_once)


@pytest.mark.parametrize(
    ("done", "status", "expected"),
    [
        (driven(100, 100), Status.PASS, "300 to 300"),
        (driven(90, 110), Status.PASS, "270 to 330"),
        (driven(101, 110), Status.FAIL, "303 to 330"),
        (driven(80, 98), Status.FAIL, "240 to 294"),
        # The last one that a worker has drawn may be missing, and no other.
        (driven(80, 102, at_once=True), Status.PASS, "300 to 306"),
        (driven(80, 104, at_once=True), Status.FAIL, "306 to 312"),
    ],
)
def test_writes_are_those_of_the_transactions_of_workers(
    done: Done, status: Status, expected: str
) -> None:
    db, benchmark = micro(3)
    for number in range(10):
        db.rows[number].writes = 30
    found = writes_of(benchmark.check(db, after_load=False, done=done))
    least, _, most = expected.split()
    span = least if least == most else expected
    assert (found.status, found.detail) == (status, f"it is 300 of {span}")


def test_where_workers_were_lost_no_part_of_a_transaction_is_missing() -> None:
    db, benchmark = micro(3)
    db.rows[0].writes = 3
    found = writes_of(benchmark.check(db, after_load=False))
    assert (found.status, found.detail) == (
        Status.PASS,
        "it is 3, and nobody knows of how many",
    )
    db.rows[0].writes = 4
    assert writes_of(benchmark.check(db, after_load=False)).status is Status.FAIL


def test_terminals_count_what_wrote_and_was_acknowledged() -> None:
    _, benchmark = micro(1)
    (terminal,) = benchmark.terminals(1, 1)
    assert isinstance(terminal, Terminal)
    kinds = []
    for _ in range(100):
        terminal.draw()
        kinds.append(kind_of(terminal))
        terminal.told(0)
        terminal.draw()  # Its answer never comes.
    assert {READ, READ_MODIFY_WRITE} == set(kinds)
    assert terminal.acknowledged == kinds.count(READ_MODIFY_WRITE)
