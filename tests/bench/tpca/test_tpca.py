"""TPC-A in both profiles: population, transaction, checks, and a moment at full speed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

import mako
from bench.options import Distribution, TpcaOptions
from bench.tpca import janus, spec
from bench.tpca.benchmark import create
from bench.workload import Benchmark, CheckResult, Status
from mako.errors import ConfigError
from tests.bench.driving import MEMORY, drive

ENOUGH = 60_000
SPEC = TpcaOptions(workers=2, branches=3, accounts=50)
JANUS = TpcaOptions(workers=2, profile="janus", accounts=100, dist=Distribution("zipf", 0.9))


@contextmanager
def loaded(options: TpcaOptions) -> Iterator[tuple[Any, Benchmark]]:
    benchmark = create(options)
    with mako.open(":memory:", memory=MEMORY) as db:
        benchmark.prepare(db, lambda _done, _total, _what: None)
        yield db, benchmark


def failed(results: Sequence[CheckResult]) -> list[str]:
    return [result.clause for result in results if result.status is Status.FAIL]


def run(db: Any, benchmark: Benchmark, options: TpcaOptions) -> tuple[Any, list[dict[str, Any]]]:
    states = benchmark.states(options.workers, options.seed)
    return drive(db, benchmark.workload(), states, seed=options.seed, enough=ENOUGH)


def test_the_population_of_spec() -> None:
    with loaded(SPEC) as (db, benchmark), db.snapshot() as snapshot:
        tellers = dict(snapshot.table(spec.TELLER).scan())
        accounts = dict(snapshot.table(spec.ACCOUNT).scan())
        assert len(dict(snapshot.table(spec.BRANCH).scan())) == 3
        assert [row["t_b_id"] for row in tellers.values()] == [1] * 10 + [2] * 10 + [3] * 10
        assert list(accounts) == [(a_id,) for a_id in range(1, 151)]
        assert [row["a_b_id"] for row in accounts.values()] == [1] * 50 + [2] * 50 + [3] * 50
        assert benchmark.size().rows == 3 + 30 + 150
    assert all(table.row_size >= 100 for table in (spec.BRANCH, spec.TELLER, spec.ACCOUNT))
    assert spec.HISTORY.row_size >= 50


def test_a_run_of_spec() -> None:
    with loaded(SPEC) as (db, benchmark):
        sample, states = run(db, benchmark, SPEC)
        results = benchmark.check(db, after_load=False)
        assert [result.status for result in results] == [Status.PASS] * 5
        assert not failed(benchmark.check(db, after_load=True))
        (audit,) = benchmark.audit(states, sample)
        assert audit.status is Status.PASS
        with db.snapshot() as snapshot:
            rows = [row for _, row in snapshot.table(spec.HISTORY).scan(limit=5_000)]
        assert all(row["h_b_id"] == (row["h_t_id"] - 1) // 10 + 1 for row in rows)
        assert {row["h_b_id"] for row in rows} <= {1, 2, 3}
        home = sum((row["h_a_id"] - 1) // 50 + 1 == row["h_b_id"] for row in rows)
        assert 0.82 < home / len(rows) < 0.88
        assert all(-999_999 <= row["h_delta"] <= 999_999 for row in rows)


def test_terminals_of_spec_do_what_workers_do() -> None:
    with loaded(SPEC) as (db, benchmark):
        terminals = benchmark.terminals(3, 1)
        for turn in range(300):
            terminal = terminals[turn % 3]
            request = terminal.draw()
            balance = db.run(request.procedure, *request.arguments)
            terminal.told(balance)
            a_id = request.arguments[4]
            assert db.table(spec.ACCOUNT).get((a_id,))["a_balance"] == balance
        states = [terminal.state() for terminal in terminals]
        assert sum(state["n_transactions"] for state in states) == 300
        assert {state["worker"] for state in states} == {1, 2, 3}
        assert not failed(benchmark.check(db, after_load=False))


def test_terminals_of_janus_do_what_workers_do() -> None:
    with loaded(JANUS) as (db, benchmark):
        terminals = benchmark.terminals(2, 1)
        for turn in range(100):
            request = terminals[turn % 2].draw()
            amount = db.run(request.procedure, *request.arguments)
            assert amount == request.arguments[3]
            terminals[turn % 2].told(amount)
        with db.snapshot() as snapshot:
            rows = dict(snapshot.table(janus.CUSTOMER).scan())
        assert sum(row["c_balance"] for row in rows.values()) > 0
        assert not failed(benchmark.check(db, after_load=False))


def test_there_are_not_so_many_terminals() -> None:
    with pytest.raises(ConfigError, match="take at most 1023"):
        create(SPEC).terminals(1024, 1)


def shift(table: mako.Table, key: int, field: str) -> Callable[[Any], None]:
    """Add one to a field of a row."""

    def change(db: Any) -> None:
        row = db.table(table).get((key,))
        db.table(table).put((key,), {**row, field: row[field] + 1})

    return change


def both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(db: Any) -> None:
        for one in changes:
            one(db)

    return change


def forget(db: Any) -> None:
    """Add a payment to HISTORY that no balance knows of."""
    row = {"h_a_id": 1, "h_t_id": 1, "h_b_id": 1, "h_delta": 1}
    db.table(spec.HISTORY).put((0, 1, 1), row)


@pytest.mark.parametrize(
    ("violate", "clauses"),
    [
        (shift(spec.TELLER, 7, "t_balance"), ["branch-teller", "teller-history"]),
        (shift(spec.ACCOUNT, 7, "a_balance"), ["account-history", "account-branch"]),
        (
            both(
                shift(spec.BRANCH, 1, "b_balance"),
                shift(spec.TELLER, 1, "t_balance"),
                shift(spec.ACCOUNT, 1, "a_balance"),
            ),
            ["branch-history", "teller-history", "account-history"],
        ),
        (forget, ["branch-history", "teller-history", "account-history"]),
    ],
)
def test_a_violation_of_spec_is_seen(violate: Callable[[Any], None], clauses: list[str]) -> None:
    with loaded(SPEC) as (db, benchmark):
        assert not failed(benchmark.check(db, after_load=False))
        violate(db)
        assert failed(benchmark.check(db, after_load=False)) == clauses


def test_all_accounts_are_at_home_with_one_branch() -> None:
    options = TpcaOptions(workers=2, branches=1, accounts=50)
    with loaded(options) as (db, benchmark):
        sample, states = run(db, benchmark, options)
        assert not failed(benchmark.check(db, after_load=False))
        (audit,) = benchmark.audit(states, sample)
        assert (audit.value, audit.status) == (0, Status.SKIP)


@pytest.mark.parametrize("dist", [Distribution(), Distribution("zipf", 0.9)])
def test_a_run_of_janus(dist: Distribution) -> None:
    options = TpcaOptions(workers=2, profile="janus", accounts=100, dist=dist)
    with loaded(options) as (db, benchmark):
        run(db, benchmark, options)
        assert [r.status for r in benchmark.check(db, after_load=False)] == [Status.PASS] * 2
        assert benchmark.size().rows == 300


@pytest.mark.parametrize(
    ("table", "field", "clauses"),
    [
        (janus.BRANCH, "b_balance", ["branch-teller"]),
        (janus.TELLER, "t_balance", ["branch-teller", "teller-customer"]),
        (janus.CUSTOMER, "c_balance", ["teller-customer"]),
    ],
)
def test_a_violation_of_janus_is_seen(table: mako.Table, field: str, clauses: list[str]) -> None:
    with loaded(JANUS) as (db, benchmark):
        assert not failed(benchmark.check(db, after_load=False))
        shift(table, 99, field)(db)
        assert failed(benchmark.check(db, after_load=False)) == clauses


@pytest.mark.parametrize(
    ("workers", "branches", "homes"),
    [(2, 5, [[1, 3, 5], [2, 4]]), (3, 2, [[1], [2], [1]]), (1, 1, [[1]])],
)
def test_branches_are_dealt_out(workers: int, branches: int, homes: list[list[int]]) -> None:
    dealt = []
    for worker in range(workers):
        state = spec.first_state(worker, workers=workers, branches=branches, accounts=1)
        first, step = state["home_first"], state["home_step"]
        dealt.append([first + step * at for at in range(state["home_count"])])
    assert dealt == homes
