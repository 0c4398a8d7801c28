"""The transactions that simulated clients call: lists that values are appended to.

    heads      list -> how many values it has
    elements   list, position from 1 -> the value there

A list is named by a number; below 0: none. Positions and lengths of three lists come back in one
result, 20 bits each.
"""

from typing import Any, Final

from mako.procedure import function, procedure
from mako.schema import BytesTable, Table

LISTS_MAX: Final = 3
_BITS: Final = 20

HEADS = Table("heads", id=1, key={"list": 64}, row={"length": "i8"})
ELEMENTS = Table("elements", id=2, key={"list": 64, "position": 64}, row={"value": "i8"})
#: Values that are overwritten, and deleted.
REGISTERS = BytesTable("registers", id=3)


@function
def append_to(tx: Any, number: int, value: int) -> Any:
    """Append to one list; the position."""
    if number < 0:
        return 0
    found, _ = tx.find(HEADS, (number,))
    if not found:
        tx.insert(HEADS, (number,))
    head = tx.write(HEADS, (number,))
    head.length += 1
    position = head.length
    tx.insert(ELEMENTS, (number, position)).value = value
    return position


@function
def length_of(tx: Any, number: int) -> Any:
    if number < 0:
        return 0
    found, head = tx.find(HEADS, (number,))
    return head.length if found else 0


@procedure
def append(tx: Any, value: int, first: int, second: int, third: int) -> Any:
    """Append a value to up to three lists."""
    one = append_to(tx, first, value)
    two = append_to(tx, second, value)
    three = append_to(tx, third, value)
    return one | two << 20 | three << 40


@procedure
def lengths(tx: Any, first: int, second: int, third: int) -> Any:
    """How long up to three lists are."""
    one = length_of(tx, first)
    two = length_of(tx, second)
    three = length_of(tx, third)
    return one | two << 20 | three << 40


def numbers_in(result: int) -> tuple[int, ...]:
    """The three numbers in a result."""
    return tuple(result >> (_BITS * i) & (1 << _BITS) - 1 for i in range(LISTS_MAX))


def arguments_of(lists: tuple[int, ...]) -> tuple[int, ...]:
    """The lists as arguments, always three of them."""
    return (*lists, *[-1] * (LISTS_MAX - len(lists)))
