"""How many rows a warehouse has: those of clause 4.3.3.1, or fewer of the same shape.

Only `spec` is TPC-C. The others keep every proportion that a transaction can notice: three
customers to a last name, one order to a customer, three in ten orders undelivered, ten
districts to a warehouse. Their items are drawn with the NURand of the specification, folded
into the smaller range.
"""

from dataclasses import dataclass
from typing import Final, Literal

from bench.tpcc.schema import C_BITS, DISTRICTS, I_BITS, TABLES
from bench.workload import DataSize


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of rows; those per district hold for each of the ten of a warehouse."""

    name: Literal["tiny", "small", "spec"]
    items: int
    #: Per district, and the orders that the population gives them: one each.
    customers: int
    #: Last names in use, 0 to names - 1, each by one of the first customers of a district.
    names: int
    #: Per district: the newest orders, which are in NEW-ORDER.
    undelivered: int

    @property
    def orders(self) -> int:
        return self.customers

    @property
    def delivered(self) -> int:
        """The orders 1 to this were delivered before the load: 2100 of 3000."""
        return self.orders - self.undelivered

    @property
    def stock_rows(self) -> int:
        return self.items


SCALES: Final = {
    scale.name: scale
    for scale in (
        Scale("tiny", items=1_000, customers=30, names=10, undelivered=9),
        Scale("small", items=10_000, customers=300, names=100, undelivered=90),
        Scale("spec", items=100_000, customers=3_000, names=1_000, undelivered=900),
    )
}
# Clause 1.4.11, see `schema`.
assert max(scale.customers for scale in SCALES.values()) * 2 < 1 << C_BITS
assert max(scale.items for scale in SCALES.values()) * 2 < 1 << I_BITS


def data_size(scale: Scale, warehouses: int, order_lines: int, *, partitions: int = 1) -> DataSize:
    """What the load stores, its two indexes included; items in each of the partitions.

    `order_lines` is counted, not computed.
    """
    districts = warehouses * DISTRICTS
    customers = districts * scale.customers
    rows = {
        "warehouse": warehouses,
        "warehouse_ytd": warehouses,
        "district": districts,
        "district_ytd": districts,
        "district_next": districts,
        "customer": customers,
        "customer_balance": customers,
        "customer_data": customers,
        "customer_name": customers,
        "history": customers,
        "new_order": districts * scale.undelivered,
        "orders": customers,
        "order_by_customer": customers,
        "order_line": order_lines,
        "item": partitions * scale.items,
        "stock": warehouses * scale.stock_rows,
        "stock_info": warehouses * scale.stock_rows,
    }
    return DataSize(
        rows=sum(rows.values()),
        key_bytes=sum(rows[table.name] * table.key_size for table in TABLES),
        row_bytes=sum(rows[table.name] * table.row_size for table in TABLES),
    )
