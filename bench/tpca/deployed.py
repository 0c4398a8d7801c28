"""TPC-A as a cluster deploys it: `procedures: [bench.tpca.deployed]` in its configuration.

Both profiles: the workloads, the transactions that terminals call, what fills and checks tables.
"""

from typing import Final

import mako
from bench.tpca.conditions import accounts_match, balances_match, tellers_match
from bench.tpca.janus import PARTED, load_janus, pay_three, sum_branches, sum_customers, sum_tellers
from bench.tpca.janus import WORKLOAD as JANUS
from bench.tpca.spec import WORKLOAD, debit_credit, load_accounts, load_branch

__all__ = [
    "AT_SNAPSHOT",
    "JANUS",
    "PARTED",
    "WORKLOAD",
    "debit_credit",
    "load_accounts",
    "load_branch",
    "load_janus",
    "pay_three",
]

AT_SNAPSHOT: Final[tuple[mako.Procedure, ...]] = (
    tellers_match,
    balances_match,
    accounts_match,
    sum_branches,
    sum_tellers,
    sum_customers,
)
