"""TPC-A as Mako and Janus have it: three tables of equal size, three increments, no history.

The keys of branch, teller and customer are drawn independently of each other, uniformly or by
popularity, and one amount from 0 to 10 000 is added to each balance. So the three tables must
have the same sum at every moment.

On a cluster of several partitions whoever has the branch begins the transaction, and teller and
customer are anywhere: of two partitions all three rows meet in one in a quarter of them.
"""

from typing import Any, Final

import mako
from bench.distribution import FIELDS, draw_key, draw_key_of, place_of
from bench.sides import CROSS

AMOUNT_MAX: Final = 10_000

BRANCH: Final = mako.Table("janus_branch", id=111, key={"b_id": 48}, row={"b_balance": "i8"})
TELLER: Final = mako.Table("janus_teller", id=112, key={"t_id": 48}, row={"t_balance": "i8"})
CUSTOMER: Final = mako.Table("janus_customer", id=113, key={"c_id": 48}, row={"c_balance": "i8"})
TABLES: Final = (BRANCH, TELLER, CUSTOMER)

_CHUNK: Final = 4096

STATE: Final = mako.Row(
    {
        **FIELDS,
        # The partition whose workers begin it.
        "place": "i4",
        "b_id": "i8",
        "t_id": "i8",
        "c_id": "i8",
        "amount": "i8",
        # Counts for the audit.
        "n_transactions": "i8",
        "n_cross": "i8",
    },
    name="the state of a TPC-A worker",
)


@mako.procedure(home=(BRANCH, "first"))
def load_janus(tx: Any, first: int, end: int) -> int:
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
def generate_parted(random: Any, state: Any) -> int:
    """The same with a branch of the worker's own partition; 1: the rows are in several."""
    state.b_id = draw_key_of(random, state, state.place)
    state.t_id = draw_key(random, state)
    state.c_id = draw_key(random, state)
    state.amount = random.uniform(0, AMOUNT_MAX)
    state.n_transactions += 1
    here = state.place
    if place_of(state, state.t_id) != here or place_of(state, state.c_id) != here:
        state.n_cross += 1
        return 1
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    """Add the amount in all three tables."""
    _pay(tx, state.b_id, state.t_id, state.c_id, state.amount)


@mako.procedure(home=(BRANCH, "b_id"))
def pay_three(tx: Any, b_id: int, t_id: int, c_id: int, amount: int) -> int:
    """The same for a terminal at a distance: the amount."""
    _pay(tx, b_id, t_id, c_id, amount)
    return amount


@mako.function
def _pay(tx: Any, b_id: int, t_id: int, c_id: int, amount: int) -> None:
    # Of another partition: both are asked for at once.
    tx.prefetch(CUSTOMER, (c_id,))
    tx.prefetch(TELLER, (t_id,))
    customer = tx.write(CUSTOMER, (c_id,))
    customer.c_balance += amount
    teller = tx.write(TELLER, (t_id,))
    teller.t_balance += amount
    branch = tx.write(BRANCH, (b_id,))
    branch.b_balance += amount


WORKLOAD: Final = mako.Workload(
    "tpca_janus", kinds=("payment",), state=STATE, generate=generate, execute=execute
)
#: On a cluster of several partitions.
PARTED: Final = mako.Workload(
    "tpca_janus_parted",
    kinds=("payment", "payment" + CROSS),
    state=STATE,
    generate=generate_parted,
    execute=execute,
)


@mako.procedure
def sum_branches(tx: Any, first: int, end: int) -> int:
    """The sum of the balances of these branches; so the next two, of their tables."""
    total = 0
    for at in range(first, end, _CHUNK):
        rows = tx.scan(BRANCH, (at,), (min(at + _CHUNK, end),), _CHUNK)
        for which in range(rows.count):
            total += rows.row(which).b_balance
    return total


@mako.procedure
def sum_tellers(tx: Any, first: int, end: int) -> int:
    total = 0
    for at in range(first, end, _CHUNK):
        rows = tx.scan(TELLER, (at,), (min(at + _CHUNK, end),), _CHUNK)
        for which in range(rows.count):
            total += rows.row(which).t_balance
    return total


@mako.procedure
def sum_customers(tx: Any, first: int, end: int) -> int:
    total = 0
    for at in range(first, end, _CHUNK):
        rows = tx.scan(CUSTOMER, (at,), (min(at + _CHUNK, end),), _CHUNK)
        for which in range(rows.count):
            total += rows.row(which).c_balance
    return total
