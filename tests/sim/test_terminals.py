"""The small TPC-C of the simulator: what is no database that came from what terminals entered."""

from collections.abc import Callable
from random import Random

import pytest

from mako.schema import Table
from mako.sim.checkers import Violation
from mako.sim.checking import Outcome
from mako.sim.shards.history import Seen, ShardHistory
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
        self.history = ShardHistory([])
        self.seen: list[Seen] = []
        for number in range(60):
            order = self.terminals.draw_order(number % 2, number + 1)
            self.orders.append(order)
            if not order.rolls_back:
                self._enter(order)
            payment = self.terminals.draw_payment(number % 2)
            self.payments.append(payment)
            # Of some nobody knows, and half of those are there.
            known = number % 10 != 0
            if number % 20 != 0:
                self.enter_payment(payment)
            one = self.history.begin(1, "pay", 2 * number)
            one.counts = payment.counts
            self.seen.append(one)
            if known:
                self.history.done(one, 2 * number + 1, 100 + number, exact=True)
                payment.seen_by(one, self.rows[CUSTOMERS][payment.customer][1])
            else:
                self.history.failed_as(one, 2 * number + 1, Outcome.UNKNOWN)

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

    def enter_payment(self, payment: Payment) -> None:
        self.add(WAREHOUSES, payment.district[:1], payment.amount)
        self.add(DISTRICTS, payment.district, 0, payment.amount)
        self.add(CUSTOMERS, payment.customer, -payment.amount, 1)

    def check(self) -> None:
        self.terminals.check_end(self.rows)
        self.history.check_end({}, {}, {}, 1_000, counters=self.terminals.counters(self.rows))

    def some_payment(self, outcome: Outcome, *, not_of: Key = ()) -> Payment:
        return next(
            payment
            for payment, one in zip(self.payments, self.seen, strict=True)
            if one.outcome is outcome and payment.customer != not_of
        )

    def lose_payment(self, payment: Payment) -> None:
        self.add(WAREHOUSES, payment.district[:1], -payment.amount)
        self.add(DISTRICTS, payment.district, 0, -payment.amount)
        self.add(CUSTOMERS, payment.customer, payment.amount, -1)


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
    entered.lose_payment(entered.some_payment(Outcome.OK))


def payment_lost_behind_another(entered: Entered) -> None:
    """One of which nobody knows is there instead, so that neither counts nor bounds show it."""
    ghost = entered.some_payment(Outcome.UNKNOWN)
    entered.lose_payment(entered.some_payment(Outcome.OK, not_of=ghost.customer))
    entered.enter_payment(ghost)


def payment_of_another_amount(entered: Entered) -> None:
    one = entered.some_payment(Outcome.OK)
    entered.lose_payment(one)
    entered.enter_payment(Payment(one.district, one.customer, one.amount - 1))


def payment_twice(entered: Entered) -> None:
    entered.enter_payment(entered.some_payment(Outcome.OK))


def payment_lost_and_counted(entered: Entered) -> None:
    """Who paid next was told a number without it."""
    counted = [one.counted for one in entered.seen if one.counted]
    name = max(set().union(*counted))
    second = [one for one in counted if name in one][1]
    second[name] -= 1


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
        (payment_lost, "counter"),
        (payment_lost_behind_another, "counter"),
        (payment_of_another_amount, "counter"),
        (payment_twice, "counter"),
        (payment_lost_and_counted, "counter"),
    ],
)
def test_what_does_not_fit_is_found(
    damage: Callable[[Entered], None], rule: str, entered: Entered
) -> None:
    damage(entered)
    with pytest.raises(Violation, match=rule):
        entered.check()
