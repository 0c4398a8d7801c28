"""TPC-A as Mako and Janus have it: three tables of equal size, three increments, no history.

The keys of branch, teller and customer are drawn independently of each other, uniformly or by
popularity, and one amount from 0 to 10 000 is added to each balance. So the three tables must
have the same sum at every moment.
"""

from typing import Any, Final

import mako
from bench.distribution import FIELDS, draw_key

AMOUNT_MAX: Final = 10_000

BRANCH: Final = mako.Table("janus_branch", id=111, key={"b_id": 48}, row={"b_balance": "i8"})
TELLER: Final = mako.Table("janus_teller", id=112, key={"t_id": 48}, row={"t_balance": "i8"})
CUSTOMER: Final = mako.Table("janus_customer", id=113, key={"c_id": 48}, row={"c_balance": "i8"})
TABLES: Final = (BRANCH, TELLER, CUSTOMER)

_CHUNK: Final = 4096

STATE: Final = mako.Row(
    {**FIELDS, "b_id": "i8", "t_id": "i8", "c_id": "i8", "amount": "i8"},
    name="the state of a TPC-A worker",
)


@mako.procedure
def load(tx: Any, first: int, end: int) -> int:
    """Rows `first` to `end` - 1 of each table."""
    for number in range(first, end):
        tx.insert(BRANCH, (number,))
        tx.insert(TELLER, (number,))
        tx.insert(CUSTOMER, (number,))
    return 3 * (end - first)


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw three keys and an amount."""
    state.b_id = draw_key(random, state)
    state.t_id = draw_key(random, state)
    state.c_id = draw_key(random, state)
    state.amount = random.uniform(0, AMOUNT_MAX)
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Add the amount in all three tables."""
    customer = tx.write(CUSTOMER, (state.c_id,))
    customer.c_balance += state.amount
    teller = tx.write(TELLER, (state.t_id,))
    teller.t_balance += state.amount
    branch = tx.write(BRANCH, (state.b_id,))
    branch.b_balance += state.amount


WORKLOAD: Final = mako.Workload(
    "tpca_janus", kinds=("payment",), state=STATE, generate=generate, execute=execute
)


@mako.procedure
def sum_branches(tx: Any, keys: int) -> int:
    """The sum of all balances of branches; so the next two, of their tables."""
    total = 0
    for first in range(0, keys, _CHUNK):
        rows = tx.scan(BRANCH, (first,), (min(first + _CHUNK, keys),), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).b_balance
    return total


@mako.procedure
def sum_tellers(tx: Any, keys: int) -> int:
    total = 0
    for first in range(0, keys, _CHUNK):
        rows = tx.scan(TELLER, (first,), (min(first + _CHUNK, keys),), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).t_balance
    return total


@mako.procedure
def sum_customers(tx: Any, keys: int) -> int:
    total = 0
    for first in range(0, keys, _CHUNK):
        rows = tx.scan(CUSTOMER, (first,), (min(first + _CHUNK, keys),), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).c_balance
    return total
