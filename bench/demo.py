"""Three real processes, a leader that is killed under load, and the proof that nothing was lost.

    start ─▶ load ─▶ terminals ─▶ kill -9 the leader ─▶ terminals go on ─▶ start it again
                                                                               │
      0 lost ◀─ hashes ◀─ 12 conditions on leader and follower ◀─ all equal ◀──┘

`bash bash/demo.sh` runs it. Every process is started by bash/shard.sh, as a user would.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import click

import mako
from bench.options import TpccOptions
from bench.tpcc.benchmark import Tpcc
from bench.tpcc.scale import SCALES
from bench.tpcc.terminals import Terminal, lost_orders
from bench.workload import Request
from mako.config import ClusterConfig, load

ROOT: Final = Path(__file__).parents[1]
NAMES: Final = ("localhost", "p1", "p2")
FILES: Final = ("config/1c1s3r1p_cluster_test.yml", "config/tpcc.yml", "config/demo.yml")
#: Seconds for processes to start: the first time they compile.
START_SECONDS: Final = 400.0


class Cluster:
    """The processes, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: ClusterConfig = load([ROOT / file for file in FILES])
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """As in a terminal: bash bash/shard.sh 1 0 1 NAME."""
        options = [word for file in FILES for word in ("-f", file)]
        command = ["bash", "bash/shard.sh", "1", "0", "1", name, *options]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*command, "--data", str(self.folder)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def kill(self, name: str) -> None:
        """kill -9: the process gets no chance to say anything."""
        self.end(name, signal.SIGKILL)

    def end(self, name: str, number: signal.Signals) -> None:
        """Send a process a signal and wait for its end."""
        process = self._running.pop(name)
        process.send_signal(number)
        process.wait()

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def ended(self) -> list[str]:
        return [name for name, process in self._running.items() if process.poll() is not None]

    def address(self, name: str) -> str:
        process = self.config.process(name)
        return f"{process.host}:{process.ports[0]}"

    @property
    def addresses(self) -> str:
        return ",".join(self.address(name) for name in NAMES)

    def name_of(self, address: str) -> str:
        return next(name for name in NAMES if self.address(name) == address)


def say(text: str, **style: Any) -> None:
    click.echo(click.style("▸ " if not style else "", fg="cyan") + click.style(text, **style))


def wait_for_leader(cluster: Cluster) -> str:
    """The name of the process that leads, once one does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ended := cluster.ended():
            log = cluster.folder / f"{ended[0]}.log"
            raise SystemExit(f"{ended[0]} has ended: {log.read_text().splitlines()[-1]}")
        try:
            with mako.connect(cluster.addresses, timeout=5) as db:
                return cluster.name_of(str(db.status()["leader_address"]))
        except (mako.Error, TimeoutError, StopIteration):
            time.sleep(0.2)
    raise SystemExit("no process leads; look into the logs")


def wait_for_preferred(cluster: Cluster) -> str:
    """Whoever was elected first hands over to the preferred process within moments."""
    deadline = time.monotonic() + 10
    while (leader := wait_for_leader(cluster)) != NAMES[0] and time.monotonic() < deadline:
        time.sleep(0.1)
    return leader


def show_status(cluster: Cluster) -> None:
    for name in NAMES:
        try:
            with mako.connect(cluster.address(name), replica=True, timeout=3) as db:
                s = db.status()
        except (mako.Error, TimeoutError):
            click.echo(f"    {name:<10} not there")
            continue
        click.echo(
            f"    {name:<10} {s['role']:<9} epoch {s['epoch']}  term {s['term']}"
            f"  applied {s['applied']:<6} watermark {s['watermark_lag_ms']:>4} ms behind the clock"
        )


class Seat:
    """A terminal in a thread, with a connection of its own."""

    def __init__(self, db: mako.RemoteDatabase, terminal: Terminal) -> None:
        self.db = db
        self.terminal = terminal
        #: Transactions by how they ended, as the client was told.
        self.counts: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Transactions, one after the other, until told to stop."""
        while not stop.is_set():
            ending = self._one(self.terminal.draw())
            self.counts[ending] = self.counts.get(ending, 0) + 1

    def _one(self, request: Request) -> str:
        try:
            self.terminal.told(self.db.run(request.procedure, *request.arguments))
        except mako.RolledBack:
            return "rolled back"
        except mako.Unknown:
            return "unknown"
        except (mako.Error, TimeoutError) as error:
            return type(error).__name__
        return "acknowledged"


class Load:
    """Terminals in threads of this process, until they are stopped."""

    def __init__(self, cluster: Cluster, terminals: int, scale: str) -> None:
        self._stop = threading.Event()
        # Every transaction carries a number, so that one whose answer was lost is asked again
        # and still runs once.
        self.seats = [
            Seat(
                mako.connect(cluster.addresses, timeout=20, once=True),
                Terminal(
                    number,
                    count=terminals,
                    warehouses=1,
                    scale=SCALES[scale],  # type: ignore[index]
                    mix=(1, 1, 0, 0, 0),
                    seed=1,
                ),
            )
            for number in range(terminals)
        ]
        self._threads = [
            threading.Thread(target=seat.run, args=(self._stop,)) for seat in self.seats
        ]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        return sum(seat.counts.get("acknowledged", 0) for seat in self.seats)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for seat in self.seats:
            seat.db.close()


