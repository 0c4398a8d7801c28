"""Procedures that the servers of the tests deploy."""

from typing import Any

import mako

COUNTER = mako.Table("counter", id=40, key={"number": 64}, row={"value": "i8"})


@mako.procedure(home=(COUNTER, "key"))
def add(tx: Any, key: int, amount: int) -> Any:
    found, _ = tx.find(COUNTER, (key,))
    if not found:
        tx.insert(COUNTER, (key,))
    row = tx.write(COUNTER, (key,))
    row.value += amount
    return row.value


@mako.procedure
def create(tx: Any, key: int) -> Any:
    tx.insert(COUNTER, (key,))


@mako.procedure
def value_of(tx: Any, key: int) -> Any:
    return tx.read(COUNTER, (key,)).value


@mako.procedure(home=(COUNTER, "number"))
def move(tx: Any, number: int, to: int, amount: int) -> Any:
    """Take from one counter, which may be anywhere, and add to another one."""
    found, _ = tx.find(COUNTER, (number,))
    if not found:
        tx.insert(COUNTER, (number,))
    found, _ = tx.find(COUNTER, (to,))
    if not found:
        tx.insert(COUNTER, (to,))
    tx.write(COUNTER, (number,)).value -= amount
    tx.write(COUNTER, (to,)).value += amount
    return tx.read(COUNTER, (number,)).value


@mako.procedure(home=(COUNTER, "one"))
def transfer(tx: Any, one: int, other: int, amount: int, here: int, there: int) -> Any:
    """Move an amount from one counter to another one, and write it into a row beside each, which
    nobody has written before."""
    tx.write(COUNTER, (one,)).value -= amount
    tx.write(COUNTER, (other,)).value += amount
    tx.insert(COUNTER, (here,)).value = amount
    tx.insert(COUNTER, (there,)).value = amount
    return amount


@mako.procedure
def sum_of(tx: Any, first: int, end: int) -> Any:
    """What counters have together, wherever they are."""
    total = 0
    for number in range(first, end):
        found, row = tx.find(COUNTER, (number,))
        if found:
            total += row.value
    return total


@mako.procedure
def give_up(tx: Any, key: int) -> Any:
    tx.rollback()


@mako.procedure
def fail(tx: Any, key: int) -> Any:
    if key > 0:
        raise ValueError("over the limit")
    return key


@mako.procedure
def spin(tx: Any, step: int) -> Any:
    i = 1
    while i != 0:
        i = (i + step) | 1
    return i
