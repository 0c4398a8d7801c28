"""The same in processes of their own: `mako server` for each, driven through `db.drive`.

one replica      a process for each partition, log in memory
three replicas   three processes with a replica of each partition, leaders spread over them
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import mako
from bench.shards.cluster import DRAIN_SECONDS, WARMUP_SECONDS, Measured, measured

#: Seconds for a process to start and for its partitions to have leaders.
START_SECONDS: Final = 120.0
#: The value of raft_role of a leader.
_LEADER: Final = 3


@dataclass(frozen=True, slots=True)
class Driven:
    """What the leaders have done."""

    measured: Measured
    #: The last sample of each.
    samples: tuple[mako.Sample, ...]
    #: Processor seconds by process.
    cpu: dict[str, float]


class Processes:
    """See the module. `shards` is the key of the configuration, `modules` what is deployed."""

    def __init__(
        self,
        partitions: int,
        replicas: int,
        *,
        shards: dict[str, Any],
        modules: Sequence[str],
        memory: str = "1GiB",
    ) -> None:
        self.partitions = partitions
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        count = partitions if replicas == 1 else replicas
        self.names = [f"n{number}" for number in range(count)]
        free = _free_ports(2 * count)
        self.ports = dict(zip(self.names, free[:count], strict=True))
        self._http = dict(zip(self.names, free[count:], strict=True))
        sites = [
            [f"s{p}x{n}" for n in ([p] if replicas == 1 else range(replicas))]
            for p in range(partitions)
        ]
        document = {
            "site": {
                "server": [
                    [f"{site}:{self.ports[self._name_of(site)]}" for site in line] for line in sites
                ]
            },
            "process": {site: self._name_of(site) for line in sites for site in line},
            "host": dict.fromkeys(self.names, "127.0.0.1"),
            "http": self._http,
            "log": "memory",
            "memory": memory,
            "procedures": list(modules),
            "shards": shards,
        }
        if replicas > 1:
            document["preferred"] = {str(p): sites[p][p % replicas] for p in range(1, partitions)}
        self._file = self._folder / "cluster.yml"
        self._file.write_text(json.dumps(document))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def _name_of(site: str) -> str:
        return f"n{site.partition('x')[2]}"

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Nobody calls __exit__ then, and servers would run on.
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        """Start all, and wait until they reach each other."""
        for name in self.names:
            log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", "mako", "server", "--process", name]
            self._running[name] = subprocess.Popen(
                [*command, "-f", str(self._file), "--data", str(self._folder)],
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise mako.Error(f"{name} ended: {self._last_line(name)}")
            if self._is_ready():
                return
            time.sleep(0.1)
        raise mako.Error("the partitions do not reach each other; look whether ports are taken")

    def _last_line(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _scrape(self) -> list[tuple[str, str, str, float]]:
        """(process, name, labels, value) of every sample of every process that answers."""
        found = []
        for process, port in self._http.items():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as got:
                    text = got.read().decode()
            except OSError:
                continue
            for line in text.splitlines():
                if not line.startswith("#") and "{" in line:
                    name, _, rest = line.partition("{")
                    labels, _, value = rest.rpartition("} ")
                    found.append((process, name, labels, float(value)))
        return found

    def _is_ready(self) -> bool:
        """Whether every partition is led where it should be, and reaches all others."""
        samples = self._scrape()
        leading = {
            (process, labels.partition('partition="')[2].partition('"')[0])
            for process, name, labels, value in samples
            if name == "raft_role" and value == _LEADER
        }
        wanted = {(self.names[p % len(self.names)], str(p)) for p in range(self.partitions)}
        reached = sum(value for _, name, _, value in samples if name == "mako_partition_reachable")
        return leading == wanted and reached == self.partitions * (self.partitions - 1)

    def counts(self) -> dict[str, int]:
        """What leaders have done for transactions over partitions, since they started."""
        total: dict[str, int] = {"distributed": 0, "parked": 0}
        for _, name, labels, value in self._scrape():
            if name == "mako_distributed_total":
                what = labels.partition('what="')[2].rstrip('"')
                what = "distributed" if what == "committed" else what
                total[what] = total.get(what, 0) + int(value)
        return total

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each process."""
        ticks = os.sysconf("SC_CLK_TCK")
        found = {}
        for name, process in self._running.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            found[name] = (int(fields[11]) + int(fields[12])) / ticks
        return found

    def drive(
        self,
        db: mako.RemoteDatabase,
        workload: mako.Workload,
        states: Sequence[dict[str, Any]],
        seconds: float,
        *,
        seed: int = 1,
        rate: float = 0.0,
    ) -> Driven:
        """Drive a worker at the leader of each partition for a while."""
        drives = [
            db.drive(workload, workers=1, states=[state], seed=seed + p, rate=rate, partition=p)
            for p, state in enumerate(states)
        ]
        time.sleep(WARMUP_SECONDS)
        before, used = self.counts(), self.cpu_seconds()
        for drive in drives:
            drive.reset()
        time.sleep(seconds)
        samples = [drive.sample() for drive in drives]
        after, spent = self.counts(), self.cpu_seconds()
        for drive in drives:
            drive.stop()
        counts = {name: after[name] - before.get(name, 0) for name in after}
        last = [drive.states()[0] for drive in drives]
        self._rest()
        cpu = {name: spent[name] - used[name] for name in spent}
        return Driven(measured(samples, counts, last), tuple(samples), cpu)

    def _rest(self) -> None:
        """What was under way when the workers stopped has ended."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            waiting = [v for _, name, _, v in self._scrape() if name == "mako_waiting_for"]
            if not any(waiting):
                return
            time.sleep(0.05)
        raise mako.Error(f"transactions did not end in {DRAIN_SECONDS:g} s")

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._stack.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in made]
