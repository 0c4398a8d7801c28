"""The initial population, clause 4.3.3.1: procedures that insert a range of rows each.

Every row is drawn from a generator seeded by (seed, table, place, number), so the rows depend
on the seed alone. `now` is the time of the load, the same for all rows.
"""

from typing import Any, Final

import mako
from bench.tpcc.random import (
    A_LAST,
    C_LAST_LOAD,
    nurand,
    pack_text,
    permuted,
    pick,
    put_data,
    put_digits,
    put_last_name,
    put_letters,
    put_text,
    seeded,
    step,
)
from bench.tpcc.schema import (
    CUSTOMER,
    CUSTOMER_BALANCE,
    CUSTOMER_DATA,
    CUSTOMER_NAME,
    DISTRICT,
    DISTRICT_NEXT,
    DISTRICT_YTD,
    DISTRICTS,
    HISTORY,
    ITEM,
    LINES_MAX,
    LINES_MIN,
    NEW_ORDER,
    ORDER,
    ORDER_BY_CUSTOMER,
    ORDER_LINE,
    STOCK,
    STOCK_INFO,
    WAREHOUSE,
    WAREHOUSE_YTD,
)

#: Worker number of the load in HISTORY's key; real workers count from 1.
LOADER: Final = 0

_CREDIT_LIMIT: Final = 50_000_00
_FIRST_PAYMENT: Final = 10_00
_TAX_MAX: Final = 2_000  # 20 %
_DISCOUNT_MAX: Final = 5_000
_AMOUNT_MAX: Final = 9_999_99
_QUANTITY: Final = 5
_FIRST_NAME: Final = 16  # Bytes of C_FIRST.

# Which generator: one for each kind of rows drawn together.
_ITEMS: Final = 1
_WAREHOUSES: Final = 2
_STOCKS: Final = 3
_DISTRICTS: Final = 4
_CUSTOMERS: Final = 5
_ORDERS: Final = 6
_PERMUTATIONS: Final = 7


@mako.function
def _place(w_id: int, d_id: int) -> int:
    return w_id * 32 + d_id


@mako.procedure
def load_items(tx: Any, first: int, end: int, seed: int) -> int:
    """Items `first` to `end` - 1."""
    for i_id in range(first, end):
        x = step(seeded(seed, _ITEMS, 0, i_id))
        item = tx.insert(ITEM, (i_id,))
        item.i_im_id = pick(x, 1, 10_000)
        x = step(x)
        item.i_price = pick(x, 1_00, 100_00)
        x = put_text(item.i_name, 14, 24, x)
        put_data(item.i_data, x)
    return end - first


@mako.procedure(home=(WAREHOUSE, "w_id"))
def load_warehouse(tx: Any, w_id: int, customers: int, seed: int) -> int:
    """A warehouse and its districts of `customers` each, who have paid once and ordered once."""
    x = step(seeded(seed, _WAREHOUSES, w_id, 0))
    warehouse = tx.insert(WAREHOUSE, (w_id,))
    warehouse.w_tax = pick(x, 0, _TAX_MAX)
    x = put_text(warehouse.w_name, 6, 10, x)
    x = put_text(warehouse.w_street_1, 10, 20, x)
    x = put_text(warehouse.w_street_2, 10, 20, x)
    x = put_text(warehouse.w_city, 10, 20, x)
    x = put_letters(warehouse.w_state, 0, 2, x)
    _put_zip(warehouse.w_zip, x)
    ytd = tx.insert(WAREHOUSE_YTD, (w_id,))
    ytd.w_ytd = DISTRICTS * customers * _FIRST_PAYMENT
    for d_id in range(1, DISTRICTS + 1):
        _load_district(tx, w_id, d_id, customers, seed)
    return 1 + DISTRICTS


