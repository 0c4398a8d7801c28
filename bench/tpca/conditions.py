"""The consistency conditions of the specification's profile, as procedures run at a snapshot."""

from typing import Any, Final

import mako
from bench.tpca.spec import ACCOUNT, BLOCK, BLOCK_BITS, BRANCH, HISTORY, TELLER, TELLERS

#: Balances of branches or tellers that are summed up in one pass over HISTORY. Accounts are
#: taken by block, whose rows of HISTORY are together.
SUMS_MAX: Final = 8_000
SUMS: Final = mako.Row({"money": f"i8*{SUMS_MAX}"}, name="sums of history")
assert BLOCK <= SUMS_MAX

_CHUNK: Final = 4096
_BLOCK_END: Final = (1 << BLOCK_BITS) - 1

#: Whose balances `balances_match` compares.
OF_BRANCHES: Final = 0
OF_TELLERS: Final = 1
OF_ACCOUNTS: Final = 2


@mako.procedure
def tellers_match(tx: Any, first_b_id: int, end_b_id: int) -> int:
    """How many branches have a balance other than the sum of their tellers'."""
    violations = 0
    for b_id in range(first_b_id, end_b_id):
        total = 0
        for number in range(1, TELLERS + 1):
            teller = tx.read(TELLER, ((b_id - 1) * TELLERS + number,))
            total += teller.t_balance
        branch = tx.read(BRANCH, (b_id,))
        if branch.b_balance != total:
            violations += 1
    return violations


@mako.procedure
def balances_match(tx: Any, kind: int, first: int, end: int, out: Any) -> int:
    """How many of the branches, tellers or accounts `first` to `end` - 1 differ from HISTORY.

    Accounts must be of one block. `out` is SUMS, all zero.
    """
    first_block = 0
    end_block = _BLOCK_END
    if kind == OF_ACCOUNTS:
        first_block = first // BLOCK
        end_block = first_block + 1
    _sum_history(tx, kind, (first, end), (first_block, end_block), out)
    violations = 0
    for number in range(first, end):
        if _balance(tx, kind, number) != out.money[number - first]:
            violations += 1
    return violations


@mako.procedure
def accounts_match(tx: Any, branches: int, accounts: int) -> int:
    """1 if the sum of all accounts differs from the sum of all branches."""
    total = 0
    for a_id in range(1, branches * accounts + 1):
        total += _balance(tx, OF_ACCOUNTS, a_id)
    for b_id in range(1, branches + 1):
        total -= _balance(tx, OF_BRANCHES, b_id)
    return 1 if total != 0 else 0


@mako.function
def _balance(tx: Any, kind: int, number: int) -> int:
    balance: int
    if kind == OF_BRANCHES:
        balance = tx.read(BRANCH, (number,)).b_balance
    elif kind == OF_TELLERS:
        balance = tx.read(TELLER, (number,)).t_balance
    else:
        balance = tx.read(ACCOUNT, (number,)).a_balance
    return balance


@mako.function
def _sum_history(tx: Any, kind: int, numbers: Any, blocks: Any, out: Any) -> None:
    """Add up the deltas of HISTORY in `blocks` for each of the `numbers`, both [first, end)."""
    first, end = numbers
    key = (blocks[0], 0, 0)
    more = True
    while more:
        rows = tx.scan(HISTORY, key, (blocks[1], 0, 0), _CHUNK)
        for at in range(rows.count):
            history = rows.row(at)
            number = history.h_a_id
            if kind == OF_BRANCHES:
                number = history.h_b_id
            elif kind == OF_TELLERS:
                number = history.h_t_id
            if first <= number < end:
                out.money[number - first] += history.h_delta
        more = rows.count == _CHUNK
        if more:
            last = rows.key(_CHUNK - 1)
            key = (last.h_a_block, last.h_worker, last.h_number + 1)
