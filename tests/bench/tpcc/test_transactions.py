"""The five transactions, one sentence of clauses 2.4 to 2.8 at a time."""

from typing import Any

import pytest

from bench.tpcc.random import last_name
from bench.tpcc.schema import (
    CUSTOMER,
    CUSTOMER_BALANCE,
    CUSTOMER_DATA,
    DISTRICT,
    DISTRICT_NEXT,
    DISTRICT_YTD,
    HISTORY,
    ITEM,
    NEW_ORDER,
    ORDER,
    ORDER_BY_CUSTOMER,
    ORDER_LINE,
    STOCK,
    STOCK_INFO,
    TABLES,
    WAREHOUSE,
    WAREHOUSE_YTD,
)
from mako.errors import NotFound, ProcedureError, RolledBack
from tests.bench.tpcc.worlds import (
    Row,
    World,
    run_delivery,
    run_new_order,
    run_order_status,
    run_payment,
    run_stock_level,
)

LINES_MAX = 15


def filled(*values: int) -> tuple[int, ...]:
    return (*values, *(0,) * (LINES_MAX - len(values)))


def order_of(*lines: tuple[int, int, int], **inputs: int) -> dict[str, Any]:
    """Inputs of a new order of (item, supplying warehouse, quantity)."""
    items, suppliers, quantities = zip(*lines, strict=True)
    return {
        "w_id": 1,
        "d_id": 2,
        "c_id": 3,
        "ol_cnt": len(lines),
        "all_local": int(set(suppliers) == {1}),
        "i_id": filled(*items),
        "supply_w_id": filled(*suppliers),
        "quantity": filled(*quantities),
        **inputs,
    }


FIVE = ((10, 1, 1), (20, 1, 2), (30, 1, 3), (40, 1, 4), (50, 1, 5))


# --- New order, clause 2.4 -----------------------------------------------------------------------


@pytest.mark.interpreted
def test_a_new_order_takes_the_next_number_of_its_district(one: World) -> None:
    answered = one.run(run_new_order, order_of(*FIVE))
    assert answered["a_o_id"] == 31
    assert one.get(DISTRICT_NEXT, 1, 2)["d_next_o_id"] == 32
    assert one.get(DISTRICT_NEXT, 1, 3)["d_next_o_id"] == 31
    order = one.get(ORDER, 1, 2, 31)
    assert order.pop("o_entry_d") > 0
    assert order == {"o_c_id": 3, "o_carrier_id": 0, "o_ol_cnt": 5, "o_all_local": 1}
    assert one.has(NEW_ORDER, 1, 2, 31)
    assert one.has(ORDER_BY_CUSTOMER, 1, 2, 3, 31)
    assert one.failed() == []


def test_the_amount_of_a_line_is_quantity_times_price(one: World) -> None:
    one.change(ITEM, 20, i_price=12_34)
    one.run(run_new_order, order_of(*FIVE))
    line = one.get(ORDER_LINE, 1, 2, 31, 2)
    expected_info = one.get(STOCK_INFO, 1, 20)["s_dist_02"]
    assert line == {
        "ol_delivery_d": 0,
        "ol_i_id": 20,
        "ol_amount": 24_68,
        "ol_supply_w_id": 1,
        "ol_quantity": 2,
        "ol_dist_info": expected_info,
    }


def test_the_total_is_discounted_and_taxed(one: World) -> None:
    one.change(CUSTOMER, 1, 2, 3, c_discount=1_000)
    one.change(WAREHOUSE, 1, w_tax=500)
    one.change(DISTRICT_NEXT, 1, 2, d_tax=1_500)
    for item, price in ((10, 100), (20, 200), (30, 300), (40, 400), (50, 500)):
        one.change(ITEM, item, i_price=price)
    answered = one.run(run_new_order, order_of(*FIVE))
    amount = 100 + 400 + 900 + 1_600 + 2_500
    assert answered["a_total"] == round(amount * 0.9 * 1.2)