@mako.function
def _load_district(tx: Any, w_id: int, d_id: int, customers: int, seed: int) -> None:
    x = step(seeded(seed, _DISTRICTS, w_id, d_id))
    following = tx.insert(DISTRICT_NEXT, (w_id, d_id))
    following.d_next_o_id = customers + 1
    following.d_tax = pick(x, 0, _TAX_MAX)
    district = tx.insert(DISTRICT, (w_id, d_id))
    x = put_text(district.d_name, 6, 10, x)
    x = put_text(district.d_street_1, 10, 20, x)
    x = put_text(district.d_street_2, 10, 20, x)
    x = put_text(district.d_city, 10, 20, x)
    x = put_letters(district.d_state, 0, 2, x)
    _put_zip(district.d_zip, x)
    ytd = tx.insert(DISTRICT_YTD, (w_id, d_id))
    ytd.d_ytd = customers * _FIRST_PAYMENT


@mako.function
def _put_zip(text: Any, x: int) -> int:
    """Four random digits and 11111 (clause 4.3.2.7)."""
    x = put_digits(text, 0, 4, x)
    for at in range(4, 9):
        text[at] = 49
    return x


@mako.procedure(home=(WAREHOUSE, "w_id"))
def load_stock(tx: Any, w_id: int, first: int, end: int, seed: int) -> int:
    """Stock of the items `first` to `end` - 1."""
    for i_id in range(first, end):
        x = step(seeded(seed, _STOCKS, w_id, i_id))
        stock = tx.insert(STOCK, (w_id, i_id))
        stock.s_quantity = pick(x, 10, 100)
        info = tx.insert(STOCK_INFO, (w_id, i_id))
        x = _put_dist(info, x)
        put_data(info.s_data, x)
    return end - first


@mako.function
def _put_dist(info: Any, x: int) -> int:
    """S_DIST_01 to S_DIST_10."""
    x = put_letters(info.s_dist_01, 0, 24, x)
    x = put_letters(info.s_dist_02, 0, 24, x)
    x = put_letters(info.s_dist_03, 0, 24, x)
    x = put_letters(info.s_dist_04, 0, 24, x)
    x = put_letters(info.s_dist_05, 0, 24, x)
    x = put_letters(info.s_dist_06, 0, 24, x)
    x = put_letters(info.s_dist_07, 0, 24, x)
    x = put_letters(info.s_dist_08, 0, 24, x)
    x = put_letters(info.s_dist_09, 0, 24, x)
    following: int = put_letters(info.s_dist_10, 0, 24, x)
    return following


@mako.procedure(home=(WAREHOUSE, "w_id"))
def load_customers(
    tx: Any, w_id: int, d_id: int, first: int, end: int, names: int, now: int, seed: int
) -> int:
    """Customers `first` to `end` - 1 of a district, each with one payment in HISTORY."""
    for c_id in range(first, end):
        x = step(seeded(seed, _CUSTOMERS, _place(w_id, d_id), c_id))
        # Every name occurs: the first customers take one each, the others by NURand.
        last = c_id - 1
        if c_id > names:
            any_0_to_a = pick(x, 0, A_LAST)
            x = step(x)
            last = nurand(any_0_to_a, pick(x, 0, names - 1), C_LAST_LOAD, 0, names - 1)
        x = _load_customer(tx, (w_id, d_id, c_id), last, now, x)
        balance = tx.insert(CUSTOMER_BALANCE, (w_id, d_id, c_id))
        balance.c_balance = -_FIRST_PAYMENT
        balance.c_ytd_payment = _FIRST_PAYMENT
        balance.c_payment_cnt = 1
        data = tx.insert(CUSTOMER_DATA, (w_id, d_id, c_id))
        x = put_text(data.c_data, 300, 500, x)
        history = tx.insert(HISTORY, (w_id, d_id, LOADER, c_id))
        history.h_date = now
        history.h_amount = _FIRST_PAYMENT
        history.h_c_id = c_id
        history.h_w_id = w_id
        history.h_d_id = d_id
        put_text(history.h_data, 12, 24, x)
    return end - first


