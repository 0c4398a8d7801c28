"""The delivery transaction, clause 2.7."""

from typing import Any

import mako
from bench.tpcc.schema import (
    CUSTOMER_BALANCE,
    DISTRICTS,
    LINES_MAX,
    NEW_ORDER,
    ORDER,
    ORDER_LINE,
)


@mako.function
def delivery(tx: Any, state: Any) -> None:
    """Deliver the oldest undelivered order of each district of a warehouse (clause 2.7.4.2).

    All ten in one transaction, which the clause allows. A district without one is skipped.
    """
    skipped = 0
    for d_id in range(1, DISTRICTS + 1):
        o_id = _deliver_oldest(tx, state.w_id, d_id, state.o_carrier_id)
        state.a_delivered[d_id - 1] = o_id
        if o_id == 0:
            skipped += 1
    state.a_skipped = skipped


@mako.function
def _deliver_oldest(tx: Any, w_id: int, d_id: int, o_carrier_id: int) -> int:
    """Returns the order that was delivered, 0 if all have been."""
    oldest = tx.scan(NEW_ORDER, (w_id, d_id, 0), (w_id, d_id + 1, 0), 1)
    if oldest.count == 0:
        return 0
    o_id = oldest.key(0).o_id
    oldest.delete(0)
    order = tx.write(ORDER, (w_id, d_id, o_id))
    order.o_carrier_id = o_carrier_id
    now = tx.now()
    total = 0
    lines = tx.scan(ORDER_LINE, (w_id, d_id, o_id, 0), (w_id, d_id, o_id + 1, 0), LINES_MAX)
    for at in range(lines.count):
        line = lines.write(at)
        line.ol_delivery_d = now
        total += line.ol_amount
    balance = tx.write(CUSTOMER_BALANCE, (w_id, d_id, order.o_c_id))
    balance.c_balance += total
    balance.c_delivery_cnt += 1
    return o_id
