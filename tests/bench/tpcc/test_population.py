"""The rows of clause 4.3.3.1, counted and looked at, at the scale `tiny`."""

import string
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import mako
from bench.tpcc.population import load_customers
from bench.tpcc.random import last_name
from bench.tpcc.schema import (
    CUSTOMER,
    CUSTOMER_BALANCE,
    CUSTOMER_DATA,
    CUSTOMER_NAME,
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
from tests.bench.tpcc.worlds import Row, World, world

DISTRICTS = 10
CUSTOMERS = 30


@pytest.fixture(scope="module")
def loaded() -> Iterator[World]:
    with world(2, seed=7) as two:
        yield two


def texts(rows: list[tuple[Any, Row]], field: str) -> list[bytes]:
    return [row[field] for _, row in rows]


def test_every_table_has_its_number_of_rows(loaded: World) -> None:
    counts = {table.name: len(loaded.rows(table)) for table in TABLES}
    lines = counts.pop("order_line")
    assert counts == {
        "warehouse": 2,
        "warehouse_ytd": 2,
        "district": 20,
        "district_ytd": 20,
        "district_next": 20,
        "customer": 600,
        "customer_balance": 600,
        "customer_data": 600,
        "customer_name": 600,
        "history": 600,
        "new_order": 180,
        "orders": 600,
        "order_by_customer": 600,
        "item": 1_000,
        "stock": 2_000,
        "stock_info": 2_000,
    }
    size = loaded.benchmark.size()
    assert size.rows == sum(counts.values()) + lines
    assert size.row_bytes == sum(table.row_size * len(loaded.rows(table)) for table in TABLES)


def test_warehouses_and_districts(loaded: World) -> None:
    for _, row in loaded.rows(WAREHOUSE):
        assert 0 <= row["w_tax"] <= 2000
        assert 6 <= len(row["w_name"]) <= 10
        assert 10 <= len(row["w_street_1"]) <= 20
        assert len(row["w_state"]) == 2
        assert row["w_zip"][:4].isdigit()
        assert row["w_zip"][4:] == b"11111"
    for _, row in loaded.rows(DISTRICT):
        assert 6 <= len(row["d_name"]) <= 10
        assert row["d_zip"].endswith(b"11111")
    # 300 000.00 and 30 000.00 for 3 000 customers of a district, in proportion here.
    assert {row["w_ytd"] for _, row in loaded.rows(WAREHOUSE_YTD)} == {3_000_00}
    assert {row["d_ytd"] for _, row in loaded.rows(DISTRICT_YTD)} == {300_00}
    assert {row["d_next_o_id"] for _, row in loaded.rows(DISTRICT_NEXT)} == {31}
    assert len({row["d_tax"] for _, row in loaded.rows(DISTRICT_NEXT)}) > 10


def test_customers(loaded: World) -> None:
    rows = loaded.rows(CUSTOMER)
    for (_, _, c_id), row in rows:
        assert row["c_middle"] == b"OE"
        assert 8 <= len(row["c_first"]) <= 16
        assert row["c_credit"] in (b"GC", b"BC")
        assert row["c_credit_lim"] == 50_000_00
        assert 0 <= row["c_discount"] <= 5000
        assert len(row["c_phone"]) == 16
        assert row["c_phone"].isdigit()
        if c_id <= 10:
            assert row["c_last"] == last_name(c_id - 1)
    assert 30 <= sum(row["c_credit"] == b"BC" for _, row in rows) <= 90
    assert len(set(texts(rows, "c_first"))) == len(rows)
    for _, row in loaded.rows(CUSTOMER_BALANCE):
        assert row == {
            "c_balance": -10_00,
            "c_ytd_payment": 10_00,
            "c_payment_cnt": 1,
            "c_delivery_cnt": 0,
        }
    assert all(300 <= len(data) <= 500 for data in texts(loaded.rows(CUSTOMER_DATA), "c_data"))


def test_the_index_by_name_has_every_customer_in_order_of_first_names(loaded: World) -> None:
    customers = dict(loaded.rows(CUSTOMER))
    expected = sorted(
        (w_id, d_id, row["c_last"], row["c_first"], c_id)
        for (w_id, d_id, c_id), row in customers.items()
    )
    indexed = [
        (w_id, d_id, last_name(last), customers[w_id, d_id, c_id]["c_first"], c_id)
        for (w_id, d_id, last, _, _, c_id), _ in loaded.rows(CUSTOMER_NAME)
    ]
    assert sorted(indexed) == expected
    by_name: dict[Any, list[bytes]] = {}
    for w_id, d_id, last, first, _ in indexed:
        by_name.setdefault((w_id, d_id, last), []).append(first)
    assert all(firsts == sorted(firsts) for firsts in by_name.values())
    assert any(len(firsts) > 2 for firsts in by_name.values())


def test_history_is_one_payment_by_each_customer(loaded: World) -> None:
    rows = loaded.rows(HISTORY)
    paid = [(w_id, d_id, row["h_c_id"]) for (w_id, d_id, _, _), row in rows]
    assert sorted(paid) == [key for key, _ in loaded.rows(CUSTOMER)]
    for (w_id, d_id, _, _), row in rows:
        assert row["h_amount"] == 10_00
        assert (row["h_w_id"], row["h_d_id"]) == (w_id, d_id)
        assert 12 <= len(row["h_data"]) <= 24


def test_orders(loaded: World) -> None:
    undelivered = {key for key, _ in loaded.rows(NEW_ORDER)}
    by_district: dict[Any, list[int]] = {}
    for (w_id, d_id, o_id), row in loaded.rows(ORDER):
        by_district.setdefault((w_id, d_id), []).append(row["o_c_id"])
        assert ((w_id, d_id, o_id) in undelivered) == (o_id > 21)
        assert row["o_carrier_id"] in (range(1, 11) if o_id <= 21 else (0,))
        assert 5 <= row["o_ol_cnt"] <= 15
        assert row["o_all_local"] == 1
    orders = list(by_district.values())
    assert all(sorted(customers) == list(range(1, CUSTOMERS + 1)) for customers in orders)
    assert all(customers != sorted(customers) for customers in orders)
    assert len({tuple(customers) for customers in orders}) == 2 * DISTRICTS
    assert {(w, d, o, c) for (w, d, c, o), _ in loaded.rows(ORDER_BY_CUSTOMER)} == {
        (*key, row["o_c_id"]) for key, row in loaded.rows(ORDER)
    }


def test_order_lines(loaded: World) -> None:
    orders = dict(loaded.rows(ORDER))
    counted: Counter[Any] = Counter()
    for (w_id, d_id, o_id, number), row in loaded.rows(ORDER_LINE):
        order = orders[w_id, d_id, o_id]
        counted[w_id, d_id, o_id] += 1
        assert 1 <= number <= order["o_ol_cnt"]
        assert 1 <= row["ol_i_id"] <= 1_000
        assert row["ol_supply_w_id"] == w_id
        assert row["ol_quantity"] == 5
        assert len(row["ol_dist_info"]) == 24
        if o_id <= 21:
            assert row["ol_delivery_d"] == order["o_entry_d"] > 0
            assert row["ol_amount"] == 0
        else:
            assert row["ol_delivery_d"] == 0
            assert 1 <= row["ol_amount"] <= 9_999_99
    assert counted == {key: row["o_ol_cnt"] for key, row in orders.items()}


def test_items_and_stock(loaded: World) -> None:
    for _, row in loaded.rows(ITEM):
        assert 1_00 <= row["i_price"] <= 100_00
        assert 14 <= len(row["i_name"]) <= 24
        assert 1 <= row["i_im_id"] <= 10_000
    for _, row in loaded.rows(STOCK):
        assert 10 <= row.pop("s_quantity") <= 100
        assert set(row.values()) == {0}
    for d_id in range(1, DISTRICTS + 1):
        dist = texts(loaded.rows(STOCK_INFO), f"s_dist_{d_id:02}")
        assert len(set(dist)) == len(dist)
        assert all(len(letters) == 24 and letters.isalpha() for letters in dist)
    for table, field in ((ITEM, "i_data"), (STOCK_INFO, "s_data")):
        data = texts(loaded.rows(table), field)
        assert all(26 <= len(text) <= 50 for text in data)
        assert 0.06 < sum(b"ORIGINAL" in text for text in data) / len(data) < 0.14


def test_the_same_seed_loads_the_same_rows() -> None:
    with world(1, seed=3) as one, world(1, seed=3) as same, world(1, seed=4) as other:
        for table in (CUSTOMER_DATA, ITEM, STOCK_INFO, CUSTOMER_NAME, ORDER_BY_CUSTOMER):
            assert one.rows(table) == same.rows(table)
            assert one.rows(table) != other.rows(table)


def test_a_first_name_that_the_index_could_not_order_is_drawn_again(loaded: World) -> None:
    """An entry that begins alike is there first: the customer gets another name, the rest none."""
    taken = next(key for key, _ in loaded.rows(CUSTOMER_NAME) if key[:2] == (2, 3))
    *prefix, c_id = taken
    with mako.open(":memory:", memory="256MiB") as db:
        db.create(*TABLES)
        names = db.table(CUSTOMER_NAME)
        names.put((*prefix, 5000), {})
        db.run(load_customers, 2, 3, 1, CUSTOMERS + 1, 10, 1, 7)
        keys = [key for key, _ in names.scan()]
        first_names = {key[2]: row["c_first"] for key, row in db.table(CUSTOMER).scan()}
    assert taken not in keys
    assert sorted(key[-1] for key in keys) == [*range(1, CUSTOMERS + 1), 5000]
    before = {key[2]: row["c_first"] for key, row in loaded.rows(CUSTOMER) if key[:2] == (2, 3)}
    assert {number for number in before if before[number] != first_names[number]} == {c_id}
    assert 8 <= len(first_names[c_id]) <= 16


def test_first_names_are_letters_and_digits(loaded: World) -> None:
    names = texts(loaded.rows(CUSTOMER), "c_first")
    assert set(b"".join(names)) == set(string.ascii_letters.encode() + string.digits.encode())
    assert {len(name) for name in names} == set(range(8, 17))
