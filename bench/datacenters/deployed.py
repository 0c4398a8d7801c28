"""What the servers of the two datacenters deploy: accounts, in shard 0 below BLOCK."""

from typing import Any, Final

import mako

#: As config/datacenters.yml cuts the table: accounts of shard 0, those of shard 1 come behind.
BLOCK: Final = 1000

ACCOUNT = mako.Table("account", id=41, key={"number": 64}, row={"value": "i8"})


@mako.procedure(home=(ACCOUNT, "number"))
def create(tx: Any, number: int) -> Any:
    """An account with nothing, if there is none."""
    found, _ = tx.find(ACCOUNT, (number,))
    if not found:
        tx.insert(ACCOUNT, (number,))


@mako.procedure(home=(ACCOUNT, "number"))
def add(tx: Any, number: int, amount: int) -> Any:
    """Add to an account; what it has then."""
    row = tx.write(ACCOUNT, (number,))
    row.value += amount
    return row.value


@mako.procedure(home=(ACCOUNT, "number"))
def move(tx: Any, number: int, to: int, amount: int) -> Any:
    """Take from one account and add to another one, wherever that is."""
    row = tx.write(ACCOUNT, (number,))
    row.value -= amount
    tx.write(ACCOUNT, (to,)).value += amount
    return row.value


@mako.procedure(home=(ACCOUNT, "first"))
def sum_of(tx: Any, first: int, end: int, other: int, other_end: int) -> Any:
    """What two ranges of accounts have together."""
    total = 0
    for number in range(first, end):
        total += tx.read(ACCOUNT, (number,)).value
    for number in range(other, other_end):
        total += tx.read(ACCOUNT, (number,)).value
    return total
