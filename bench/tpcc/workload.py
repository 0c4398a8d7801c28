"""TPC-C as a workload that `db.drive` runs inside the engine's workers."""

from typing import Any, Final

import mako
from bench.options import TPCC_KINDS
from bench.tpcc.delivery import delivery
from bench.tpcc.inputs import (
    DELIVERY_KIND,
    NEW_ORDER_KIND,
    ORDER_STATUS_KIND,
    PAYMENT_KIND,
    SPREAD,
    STATE,
    generate,
)
from bench.tpcc.new_order import new_order
from bench.tpcc.order_status import order_status
from bench.tpcc.payment import payment
from bench.tpcc.scale import Scale
from bench.tpcc.stock_level import stock_level


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Run the transaction that `generate` has drawn."""
    if state.kind == NEW_ORDER_KIND:
        new_order(tx, state)
    elif state.kind == PAYMENT_KIND:
        payment(tx, state)
    elif state.kind == ORDER_STATUS_KIND:
        order_status(tx, state)
    elif state.kind == DELIVERY_KIND:
        delivery(tx, state)
    else:
        stock_level(tx, state)


WORKLOAD: Final = mako.Workload(
    "tpcc", kinds=TPCC_KINDS, state=STATE, generate=generate, execute=execute
)


def first_state(
    worker: int,
    *,
    workers: int,
    warehouses: int,
    scale: Scale,
    mix: tuple[int, ...] | None,
    history_number: int,
) -> dict[str, Any]:
    """State of worker 0, 1, … before its first transaction.

    The warehouses are dealt out among the workers; if there are too few, several workers share
    one. `history_number` is greater than that of any row of HISTORY which the worker wrote.
    """
    first = worker % warehouses + 1
    return {
        "worker": worker + 1,
        "warehouses": warehouses,
        "items": scale.items,
        "customers": scale.customers,
        "names": scale.names,
        "home_first": first,
        "home_last": warehouses,
        "home_step": workers,
        "remote_item_pct": 1,
        "remote_payment_pct": 15,
        "home": first,
        "item_shift": spread_shift(scale.items),
        "customer_shift": spread_shift(scale.customers),
        "name_shift": spread_shift(scale.names),
        "weights": mix or (0,) * len(TPCC_KINDS),
        "history_number": history_number,
    }


def spread_shift(count: int) -> int:
    """The audit counts numbers below `count` in ranges of 1 << shift of them each."""
    shift = 0
    while count - 1 >> shift >= SPREAD:
        shift += 1
    return shift
