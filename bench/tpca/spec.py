"""TPC-A by the specification: schema, population and transaction.

For each unit of scale one BRANCH, ten TELLERs, 100 000 ACCOUNTs, rows of 100 bytes at least, and
a HISTORY of at least 50 bytes a row, which is never read. The transaction adds an amount to an
account, its teller and its branch, tells the new balance of the account, and leaves a row of
history.

A teller is any of the worker's own branches' tellers, and the branch is the teller's. The account
belongs to that branch in 85 of a hundred transactions, else to any other. Note that H_B_ID is
the branch where it happened: sums of accounts by branch differ from the branches' balances.

Balances start at zero, so that every balance is a sum over HISTORY. HISTORY has no primary key;
ours puts the payments of a block of accounts together, so that their sums need little room, and
within it those of a worker in their order.
"""

from typing import Any, Final

import mako
from bench.options import BRANCHES_MAX

TELLERS: Final = 10  #: of a branch
DELTA_MAX: Final = 999_999
_HOME_PCT: Final = 85
BLOCK: Final = 1 << 12  #: accounts
BLOCK_BITS: Final = 20
_WORKER_BITS: Final = 10
#: Workers and terminals are numbered from 1.
WORKERS_MAX: Final = (1 << _WORKER_BITS) - 1

BRANCH: Final = mako.Table(
    "branch", id=101, key={"b_id": 24}, row={"b_balance": "i8", "b_filler": "S92"}
)
TELLER: Final = mako.Table(
    "teller",
    id=102,
    key={"t_id": 32},
    row={"t_balance": "i8", "t_b_id": "u4", "t_filler": "S88"},
)
ACCOUNT: Final = mako.Table(
    "account",
    id=103,
    key={"a_id": 48},
    row={"a_balance": "i8", "a_b_id": "u4", "a_filler": "S88"},
)
HISTORY: Final = mako.Table(
    "account_history",
    id=104,
    key={"h_a_block": BLOCK_BITS, "h_worker": _WORKER_BITS, "h_number": 34},
    row={
        "h_time": "i8",
        "h_a_id": "i8",
        "h_t_id": "u4",
        "h_b_id": "u4",
        "h_delta": "i4",
        "h_filler": "S22",
    },
)
TABLES: Final = (BRANCH, TELLER, ACCOUNT, HISTORY)
#: Branches, tellers and accounts are numbered from 1, the accounts through all branches; so many
#: fit the keys.
ACCOUNTS_MAX: Final = BLOCK * ((1 << BLOCK_BITS) - 1) - 1
assert BRANCHES_MAX < 1 << 24

STATE: Final = mako.Row(
    {
        # Set at the start, never changed.
        "worker": "i4",
        "branches": "i4",
        "accounts": "i4",
        "home_first": "i4",
        "home_step": "i4",
        "home_count": "i4",
        # Inputs.
        "h_number": "i8",
        "b_id": "i4",
        "t_id": "i4",
        "a_id": "i8",
        "delta": "i8",
        # The answer.
        "a_balance": "i8",
        # Counts for the audit.
        "n_transactions": "i8",
        "n_elsewhere": "i8",
    },
    name="the state of a TPC-A worker",
)


@mako.procedure(home=(BRANCH, "b_id"))
def load_branch(tx: Any, b_id: int) -> int:
    """A branch and its tellers."""
    tx.insert(BRANCH, (b_id,))
    for number in range(1, TELLERS + 1):
        teller = tx.insert(TELLER, ((b_id - 1) * TELLERS + number,))
        teller.t_b_id = b_id
    return 1 + TELLERS


@mako.procedure(home=(ACCOUNT, "first"))
def load_accounts(tx: Any, b_id: int, first: int, end: int) -> int:
    """The accounts `first` to `end` - 1, all of one branch."""
    for a_id in range(first, end):
        account = tx.insert(ACCOUNT, (a_id,))
        account.a_b_id = b_id
    return end - first


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw teller, account and amount."""
    b_id = state.home_first + state.home_step * random.uniform(0, state.home_count - 1)
    state.b_id = b_id
    state.t_id = (b_id - 1) * TELLERS + random.uniform(1, TELLERS)
    home = b_id
    state.n_transactions += 1
    if state.branches > 1 and random.uniform(1, 100) > _HOME_PCT:
        home = random.uniform(1, state.branches - 1)
        if home >= b_id:
            home += 1
        state.n_elsewhere += 1
    state.a_id = (home - 1) * state.accounts + random.uniform(1, state.accounts)
    state.delta = random.uniform(-DELTA_MAX, DELTA_MAX)
    state.h_number += 1
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Debit or credit the account that was drawn."""
    state.a_balance = _debit_credit(
        tx, state.worker, state.h_number, state.b_id, state.t_id, state.a_id, state.delta
    )


@mako.procedure(home=(BRANCH, "b_id"))
def debit_credit(
    tx: Any, worker: int, number: int, b_id: int, t_id: int, a_id: int, delta: int
) -> int:
    """The same for a terminal at a distance: the new balance of the account."""
    balance: int = _debit_credit(tx, worker, number, b_id, t_id, a_id, delta)
    return balance


@mako.function
def _debit_credit(
    tx: Any, worker: int, number: int, b_id: int, t_id: int, a_id: int, delta: int
) -> int:
    account = tx.write(ACCOUNT, (a_id,))
    account.a_balance += delta
    balance: int = account.a_balance
    teller = tx.write(TELLER, (t_id,))
    teller.t_balance += delta
    branch = tx.write(BRANCH, (b_id,))
    branch.b_balance += delta
    history = tx.insert(HISTORY, (a_id // BLOCK, worker, number))
    history.h_time = tx.now()
    history.h_a_id = a_id
    history.h_t_id = t_id
    history.h_b_id = b_id
    history.h_delta = delta
    return balance


WORKLOAD: Final = mako.Workload(
    "tpca", kinds=("debit_credit",), state=STATE, generate=generate, execute=execute
)


def first_state(worker: int, *, workers: int, branches: int, accounts: int) -> dict[str, int]:
    """State of worker 0, 1, …: the branches are dealt out, or shared if there are too few."""
    first = worker % branches + 1
    return {
        "worker": worker + 1,
        "branches": branches,
        "accounts": accounts,
        "home_first": first,
        "home_step": workers,
        "home_count": (branches - first) // workers + 1,
    }