def watch(load: Load, seconds: float, note: str) -> None:
    """A line a second: how many transactions were acknowledged."""
    before, due = load.done, time.monotonic()
    for _ in range(int(seconds)):
        due += 1
        time.sleep(max(0.0, due - time.monotonic()))
        done = load.done
        bar = "█" * min((done - before) // 50, 60)
        click.echo(f"    {done - before:>6} acknowledged/s  {bar}{note}")
        note, before = "", done


def wait_until_serving(load: Load) -> float:
    """Seconds until something is acknowledged again."""
    started, before = time.monotonic(), load.done
    # What was under way when the leader died may still come in.
    while load.done <= before + 2 * len(load.seats):
        time.sleep(0.005)
        if time.monotonic() - started > 30:
            raise SystemExit("nothing is acknowledged after the leader was killed")
    return time.monotonic() - started


def check_conditions(cluster: Cluster, benchmark: Tpcc, name: str) -> list[str]:
    """The clauses that fail at a snapshot of one replica; prints a line."""
    with mako.connect(cluster.address(name), replica=True, timeout=120) as db:
        results = benchmark.check(db, after_load=False)  # type: ignore[arg-type]
    failed = [result.clause for result in results if result.status.value == "FAIL"]
    click.echo(
        f"    {name:<10} {len(results) - len(failed)} of {len(results)} hold"
        + (f", not {', '.join(failed)}" if failed else "")
    )
    return failed


def settle(cluster: Cluster) -> None:
    """Until every replica has applied what the others have, and their watermarks move."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            found = []
            for name in NAMES:
                with mako.connect(cluster.address(name), replica=True, timeout=5) as db:
                    found.append(db.status()["applied"])
        except (mako.Error, TimeoutError):
            found = []
        # An idle leader adds an entry every 100 ms, so they may differ by a few.
        if found and max(found) - min(found) <= 5:
            return
        time.sleep(0.2)
    raise SystemExit("the replicas do not become equal")


def run(folder: Path, *, scale: str, terminals: int, seconds: float) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cluster = Cluster(folder)
    try:
        return _run(cluster, scale, terminals, seconds)
    finally:
        cluster.stop()


def _run(cluster: Cluster, scale: str, terminals: int, seconds: float) -> int:
    say(f"starting {', '.join(NAMES)} with bash/shard.sh; logs in {cluster.folder}")
    for name in NAMES:
        cluster.start(name)
    leader = wait_for_preferred(cluster)
    benchmark = Tpcc(TpccOptions(workers=1, warehouses=1, scale=scale))  # type: ignore[arg-type]
    with mako.connect(cluster.addresses, timeout=60) as db:
        started = time.monotonic()
        benchmark.prepare(db, lambda *_: None)  # type: ignore[arg-type]
        rows = benchmark.size().rows
        say(f"loaded TPC-C, {rows:,} rows in {time.monotonic() - started:.1f} s; {leader} leads")
        results = benchmark.check(db, after_load=True)  # type: ignore[arg-type]
        failed = [result for result in results if result.status.value == "FAIL"]
    show_status(cluster)

    say(f"{terminals} terminals enter orders and payments; each waits for durable")
    load = Load(cluster, terminals, scale)
    try:
        watch(load, seconds, "")
        leader = wait_for_leader(cluster)
        say(f"kill -9 {leader}", fg="red", bold=True)
        cluster.kill(leader)
        pause = wait_until_serving(load)
        new = wait_for_leader(cluster)
        say(f"{new} leads; serving again after {pause:.2f} s", fg="green", bold=True)
        watch(load, seconds, f"  ◀ {new} leads")
        say(f"{leader} is started again")
        cluster.start(leader)
        watch(load, seconds, f"  ◀ {leader} is back")
    finally:
        load.stop()
    wait_for_preferred(cluster)
    settle(cluster)
    show_status(cluster)
    return _verify(cluster, benchmark, load, len(failed))


def _verify(cluster: Cluster, benchmark: Tpcc, load: Load, failed: int) -> int:
    counts: dict[str, int] = {}
    for seat in load.seats:
        for ending, count in seat.counts.items():
            counts[ending] = counts.get(ending, 0) + count
    say("what the terminals were told: " + ", ".join(f"{n:,} {e}" for e, n in counts.items()))
    leader = wait_for_leader(cluster)
    follower = next(name for name in NAMES if name != leader)
    say(
        "conditions of clause 3.3.2, at a snapshot of each (3.3.2.11 after the load: "
        + ("PASS)" if not failed else "FAIL)")
    )
    for name in (leader, follower):
        failed += len(check_conditions(cluster, benchmark, name))
    hashes = {}
    told = [seat.terminal.acknowledged for seat in load.seats]
    orders = sum(len(each) for acknowledged in told for each in acknowledged.values())
    lost = {}
    for name in NAMES:
        with (
            mako.connect(cluster.address(name), replica=True, timeout=120) as db,
            db.snapshot() as snapshot,
        ):
            hashes[name] = snapshot.state_hash()
            lost[name] = lost_orders(snapshot, told)
    equal = len(set(hashes.values())) == 1
    say(
        "state hashes "
        + ("are equal: " if equal else "DIFFER: ")
        + ", ".join(f"{name} {value[:16]}" for name, value in hashes.items())
    )
    say(f"{orders:,} acknowledged new orders were looked up at each replica")
    total = max(lost.values())
    good = total == 0 and equal and not failed
    say(f"{total} acknowledged transactions lost", fg="green" if good else "red", bold=True)
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("results/demo/cluster"))
    parser.add_argument("--scale", choices=sorted(SCALES), default="spec")
    parser.add_argument("--terminals", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        return run(
            given.folder.resolve(),
            scale=given.scale,
            terminals=given.terminals,
            seconds=given.seconds,
        )
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
