"""What terminals of the small TPC-C enter, and whether that is what there is in the end.

    order, newest_order ──▶ the orders of a district are a list: ShardHistory judges them as lists
    pay                 ──▶ counters of customers and districts: ShardHistory judges them as well
    all rows at the end ──▶ the conditions of clause 3.3.2, over all warehouses together

An order takes part where its district, and where the stock of each line is: a part of one that is
missing, or left over, shows in a sum.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from mako.schema import Table
from mako.sim.checkers import Violation
from mako.sim.shards.history import Seen
from mako.sim.shards.tpcc import (
    CUSTOMERS,
    DISTRICTS,
    LINES,
    NONE,
    ORDERS,
    STOCK,
    UNUSED,
    WAREHOUSES,
)

Key = tuple[int, ...]
#: The rows of a table, each as its numbers.
Rows = Mapping[Key, tuple[int, ...]]

#: Lists of orders are numbered from here on.
_FIRST_LIST: Final = 1 << 32
_DISTRICTS: Final = 2
_ITEMS: Final = 3
_CUSTOMERS: Final = 2
#: Chances: that another warehouse supplies a line (2.4.1.5), or a customer pays elsewhere
#: (2.5.1.2), that an order has a second line, that it is rolled back (2.4.1.4). What is rare in
#: TPC-C is not so rare here.
_REMOTE: Final = 0.3
_SECOND: Final = 0.6
_ROLLED_BACK: Final = 0.05
#: Of few payments hardly two sums are equal, and of many all sums can be listed.
_AMOUNT_MAX: Final = 20_000


@dataclass(slots=True)
class Order:
    """A call of `order`."""

    tag: int
    district: Key
    #: Item and supplying warehouse of each.
    lines: tuple[Key, ...]
    rolls_back: bool

    @property
    def arguments(self) -> tuple[int, ...]:
        second = self.lines[1] if len(self.lines) > 1 else (NONE, 0)
        if self.rolls_back:
            second = UNUSED, 0
        return (self.tag, *self.district, *self.lines[0], *second)


@dataclass(slots=True)
class Payment:
    """A call of `pay`."""

    district: Key
    customer: Key
    amount: int

    @property
    def arguments(self) -> tuple[int, ...]:
        return (*self.district, *self.customer, self.amount)

    @property
    def counts(self) -> dict[str, int]:
        """What it adds to which counters."""
        spent, payments = _counters_of(self.customer)
        return {spent: self.amount, payments: 1, _paid_in(self.district): self.amount}

    def seen_by(self, one: Seen, payments: int) -> None:
        """It was told that the customer has paid so often."""
        one.counted = {_counters_of(self.customer)[1]: payments}


def _counters_of(customer: Key) -> tuple[str, str]:
    """What he has spent, and how often."""
    return f"spent by {customer}", f"payments of {customer}"


def _paid_in(district: Key) -> str:
    return f"paid in {district}"


def _expect(holds: bool, rule: str, what: str) -> None:  # noqa: FBT001
    if not holds:
        raise Violation(rule, what)


class Terminals:
    """See the module. `warehouses` by partition; `chance` draws what is entered."""

    def __init__(self, warehouses: Mapping[int, list[int]], chance: Random) -> None:
        self._warehouses = warehouses
        self._all = sorted(one for some in warehouses.values() for one in some)
        self._chance = chance
        self._orders: dict[int, Order] = {}

    # --- What is entered -----------------------------------------------------------------------

    def _district(self, partition: int) -> Key:
        warehouse = self._chance.choice(self._warehouses[partition])
        return warehouse, self._chance.randrange(_DISTRICTS)

    def _near_or_far(self, warehouse: int) -> int:
        return self._chance.choice(self._all) if self._chance.random() < _REMOTE else warehouse

    def draw_order(self, partition: int, tag: int) -> Order:
        """Entered at a terminal of a warehouse of `partition`."""
        district = self._district(partition)
        count = 2 if self._chance.random() < _SECOND else 1
        items = self._chance.sample(range(_ITEMS), count)
        lines = tuple((item, self._near_or_far(district[0])) for item in items)
        made = Order(tag, district, lines, self._chance.random() < _ROLLED_BACK)
        self._orders[tag] = made
        return made

    def draw_payment(self, partition: int) -> Payment:
        district = self._district(partition)
        customer = self._near_or_far(district[0]), self._chance.randrange(_CUSTOMERS)
        return Payment(district, customer, self._chance.randint(1, _AMOUNT_MAX))

    def draw_district(self, partition: int) -> Key:
        """Whose newest order is looked at."""
        return self._district(partition)

    @staticmethod
    def list_of(district: Key) -> int:
        """The number of the list that its orders are."""
        return _FIRST_LIST + district[0] * _DISTRICTS + district[1]

    # --- The end -------------------------------------------------------------------------------

    def lists(self, orders: Rows) -> dict[int, list[int]]:
        """The tags of all orders, by list."""
        found: dict[int, list[int]] = {
            self.list_of((warehouse, district)): []
            for warehouse in self._all
            for district in range(_DISTRICTS)
        }
        for (warehouse, district, _), (tag, _) in sorted(orders.items()):
            found[self.list_of((warehouse, district))].append(tag)
        return found

    @staticmethod
    def counters(rows: Mapping[Table, Rows]) -> dict[str, int]:
        """What payments have left behind, by the names of `Payment.counts`."""
        found = {_paid_in(key): paid for key, (_, paid) in rows[DISTRICTS].items()}
        for key, (balance, payments) in rows[CUSTOMERS].items():
            found |= zip(_counters_of(key), (-balance, payments), strict=True)
        return found

    def check_end(self, rows: Mapping[Table, Rows]) -> None:
        """All rows of the tables of mako.sim.shards.tpcc, over all partitions. What became of
        orders is judged as that of lists, and what became of payments as that of counters."""
        self._check_money(rows)
        self._check_numbers(rows)
        self._check_stock(rows)
        self._check_orders(rows[ORDERS], rows[LINES])

    def _check_money(self, rows: Mapping[Table, Rows]) -> None:
        by_warehouse: Counter[int] = Counter()
        for (warehouse, _), (_, paid) in rows[DISTRICTS].items():
            by_warehouse[warehouse] += paid
        for (warehouse,), (paid,) in rows[WAREHOUSES].items():
            _expect(
                by_warehouse[warehouse] == paid,
                "3.3.2.1",
                f"warehouse {warehouse} was paid {paid}, its districts {by_warehouse[warehouse]}",
            )
        total = sum(by_warehouse.values())
        spent = -sum(balance for balance, _ in rows[CUSTOMERS].values())
        _expect(total == spent, "3.3.2.10", f"{total} was paid, and {spent} by customers")

    def _check_numbers(self, rows: Mapping[Table, Rows]) -> None:
        numbers: defaultdict[Key, list[int]] = defaultdict(list)
        for warehouse, district, number in rows[ORDERS]:
            numbers[warehouse, district].append(number)
        counted = {key: orders for key, (orders, _) in rows[DISTRICTS].items()}
        for key in numbers.keys() | counted.keys():
            _expect(
                sorted(numbers[key]) == list(range(1, counted.get(key, 0) + 1)),
                "3.3.2.3",
                f"district {key} counts {counted.get(key)} orders, and has {sorted(numbers[key])}",
            )

    def _check_stock(self, rows: Mapping[Table, Rows]) -> None:
        lines: Counter[Key] = Counter()
        ordered: Counter[Key] = Counter()
        orders: Counter[Key] = Counter()
        for (warehouse, district, number, _), (item, supply, quantity) in rows[LINES].items():
            lines[warehouse, district, number] += 1
            ordered[supply, item] += quantity
            orders[supply, item] += 1
        wanted = {key: count for key, (_, count) in rows[ORDERS].items()}
        _expect(lines == wanted, "3.3.2.6", _difference("lines of orders", lines, wanted))
        found = {key: stock for key, (stock, _) in rows[STOCK].items()}
        _expect(ordered == found, "stock", _difference("ordered", ordered, found))
        found = {key: count for key, (_, count) in rows[STOCK].items()}
        _expect(orders == found, "stock", _difference("orders", orders, found))

    def _check_orders(self, orders: Rows, lines: Rows) -> None:
        for key, (tag, count) in orders.items():
            one = self._orders.get(tag)
            if one is None or one.rolls_back:
                raise Violation("nothing else", f"order {key} with the tag {tag}: {one}")
            found = tuple(lines[*key, line][:2] for line in range(1, count + 1))
            _expect(found == one.lines, "nothing else", f"order {key} has {found}, not {one}")


def _difference(what: str, one: Mapping[Key, int], other: Mapping[Key, int]) -> str:
    keys = one.keys() | other.keys()
    differ = [key for key in keys if one.get(key, 0) != other.get(key, 0)]
    shown = ", ".join(f"{key}: {one.get(key, 0)} and {other.get(key, 0)}" for key in differ[:3])
    return f"{what} of {len(differ)} keys differ from what is counted there: {shown}"
