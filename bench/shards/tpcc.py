"""TPC-C over partitions, each with its own warehouses, and all items everywhere."""

import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import mako
from bench.shards.cluster import Measured, Partitions
from bench.shards.processes import Driven, Processes
from bench.tpcc import load as loading
from bench.tpcc.scale import Scale
from bench.tpcc.schema import HISTORY, ITEM, TABLES, WAREHOUSE_YTD
from bench.tpcc.workload import PARTED, first_state, in_partition

_CHUNK: Final = 4096
_EVERYWHERE: Final = ("item", "terminal", "terminal_delivery", "terminal_stock")


@dataclass(frozen=True, slots=True)
class Shares:
    """Of a hundred: lines, and payments, for another warehouse, of whatever partition."""

    item_pct: int
    payment_pct: int


class Run(NamedTuple):
    """How long, and how many transactions a second of each partition; 0: as many as it can."""

    seconds: float
    rate: float


class _Loaded:
    """One partition as the loading procedures see a database."""

    def __init__(self, partitions: Partitions, partition: int) -> None:
        self._partitions = partitions
        self._partition = partition

    def create(self, *tables: mako.Table) -> None:
        engine = self._partitions.engines[self._partition]
        for table in tables:
            engine.create_table(table)

    def run(self, procedure: mako.Procedure, *arguments: int) -> int:
        return self._partitions.run(self._partition, procedure, *arguments)


@mako.procedure
def taken(tx: Any, first: int, end: int) -> int:
    """What the warehouses `first` to `end` - 1 have taken in."""
    total = 0
    for w_id in range(first, end):
        total += tx.read(WAREHOUSE_YTD, (w_id,)).w_ytd
    return total


@mako.procedure
def paid(tx: Any, w_id: int, d_id: int) -> int:
    """What the customers of a district have paid, by HISTORY."""
    total = 0
    worker = 0
    number = 0
    while True:
        rows = tx.scan(HISTORY, (w_id, d_id, worker, number), (w_id, d_id + 1), _CHUNK)
        for at in range(rows.count):
            total += rows.row(at).h_amount
        if rows.count < _CHUNK:
            return total
        worker = rows.key(rows.count - 1).h_worker
        number = rows.key(rows.count - 1).h_number + 1


def run(
    partitions: Partitions, scale: Scale, per_partition: int, shares: Shares, seconds: float
) -> Measured:
    """Load, drive, and check that all that was paid was taken in somewhere (conditions 8 and 9 of
    clause 3.3.2, over all warehouses together)."""
    places = len(partitions.engines)
    warehouses = places * per_partition
    now_ms = time.time_ns() // 1_000_000
    for place in range(places):
        loading.load(
            _Loaded(partitions, place),  # type: ignore[arg-type]
            scale,
            warehouses,
            seed=1,
            now_ms=now_ms,
            progress=lambda *_: None,
        )
    states = [_state(place, per_partition, warehouses, scale, shares) for place in range(places)]
    dealt = [(table, 1, per_partition) for table in TABLES if table is not ITEM]
    measured = partitions.drive(PARTED, states, seconds, dealt)
    got = spent = 0
    for place in range(places):
        first = place * per_partition + 1
        got += partitions.run(place, taken, first, first + per_partition)
        for w_id in range(first, first + per_partition):
            spent += sum(partitions.run(place, paid, w_id, d_id) for d_id in range(1, 11))
    if got != spent:
        raise mako.Error(f"the warehouses took in {got}, and {spent} was paid")
    return measured


def run_processes(
    partitions: int, replicas: int, scale: Scale, per_partition: int, shares: Shares, run: Run
) -> Driven:
    """The same at servers."""
    shards = {
        "default": {"blocks": per_partition, "bits": 16, "first": 1},
        "tables": dict.fromkeys(_EVERYWHERE, "everywhere"),
    }
    modules = ["bench.tpcc.deployed", __name__]
    warehouses = partitions * per_partition
    with (
        Processes(partitions, replicas, shards=shards, modules=modules) as processes,
        mako.connect(processes.addresses, timeout=60) as db,
    ):
        loading.load(
            db,  # type: ignore[arg-type]
            scale,
            warehouses,
            seed=1,
            now_ms=time.time_ns() // 1_000_000,
            progress=lambda *_: None,
        )
        states = [
            _state(place, per_partition, warehouses, scale, shares) for place in range(partitions)
        ]
        driven = processes.drive(db, PARTED, states, run.seconds, rate=run.rate)
        got = spent = 0
        for w_id in range(1, warehouses + 1):
            place = (w_id - 1) // per_partition
            got += db.run(taken, w_id, w_id + 1, partition=place)
            spent += sum(db.run(paid, w_id, d_id, partition=place) for d_id in range(1, 11))
    if got != spent:
        raise mako.Error(f"the warehouses took in {got}, and {spent} was paid")
    return driven


def _state(
    place: int, per_partition: int, warehouses: int, scale: Scale, shares: Shares
) -> dict[str, Any]:
    state = first_state(
        0,
        workers=1,
        warehouses=per_partition,
        scale=scale,
        mix=None,
        history_number=0,
        remote=(shares.item_pct, shares.payment_pct),
    )
    home = in_partition(state, place=place, block=per_partition, workers=1)
    return home | {"warehouses": warehouses}
