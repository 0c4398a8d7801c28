"""TPC-C, small: what clients order and pay, in warehouses of any partitions (clauses 2.4 to 2.6).

    warehouses   paid                       whoever pays there, customers of other warehouses, too
    districts    orders, paid               numbers of orders begin at 1, and none is missing
    customers    balance, payments
    orders       tag, lines                 a tag is of one call: it says which one has made it
    order_lines  item, supply, quantity
    stock        ordered, orders            of the warehouse that supplies

There is no population: a row that is missing is made, with zeros.
"""

from typing import Any, Final

from mako.procedure import function, procedure
from mako.schema import Table

#: An item that nobody has: the order that asks for it is rolled back (2.4.1.4).
UNUSED: Final = -2
#: No item: the order has one line.
NONE: Final = -1

WAREHOUSES = Table("warehouses", id=5, key={"warehouse": 32}, row={"paid": "i8"})
DISTRICTS = Table(
    "districts",
    id=6,
    key={"warehouse": 32, "district": 32},
    row={"orders": "i8", "paid": "i8"},
)
CUSTOMERS = Table(
    "customers",
    id=7,
    key={"warehouse": 32, "customer": 32},
    row={"balance": "i8", "payments": "i8"},
)
ORDERS = Table(
    "orders",
    id=8,
    key={"warehouse": 32, "district": 32, "number": 32},
    row={"tag": "i8", "lines": "i8"},
)
LINES = Table(
    "order_lines",
    id=9,
    key={"warehouse": 32, "district": 32, "number": 32, "line": 32},
    row={"item": "i8", "supply": "i8", "quantity": "i8"},
)
STOCK = Table(
    "stock",
    id=10,
    key={"warehouse": 32, "item": 32},
    row={"ordered": "i8", "orders": "i8"},
)
TABLES: Final = (WAREHOUSES, DISTRICTS, CUSTOMERS, ORDERS, LINES, STOCK)


@function
def add_line(
    tx: Any, warehouse: int, district: int, number: int, line: int, item: int, supply: int, tag: int
) -> Any:
    quantity = tag % 10 + 1
    row = tx.insert(LINES, (warehouse, district, number, line))
    row.item = item
    row.supply = supply
    row.quantity = quantity
    found, _ = tx.find(STOCK, (supply, item))
    if not found:
        tx.insert(STOCK, (supply, item))
    stock = tx.write(STOCK, (supply, item))
    stock.ordered += quantity
    stock.orders += 1
    return 0


@procedure
def order(
    tx: Any,
    tag: int,
    warehouse: int,
    district: int,
    item: int,
    supply: int,
    other: int,
    other_supply: int,
) -> Any:
    """A new order of one item, or two; its number."""
    found, _ = tx.find(DISTRICTS, (warehouse, district))
    if not found:
        tx.insert(DISTRICTS, (warehouse, district))
    counted = tx.write(DISTRICTS, (warehouse, district))
    counted.orders += 1
    number = counted.orders
    made = tx.insert(ORDERS, (warehouse, district, number))
    made.tag = tag
    made.lines = 2 if other >= 0 else 1
    add_line(tx, warehouse, district, number, 1, item, supply, tag)
    if other == -2:
        tx.rollback()
    if other >= 0:
        add_line(tx, warehouse, district, number, 2, other, other_supply, tag)
    return number


@procedure
def pay(tx: Any, warehouse: int, district: int, home: int, customer: int, amount: int) -> Any:
    """A customer of `home` pays at a district of any warehouse; how often he has by now."""
    found, _ = tx.find(WAREHOUSES, (warehouse,))
    if not found:
        tx.insert(WAREHOUSES, (warehouse,))
    tx.write(WAREHOUSES, (warehouse,)).paid += amount
    found, _ = tx.find(DISTRICTS, (warehouse, district))
    if not found:
        tx.insert(DISTRICTS, (warehouse, district))
    tx.write(DISTRICTS, (warehouse, district)).paid += amount
    found, _ = tx.find(CUSTOMERS, (home, customer))
    if not found:
        tx.insert(CUSTOMERS, (home, customer))
    payer = tx.write(CUSTOMERS, (home, customer))
    payer.balance -= amount
    payer.payments += 1
    return payer.payments


@procedure
def newest_order(tx: Any, warehouse: int, district: int) -> Any:
    """The newest order of a district, its lines, and what they ask for, 20 bits each."""
    found, counted = tx.find(DISTRICTS, (warehouse, district))
    if not found:
        return 0
    number = counted.orders
    if number == 0:
        return 0
    lines = tx.read(ORDERS, (warehouse, district, number)).lines
    quantity = tx.read(LINES, (warehouse, district, number, 1)).quantity
    if lines == 2:
        quantity += tx.read(LINES, (warehouse, district, number, 2)).quantity
    return number | lines << 20 | quantity << 40
