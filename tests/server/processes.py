"""Real processes of a cluster, as a user starts, asks, kills and ends them."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

import mako

NAMES: Final = ("a", "b", "c")
#: Seconds for whatever takes as long as it takes on a busy machine.
PATIENCE: Final = 120.0
#: Ports below those that the system gives to outgoing connections, of which tests make many.
_PORTS: Final = range(10_000, 32_000)
#: Those that tests of this process have: one that was killed has none while it does not run.
_given: Final[set[int]] = set()


def _own_ports() -> range:
    """Of each of the processes of xdist that run tests beside each other: others."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return _PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; there is no way to keep them until they are used."""
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            port = random.SystemRandom().choice(_own_ports())
            if port in _given:
                continue
            made = socket.socket()
            try:
                made.bind(("127.0.0.1", port))
            except OSError:
                made.close()
            else:
                found[port] = made
        _given.update(found)
        return list(found)
    finally:
        for each in found.values():
            each.close()


class Cluster:
    """The processes `names`, of which `file` describes the `first` ones; `more` are keys of it.

    Each has a replica of each of `shards` partitions. The place of a process in `names` is that of
    the partition that it should lead. `module` is what it runs, as `python -m` does.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = NAMES,
        *,
        first: int | None = None,
        shards: int = 1,
        module: str = "mako",
        **more: Any,
    ) -> None:
        self.folder = folder
        self.module = module
        self.names = names
        ports = free_ports(2 * len(names))
        self.ports = dict(zip(names, ports[: len(names)], strict=True))
        self.http = ports[len(names) :]
        self.file = folder / "cluster.yml"
        self._more = more
        self._shards = shards
        self.write(names[:first])
        self.running: dict[str, subprocess.Popen[str]] = {}

    def write(self, names: Sequence[str], **changes: Any) -> None:
        """The configuration with the processes `names`, "-" for one that was taken out."""
        here = [name for name in names if name != "-"]
        http = dict(zip(self.names, self.http, strict=True))
        sites = [
            ["-" if n == "-" else f"s{n}{self._suffix(shard)}:{self.ports[n]}" for n in names]
            for shard in range(self._shards)
        ]
        document = {
            "site": {"server": sites},
            "process": {
                f"s{name}{self._suffix(shard)}": name
                for shard in range(self._shards)
                for name in here
            },
            "preferred": {
                str(shard): f"s{names[shard % len(names)]}{self._suffix(shard)}"
                for shard in range(1, self._shards)
            },
            "host": dict.fromkeys(self.names, "127.0.0.1"),
            "http": {name: http[name] for name in here},
            "memory": "128MiB",
            "raft": {"election_ticks": 60},
        }
        self.file.write_text(json.dumps(document | self._more | changes))

    @staticmethod
    def _suffix(shard: int) -> str:
        return f"x{shard}" if shard else ""

    def command(self, name: str, *more: str) -> list[str]:
        options = ["-f", str(self.file), "--data", str(self.folder / "data")]
        return [sys.executable, "-m", self.module, "server", "--process", name, *options, *more]

    def start(self, name: str) -> None:
        left = self.running.get(name)
        # It would be forgotten, and nobody would end it.
        assert left is None or left.poll() is not None, f"{name} runs already"
        self.running[name] = subprocess.Popen(
            self.command(name), stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )

    def line(self, name: str, wanted: str) -> str:
        """The next line of a process that contains `wanted`; what comes before it is dropped."""
        stream = self.running[name].stderr
        assert stream is not None
        said = [""]
        for line in stream:
            if wanted in line:
                return line
            said.append(line)
        pytest.fail(f"{name} ended without saying {wanted!r}, but {said[-1]!r}")

    def end(self, name: str, number: signal.Signals) -> int:
        process = self.running[name]
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        del self.running[name]  # Not before: who does not end in time is killed by `close`.
        self.said = said
        return process.returncode

    def kill_all(self) -> None:
        """Nobody sees anybody else go."""
        for process in self.running.values():
            process.send_signal(signal.SIGKILL)
        for name in list(self.running):
            self.end(name, signal.SIGKILL)

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def connect(self, name: str = "", **options: Any) -> mako.RemoteDatabase:
        address = f"127.0.0.1:{self.ports[name]}" if name else self.addresses
        try:
            return mako.connect(address, timeout=PATIENCE, **options)
        except mako.ConnectionLost as error:
            raise AssertionError(f"{error}\n{self._ended()}") from error

    def _ended(self) -> str:
        """What the processes said that are not there any more, though nobody ended them."""
        ended = {name: each for name, each in self.running.items() if each.poll() is not None}
        return "\n".join(
            f"{name} ended with {each.returncode}: {each.communicate()[1]}"
            for name, each in ended.items()
        )

    def leader(self, shard: int = 0) -> str:
        """Who leads, as one of them says; nobody may for a moment."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.connect(partition=shard) as db:
                port = str(db.status()["leader_address"]).rpartition(":")[2]
            if port:
                return next(name for name in self.names if str(self.ports[name]) == port)
            assert time.monotonic() < deadline, f"nobody leads shard {shard}"

    def settle(self, *leaders: str) -> None:
        """Until these lead the partitions, in their order: whoever should lead one waits, after a
        failure, until it has been well for a while, each time for longer."""
        deadline = time.monotonic() + 2 * PATIENCE
        while (now := tuple(map(self.leader, range(len(leaders))))) != leaders:
            assert time.monotonic() < deadline, f"{now} lead, and {leaders} should"

    def start_missing(self) -> None:
        """Have those run that other tests have ended, in whatever order these came; then they can
        be told to end, too."""
        for name in self.names:
            if name not in self.running:
                self.start(name)
                self.line(name, "is follower")

    def start_all(self) -> None:
        """Until the first site of the list leads, at the latest when it was given the lead."""
        for name in self.names:
            self.start(name)
        for name in self.names:
            self.line(name, "begins a new cluster")
        self.line(self.names[0], " leads ")

    def close(self) -> None:
        self.kill_all()
