"""The new-order transaction, clause 2.4."""

from typing import Any, Final

import mako
from bench.tpcc.random import has_original
from bench.tpcc.schema import (
    CUSTOMER,
    DISTRICT_NEXT,
    ITEM,
    NEW_ORDER,
    ORDER,
    ORDER_BY_CUSTOMER,
    ORDER_LINE,
    STOCK,
    STOCK_INFO,
    WAREHOUSE,
)

#: Taxes and discounts are in units of 1/10 000.
_UNIT: Final = 10_000
_GENERIC: Final = ord("G")
_BRAND: Final = ord("B")
_DATA: Final = 50


@mako.function
def new_order(tx: Any, state: Any) -> None:
    """Enter an order of 5 to 15 lines (clause 2.4.2.2).

    An item that does not exist rolls it back, after all the other work (clause 2.4.2.3).
    """
    w_id = state.w_id
    d_id = state.d_id
    c_id = state.c_id
    count = state.ol_cnt
    # All rows of the lines are known now: they are fetched side by side, not one by one.
    for line in range(count):
        tx.prefetch(ITEM, (state.i_id[line],))
        tx.prefetch(STOCK, (state.supply_w_id[line], state.i_id[line]))
        tx.prefetch(STOCK_INFO, (state.supply_w_id[line], state.i_id[line]))
    tx.prefetch(CUSTOMER, (w_id, d_id, c_id))
    tx.prefetch(WAREHOUSE, (w_id,))
    tx.prefetch(DISTRICT_NEXT, (w_id, d_id))
    warehouse = tx.read(WAREHOUSE, (w_id,))
    district = tx.write(DISTRICT_NEXT, (w_id, d_id))
    o_id = district.d_next_o_id
    district.d_next_o_id = o_id + 1
    customer = tx.read(CUSTOMER, (w_id, d_id, c_id))

    order = tx.insert(ORDER, (w_id, d_id, o_id))
    order.o_entry_d = tx.now()
    order.o_c_id = c_id
    order.o_ol_cnt = count
    order.o_all_local = state.all_local
    tx.insert(NEW_ORDER, (w_id, d_id, o_id))
    tx.insert(ORDER_BY_CUSTOMER, (w_id, d_id, c_id, o_id))

    total = 0
    for line in range(count):
        total += _enter_line(tx, state, o_id, line)
    taxed = _UNIT + warehouse.w_tax + district.d_tax
    state.a_o_id = o_id
    state.a_total = (total * (_UNIT - customer.c_discount) * taxed + _UNIT * _UNIT // 2) // (
        _UNIT * _UNIT
    )


@mako.function
def _enter_line(tx: Any, state: Any, o_id: int, line: int) -> int:
    """Take the item from stock and insert the order line. Returns OL_AMOUNT."""
    w_id = state.w_id
    d_id = state.d_id
    i_id = state.i_id[line]
    supply_w_id = state.supply_w_id[line]
    quantity = state.quantity[line]

    found, item = tx.find(ITEM, (i_id,))
    if not found:
        tx.rollback()

    stock = tx.write(STOCK, (supply_w_id, i_id))
    if stock.s_quantity >= quantity + 10:
        stock.s_quantity -= quantity
    else:
        stock.s_quantity += 91 - quantity
    stock.s_ytd += quantity
    stock.s_order_cnt += 1
    if supply_w_id != w_id:
        stock.s_remote_cnt += 1

    amount: int = quantity * item.i_price
    info = tx.read(STOCK_INFO, (supply_w_id, i_id))
    order_line = tx.insert(ORDER_LINE, (w_id, d_id, o_id, line + 1))
    order_line.ol_i_id = i_id
    order_line.ol_supply_w_id = supply_w_id
    order_line.ol_quantity = quantity
    order_line.ol_amount = amount
    order_line.ol_dist_info = _dist_info(info, d_id)

    state.a_price[line] = item.i_price
    state.a_stock[line] = stock.s_quantity
    state.a_amount[line] = amount
    state.a_generic[line] = _GENERIC
    if has_original(item.i_data, _DATA) and has_original(info.s_data, _DATA):
        state.a_generic[line] = _BRAND
    return amount


@mako.function
def _dist_info(info: Any, d_id: int) -> Any:
    """S_DIST_xx of district xx."""
    if d_id == 1:
        return info.s_dist_01
    if d_id == 2:
        return info.s_dist_02
    if d_id == 3:
        return info.s_dist_03
    if d_id == 4:
        return info.s_dist_04
    if d_id == 5:
        return info.s_dist_05
    if d_id == 6:
        return info.s_dist_06
    if d_id == 7:
        return info.s_dist_07
    if d_id == 8:
        return info.s_dist_08
    if d_id == 9:
        return info.s_dist_09
    return info.s_dist_10