@pytest.mark.parametrize(("before", "after"), [(20, 10), (21, 11), (19, 100), (10, 91), (100, 90)])
def test_stock_is_refilled_below_ten(one: World, before: int, after: int) -> None:
    """Clause 2.4.2.2: less the quantity if ten remain after it, otherwise 91 more."""
    one.change(STOCK, 1, 10, s_quantity=before)
    answered = one.run(run_new_order, order_of((10, 1, 10), *FIVE[1:]))
    assert answered["a_stock"][0] == after
    assert one.get(STOCK, 1, 10) == {
        "s_ytd": 10,
        "s_order_cnt": 1,
        "s_remote_cnt": 0,
        "s_quantity": after,
    }


def test_a_remote_line_counts_in_the_other_warehouse(two: World) -> None:
    two.run(run_new_order, order_of((10, 2, 1), *FIVE[1:]))
    assert two.get(STOCK, 2, 10)["s_remote_cnt"] == 1
    assert two.get(STOCK, 1, 10)["s_order_cnt"] == 0
    assert two.get(STOCK, 1, 20)["s_remote_cnt"] == 0
    assert two.get(ORDER, 1, 2, 31)["o_all_local"] == 0
    assert two.get(ORDER_LINE, 1, 2, 31, 1)["ol_supply_w_id"] == 2


def test_an_item_may_be_ordered_twice(one: World) -> None:
    one.change(STOCK, 1, 10, s_quantity=50)
    one.run(run_new_order, order_of((10, 1, 3), (10, 1, 4), *FIVE[2:]))
    stock = one.get(STOCK, 1, 10)
    assert (stock["s_ytd"], stock["s_order_cnt"], stock["s_quantity"]) == (7, 2, 43)


@pytest.mark.parametrize("item_is", [True, False])
@pytest.mark.parametrize("stock_is", [True, False])
def test_brand_generic_is_b_if_both_are_original(
    one: World, *, item_is: bool, stock_is: bool
) -> None:
    plain, original = b"x" * 30, b"xORIGINALx" + b"y" * 20
    one.change(ITEM, 10, i_data=original if item_is else plain)
    one.change(STOCK_INFO, 1, 10, s_data=original if stock_is else plain)
    answered = one.run(run_new_order, order_of(*FIVE))
    assert chr(answered["a_generic"][0]) == ("B" if item_is and stock_is else "G")


@pytest.mark.interpreted
def test_an_unused_item_rolls_everything_back(one: World) -> None:
    before = {table.name: one.rows(table) for table in TABLES}
    with pytest.raises(RolledBack):
        one.run(run_new_order, order_of(*FIVE[:4], (1_001, 1, 5)))
    assert {table.name: one.rows(table) for table in TABLES} == before


def test_an_order_of_fifteen_lines(one: World) -> None:
    lines = [(item, 1, 1) for item in range(101, 116)]
    one.run(run_new_order, order_of(*lines))
    assert [key[3] for key, _ in one.rows(ORDER_LINE) if key[:3] == (1, 2, 31)] == [*range(1, 16)]


# --- Payment, clause 2.5 -------------------------------------------------------------------------


def payment_of(**inputs: int) -> dict[str, int]:
    return {
        "w_id": 1,
        "d_id": 2,
        "c_w_id": 1,
        "c_d_id": 2,
        "c_id": 3,
        "h_amount": 123_45,
        "history_number": 1,
        **inputs,
    }


def test_a_payment_moves_four_sums(one: World) -> None:
    one.change(CUSTOMER, 1, 2, 3, c_credit=b"GC")
    before = one.get(CUSTOMER_DATA, 1, 2, 3)
    warehouse, district = one.get(WAREHOUSE_YTD, 1), one.get(DISTRICT_YTD, 1, 2)
    answered = one.run(run_payment, payment_of())
    assert one.get(WAREHOUSE_YTD, 1)["w_ytd"] == warehouse["w_ytd"] + 123_45
    assert one.get(DISTRICT_YTD, 1, 2)["d_ytd"] == district["d_ytd"] + 123_45
    assert one.get(CUSTOMER_BALANCE, 1, 2, 3) == {
        "c_balance": -10_00 - 123_45,
        "c_ytd_payment": 10_00 + 123_45,
        "c_payment_cnt": 2,
        "c_delivery_cnt": 0,
    }
    assert answered["a_balance"] == -10_00 - 123_45
    assert one.get(CUSTOMER_DATA, 1, 2, 3) == before
    assert one.failed() == []


