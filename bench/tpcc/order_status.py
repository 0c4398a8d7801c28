"""The order-status transaction, clause 2.6."""

from typing import Any

import mako
from bench.tpcc.customers import customer_named
from bench.tpcc.inputs import BY_ID
from bench.tpcc.schema import (
    CUSTOMER,
    CUSTOMER_BALANCE,
    LINES_MAX,
    ORDER,
    ORDER_BY_CUSTOMER,
    ORDER_LINE,
)


@mako.function
def order_status(tx: Any, state: Any) -> None:
    """Look up the newest order of a customer and its lines (clause 2.6.2.2)."""
    w_id = state.w_id
    d_id = state.d_id
    c_id = state.c_id
    if state.c_last != BY_ID:
        c_id = customer_named(tx, w_id, d_id, state.c_last)
    # What is known by now is asked for before anything of it is read: it may all be cold.
    tx.prefetch(CUSTOMER, (w_id, d_id, c_id))
    tx.prefetch(CUSTOMER_BALANCE, (w_id, d_id, c_id))
    newest = tx.scan_back(ORDER_BY_CUSTOMER, (w_id, d_id, c_id, 0), (w_id, d_id, c_id + 1, 0), 1)
    if newest.count == 0:
        raise ValueError("every customer has an order")
    o_id = newest.key(0).o_id
    tx.prefetch(ORDER, (w_id, d_id, o_id))
    tx.prefetch(ORDER_LINE, (w_id, d_id, o_id, 1))
    # C_FIRST, C_MIDDLE and C_LAST are retrieved with the row.
    tx.read(CUSTOMER, (w_id, d_id, c_id))
    balance = tx.read(CUSTOMER_BALANCE, (w_id, d_id, c_id))
    state.a_balance = balance.c_balance
    order = tx.read(ORDER, (w_id, d_id, o_id))
    state.a_o_id = o_id
    state.a_entry_d = order.o_entry_d
    state.a_carrier_id = order.o_carrier_id
    lines = tx.scan(ORDER_LINE, (w_id, d_id, o_id, 0), (w_id, d_id, o_id + 1, 0), LINES_MAX)
    for at in range(lines.count):
        line = lines.row(at)
        state.a_i_id[at] = line.ol_i_id
        state.a_supply_w_id[at] = line.ol_supply_w_id
        state.a_quantity[at] = line.ol_quantity
        state.a_amount[at] = line.ol_amount
        state.a_date[at] = line.ol_delivery_d
