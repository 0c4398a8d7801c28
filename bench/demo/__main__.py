"""python -m bench.demo: the whole demo, with what it shows (see the package)."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

import mako
from bench.arguments import span, whole
from bench.demo import proof
from bench.demo.cluster import FILES, NAMES, Cluster, settle, wait_for_leader, wait_for_preferred
from bench.demo.dip import Watch, longest_pause
from bench.demo.terminals import CALL_SECONDS, DISCARDED, Load
from bench.options import TpccOptions
from bench.tpcc.benchmark import Tpcc
from bench.tpcc.lookup import counts_of
from bench.tpcc.scale import SCALES


def say(text: str, **style: Any) -> None:
    click.echo(click.style("▸ " if not style else "", fg="cyan") + click.style(text, **style))


class Demo:
    """The demo, step by step."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self._cluster = Cluster(folder, given.shards)
        self._given = given
        self._shards = range(given.shards)
        #: The leader of this one is killed.
        self._victim = given.shards - 1
        options = TpccOptions(workers=1, warehouses=given.shards, scale=given.scale)
        self._benchmark = Tpcc(options)
        self._failed = 0

    def run(self) -> int:
        try:
            self._start()
            load = self._fail_over()
            return self._prove(load)
        finally:
            self._cluster.stop()

    def _start(self) -> None:
        cluster = self._cluster
        say(f"starting {', '.join(NAMES)} with bash/shard.sh; logs in {cluster.folder}")
        for name in NAMES:
            cluster.start(name)
        leaders = [wait_for_preferred(cluster, shard) for shard in self._shards]
        with mako.connect(cluster.addresses, timeout=60) as db:
            started = time.monotonic()
            self._benchmark.prepare(db, lambda *_: None)  # type: ignore[arg-type]
            rows, seconds = self._benchmark.size().rows, time.monotonic() - started
            say(f"loaded TPC-C, {rows:,} rows in {seconds:.1f} s; {_lead(leaders)}")
            results = self._benchmark.check(db, after_load=True)  # type: ignore[arg-type]
        self._failed += sum(result.status.value == "FAIL" for result in results)
        self._show_status()

    def _show_status(self) -> None:
        for name, shard in self._cluster.replicas():
            try:
                s = self._cluster.status(name, shard, 3)
            except (mako.Error, TimeoutError):
                click.echo(f"    shard {shard}  {name:<10} not there")
                continue
            click.echo(
                f"    shard {shard}  {name:<10} {s['role']:<9} epoch {s['epoch']}  term {s['term']}"
                f"  applied {s['applied']:<6} watermark {s['watermark_lag_ms']:>4} ms behind"
            )

    # --- The failover --------------------------------------------------------------------------

    def _fail_over(self) -> Load:
        given, cluster = self._given, self._cluster
        seats = max(given.terminals // given.shards, 1)
        say(
            f"{seats * given.shards} connections with {given.each} terminals each enter orders and"
            " payments; each waits for durable"
        )
        scale = SCALES[given.scale]
        load = Load(cluster.addresses, given.shards, seats, given.each, scale)
        try:
            with Watch(load, given.shards):
                time.sleep(given.seconds)
                self._kill(load)
            wait_for_preferred(cluster, self._victim)
        finally:
            load.stop()
        for shard in self._shards:
            wait_for_preferred(cluster, shard)
        settle(cluster)
        self._show_status()
        return load

    def _kill(self, load: Load) -> None:
        cluster, shard = self._cluster, self._victim
        undone = proof.undone_so_far(cluster)
        leader = wait_for_leader(cluster, shard)
        say(f"kill -9 {leader}, which leads shard {shard}", fg="red", bold=True)
        killed = time.monotonic()
        cluster.kill(leader)
        pause = self._wait_until_serving(load, killed)
        new = wait_for_leader(cluster, shard)
        say(f"{new} leads shard {shard}; serving again after {pause:.2f} s", fg="green", bold=True)
        final = cluster.leader_status(shard)["final"]
        time.sleep(self._given.seconds)
        load.judge(shard, final)
        self._show_dip(load, killed)
        for each in proof.undone(cluster, undone):
            say(
                f"the leader of shard {each.shard} removed {each.versions} versions that depended"
                f" on what was lost; its workers stopped for {each.stopped_ms:.1f} ms"
            )
        say(f"{leader} is started again")
        cluster.start(leader)
        time.sleep(self._given.seconds)

    def _wait_until_serving(self, load: Load, killed: float) -> float:
        """Seconds until something of the shard is acknowledged again."""
        # What was under way when the leader died may still come in.
        enough = load.done(self._victim) + len(load.of(self._victim)) * self._given.each
        while load.done(self._victim) <= enough:
            time.sleep(0.005)
            if time.monotonic() - killed > CALL_SECONDS + 10:
                raise SystemExit("nothing is acknowledged after the leader was killed")
        return time.monotonic() - killed

    def _show_dip(self, load: Load, killed: float) -> None:
        until = time.monotonic()
        pauses = (longest_pause(load.times(shard), killed, until) for shard in self._shards)
        say(
            "longest time without an acknowledgement: "
            + ", ".join(f"shard {shard} {pause:.2f} s" for shard, pause in enumerate(pauses))
        )

    # --- The proof -----------------------------------------------------------------------------

    def _prove(self, load: Load) -> int:
        for shard in self._shards:
            counts = load.counts(shard)
            counts.setdefault(DISCARDED, 0)
            told = ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common())
            say(f"shard {shard}, what became of its transactions: {told}")
        since = proof.acknowledged(self._cluster)
        self._check_conditions(since)
        good = self._compare_hashes() and not self._failed
        told_all = [terminal.acknowledged for seat in load.seats for terminal in seat.terminals]
        count = counts_of(told_all)
        lost = max(proof.lost(self._cluster, told_all, name, since) for name in NAMES)
        say(
            f"{count.orders:,} acknowledged new orders and {count.payments:,} payments were looked"
            " up at each replica"
        )
        good = good and lost == 0
        say(f"{lost} acknowledged transactions lost", fg="green" if good else "red", bold=True)
        return 0 if good else 1

    def _check_conditions(self, since: int) -> None:
        over = " over both shards together" if len(self._shards) > 1 else ""
        loaded = "FAIL" if self._failed else "PASS"
        say(f"conditions of clause 3.3.2{over}, at a snapshot (3.3.2.11 after the load: {loaded})")
        leader = wait_for_leader(self._cluster)
        for name in (leader, next(name for name in reversed(NAMES) if name != leader)):
            count, failed = proof.conditions(self._cluster, self._benchmark, name, since)
            self._failed += len(failed)
            click.echo(
                f"    {name:<10} {count - len(failed)} of {count} hold"
                + (f", not {', '.join(failed)}" if failed else "")
            )

    def _compare_hashes(self) -> bool:
        equal = True
        for shard, found in sorted(proof.hashes(self._cluster).items()):
            same = proof.are_equal(found)
            equal = equal and same
            say(
                f"shard {shard}: hashes {'are equal' if same else 'DIFFER'}: "
                + ", ".join(f"{name} {value[:16]}" for name, value in found.items())
            )
        return equal


def _lead(leaders: list[str]) -> str:
    if len(leaders) == 1:
        return f"{leaders[0]} leads"
    return ", ".join(f"{name} leads shard {shard}" for shard, name in enumerate(leaders))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Kill a leader of TPC-C under load, and prove that nothing is lost.",
    )
    parser.add_argument("--folder", type=Path, default=Path("results/demo/cluster"))
    parser.add_argument("--shards", type=int, choices=sorted(FILES), default=2)
    parser.add_argument("--scale", choices=sorted(SCALES), default="spec")
    parser.add_argument("--terminals", type=whole(), default=4, help="connections, in all")
    parser.add_argument("--each", type=whole(), default=8, help="terminals of each connection")
    parser.add_argument("--seconds", type=span, default=5, help="before and after each event")
    given = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    folder = given.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return Demo(folder, given).run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
