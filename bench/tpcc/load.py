"""Fill the tables: calls the procedures of `population`, a few hundred rows at a time.

A transaction keeps its rows in memory twice until it ends, and has a limit; a call costs
some microseconds. A few hundred rows are far from both.

In a cluster of several partitions each row is loaded by the partition of its warehouse, and items
by all, since every partition has them (config/tpcc_shards.yml).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bench.tpcc import population
from bench.tpcc.scale import Scale
from bench.tpcc.schema import DISTRICTS, TABLES
from bench.workload import Progress

if TYPE_CHECKING:
    import mako

#: Rows of one transaction, by what is loaded; a customer has five rows, an order some fourteen.
_ITEMS_CHUNK: Final = 500
_STOCK_CHUNK: Final = 250
_CUSTOMERS_CHUNK: Final = 100
_ORDERS_CHUNK: Final = 40


def load(
    db: "mako.Database",
    scale: Scale,
    warehouses: int,
    *,
    seed: int,
    now_ms: int,
    progress: Progress,
) -> int:
    """Create and fill all tables. Returns the number of order lines, which is left to chance."""
    db.create(*TABLES)
    _load_items(db, scale, seed, progress)
    _load_stock(db, scale, warehouses, seed, progress)
    _load_customers(db, scale, warehouses, seed, now_ms, progress)
    return _load_orders(db, scale, warehouses, seed, now_ms, progress)


def _load_items(db: "mako.Database", scale: Scale, seed: int, progress: Progress) -> None:
    partitions = getattr(db, "partitions", (0,))  # An embedded database has one.
    total = len(partitions) * scale.items
    for number, partition in enumerate(partitions):
        there = {"partition": partition} if len(partitions) > 1 else {}
        for first, end in _chunks(scale.items, _ITEMS_CHUNK):
            db.run(population.load_items, first, end, seed, **there)
            progress(number * scale.items + end - 1, total, "items")


def _load_stock(
    db: "mako.Database", scale: Scale, warehouses: int, seed: int, progress: Progress
) -> None:
    total = warehouses * scale.stock_rows
    for w_id in range(1, warehouses + 1):
        db.run(population.load_warehouse, w_id, scale.customers, seed)
        for first, end in _chunks(scale.stock_rows, _STOCK_CHUNK):
            db.run(population.load_stock, w_id, first, end, seed)
            progress((w_id - 1) * scale.stock_rows + end - 1, total, "stock")


def _load_customers(
    db: "mako.Database",
    scale: Scale,
    warehouses: int,
    seed: int,
    now_ms: int,
    progress: Progress,
) -> None:
    done, total = 0, warehouses * DISTRICTS * scale.customers
    for w_id, d_id in _districts(warehouses):
        for first, end in _chunks(scale.customers, _CUSTOMERS_CHUNK):
            done += db.run(
                population.load_customers, w_id, d_id, first, end, scale.names, now_ms, seed
            )
            progress(done, total, "customers")


def _load_orders(
    db: "mako.Database",
    scale: Scale,
    warehouses: int,
    seed: int,
    now_ms: int,
    progress: Progress,
) -> int:
    lines, done, total = 0, 0, warehouses * DISTRICTS * scale.orders
    for w_id, d_id in _districts(warehouses):
        for first, end in _chunks(scale.orders, _ORDERS_CHUNK):
            lines += db.run(
                population.load_orders,
                w_id,
                d_id,
                first,
                end,
                scale.orders,
                scale.delivered,
                scale.items,
                now_ms,
                seed,
            )
            done += end - first
            progress(done, total, "orders")
    return lines


def _districts(warehouses: int) -> Iterator[tuple[int, int]]:
    for w_id in range(1, warehouses + 1):
        for d_id in range(1, DISTRICTS + 1):
            yield w_id, d_id


def _chunks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """The numbers 1 to `count` as ranges [first, end) of at most `size`."""
    for first in range(1, count + 1, size):
        yield first, min(first + size, count + 1)
