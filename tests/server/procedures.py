"""Procedures that the servers of the tests deploy."""

from typing import Any

import mako

COUNTER = mako.Table("counter", id=40, key={"number": 64}, row={"value": "i8"})


@mako.procedure
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