def test_history_tells_where_it_was_paid_and_by_whom(two: World) -> None:
    two.run(run_payment, payment_of(c_w_id=2, c_d_id=9, history_number=77))
    history = two.get(HISTORY, 2, 9, 1, 77)
    assert history.pop("h_date") > 0
    names = two.get(WAREHOUSE, 1)["w_name"], two.get(DISTRICT, 1, 2)["d_name"]
    assert history == {
        "h_amount": 123_45,
        "h_c_id": 3,
        "h_w_id": 1,
        "h_d_id": 2,
        "h_data": names[0] + b"    " + names[1],
    }
    assert two.get(CUSTOMER_BALANCE, 2, 9, 3)["c_payment_cnt"] == 2
    assert two.get(CUSTOMER_BALANCE, 1, 2, 3)["c_payment_cnt"] == 1
    assert two.failed() == []


@pytest.mark.interpreted
def test_bad_credit_is_noted_in_front_of_the_data(two: World) -> None:
    two.change(CUSTOMER, 2, 9, 3, c_credit=b"BC")
    letters = bytes(97 + at % 26 for at in range(500))
    two.change(CUSTOMER_DATA, 2, 9, 3, c_data=letters)
    two.run(run_payment, payment_of(c_w_id=2, c_d_id=9))
    # C_ID, C_D_ID, C_W_ID, D_ID, W_ID, H_AMOUNT.
    note = b"0003" + b"09" + b"00002" + b"02" + b"00001" + b"012345"
    data = two.get(CUSTOMER_DATA, 2, 9, 3)["c_data"]
    assert data == (note + letters)[:500]
    two.run(run_payment, payment_of(c_w_id=2, c_d_id=9, history_number=2))
    assert two.get(CUSTOMER_DATA, 2, 9, 3)["c_data"] == (note + note + letters)[:500]


def namesakes(world: World, w_id: int, d_id: int, last: int) -> list[int]:
    """C_IDs of the customers with a name, by C_FIRST."""
    rows = [
        (row["c_first"], key[2])
        for key, row in world.rows(CUSTOMER)
        if key[:2] == (w_id, d_id) and row["c_last"] == last_name(last)
    ]
    return [c_id for _, c_id in sorted(rows)]


