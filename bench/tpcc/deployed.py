"""TPC-C as a cluster deploys it: `procedures: [bench.tpcc.deployed]` in its configuration.

The workload, what fills the tables, and what checks them.
"""

from typing import Final

import mako
from bench.tpcc.consistency import AFTER_LOAD, AFTER_RUN
from bench.tpcc.population import (
    load_customers,
    load_items,
    load_orders,
    load_stock,
    load_warehouse,
)
from bench.tpcc.terminals import count_orders, enter_order, pay
from bench.tpcc.workload import WORKLOAD

__all__ = [
    "AT_SNAPSHOT",
    "WORKLOAD",
    "count_orders",
    "enter_order",
    "load_customers",
    "load_items",
    "load_orders",
    "load_stock",
    "load_warehouse",
    "pay",
]

#: The conditions of clause 3.3.2.
AT_SNAPSHOT: Final[tuple[mako.Procedure, ...]] = tuple(
    condition.procedure for condition in (*AFTER_LOAD, *AFTER_RUN)
)