@mako.function
def _load_customer(tx: Any, key: Any, last: int, now: int, x: int) -> int:
    """The columns that never change, and the entry in the index by name."""
    w_id, d_id, c_id = key
    customer = tx.insert(CUSTOMER, (w_id, d_id, c_id))
    customer.c_since = now
    customer.c_credit_lim = _CREDIT_LIMIT
    x = step(x)
    customer.c_discount = pick(x, 0, _DISCOUNT_MAX)
    x = step(x)
    if pick(x, 1, 10) == 1:
        customer.c_credit = b"BC"
    else:
        customer.c_credit = b"GC"
    put_last_name(customer.c_last, last)
    customer.c_middle = b"OE"
    x = _put_first_name(tx, customer.c_first, (w_id, d_id, c_id), last, x)
    x = put_text(customer.c_street_1, 10, 20, x)
    x = put_text(customer.c_street_2, 10, 20, x)
    x = put_text(customer.c_city, 10, 20, x)
    x = put_letters(customer.c_state, 0, 2, x)
    x = _put_zip(customer.c_zip, x)
    following: int = put_digits(customer.c_phone, 0, 16, x)
    return following


@mako.function
def _put_first_name(tx: Any, c_first: Any, key: Any, last: int, x: int) -> int:
    """Draw C_FIRST and enter it in the index by name. Return the next state.

    It is drawn again if the index could not tell it from that of a namesake.
    """
    w_id, d_id, c_id = key
    namesakes = 1
    first_5 = 0
    first_13 = 0
    while namesakes > 0:
        for at in range(_FIRST_NAME):
            c_first[at] = 0
        x = put_text(c_first, 8, _FIRST_NAME, x)
        first_5 = pack_text(c_first, 0, 5)
        first_13 = pack_text(c_first, 5, 13)
        low = (w_id, d_id, last, first_5, first_13, 0)
        end = (w_id, d_id, last, first_5, first_13 + 1, 0)
        namesakes = tx.scan(CUSTOMER_NAME, low, end, 1).count
    tx.insert(CUSTOMER_NAME, (w_id, d_id, last, first_5, first_13, c_id))
    return x


@mako.procedure(home=(WAREHOUSE, "w_id"))
def load_orders(
    tx: Any,
    w_id: int,
    d_id: int,
    first: int,
    end: int,
    orders: int,
    delivered: int,
    items: int,
    now: int,
    seed: int,
) -> int:
    """Orders `first` to `end` - 1 of a district, with their lines. Returns how many lines.

    There are as many customers as `orders`, and each has one of them, in an order by chance.
    Those up to `delivered` have been.
    """
    lines = 0
    shuffle = seeded(seed, _PERMUTATIONS, w_id, d_id)
    for o_id in range(first, end):
        x = step(seeded(seed, _ORDERS, _place(w_id, d_id), o_id))
        c_id = permuted(o_id - 1, orders, shuffle) + 1
        order = tx.insert(ORDER, (w_id, d_id, o_id))
        order.o_entry_d = now
        order.o_c_id = c_id
        order.o_ol_cnt = pick(x, LINES_MIN, LINES_MAX)
        order.o_all_local = 1
        tx.insert(ORDER_BY_CUSTOMER, (w_id, d_id, c_id, o_id))
        if o_id <= delivered:
            x = step(x)
            order.o_carrier_id = pick(x, 1, 10)
        else:
            tx.insert(NEW_ORDER, (w_id, d_id, o_id))
        for number in range(1, order.o_ol_cnt + 1):
            line = tx.insert(ORDER_LINE, (w_id, d_id, o_id, number))
            x = step(x)
            line.ol_i_id = pick(x, 1, items)
            line.ol_supply_w_id = w_id
            line.ol_quantity = _QUANTITY
            if o_id <= delivered:
                line.ol_delivery_d = now
            else:
                x = step(x)
                line.ol_amount = pick(x, 1, _AMOUNT_MAX)
            x = put_letters(line.ol_dist_info, 0, 24, x)
        lines += order.o_ol_cnt
    return lines
