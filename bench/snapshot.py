"""How fast a snapshot of a TPC-C warehouse is written while a worker runs.

    python -m bench.snapshot [--folder DIR] [--rounds N] [--seconds S] [--scale SCALE]
                             [--output text|json]

One worker drives the mix. Each round looks at it for a while alone, and then while snapshots are
written one after the other, because a shared machine is another one every second: the share of
its throughput that the worker keeps is the median over the rounds. The bare loop writes the bytes
of a snapshot with pwrite and one fdatasync at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import mako
from bench.arguments import real, span, whole
from bench.options import Scale, TpccOptions
from bench.tpcc.benchmark import create
from mako.engine.dump import Dumper
from mako.engine.interactive import session_begin_snapshot
from mako.entry import Configuration, Index, NodeId, SnapshotMeta, Term
from mako.storage.os_disk import OsDisk
from mako.storage.snapshot import SnapshotFacts, write_snapshot
from mako.storage.snapshot_format import Block, SnapshotHeader

MB: Final = 1e6
#: Bytes of one pwrite of the bare loop, as large as a block.
BARE_BYTES: Final = 256 << 10
META: Final = SnapshotMeta(Index(1), Term(1), Configuration(frozenset({NodeId(1)})))


def paced(blocks: Iterable[Block], bytes_per_s: float) -> Iterator[Block]:
    """The blocks, not faster than that: what the disk takes, the worker lacks."""
    start = time.perf_counter()
    given = 0
    for block in blocks:
        if (ahead := given / bytes_per_s - (time.perf_counter() - start)) > 0.001:
            time.sleep(ahead)
        given += len(block.data)
        yield block


def write_once(db: mako.Database, disk: OsDisk, bytes_per_s: float) -> SnapshotFacts:
    """A snapshot of now, on the disk when this returns."""
    with db.snapshot() as snapshot:
        file = disk.open("new.snap", create=True)
        file.truncate(0)
        session_begin_snapshot(snapshot._context, snapshot.timestamp)
        with Dumper(db._engine, snapshot._context) as dumper:
            blocks = (Block(rows, data) for rows, data in dumper.blocks())
            header = SnapshotHeader(1, 1, META, snapshot.timestamp)
            facts = write_snapshot(file, header, paced(blocks, bytes_per_s))
        file.sync()
        file.close()
    return facts


def bare_rate(folder: Path, size: int) -> float:
    """Bytes per second of a loop that does nothing but write as much."""
    data = os.urandom(BARE_BYTES)
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(descriptor, 0)
    start = time.perf_counter()
    for at in range(0, size, BARE_BYTES):
        os.pwrite(descriptor, data, at)
    os.fdatasync(descriptor)
    passed = time.perf_counter() - start
    os.close(descriptor)
    return size / passed


def throughput(drive: mako.Drive, during: Callable[[], None]) -> float:
    """Transactions per second while `during` runs."""
    drive.reset()
    during()
    sample = drive.sample()
    return sum(kind.committed + kind.rolled_back for kind in sample.kinds) / sample.seconds


def measure(
    folder: Path, scale: Scale, rounds: int, seconds: float, bytes_per_s: float
) -> dict[str, float | int]:
    tpcc = create(TpccOptions(scale=scale, warehouses=1, workers=1, mix=None))
    disk = OsDisk(folder)
    alone, together, rates, bare = [], [], [], []
    facts = None
    with mako.open(memory="6GiB") as db:
        tpcc.prepare(db, lambda _done, _total, _what: None)
        db.pretouch(2 << 30)
        with db.drive(tpcc.workload(), workers=1, states=tpcc.states(1, 1), seed=1) as drive:
            write_once(db, disk, bytes_per_s)  # Loads what has to be loaded.

            def snapshots() -> None:
                nonlocal facts
                end = time.perf_counter() + seconds
                while time.perf_counter() < end:
                    start = time.perf_counter()
                    facts = write_once(db, disk, bytes_per_s)
                    rates.append(facts.size / (time.perf_counter() - start))

            for _ in range(rounds):
                alone.append(throughput(drive, lambda: time.sleep(seconds)))
                together.append(throughput(drive, snapshots))
                assert facts is not None
                bare.append(bare_rate(folder, facts.size))
    return {
        "snapshot_mib": facts.size >> 20 if facts else 0,
        "snapshot_mb_s": round(statistics.median(rates) / MB, 1),
        "bare_mb_s": round(statistics.median(bare) / MB, 1),
        "txn_per_s_alone": round(statistics.median(alone)),
        "txn_per_s_during": round(statistics.median(together)),
        "share": round(statistics.median(b / a for a, b in zip(alone, together, strict=True)), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files go")
    parser.add_argument("--scale", choices=["tiny", "small", "spec"], default="spec")
    parser.add_argument("--rate-mb-s", type=real(0.001), default=250.0, help="not faster than this")
    parser.add_argument("--rounds", type=whole(), default=5)
    parser.add_argument("--seconds", type=span, default=2.0, help="of each half of a round")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder; name one on the disk to be measured")
    folder = Path(tempfile.mkdtemp(prefix="mako-snapshot-", dir=options.folder))
    try:
        figures = measure(
            folder, options.scale, options.rounds, options.seconds, options.rate_mb_s * MB
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.output == "json":
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
