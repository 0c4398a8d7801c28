"""Counters: values of eight bytes, signed, little-endian, in tables of byte strings.

`add` is a read and a write like any other: two transactions that add to one counter at the same
time conflict, and one of them runs again.
"""

from typing import Any, Final

from mako.errors import SchemaError
from mako.schema import BytesTable, Table
from mako.shown import shown

COUNTER_BYTES: Final = 8
_MAX: Final = (1 << 8 * COUNTER_BYTES - 1) - 1


def check_table(table: Table | BytesTable) -> None:
    """SchemaError for a table of typed rows, whose fields are numbers already."""
    if isinstance(table, Table):
        raise SchemaError(
            f"table {table.name} has typed rows, and counters are values of byte tables; get the"
            " row, change its field and put it"
        )


def number_in(key: Any, value: bytes) -> int:
    """The number that `value` stands for. SchemaError if it is no counter."""
    if len(value) != COUNTER_BYTES:
        raise SchemaError(
            f"the value of {shown(key)} has {len(value)} bytes and is no counter, which has"
            f" {COUNTER_BYTES}; read it with get()"
        )
    return int.from_bytes(value, "little", signed=True)


def sum_of(key: Any, number: int, amount: Any) -> int:
    """number + amount. SchemaError if it does not fit a counter."""
    if type(amount) is not int:
        raise SchemaError(f"{shown(amount)} cannot be added to a counter; give an integer")
    total = number + amount
    if not -_MAX - 1 <= total <= _MAX:
        raise SchemaError(
            f"the counter {shown(key)} is {number}, and adding to it would leave its 64 bits;"
            f" it goes from {-_MAX - 1} to {_MAX}"
        )
    return total


def value_of(number: int) -> bytes:
    """The bytes of a counter."""
    return number.to_bytes(COUNTER_BYTES, "little", signed=True)


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."
