"""What was acknowledged to terminals, and whether it is there.

A row is looked up as one number: its place in a district, and in the bits below what was asked for.

    order     O_ID               │ customer, lines
    payment   writer, its number │ amount

O_ID is handed out in turn. When rows are lost, so is the turn, and others get the same numbers:
then there are rows again. So it does not suffice that a number is there. The row has to be the one
that was asked for, and it is that of one transaction: whoever else was told its number has lost an
order.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import mako
from bench.tpcc.schema import HISTORY, ORDER, WAREHOUSE

#: Rows that are looked up at a time; the most that a scan may return.
PAGE: Final = 4096
FOUND: Final = mako.Row({"rows": f"i8*{PAGE}"}, name="orders or payments that are there")

_LINES_BITS: Final = 8
#: Of an order, below its number.
_ASKED_BITS: Final = 16 + _LINES_BITS
_NUMBER_BITS: Final = HISTORY.key_fields[3].bits
_NUMBER_MASK: Final = (1 << _NUMBER_BITS) - 1
#: Of a payment, below its writer and number: up to 5,000.00.
_AMOUNT_BITS: Final = 19
_AMOUNT_MASK: Final = (1 << _AMOUNT_BITS) - 1

District = tuple[int, int]


@mako.function
def order_of(o_id: int, c_id: int, ol_cnt: int) -> int:
    """An order as one number."""
    return o_id << _ASKED_BITS | c_id << _LINES_BITS | ol_cnt


@mako.function
def payment_of(writer: int, number: int, amount: int) -> int:
    """A row of HISTORY as one number."""
    return (writer << _NUMBER_BITS | number) << _AMOUNT_BITS | amount & _AMOUNT_MASK


@mako.procedure(home=(WAREHOUSE, "w_id"))
def find_orders(tx: Any, w_id: int, d_id: int, first: int, out: Any) -> int:
    """The orders of a district from O_ID `first` on, up to `PAGE`; how many."""
    orders = tx.scan(ORDER, (w_id, d_id, first), (w_id, d_id + 1, 0), PAGE)
    for at in range(orders.count):
        order = orders.row(at)
        out.rows[at] = order_of(orders.key(at).o_id, order.o_c_id, order.o_ol_cnt)
    count: int = orders.count
    return count


@mako.procedure(home=(WAREHOUSE, "w_id"))
def find_payments(tx: Any, w_id: int, d_id: int, first: int, out: Any) -> int:
    """The payments of a district's customers from writer and number `first` on, up to `PAGE`; how
    many."""
    key = (w_id, d_id, first >> _NUMBER_BITS, first & _NUMBER_MASK)
    payments = tx.scan(HISTORY, key, (w_id, d_id + 1, 0, 0), PAGE)
    for at in range(payments.count):
        wrote = payments.key(at)
        out.rows[at] = payment_of(wrote.h_worker, wrote.h_number, payments.row(at).h_amount)
    count: int = payments.count
    return count


class Receipt(NamedTuple):
    """What a transaction leaves behind if it lasts."""

    #: Of a payment that of the customer, where HISTORY has it.
    district: District
    #: As `order_of` or `payment_of` says.
    row: int
    is_order: bool


@dataclass(slots=True)
class Acknowledged:
    """What was acknowledged as durable, by district."""

    orders: "dict[District, array[int]]" = field(default_factory=dict)
    payments: "dict[District, array[int]]" = field(default_factory=dict)

    def add(self, receipt: Receipt) -> None:
        kept = self.orders if receipt.is_order else self.payments
        kept.setdefault(receipt.district, array("q")).append(receipt.row)


class Counts(NamedTuple):
    orders: int
    payments: int


def counts_of(told: Iterable[Acknowledged]) -> Counts:
    """How many orders and payments were acknowledged."""
    orders = payments = 0
    for each in told:
        orders += sum(map(len, each.orders.values()))
        payments += sum(map(len, each.payments.values()))
    return Counts(orders, payments)


def lost_of(snapshot: Any, told: Iterable[Acknowledged]) -> Counts:
    """How many of the acknowledged orders and payments are not there."""
    told = list(told)
    orders = _lost(snapshot, find_orders, _ASKED_BITS, [each.orders for each in told])
    payments = _lost(snapshot, find_payments, _AMOUNT_BITS, [each.payments for each in told])
    return Counts(orders, payments)


def _lost(
    snapshot: Any,
    procedure: mako.Procedure,
    bits: int,
    told: "Iterable[dict[District, array[int]]]",
) -> int:
    by_district: dict[District, list[int]] = {}
    for each in told:
        for district, rows in each.items():
            by_district.setdefault(district, []).extend(rows)
    lost = 0
    for district, wanted in sorted(by_district.items()):
        # A row of which two were told counts once: it is there for one of them.
        lost += len(wanted) - _there(snapshot, procedure, bits, district, set(wanted))
    return lost


def _there(
    snapshot: Any, procedure: mako.Procedure, bits: int, district: District, wanted: set[int]
) -> int:
    """How many of the rows of a district are there. `bits` of them are below their place."""
    first, last = min(wanted) >> bits, max(wanted)
    there = 0
    while True:
        count, found = snapshot.run(procedure, *district, first, out=FOUND)
        rows = found["rows"][:count]
        there += len(wanted.intersection(rows))
        if count < PAGE or rows[-1] >= last:
            return there
        first = (rows[-1] >> bits) + 1
