"""The stock-level transaction, clause 2.8."""

from typing import Any, Final

import mako
from bench.tpcc.inputs import RECENT_LINES_MAX, RECENT_ORDERS
from bench.tpcc.schema import DISTRICT_NEXT, ORDER_LINE, STOCK

#: Rows of STOCK that are asked for before they are read.
_AHEAD: Final = 12


@mako.function
def stock_level(tx: Any, state: Any) -> None:
    """Count the items of a district's last 20 orders of which little is left (clause 2.8.2.2).

    An item that was ordered several times counts once.
    """
    w_id = state.w_id
    d_id = state.d_id
    threshold = state.threshold
    district = tx.read(DISTRICT_NEXT, (w_id, d_id))
    end = district.d_next_o_id
    first = max(end - RECENT_ORDERS, 1)
    lines = tx.scan(ORDER_LINE, (w_id, d_id, first, 0), (w_id, d_id, end, 0), RECENT_LINES_MAX)
    count = 0
    for at in range(min(_AHEAD, lines.count)):
        tx.prefetch(STOCK, (w_id, lines.row(at).ol_i_id))
    for at in range(lines.count):
        if at + _AHEAD < lines.count:
            tx.prefetch(STOCK, (w_id, lines.row(at + _AHEAD).ol_i_id))
        i_id = lines.row(at).ol_i_id
        stock = tx.read(STOCK, (w_id, i_id))
        # Few are low, so it is these that are remembered, not all that were met.
        if stock.s_quantity < threshold:
            seen = 0
            while seen < count and state.low_items[seen] != i_id:
                seen += 1
            if seen == count:
                state.low_items[count] = i_id
                count += 1
    state.a_low_stock = count
