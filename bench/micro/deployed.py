"""The micro-benchmark as a cluster deploys it: `procedures: [bench.micro.deployed]`.

The workloads, the transaction that terminals call, what fills and checks the table.
"""

from typing import Final

import mako
from bench.micro.workload import (
    PARTED,
    WORKLOAD,
    load_records,
    sum_values,
    sum_writes,
    touch_records,
)

__all__ = ["AT_SNAPSHOT", "PARTED", "WORKLOAD", "load_records", "touch_records"]

AT_SNAPSHOT: Final[tuple[mako.Procedure, ...]] = (sum_values, sum_writes)
