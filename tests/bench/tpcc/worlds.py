"""Databases to run transactions in, and a state for them that tests can set and read.

The state of a worker is a row, so a row of a table will do: SCRATCH has the layout of STATE.
Each transaction is called by a procedure of its own with the row under SCRATCH's only key.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import mako
from bench.options import TpccOptions
from bench.tpcc.benchmark import Tpcc, create
from bench.tpcc.delivery import delivery
from bench.tpcc.inputs import BY_ID, STATE
from bench.tpcc.new_order import new_order
from bench.tpcc.order_status import order_status
from bench.tpcc.payment import payment
from bench.tpcc.stock_level import stock_level
from bench.tpcc.workload import first_state

SCRATCH: Final = mako.Table(
    "scratch", id=900, key={"number": 8}, row={field.name: field.code for field in STATE.fields}
)
_ONLY: Final = (1,)

Row = dict[str, Any]


@mako.procedure
def run_new_order(tx: Any) -> int:
    new_order(tx, tx.write(SCRATCH, (1,)))
    return 0


@mako.procedure
def run_payment(tx: Any) -> int:
    payment(tx, tx.write(SCRATCH, (1,)))
    return 0


@mako.procedure
def run_order_status(tx: Any) -> int:
    order_status(tx, tx.write(SCRATCH, (1,)))
    return 0


@mako.procedure
def run_delivery(tx: Any) -> int:
    delivery(tx, tx.write(SCRATCH, (1,)))
    return 0


@mako.procedure
def run_stock_level(tx: Any) -> int:
    stock_level(tx, tx.write(SCRATCH, (1,)))
    return 0


class World:
    """A loaded database of scale `tiny`."""

    def __init__(self, db: Any, benchmark: Tpcc, warehouses: int) -> None:
        self.db = db
        self.benchmark = benchmark
        self.warehouses = warehouses

    def run(self, procedure: Any, inputs: Mapping[str, Any]) -> Row:
        """Run a transaction as worker 1 with these inputs. Returns the state with the answers."""
        state = first_state(
            0,
            workers=1,
            warehouses=self.warehouses,
            scale=self.benchmark.scale,
            mix=None,
            history_number=0,
        )
        table = self.db.table(SCRATCH)
        table.put(_ONLY, {**state, "c_last": BY_ID, **inputs})
        self.db.run(procedure)
        answered: Row = table.get(_ONLY)
        return answered

    def get(self, table: mako.Table, *key: int) -> Row:
        row = self.db.table(table).get(key)
        assert row is not None, f"{table} has {key}"
        found: Row = row
        return found

    def has(self, table: mako.Table, *key: int) -> bool:
        return self.db.table(table).get(key) is not None

    def change(self, table: mako.Table, *key: int, **fields: Any) -> None:
        """Set some fields of a row."""
        self.db.table(table).put(key, {**self.get(table, *key), **fields})

    def add(self, table: mako.Table, *key: int, **amounts: int) -> None:
        """Add to some fields of a row."""
        row = self.get(table, *key)
        self.change(table, *key, **{name: row[name] + more for name, more in amounts.items()})

    def insert(self, table: mako.Table, *key: int, **fields: Any) -> None:
        assert not self.has(table, *key)
        self.db.table(table).put(key, fields)

    def delete(self, table: mako.Table, *key: int) -> None:
        assert self.has(table, *key)
        self.db.table(table).delete(key)

    def rows(self, table: mako.Table) -> list[tuple[tuple[int, ...], Row]]:
        with self.db.snapshot() as snapshot:
            return list(snapshot.table(table).scan())

    def failed(self, *, after_load: bool = False) -> list[str]:
        """The clauses of the conditions that do not hold."""
        results = self.benchmark.check(self.db, after_load=after_load)
        return [result.clause for result in results if result.status.value == "FAIL"]


@contextmanager
def world(warehouses: int = 1, seed: int = 1) -> Iterator[World]:
    benchmark = create(TpccOptions(workers=1, warehouses=warehouses, scale="tiny", seed=seed))
    with mako.open(":memory:", memory="256MiB") as db:
        benchmark.prepare(db, lambda _done, _total, _what: None)
        db.create(SCRATCH)
        yield World(db, benchmark, warehouses)
