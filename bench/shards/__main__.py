"""python -m bench.shards micro --cross-shard-pct 100
    python -m bench.shards tpca
    python -m bench.shards tpcc --warehouses-per-worker 8 --remote-item-pct 1

Partitions of one process with one worker each, without replication. Each run checks that nothing
was created or lost, and fails if it was. `--rounds N` repeats in turns with `--beside` (no rows of
other partitions at all), and prints the median of the ratios of neighbouring rounds.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from statistics import median

import mako
from bench.arguments import PERCENT, real, span, whole
from bench.options import WAREHOUSES_MAX
from bench.shards import micro, tpca, tpcc
from bench.shards.cluster import Measured, Partitions
from bench.tpcc.scale import SCALES
from mako import histogram

_MEMORY = 4 << 30
#: As `mako.ids.PARTITIONS_MAX`.
_PARTITIONS_MAX = 64


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.shards", description=(__doc__ or "").strip())
    parser.add_argument("workload", choices=["micro", "tpca", "tpcc"])
    parser.add_argument("--partitions", type=whole(2, _PARTITIONS_MAX), default=2)
    parser.add_argument("--seconds", type=span, default=3.0)
    parser.add_argument("--rounds", type=whole(), default=1)
    parser.add_argument("--beside", action="store_true", help="the same without remote rows")
    parser.add_argument(
        "--keys", type=whole(2, 100_000_000), default=100_000, help="micro, tpca: of each partition"
    )
    parser.add_argument("--cross-shard-pct", type=PERCENT, default=100)
    parser.add_argument("--warehouses-per-worker", type=whole(1, WAREHOUSES_MAX), default=8)
    parser.add_argument("--remote-item-pct", type=PERCENT, default=1)
    parser.add_argument("--remote-payment-pct", type=PERCENT, default=15)
    parser.add_argument("--scale", choices=list(SCALES), default="tiny")
    parser.add_argument(
        "--processes",
        type=whole(0),
        default=0,
        metavar="REPLICAS",
        help="in servers, so many replicas",
    )
    parser.add_argument("--rate", type=real(), default=0.0, help="servers: transactions/s of each")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    given = parser.parse_args(arguments)
    if given.beside and given.workload == "tpca":
        parser.error("tpca is as it is, with no share of remote rows; leave out --beside")
    if given.rate and not given.processes:
        parser.error("--rate is of servers; add --processes and how many replicas, or leave it out")
    warehouses = given.warehouses_per_worker * given.partitions
    if given.workload == "tpcc" and warehouses > WAREHOUSES_MAX:
        parser.error(f"that makes {warehouses} warehouses, and there may be {WAREHOUSES_MAX}")
    return given


def _shares(given: argparse.Namespace, *, remote: bool) -> tpcc.Shares:
    if not remote:
        return tpcc.Shares(0, 0)
    return tpcc.Shares(given.remote_item_pct, given.remote_payment_pct)


def latencies(kind: mako.KindSample) -> str:
    """When transactions of a kind were executed, and when durable: p50 and p99 in ms."""
    shown = []
    for name, counts in (("executed", kind.histogram), ("durable", kind.durable)):
        p50, p99 = (histogram.quantile(counts, q) / 1e6 for q in (0.5, 0.99))
        shown.append(f"{name} p50 {p50:.2f} p99 {p99:.2f} ms")
    return f"{kind.committed} committed, {', '.join(shown)}"


def _in_processes(given: argparse.Namespace, *, remote: bool) -> Measured:
    if given.workload == "micro":
        cross = given.cross_shard_pct if remote else 0
        driven = micro.run_processes(
            given.partitions, given.processes, given.keys, cross, given.seconds, given.rate
        )
    elif given.workload == "tpca":
        driven = tpca.run_processes(
            given.partitions, given.processes, given.keys, given.seconds, given.rate
        )
    else:
        driven = tpcc.run_processes(
            given.partitions,
            given.processes,
            SCALES[given.scale],
            given.warehouses_per_worker,
            _shares(given, remote=remote),
            tpcc.Run(given.seconds, given.rate),
        )
    for place, sample in enumerate(driven.samples):
        for kind in sample.kinds:
            if kind.committed and kind.durable:
                print(f"  partition {place} {kind.name}: {latencies(kind)}", file=sys.stderr)
    used = ", ".join(
        f"{name} {seconds / given.seconds:.2f}" for name, seconds in driven.cpu.items()
    )
    print(f"  processors: {used}", file=sys.stderr)
    return driven.measured


def _one(given: argparse.Namespace, *, remote: bool) -> Measured:
    if given.processes:
        return _in_processes(given, remote=remote)
    with Partitions(given.partitions, _MEMORY) as partitions:
        if given.workload == "micro":
            cross = given.cross_shard_pct if remote else 0
            return micro.run(partitions, given.keys, cross, given.seconds)
        if given.workload == "tpca":
            return tpca.run(partitions, given.keys, given.seconds)
        shares = _shares(given, remote=remote)
        scale = SCALES[given.scale]
        return tpcc.run(partitions, scale, given.warehouses_per_worker, shares, given.seconds)


def _show(name: str, measured: Measured) -> None:
    counts = ", ".join(f"{count} {what}" for what, count in measured.counts.items())
    durable = measured.durable_per_second
    print(
        f"{name}: {measured.per_second:,.0f} transactions/s{' executed' if durable else ''},"
        f"{f' {durable:,.0f}/s durable,' if durable else ''}"
        f" {measured.abort_pct:.2f} % aborted, {measured.aborted_over} of them over partitions;"
        f" {counts}"
    )


def main(arguments: list[str], run: Callable[..., Measured] = _one) -> int:
    given = _parse(arguments)
    found: dict[str, list[Measured]] = {"remote": [], "beside": []}
    try:
        for _ in range(given.rounds):
            if given.beside:
                found["beside"].append(run(given, remote=False))
            found["remote"].append(run(given, remote=True))
    except mako.Error as error:
        print(f"bench.shards: {error}", file=sys.stderr)
        return 1
    ratios = [
        one.per_second / other.per_second
        for one, other in zip(found["remote"], found["beside"], strict=False)
    ]
    if given.output == "json":
        shown = {
            name: [dataclasses.asdict(each) | {"states": None} for each in some]
            for name, some in found.items()
        }
        print(json.dumps(shown | {"ratios": ratios}))
        return 0
    for name, some in found.items():
        for each in some:
            _show(name, each)
    if ratios:
        print(f"ratio: {median(ratios):.2f} ({', '.join(f'{each:.2f}' for each in ratios)})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
