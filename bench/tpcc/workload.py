"""TPC-C as a workload that `db.drive` runs inside the engine's workers."""

from typing import Any, Final

import mako
from bench.options import REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT, TPCC_KINDS
from bench.tpcc.delivery import delivery
from bench.tpcc.inputs import (
    DELIVERY_KIND,
    NEW_ORDER_KIND,
    ORDER_STATUS_KIND,
    PARTED_KINDS,
    PAYMENT_KIND,
    SPREAD,
    STATE,
    generate,
    generate_parted,
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
#: On a cluster of several partitions.
PARTED: Final = mako.Workload(
    "tpcc_parted", kinds=PARTED_KINDS, state=STATE, generate=generate_parted, execute=execute
)


def first_state(
    worker: int,
    *,
    workers: int,
    warehouses: int,
    scale: Scale,
    mix: tuple[int, ...] | None,
    history_number: int,
    remote: tuple[int, int] = (REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT),
) -> dict[str, Any]:
    """State of worker 0, 1, … before its first transaction.

    The warehouses are dealt out among the workers; if there are too few, several workers share
    one. `history_number` is greater than that of any row of HISTORY which the worker wrote;
    `remote`: how many of a hundred lines, and payments, are for another warehouse.
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
        "remote_item_pct": remote[0],
        "remote_payment_pct": remote[1],
        "home": first,
        "item_shift": spread_shift(scale.items),
        "customer_shift": spread_shift(scale.customers),
        "name_shift": spread_shift(scale.names),
        "weights": mix or (0,) * len(TPCC_KINDS),
        "history_number": history_number,
    }


def in_partition(state: dict[str, Any], *, place: int, block: int, workers: int) -> dict[str, Any]:
    """The state of a worker of the leader of partition `place`, which has the next `block` of
    warehouses, from that of a worker of a database that has these alone."""
    before = place * block
    return state | {
        "worker": place * workers + state["worker"],
        "home_first": before + state["home_first"],
        "home_last": before + block,
        "home": before + state["home"],
        "block": block,
    }


def spread_shift(count: int) -> int:
    """The audit counts numbers below `count` in ranges of 1 << shift of them each."""
    shift = 0
    while count - 1 >> shift >= SPREAD:
        shift += 1
    return shift
