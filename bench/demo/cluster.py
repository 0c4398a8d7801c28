"""The processes of the demo: started, killed and asked who leads.

localhost   leads shard 0      each has a replica of every shard
p1          leads shard 1
p2          leads none
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mako
from mako.config import ClusterConfig, load

ROOT: Final = Path(__file__).parents[2]
#: The process that should lead shard 0, shard 1, and so on.
NAMES: Final = ("localhost", "p1", "p2")
#: The configuration, by the number of shards.
FILES: Final = {1: "config/1c1s3r1p_cluster_test.yml", 2: "config/1c2s3r1p.yml"}
#: What is added: TPC-C, where its rows are, and less memory.
MORE: Final = ("config/tpcc.yml", "config/tpcc_shards.yml", "config/demo.yml")
#: Seconds for processes to start: the first time they compile.
START_SECONDS: Final = 400.0
#: Seconds for a leadership to be handed over, and for replicas to catch up.
SETTLE_SECONDS: Final = 60.0


class Cluster:
    """The processes, by name."""

    def __init__(self, folder: Path, shards: int = 1) -> None:
        self.folder = folder
        self.shards = shards
        self.files = (FILES[shards], *MORE)
        self.config: ClusterConfig = load([ROOT / file for file in self.files])
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def options(self) -> list[str]:
        """The configuration as options of a command."""
        return [word for file in self.files for word in ("-f", file)]

    def start(self, name: str) -> None:
        """As in a terminal: bash bash/shard.sh 2 0 1 NAME."""
        command = ["bash", "bash/shard.sh", str(self.shards), "0", "1", name, *self.options]
        with self.log(name).open("ab") as log:
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

    def log(self, name: str) -> Path:
        """What a process says."""
        return self.folder / f"{name}.log"

    def address(self, name: str) -> str:
        process = self.config.process(name)
        return f"{process.host}:{process.ports[0]}"

    @property
    def addresses(self) -> str:
        return ",".join(self.address(name) for name in NAMES)

    def name_of(self, address: str) -> str:
        return next(name for name in NAMES if self.address(name) == address)

    def replicas(self) -> Iterator[tuple[str, int]]:
        """Each process and shard."""
        for shard in range(self.shards):
            for name in NAMES:
                yield name, shard

    def status(self, name: str, shard: int, seconds: float = 5) -> dict[str, Any]:
        """What a replica says about itself. An error if it does not answer."""
        address = self.address(name)
        with mako.connect(address, replica=True, timeout=seconds, partition=shard) as db:
            return db.status()

    def leader_status(self, shard: int, seconds: float = 5) -> dict[str, Any]:
        """What the leader of a shard says. An error if there is none in time."""
        with mako.connect(self.addresses, timeout=seconds, partition=shard) as db:
            return db.status()


def wait_for_leader(cluster: Cluster, shard: int = 0) -> str:
    """The name of the process that leads a shard, once one does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ended := cluster.ended():
            log = cluster.log(ended[0]).read_text()
            raise SystemExit(f"{ended[0]} has ended: {log.splitlines()[-1]}")
        try:
            return cluster.name_of(str(cluster.leader_status(shard)["leader_address"]))
        except (mako.Error, TimeoutError, StopIteration):
            time.sleep(0.2)
    raise SystemExit(f"no process leads shard {shard}; look into the logs in {cluster.folder}")


def wait_for_preferred(cluster: Cluster, shard: int = 0) -> str:
    """Whoever was elected first hands over to the preferred process within moments."""
    deadline = time.monotonic() + 10
    while (leader := wait_for_leader(cluster, shard)) != NAMES[shard]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return leader


def settle(cluster: Cluster) -> None:
    """Until every replica has applied what the others of its shard have."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        applied: dict[int, list[int]] = {}
        try:
            for name, shard in cluster.replicas():
                applied.setdefault(shard, []).append(cluster.status(name, shard)["applied"])
        except (mako.Error, TimeoutError):
            continue
        # An idle leader adds an entry every 100 ms, so they may differ by a few.
        if all(max(found) - min(found) <= 5 for found in applied.values()):
            return
        time.sleep(0.2)
    raise SystemExit(f"the replicas do not become equal; look into the logs in {cluster.folder}")
