"""The whole workload, run by workers at full speed for a moment, then checked and audited."""

from typing import Any

import pytest

import mako
from bench.options import TPCC_KINDS, Scale, TpccOptions
from bench.tpcc.benchmark import create
from bench.workload import Status
from tests.bench.driving import MEMORY, drive

ENOUGH = 60_000  # Transactions, for most of the audit to have its samples.


def run_benchmark(options: TpccOptions) -> dict[str, Any]:
    benchmark = create(options)
    with mako.open(":memory:", memory=MEMORY) as db:
        benchmark.prepare(db, lambda _done, _total, _what: None)
        states = benchmark.states(options.workers, options.seed)
        sample, states = drive(db, benchmark.workload(), states, seed=options.seed, enough=ENOUGH)
        return {
            "sample": sample,
            "states": states,
            "checks": benchmark.check(db, after_load=False),
            "audits": {a.name: a for a in benchmark.audit(states, sample)},
            "extras": benchmark.extras(sample),
        }


@pytest.mark.parametrize(("workers", "warehouses"), [(1, 1), (2, 2), (2, 1), (2, 5)])
def test_a_run_is_consistent_and_its_input_is_as_specified(workers: int, warehouses: int) -> None:
    run = run_benchmark(TpccOptions(workers=workers, warehouses=warehouses, scale="tiny", seed=11))
    assert [check.status for check in run["checks"]] == [Status.PASS] * 11
    assert not [audit for audit in run["audits"].values() if audit.status is Status.FAIL]
    assert run["audits"]["payments_by_name_pct"].status is Status.PASS
    assert run["audits"]["nurand_items_chi2"].status is Status.PASS
    kinds = {kind.name: kind for kind in run["sample"].kinds}
    assert tuple(kinds) == TPCC_KINDS
    assert all(kind.committed > 0 for kind in kinds.values())
    assert kinds["new_order"].rolled_back > 0
    (per_minute,) = run["extras"]
    assert per_minute.name == "new_orders_per_minute"
    assert per_minute.title == "orders/min (not comparable)"
    assert per_minute.value > 0


def test_a_mix_of_the_user() -> None:
    run = run_benchmark(
        TpccOptions(workers=1, warehouses=1, scale="tiny", mix=(0, 1, 1, 0, 0), seed=5)
    )
    counts = {kind.name: kind.committed for kind in run["sample"].kinds}
    assert counts["new_order"] == counts["delivery"] == counts["stock_level"] == 0
    assert counts["payment"] > 0
    assert abs(counts["payment"] / counts["order_status"] - 1) < 0.1
    assert [check.status for check in run["checks"]] == [Status.PASS] * 11


def test_counts_agree_with_what_ran() -> None:
    run = run_benchmark(TpccOptions(workers=2, warehouses=2, scale="tiny", seed=2))
    for at, kind in enumerate(run["sample"].kinds):
        drawn = sum(state["n_kinds"][at] for state in run["states"])
        # A worker may have been stopped after drawing its last transaction.
        assert 0 <= drawn - kind.committed - kind.rolled_back <= len(run["states"])


@pytest.mark.parametrize(
    ("scale", "name", "title"),
    [
        ("tiny", "new_orders_per_minute", "orders/min (not comparable)"),
        ("small", "new_orders_per_minute", "orders/min (not comparable)"),
        ("spec", "tpmC", "tpmC (unaudited)"),
    ],
)
def test_only_full_size_has_a_tpmc(scale: Scale, name: str, title: str) -> None:
    benchmark = create(TpccOptions(workers=1, warehouses=1, scale=scale))
    kinds = tuple(mako.KindSample(kind, 100, 1, []) for kind in TPCC_KINDS)
    sample = mako.Sample(30.0, kinds, {}, 0, 0, 0, 0, 0, 0.0)
    (extra,) = benchmark.extras(sample)
    assert (extra.name, extra.title, extra.value) == (name, title, 202)
    assert ("not comparable" in benchmark.title) == ("not comparable" in extra.title)
