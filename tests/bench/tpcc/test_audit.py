from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from bench.drawing import Chance, state_of
from bench.options import TPCC_KINDS
from bench.tpcc.audit import audit, nurand_weights
from bench.tpcc.inputs import BY_ID, DECK, SPREAD, STATE, generate
from bench.tpcc.random import A_CUSTOMER, A_ITEM, A_LAST, C_CUSTOMER, C_ITEM, C_LAST_RUN
from bench.tpcc.scale import SCALES
from bench.tpcc.workload import first_state, spread_shift
from bench.workload import AuditResult, Status

SPEC = SCALES["spec"]
SAMPLES = 23_000_000


def even(total: int, weights: Sequence[float], length: int) -> tuple[int, ...]:
    shares = [round(total * weight / sum(weights)) for weight in weights]
    return (*shares, *(0,) * (length - len(shares)))


def spread(total: int, a: int, c: int, low: int, high: int) -> tuple[int, ...]:
    weights = nurand_weights(a, c, low, high)
    size = 1 << spread_shift(len(weights))
    ranges = [float(sum(weights[at : at + size])) for at in range(0, len(weights), size)]
    return even(total, ranges, SPREAD)


def right() -> dict[str, Any]:
    """The state of a worker whose every count is what is expected."""
    kinds = tuple(SAMPLES * cards // 23 for cards in DECK)
    new_orders, payments = kinds[0], kinds[1]
    return {
        "worker": 1,
        "c_last": BY_ID,
        "n_kinds": kinds,
        "n_rollbacks": new_orders // 100,
        "n_lines": new_orders * 10,
        "n_remote_lines": new_orders // 10,
        "n_lines_of": (0,) * 5 + even(new_orders, [1.0] * 11, 11),
        "n_remote_payments": payments * 15 // 100,
        "n_payments_by_name": payments * 60 // 100,
        "n_status_by_name": kinds[2] * 60 // 100,
        "n_districts_skipped": 0,
        "n_deliveries_skipped": 0,
        "n_items": spread(1_000_000, A_ITEM, C_ITEM, 1, SPEC.items),
        "n_customers": spread(1_000_000, A_CUSTOMER, C_CUSTOMER, 1, SPEC.customers),
        "n_names": spread(1_000_000, A_LAST, C_LAST_RUN, 0, SPEC.names - 1),
    }


def results(
    *states: Mapping[str, Any], mix: tuple[int, ...] | None = None, warehouses: int = 2
) -> dict[str, AuditResult]:
    return {result.name: result for result in audit(states, SPEC, warehouses, mix)}


def failed(*states: Mapping[str, Any], **options: Any) -> set[str]:
    audited = results(*states, **options)
    return {name for name, result in audited.items() if result.status is Status.FAIL}


@pytest.mark.parametrize(
    ("a", "c", "low", "high"),
    [(7, 3, 0, 19), (7, 0, 1, 20), (15, 9, 1, 10), (3, 1, 0, 3), (7, 5, 5, 23), (7, 2, 1, 2)],
)
def test_nurand_weights_count_all_pairs(a: int, c: int, low: int, high: int) -> None:
    counts = Counter(
        ((u | v) + c) % (high - low + 1) + low for u in range(a + 1) for v in range(low, high + 1)
    )
    assert nurand_weights(a, c, low, high) == [counts[v] for v in range(low, high + 1)]


def test_right_inputs_pass() -> None:
    audited = results(right())
    assert {result.status for result in audited.values()} == {Status.PASS}
    assert len(audited) == 5 + 12


def test_the_workers_are_added_up() -> None:
    one, many = results(right()), results(right(), right(), right())
    assert many["rollbacks_pct"].samples == 3 * one["rollbacks_pct"].samples
    assert many["rollbacks_pct"].value == one["rollbacks_pct"].value


@pytest.mark.parametrize(
    ("field", "factor", "name"),
    [
        ("n_rollbacks", 1.2, "rollbacks_pct"),
        ("n_rollbacks", 0.8, "rollbacks_pct"),
        ("n_lines", 1.06, "order_lines_mean"),
        ("n_remote_lines", 1.06, "remote_lines_pct"),
        ("n_remote_payments", 0.9, "remote_payments_pct"),
        ("n_payments_by_name", 1.06, "payments_by_name_pct"),
        ("n_status_by_name", 0.94, "status_by_name_pct"),
    ],
)
def test_a_share_out_of_its_band_fails(field: str, factor: float, name: str) -> None:
    state = right()
    state[field] = int(state[field] * factor)
    assert name in failed(state)


def test_a_wrong_constant_of_nurand_fails() -> None:
    state = right()
    state["n_names"] = spread(1_000_000, A_LAST, C_LAST_RUN + 8, 0, SPEC.names - 1)
    state["n_items"] = spread(1_000_000, A_ITEM, C_ITEM + 100, 1, SPEC.items)
    state["n_customers"] = spread(1_000_000, A_CUSTOMER, C_CUSTOMER + 32, 1, SPEC.customers)
    assert failed(state) == {"nurand_items_chi2", "nurand_customers_chi2", "nurand_names_chi2"}


def test_uniform_numbers_are_not_nurand() -> None:
    state = right()
    state["n_items"] = even(1_000_000, [1.0] * 97 + [100_000 / 1024 - 97], SPREAD)
    assert failed(state) == {"nurand_items_chi2"}


def test_a_number_of_lines_that_is_too_rare_fails() -> None:
    state = right()
    lines = list(state["n_lines_of"])
    lines[5], lines[6] = lines[5] - 50_000, lines[6] + 50_000
    state["n_lines_of"] = tuple(lines)
    assert failed(state) == {"order_lines_chi2"}


def test_no_samples_are_skipped() -> None:
    empty = {
        name: (0 if isinstance(value, int) else (0,) * len(value))
        for name, value in right().items()
    }
    assert {result.status for result in results(empty).values()} == {Status.SKIP}


def test_few_samples_are_skipped() -> None:
    state = right()
    small = {
        name: (value // 10_000 if isinstance(value, int) else tuple(v // 10_000 for v in value))
        for name, value in state.items()
    }
    assert {result.status for result in results(small).values()} == {Status.SKIP}


def test_a_narrow_band_needs_more_samples() -> None:
    state = right()
    middle = {
        name: (value // 200 if isinstance(value, int) else tuple(v // 200 for v in value))
        for name, value in state.items()
    }
    audited = results(middle)
    assert audited["rollbacks_pct"].samples == 50_000
    assert audited["rollbacks_pct"].status is Status.SKIP
    assert audited["payments_by_name_pct"].status is Status.PASS


def test_nothing_is_remote_with_one_warehouse() -> None:
    audited = results(right(), warehouses=1)
    assert audited["remote_lines_pct"].status is Status.SKIP
    assert audited["remote_payments_pct"].status is Status.SKIP


def test_weights_of_the_user_are_checked_instead_of_the_deck() -> None:
    state = right()
    state["n_kinds"] = (100_000, 0, 300_000, 0, 0)
    assert "mix_payment_pct" in failed(state)
    mix_of_user = failed(state, mix=(1, 0, 3, 0, 0))
    assert not {name for name in mix_of_user if name.startswith("mix_")}
    assert "mix_order_status_pct" in failed(state, mix=(1, 0, 2, 0, 0))


@pytest.mark.parametrize(
    ("skipping", "status"),
    [(1, Status.PASS), (100, Status.PASS), (101, Status.SKIP), (10_000, Status.SKIP)],
)
def test_one_in_a_hundred_deliveries_may_skip_a_district_and_more_never_fail(
    skipping: int, status: Status
) -> None:
    """Of ten districts each, so a thousandth of them is skipped where a hundredth may be."""
    state = right()
    deliveries = state["n_kinds"][3]
    state["n_deliveries_skipped"] = state["n_districts_skipped"] = deliveries * skipping // 10_000
    found = results(state)
    assert found["deliveries_skipped_pct"].value == pytest.approx(skipping / 100, abs=0.001)
    assert found["deliveries_skipped_pct"].status is status
    assert found["districts_skipped_pct"].value == pytest.approx(skipping / 1000, abs=0.001)
    assert found["districts_skipped_pct"].status is Status.PASS


def test_a_delivery_counts_once_however_many_districts_it_skips() -> None:
    first = first_state(
        0, workers=1, warehouses=1, scale=SPEC, mix=(0, 0, 0, 1, 0), history_number=0
    )
    state, chance = state_of(STATE, first), Chance(1)
    for skipped in (0, 3, 10):
        generate(chance, state)
        state.a_skipped = skipped
    generate(chance, state)
    assert (state.n_districts_skipped, state.n_deliveries_skipped) == (13, 2)


def test_the_deck_is_that_of_clause_5_2_4_2() -> None:
    assert dict(zip(TPCC_KINDS, DECK, strict=True)) == {
        "new_order": 10,
        "payment": 10,
        "order_status": 1,
        "delivery": 1,
        "stock_level": 1,
    }


@pytest.mark.parametrize(
    ("workers", "warehouses", "homes"),
    [
        (1, 3, [[1, 2, 3]]),
        (2, 5, [[1, 3, 5], [2, 4]]),
        (2, 2, [[1], [2]]),
        (3, 2, [[1], [2], [1]]),
        (4, 1, [[1], [1], [1], [1]]),
    ],
)
def test_warehouses_are_dealt_out(workers: int, warehouses: int, homes: list[list[int]]) -> None:
    dealt = []
    for worker in range(workers):
        state = first_state(
            worker,
            workers=workers,
            warehouses=warehouses,
            scale=SPEC,
            mix=None,
            history_number=0,
        )
        assert state["home"] == state["home_first"]
        dealt.append([*range(state["home_first"], warehouses + 1, state["home_step"])])
    assert dealt == homes
