"""TPC-A in the profile janus: three increments in tables that are dealt out over all partitions."""

import mako
from bench.options import TpcaOptions
from bench.parted import Parts
from bench.shards.cluster import Measured, Partitions
from bench.shards.processes import Driven, Processes
from bench.tpca import janus
from bench.tpca.benchmark import JanusTpca
from bench.workload import CheckResult, Status
from mako.placement import ShardMap, blocks, by_hash

_BITS = janus.BRANCH.key_fields[0].bits
_CHUNK = 1000


def _benchmark(partitions: int, keys: int) -> JanusTpca:
    """Of `keys` rows of each table in each partition."""
    benchmark = JanusTpca(TpcaOptions(1, "janus", accounts=partitions * keys))
    placement = blocks(partitions, size=keys, bits=_BITS)
    tables = {table.name: placement for table in janus.TABLES}
    benchmark.over(Parts(ShardMap(partitions, by_hash(partitions).default, tables)))
    return benchmark


def run_processes(partitions: int, replicas: int, keys: int, seconds: float, rate: float) -> Driven:
    """At servers."""
    benchmark = _benchmark(partitions, keys)
    rule = {"blocks": keys, "bits": _BITS}
    shards = {"tables": {table.name: rule for table in janus.TABLES}}
    with (
        Processes(
            partitions, replicas, shards=shards, modules=["bench.tpca.deployed"]
        ) as processes,
        mako.connect(processes.addresses, timeout=60) as db,
    ):
        benchmark.prepare(db, lambda *_: None)  # type: ignore[arg-type]
        states = [benchmark.states(1, 1, place)[0] for place in range(partitions)]
        driven = processes.drive(db, benchmark.workload(), states, seconds, rate=rate)
        _complain(benchmark.check(db, after_load=False))  # type: ignore[arg-type]
    return driven


def _complain(results: list[CheckResult]) -> None:
    for result in results:
        if result.status is Status.FAIL:
            raise mako.Error(f"{result.title} does not hold: {result.detail}")


def run(partitions: Partitions, keys: int, seconds: float) -> Measured:
    """Load, drive, and check that all tables have the same sum."""
    places = len(partitions.engines)
    benchmark = _benchmark(places, keys)
    partitions.create(janus.TABLES)
    ranges = [
        (place, first, min(first + _CHUNK, (place + 1) * keys))
        for place in range(places)
        for first in range(place * keys, (place + 1) * keys, _CHUNK)
    ]
    for place, first, end in ranges:
        partitions.run(place, janus.load_janus, first, end)
    states = [benchmark.states(1, 1, place)[0] for place in range(places)]
    dealt = [(table, 0, keys) for table in janus.TABLES]
    measured = partitions.drive(benchmark.workload(), states, seconds, dealt)
    sums = [
        sum(partitions.run(place, procedure, first, end) for place, first, end in ranges)
        for procedure in (janus.sum_branches, janus.sum_tellers, janus.sum_customers)
    ]
    if len(set(sums)) > 1:
        raise mako.Error(f"the tables add up to {', '.join(map(str, sums))}; all should be equal")
    return measured
