"""The delivery transaction, clause 2.7."""

from typing import Any

import mako
from bench.tpcc.inputs import first_hint
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
    w_id = state.w_id
    skipped = 0
    hints = first_hint(state)
    # District by district in three rounds, each asking for the rows of the next: what is cold
    # is fetched for all ten side by side.
    for d_id in range(1, DISTRICTS + 1):
        first = 0
        if hints >= 0:
            first = state.undelivered[hints + d_id - 1]
        o_id = _take_oldest(tx, w_id, d_id, first)
        state.a_delivered[d_id - 1] = o_id
        if o_id == 0:
            skipped += 1
        else:
            tx.prefetch(ORDER, (w_id, d_id, o_id))
            tx.prefetch(ORDER_LINE, (w_id, d_id, o_id, 1))
    state.a_skipped = skipped
    for d_id in range(1, DISTRICTS + 1):
        o_id = state.a_delivered[d_id - 1]
        if o_id != 0:
            order = tx.write(ORDER, (w_id, d_id, o_id))
            order.o_carrier_id = state.o_carrier_id
            state.delivered_to[d_id - 1] = order.o_c_id
            tx.prefetch(CUSTOMER_BALANCE, (w_id, d_id, order.o_c_id))
    for d_id in range(1, DISTRICTS + 1):
        o_id = state.a_delivered[d_id - 1]
        if o_id != 0:
            total = _deliver_lines(tx, w_id, d_id, o_id)
            balance = tx.write(CUSTOMER_BALANCE, (w_id, d_id, state.delivered_to[d_id - 1]))
            balance.c_balance += total
            balance.c_delivery_cnt += 1


@mako.function
def _take_oldest(tx: Any, w_id: int, d_id: int, first: int) -> int:
    """Take the oldest order off NEW_ORDER; its number, 0 if all have been delivered.

    Those before `first` have been. Looking for them would find nothing but what is left of
    deleted rows, and a snapshot that is open for long keeps all of these.
    """
    oldest = tx.scan(NEW_ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), 1)
    if oldest.count == 0:
        return 0
    o_id: int = oldest.key(0).o_id
    oldest.delete(0)
    return o_id


@mako.function
def _deliver_lines(tx: Any, w_id: int, d_id: int, o_id: int) -> int:
    """Date the lines of the order; the sum of their amounts."""
    now = tx.now()
    total = 0
    lines = tx.scan(ORDER_LINE, (w_id, d_id, o_id, 0), (w_id, d_id, o_id + 1, 0), LINES_MAX)
    for at in range(lines.count):
        line = lines.write(at)
        line.ol_delivery_d = now
        total += line.ol_amount
    return total
