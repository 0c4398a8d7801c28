"""The small TPC-C of the simulator: what is no database that came from what terminals entered."""

from collections.abc import Callable
from random import Random

import pytest

from mako.schema import Table
from mako.sim.checkers import Violation
from mako.sim.checking import Outcome
from mako.sim.shards.history import Seen
from mako.sim.shards.terminals import Key, Order, Payment, Terminals
from mako.sim.shards.tpcc import (
    CUSTOMERS,
    DISTRICTS,
    LINES,
    ORDERS,
    STOCK,
    TABLES,
    WAREHOUSES,
)

Shop = dict[Table, dict[Key, tuple[int, ...]]]


class Entered:
    """Terminals that have entered some, and the rows that are left of it."""

    def __init__(self) -> None:
        self.terminals = Terminals({0: [0, 1], 1: [1000, 1001]}, Random(7))
        self.rows: Shop = {table: {} for table in TABLES}
        self.orders: list[Order] = []
        self.payments: list[Payment] = []
        for number in range(60):
            order = self.terminals.draw_order(number % 2, number + 1)
            self.orders.append(order)
            if not order.rolls_back:
                self._enter(order)
            payment = self.terminals.draw_payment(number % 2)
            payment.seen = Seen(1, "pay", number, number + 1, Outcome.OK)
            self.payments.append(payment)
            if number % 10 == 0:
                payment.seen.outcome = Outcome.UNKNOWN
            if number % 20 != 0:
                self._enter_payment(payment)

    def add(self, table: Table, key: Key, *amounts: int) -> None:
        there = self.rows[table].get(key, (0,) * len(amounts))
        self.rows[table][key] = tuple(map(sum, zip(there, amounts, strict=True)))

    def _enter(self, order: Order) -> None:
        self.add(DISTRICTS, order.district, 1, 0)
        key = (*order.district, self.rows[DISTRICTS][order.district][0])
        self.rows[ORDERS][key] = (order.tag, len(order.lines))
        quantity = order.tag % 10 + 1
        for line, (item, supply) in enumerate(order.lines, 1):
            self.rows[LINES][*key, line] = (item, supply, quantity)
            self.add(STOCK, (supply, item), quantity, 1)

    def _enter_payment(self, payment: Payment) -> None:
        self.add(WAREHOUSES, payment.district[:1], payment.amount)
        self.add(DISTRICTS, payment.district, 0, payment.amount)
        self.add(CUSTOMERS, payment.customer, -payment.amount, 1)

    def check(self) -> None:
        self.terminals.check_end(self.rows)


@pytest.fixture
def entered() -> Entered:
    return Entered()


def test_what_was_entered_is_consistent(entered: Entered) -> None:
    entered.check()
    assert any(order.rolls_back for order in entered.orders)
    assert any(order.district[0] != line[1] for order in entered.orders for line in order.lines)


def test_orders_are_lists_of_tags(entered: Entered) -> None:
    lists = entered.terminals.lists(entered.rows[ORDERS])
    assert len(lists) == 8
    stays = [order for order in entered.orders if not order.rolls_back]
    for district in {order.district for order in stays}:
        tags = [order.tag for order in stays if order.district == district]
        assert lists[entered.terminals.list_of(district)] == tags


def line_lost(entered: Entered) -> None:
    del entered.rows[LINES][next(iter(entered.rows[LINES]))]


def stock_lost(entered: Entered) -> None:
    entered.add(STOCK, next(iter(entered.rows[STOCK])), -1, 0)


def stock_counted_twice(entered: Entered) -> None:
    entered.add(STOCK, next(iter(entered.rows[STOCK])), 0, 1)


def stock_left_over(entered: Entered) -> None:
    entered.add(STOCK, (1000, 99), 3, 1)


def order_lost(entered: Entered) -> None:
    del entered.rows[ORDERS][next(iter(entered.rows[ORDERS]))]


def order_left_over(entered: Entered) -> None:
    entered.rows[ORDERS][1001, 1, 1000] = (999, 0)


def number_skipped(entered: Entered) -> None:
    entered.add(DISTRICTS, next(iter(entered.rows[DISTRICTS])), 1, 0)


def order_of_nobody(entered: Entered) -> None:
    key, (_, lines) = next(iter(entered.rows[ORDERS].items()))
    entered.rows[ORDERS][key] = (999, lines)


def order_rolled_back(entered: Entered) -> None:
    key = next(iter(entered.rows[ORDERS]))
    rolled_back = next(order for order in entered.orders if order.rolls_back)
    entered.rows[ORDERS][key] = (rolled_back.tag, entered.rows[ORDERS][key][1])


def line_of_another_item(entered: Entered) -> None:
    key, (item, supply, quantity) = next(iter(entered.rows[LINES].items()))
    entered.rows[LINES][key] = (item + 10, supply, quantity)
    entered.add(STOCK, (supply, item + 10), quantity, 1)
    entered.add(STOCK, (supply, item), -quantity, -1)
    if entered.rows[STOCK][supply, item] == (0, 0):
        del entered.rows[STOCK][supply, item]


def warehouse_unpaid(entered: Entered) -> None:
    entered.add(WAREHOUSES, next(iter(entered.rows[WAREHOUSES])), -1)


def customer_unpaid(entered: Entered) -> None:
    entered.add(CUSTOMERS, next(iter(entered.rows[CUSTOMERS])), 1, 0)


def payment_lost(entered: Entered) -> None:
    lost = next(one for one in entered.payments if one.seen and one.seen.outcome is Outcome.OK)
    entered.add(WAREHOUSES, lost.district[:1], -lost.amount)
    entered.add(DISTRICTS, lost.district, 0, -lost.amount)
    entered.add(CUSTOMERS, lost.customer, lost.amount, -1)
    # Those of which nobody knows are there, so that sums do not show it.
    for one in entered.payments:
        if one.seen and one.seen.outcome is Outcome.UNKNOWN:
            one.seen.outcome = Outcome.ABORTED


def payment_twice(entered: Entered) -> None:
    twice = next(one for one in entered.payments if one.seen and one.seen.outcome is Outcome.OK)
    for _ in range(20):
        entered._enter_payment(twice)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (line_lost, "3.3.2.6"),
        (stock_lost, "stock"),
        (stock_counted_twice, "stock"),
        (stock_left_over, "stock"),
        (order_lost, "3.3.2.3"),
        (order_left_over, "3.3.2.3"),
        (number_skipped, "3.3.2.3"),
        (order_of_nobody, "nothing else"),
        (order_rolled_back, "nothing else"),
        (line_of_another_item, "nothing else"),
        (warehouse_unpaid, "3.3.2.1"),
        (customer_unpaid, "3.3.2.10"),
        (payment_lost, "nothing lost"),
        (payment_twice, "nothing lost"),
    ],
)
def test_what_does_not_fit_is_found(
    damage: Callable[[Entered], None], rule: str, entered: Entered
) -> None:
    damage(entered)
    with pytest.raises(Violation, match=rule):
        entered.check()
