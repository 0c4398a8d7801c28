"""TPC-C's transactions as procedures: what a remote terminal calls, with its inputs as arguments.

They run the functions that compiled workers run. Those find their inputs in, and leave their
answers to, the state of a worker; here it is a row that the transaction inserts and deletes again,
so that it leaves nothing behind, neither in the table nor in the log.
"""

from collections.abc import Iterable
from typing import Any, Final

import mako
from bench.tpcc.delivery import delivery
from bench.tpcc.inputs import STATE
from bench.tpcc.new_order import new_order
from bench.tpcc.order_status import order_status
from bench.tpcc.payment import payment
from bench.tpcc.schema import DISTRICTS, WAREHOUSE
from bench.tpcc.stock_level import stock_level

#: Most terminals that call at a time: each has a row of its own.
TERMINALS_MAX: Final = 10_000


def _fields(names: Iterable[str]) -> dict[str, str]:
    known = {item.name: item.code for item in STATE.fields}
    return {name: known[name] for name in names}


#: Fields of a worker's state that are too large for a row, or that no transaction touches.
_LARGE: Final = {"decks", "undelivered", "low_items", "weights", "block"}
SCRATCH: Final = mako.Table(
    "terminal",
    id=90,
    key={"caller": 32},
    row=_fields(
        item.name
        for item in STATE.fields
        if item.name not in _LARGE and not item.name.startswith("n_")
    ),
)
#: Of a delivery: it knows the first undelivered orders of one warehouse.
DELIVERY_SCRATCH: Final = mako.Table(
    "terminal_delivery",
    id=91,
    key={"caller": 32},
    row=_fields(("w_id", "home_first", "home_step", "o_carrier_id"))
    | _fields(("a_delivered", "delivered_to", "a_skipped"))
    | {"undelivered": f"u4*{DISTRICTS}"},
)
#: Of a stock level: it remembers the items that it has counted.
STOCK_SCRATCH: Final = mako.Table(
    "terminal_stock",
    id=92,
    key={"caller": 32},
    row=_fields(("w_id", "d_id", "threshold", "low_items", "a_low_stock")),
)

_LINE_BITS: Final = 24
_LINE_MASK: Final = (1 << _LINE_BITS) - 1


@mako.procedure(home=(WAREHOUSE, "w_id"))
def enter_order(
    tx: Any,
    terminal: int,
    w_id: int,
    d_id: int,
    c_id: int,
    all_local: int,
    count: int,
    l_1: int,
    l_2: int,
    l_3: int,
    l_4: int,
    l_5: int,
    l_6: int,
    l_7: int,
    l_8: int,
    l_9: int,
    l_10: int,
    l_11: int,
    l_12: int,
    l_13: int,
    l_14: int,
    l_15: int,
) -> int:
    """New order (clause 2.4) from a terminal; its number. A line is packed by `line_of`."""
    lines = (l_1, l_2, l_3, l_4, l_5, l_6, l_7, l_8, l_9, l_10, l_11, l_12, l_13, l_14, l_15)
    state = tx.insert(SCRATCH, (terminal,))
    state.w_id = w_id
    state.d_id = d_id
    state.c_id = c_id
    state.all_local = all_local
    state.ol_cnt = count
    for at in range(count):
        line = lines[at]
        state.i_id[at] = line & _LINE_MASK
        state.supply_w_id[at] = line >> _LINE_BITS & _LINE_MASK
        state.quantity[at] = line >> 2 * _LINE_BITS
    new_order(tx, state)
    o_id: int = state.a_o_id
    tx.delete(SCRATCH, (terminal,))
    return o_id


@mako.procedure(home=(WAREHOUSE, "w_id"))
def pay(
    tx: Any,
    terminal: int,
    writer: int,
    w_id: int,
    d_id: int,
    c_id: int,
    c_w_id: int,
    c_d_id: int,
    c_last: int,
    h_amount: int,
    history_number: int,
) -> int:
    """Payment (clause 2.5) from a terminal; `writer` and `history_number` are of no other row."""
    state = tx.insert(SCRATCH, (terminal,))
    state.worker = writer
    state.w_id = w_id
    state.d_id = d_id
    state.c_id = c_id
    state.c_w_id = c_w_id
    state.c_d_id = c_d_id
    state.c_last = c_last
    state.h_amount = h_amount
    state.history_number = history_number
    payment(tx, state)
    tx.delete(SCRATCH, (terminal,))
    return 1


@mako.procedure(home=(WAREHOUSE, "w_id"))
def look_up_order(tx: Any, terminal: int, w_id: int, d_id: int, c_id: int, c_last: int) -> int:
    """Order status (clause 2.6) from a terminal; the number of the customer's newest order."""
    state = tx.insert(SCRATCH, (terminal,))
    state.w_id = w_id
    state.d_id = d_id
    state.c_id = c_id
    state.c_last = c_last
    order_status(tx, state)
    o_id: int = state.a_o_id
    tx.delete(SCRATCH, (terminal,))
    return o_id


@mako.procedure(home=(WAREHOUSE, "w_id"))
def deliver(tx: Any, terminal: int, w_id: int, o_carrier_id: int) -> int:
    """Delivery (clause 2.7) from a terminal; how many districts had no order to deliver."""
    state = tx.insert(DELIVERY_SCRATCH, (terminal,))
    state.w_id = w_id
    state.home_first = w_id
    state.home_step = 1
    state.o_carrier_id = o_carrier_id
    delivery(tx, state)
    skipped: int = state.a_skipped
    tx.delete(DELIVERY_SCRATCH, (terminal,))
    return skipped


@mako.procedure(home=(WAREHOUSE, "w_id"))
def count_low_stock(tx: Any, terminal: int, w_id: int, d_id: int, threshold: int) -> int:
    """Stock level (clause 2.8) from a terminal; how many items are low."""
    state = tx.insert(STOCK_SCRATCH, (terminal,))
    state.w_id = w_id
    state.d_id = d_id
    state.threshold = threshold
    stock_level(tx, state)
    low: int = state.a_low_stock
    tx.delete(STOCK_SCRATCH, (terminal,))
    return low


def line_of(i_id: int, supply_w_id: int, quantity: int) -> int:
    """A line of an order as one argument of `enter_order`."""
    return i_id | supply_w_id << _LINE_BITS | quantity << 2 * _LINE_BITS
