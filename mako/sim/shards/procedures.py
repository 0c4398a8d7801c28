"""The transactions over partitions that simulated clients call.

    heads      list -> how many values it has            values are appended, each to up to three
    elements   list, position from 1 -> the value there  lists, in any partitions
    registers  number -> the value                       written blindly, changed, and deleted
    accounts   number -> the balance, 0 at first         their sum never changes

Results are three numbers of 20 bits; a list, register or account below 0 is none. Those with even
numbers are found by scans, and written or deleted as they were found.
"""

from typing import Any, Final

from mako.procedure import function, procedure
from mako.schema import Table

#: Results are packed in so many bits each; balances and values stay far below.
BITS: Final = 20
#: Added to balances, which may be negative.
ZERO: Final = 1 << 19

HEADS = Table("heads", id=1, key={"list": 32}, row={"length": "i8"})
ELEMENTS = Table("elements", id=2, key={"list": 32, "position": 32}, row={"value": "i8"})
REGISTERS = Table("registers", id=3, key={"number": 32}, row={"value": "i8"})
ACCOUNTS = Table("accounts", id=4, key={"number": 32}, row={"balance": "i8"})


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


@function
def last_of(tx: Any, number: int) -> Any:
    """The last value of a list; 0 if it is empty."""
    if number < 0:
        return 0
    if number % 2 == 0:
        rows = tx.scan_back(ELEMENTS, (number,), (number + 1,), 1)
        return rows.row(0).value if rows.count > 0 else 0
    found, head = tx.find(HEADS, (number,))
    if not found:
        return 0
    return tx.read(ELEMENTS, (number, head.length)).value


@function
def value_of(tx: Any, number: int) -> Any:
    if number < 0:
        return 0
    found, row = tx.find(REGISTERS, (number,))
    return row.value if found else 0


@function
def give(tx: Any, number: int, value: int) -> Any:
    """Give a register a value, whatever it has; 0: delete it, which it has to be there for."""
    if number < 0:
        return 0
    if value != 0:
        tx.put(REGISTERS, (number,)).value = value
        return 0
    if number % 2 == 0:
        rows = tx.scan(REGISTERS, (number,), (number + 1,), 1)
        if rows.count > 0:
            rows.delete(0)
            return 0
    tx.delete(REGISTERS, (number,))
    return 0


@function
def change(tx: Any, number: int, value: int) -> Any:
    """Give a register that is there a value."""
    if number < 0:
        return 0
    if number % 2 == 0:
        rows = tx.scan(REGISTERS, (number,), (number + 1,), 1)
        if rows.count > 0:
            rows.write(0).value = value
            return 0
    tx.write(REGISTERS, (number,)).value = value
    return 0


@function
def balance_of(tx: Any, number: int) -> Any:
    found, row = tx.find(ACCOUNTS, (number,))
    return row.balance + 524288 if found else 524288


@function
def add_to(tx: Any, number: int, amount: int) -> Any:
    if number % 2 == 0:
        rows = tx.scan(ACCOUNTS, (number,), (number + 1,), 1)
        if rows.count > 0:
            found_row = rows.write(0)
            found_row.balance += amount
            return found_row.balance
    found, _ = tx.find(ACCOUNTS, (number,))
    if not found:
        tx.insert(ACCOUNTS, (number,))
    row = tx.write(ACCOUNTS, (number,))
    row.balance += amount
    return row.balance


@procedure
def append(tx: Any, value: int, first: int, second: int, third: int) -> Any:
    """Append a value to up to three lists; the positions."""
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


@procedure
def lasts(tx: Any, first: int, second: int, third: int) -> Any:
    """The last values of up to three lists."""
    one = last_of(tx, first)
    two = last_of(tx, second)
    three = last_of(tx, third)
    return one | two << 20 | three << 40


@procedure
def write_some(tx: Any, value: int, first: int, second: int, third: int) -> Any:
    """Give up to three registers a value that nobody has read; 0: delete them."""
    give(tx, first, value)
    give(tx, second, value)
    give(tx, third, value)
    return 0


@procedure
def change_some(tx: Any, value: int, first: int, second: int, third: int) -> Any:
    """Give up to three registers that are there a value, and look at nothing else of them."""
    change(tx, first, value)
    change(tx, second, value)
    change(tx, third, value)
    return 0


@procedure
def watch_some(tx: Any, value: int, seen: int, first: int, second: int) -> Any:
    """Give up to two registers a value, because of another one, which is only read: its value."""
    found = value_of(tx, seen)
    if first >= 0:
        tx.put(REGISTERS, (first,)).value = value
    if second >= 0:
        tx.put(REGISTERS, (second,)).value = value
    return found


@procedure
def read_some(tx: Any, first: int, second: int, third: int) -> Any:
    """The values of up to three registers; 0: it is not there."""
    one = value_of(tx, first)
    two = value_of(tx, second)
    three = value_of(tx, third)
    return one | two << 20 | three << 40


@procedure
def transfer(tx: Any, source: int, target: int, amount: int) -> Any:
    """Move an amount from one account to another one, whatever is there."""
    add_to(tx, source, -amount)
    add_to(tx, target, amount)
    return 0


@procedure
def balances(tx: Any, first: int, second: int, third: int) -> Any:
    """What three accounts have, each beside ZERO."""
    one = balance_of(tx, first)
    two = balance_of(tx, second)
    three = balance_of(tx, third)
    return one | two << 20 | three << 40
