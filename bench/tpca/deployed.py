"""TPC-A as a cluster deploys it: `procedures: [bench.tpca.deployed]` in its configuration.

The profile spec: the workload, the transaction that terminals call, what fills and checks tables.
"""

from typing import Final

import mako
from bench.tpca.conditions import accounts_match, balances_match, tellers_match
from bench.tpca.spec import WORKLOAD, debit_credit, load_accounts, load_branch

__all__ = ["AT_SNAPSHOT", "WORKLOAD", "debit_credit", "load_accounts", "load_branch"]

AT_SNAPSHOT: Final[tuple[mako.Procedure, ...]] = (tellers_match, balances_match, accounts_match)
