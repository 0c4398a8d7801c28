"""TPC-C as a cluster deploys it: `procedures: [bench.tpcc.deployed]` in its configuration.

The workload, the transactions that terminals call, what fills the tables, and what checks them.
"""

from typing import Final

import mako
from bench.tpcc.calls import (
    count_low_stock,
    deliver,
    enter_order,
    look_up_order,
    pay,
)
from bench.tpcc.conditions import add_payments
from bench.tpcc.consistency import AFTER_LOAD, AFTER_RUN
from bench.tpcc.lookup import find_orders, find_payments
from bench.tpcc.population import (
    load_customers,
    load_items,
    load_orders,
    load_stock,
    load_warehouse,
)
from bench.tpcc.workload import PARTED, WORKLOAD

__all__ = [
    "AT_SNAPSHOT",
    "PARTED",
    "WORKLOAD",
    "count_low_stock",
    "deliver",
    "enter_order",
    "load_customers",
    "load_items",
    "load_orders",
    "load_stock",
    "load_warehouse",
    "look_up_order",
    "pay",
]

#: The conditions of clause 3.3.2, and what finds what was acknowledged.
AT_SNAPSHOT: Final[tuple[mako.Procedure, ...]] = (
    *(condition.procedure for condition in (*AFTER_LOAD, *AFTER_RUN)),
    add_payments,
    find_orders,
    find_payments,
)
