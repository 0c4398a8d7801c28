"""Terminals at a distance: their calls do what compiled workers do, and are checked alike."""

from typing import Any

import pytest

import mako
from bench.options import TPCC_KINDS
from bench.tpcc import audit, calls
from bench.tpcc.lookup import Counts, Receipt, lost_of, order_of, payment_of
from bench.tpcc.schema import WRITERS_MAX
from bench.tpcc.terminals import Terminal
from bench.workload import Status
from mako.errors import ConfigError
from tests.bench.tpcc.worlds import World, world

#: Transactions of a test, enough for each kind to come up.
ENOUGH = 400


def drive(db: mako.Database, terminals: list[Terminal]) -> dict[str, int]:
    """Let the terminals have their turn one after the other; endings by type."""
    counts: dict[str, int] = {}
    for turn in range(ENOUGH):
        terminal = terminals[turn % len(terminals)]
        request = terminal.draw()
        ending = TPCC_KINDS[request.kind]
        try:
            terminal.told(db.run(request.procedure, *request.arguments))
        except mako.RolledBack:
            ending = "rolled back"
        counts[ending] = counts.get(ending, 0) + 1
    return counts


def terminals_of(loaded: World, count: int) -> list[Terminal]:
    made = loaded.benchmark.terminals(count, 1)
    return [each for each in made if isinstance(each, Terminal)]


def test_all_kinds_leave_the_database_consistent_and_nothing_behind(two: World) -> None:
    two.db.create(calls.SCRATCH, calls.DELIVERY_SCRATCH, calls.STOCK_SCRATCH)
    # More than writers of HISTORY, so two of them share a number, and must not meet.
    made = terminals_of(two, WRITERS_MAX + 3)
    few = [made[0], made[1], made[WRITERS_MAX]]
    counts = drive(two.db, few)
    assert set(TPCC_KINDS) <= set(counts)
    results = two.benchmark.check(two.db, after_load=False)
    assert {result.status for result in results} <= {Status.PASS, Status.SKIP}
    found = {result.clause: result for result in results}["acknowledged"]
    assert found.detail == f"{counts['new_order']} orders and {counts['payment']} payments"
    for table in (calls.SCRATCH, calls.DELIVERY_SCRATCH, calls.STOCK_SCRATCH):
        assert not two.rows(table), "a terminal's row lasts for a transaction"
    drawn = audit.Counts.of([terminal.state() for terminal in few])
    assert sum(drawn["n_kinds"]) == ENOUGH


def test_what_was_acknowledged_and_is_not_there_is_found(one: World) -> None:
    one.db.create(calls.SCRATCH, calls.DELIVERY_SCRATCH, calls.STOCK_SCRATCH)
    terminals = terminals_of(one, 2)
    drive(one.db, terminals)
    told = [terminal.acknowledged for terminal in terminals]
    with one.db.snapshot() as snapshot:
        assert lost_of(snapshot, told) == Counts(0, 0)
        told[0].add(Receipt((1, 4), order_of(9_999, 1, 5), is_order=True))
        for o_id in (8_000, 8_001):
            told[1].add(Receipt((1, 7), order_of(o_id, 1, 5), is_order=True))
        told[1].add(Receipt((1, 7), payment_of(1, 5_000, 700), is_order=False))
        assert lost_of(snapshot, told) == Counts(3, 1)
    results = one.benchmark.check(one.db, after_load=False)
    (failed,) = [result for result in results if result.status is Status.FAIL]
    assert failed.clause == "acknowledged"
    assert failed.detail.startswith("3 and 1 of ")


def test_what_a_delivery_skipped_counts_once_and_only_if_it_was_told() -> None:
    terminal = Terminal(0, count=1, warehouses=1, scale=_tiny(), mix=(0, 0, 0, 1, 0), seed=1)
    terminal.draw()
    terminal.told(4)
    terminal.draw()  # Its answer never comes.
    terminal.draw()
    assert terminal.state()["n_districts_skipped"] == 4


def test_terminals_draw_what_their_seed_says_each_something_else() -> None:
    def drawn(number: int, seed: int) -> list[Any]:
        terminal = Terminal(number, count=2, warehouses=2, scale=_tiny(), mix=None, seed=seed)
        return [terminal.draw() for _ in range(20)]

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    inputs = [[request.arguments[1:] for request in drawn(number, 1)] for number in (0, 1)]
    assert inputs[0] != inputs[1]


def test_too_many_terminals_are_refused() -> None:
    with world(1) as loaded, pytest.raises(ConfigError, match="take at most"):
        loaded.benchmark.terminals(calls.TERMINALS_MAX + 1, 1)


def _tiny() -> Any:
    from bench.tpcc.scale import SCALES

    return SCALES["tiny"]