@pytest.mark.parametrize("last", range(10))
def test_a_name_means_the_customer_in_the_middle(one: World, last: int) -> None:
    """Clause 2.5.2.2: of n customers ordered by C_FIRST, number n/2 rounded up."""
    chosen = namesakes(one, 1, 2, last)
    middle = chosen[-(-len(chosen) // 2) - 1]
    one.run(run_payment, payment_of(c_last=last, c_id=0))
    paid = [c_id for c_id in chosen if one.get(CUSTOMER_BALANCE, 1, 2, c_id)["c_payment_cnt"] > 1]
    assert paid == [middle]
    status = one.run(run_order_status, {"w_id": 1, "d_id": 2, "c_last": last})
    assert status["a_balance"] == -10_00 - 123_45


def test_some_names_have_an_even_and_some_an_odd_number_of_customers(one: World) -> None:
    counts = {len(namesakes(one, 1, 2, last)) for last in range(10)}
    assert {count % 2 for count in counts} == {0, 1}


def test_an_unknown_name_aborts(one: World) -> None:
    with pytest.raises((ProcedureError, NotFound, ValueError)):
        one.run(run_payment, payment_of(c_last=10))


# --- Order status, clause 2.6 --------------------------------------------------------------------


@pytest.mark.interpreted
def test_order_status_shows_the_newest_order(one: World) -> None:
    one.run(run_new_order, order_of(*FIVE))
    answered = one.run(run_order_status, {"w_id": 1, "d_id": 2, "c_id": 3})
    assert answered["a_o_id"] == 31
    assert answered["a_carrier_id"] == 0
    assert answered["a_entry_d"] == one.get(ORDER, 1, 2, 31)["o_entry_d"]
    assert answered["a_balance"] == -10_00
    assert answered["a_i_id"][:5] == (10, 20, 30, 40, 50)
    assert answered["a_quantity"][:5] == (1, 2, 3, 4, 5)
    assert answered["a_supply_w_id"][:5] == (1,) * 5
    assert answered["a_date"][:5] == (0,) * 5
    amounts = [one.get(ORDER_LINE, 1, 2, 31, number)["ol_amount"] for number in range(1, 6)]
    assert list(answered["a_amount"][:5]) == amounts


# --- Delivery, clause 2.7 ------------------------------------------------------------------------


def delivered(world: World, d_id: int, o_id: int) -> tuple[Row, list[Row]]:
    order = world.get(ORDER, 1, d_id, o_id)
    lines = [
        world.get(ORDER_LINE, 1, d_id, o_id, number) for number in range(1, order["o_ol_cnt"] + 1)
    ]
    return order, lines


@pytest.mark.interpreted
def test_the_oldest_order_of_each_district_is_delivered(one: World) -> None:
    answered = one.run(run_delivery, {"w_id": 1, "o_carrier_id": 7})
    assert answered["a_delivered"] == (22,) * 10
    assert answered["a_skipped"] == 0
    for d_id in range(1, 11):
        assert not one.has(NEW_ORDER, 1, d_id, 22)
        assert one.has(NEW_ORDER, 1, d_id, 23)
        order, lines = delivered(one, d_id, 22)
        assert order["o_carrier_id"] == 7
        assert all(line["ol_delivery_d"] > 0 for line in lines)
        assert one.get(CUSTOMER_BALANCE, 1, d_id, order["o_c_id"]) == {
            "c_balance": -10_00 + sum(line["ol_amount"] for line in lines),
            "c_ytd_payment": 10_00,
            "c_payment_cnt": 1,
            "c_delivery_cnt": 1,
        }
    assert one.failed() == []


def test_a_district_without_an_order_is_skipped(one: World) -> None:
    for o_id in range(22, 31):
        answered = one.run(run_delivery, {"w_id": 1, "o_carrier_id": 7})
        assert answered["a_delivered"] == (o_id,) * 10
    one.run(run_new_order, order_of(*FIVE))
    answered = one.run(run_delivery, {"w_id": 1, "o_carrier_id": 8})
    assert answered["a_delivered"] == (0, 31, *(0,) * 8)
    assert answered["a_skipped"] == 9
    assert one.rows(NEW_ORDER) == []
    assert one.failed() == []


# --- Stock level, clause 2.8 ---------------------------------------------------------------------


def test_stock_level_counts_distinct_items_of_the_last_twenty_orders(one: World) -> None:
    recent = {
        row["ol_i_id"] for (_, d_id, o_id, _), row in one.rows(ORDER_LINE)
        if d_id == 2 and o_id > 10
    }  # fmt: skip
    older = {
        row["ol_i_id"] for (_, d_id, o_id, _), row in one.rows(ORDER_LINE)
        if d_id == 2 and o_id <= 10
    }  # fmt: skip
    for item in range(1, 1_001):
        one.change(STOCK, 1, item, s_quantity=15)
    for item in older - recent:
        one.change(STOCK, 1, item, s_quantity=10)
    low = sorted(recent)[::3]
    for item in low:
        one.change(STOCK, 1, item, s_quantity=14)
    inputs = {"w_id": 1, "d_id": 2}
    assert one.run(run_stock_level, {**inputs, "threshold": 14})["a_low_stock"] == 0
    assert one.run(run_stock_level, {**inputs, "threshold": 15})["a_low_stock"] == len(low)
    assert one.run(run_stock_level, {**inputs, "threshold": 16})["a_low_stock"] == len(recent)


@pytest.mark.interpreted
def test_stock_level_counts_an_item_once(one: World) -> None:
    one.change(STOCK, 1, 10, s_quantity=100)
    for _ in range(3):
        one.run(run_new_order, order_of(*[(10, 1, 1)] * 5))
    one.change(STOCK, 1, 10, s_quantity=5)
    everything = one.run(run_stock_level, {"w_id": 1, "d_id": 2, "threshold": 6})
    assert everything["a_low_stock"] == 1
