"""Two datacenters on this host, with a wide-area link between them (bash/datacenters.sh).

up        make namespaces and the link, start the servers, wait until both shards are led
bench     how long transactions take until they are answered, and until they are durable
status    each replica, and what delays the packets
down      end what `up` has started, and remove what it has made
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.arguments import real, whole
from bench.datacenters import network
from bench.datacenters.processes import FILE, LINK, START_SECONDS, Programs
from mako.config import ClusterConfig, load
from mako.errors import ConfigError

#: Milliseconds there and back.
ROUND_TRIP_MS: Final = 50.0
#: Seconds of a measurement beyond which something is wrong.
_BENCH_SECONDS: Final = 900.0
#: File of the data folder: what delays the packets, in words.
_BY: Final = "link.txt"


class Datacenters:
    """The commands."""

    def __init__(self, config: ClusterConfig) -> None:
        self._hosts = {process.name: process.host for process in config.processes}
        self._folder = Path(config.document.data).resolve()
        self._programs = Programs(self._folder)
        self._names = list(self._hosts)

    def up(self, round_trip_ms: float) -> None:
        """ConfigError; then nothing is left of it."""
        if network.existing() or any(map(self._programs.running, [*self._names, LINK])):
            raise ConfigError("the datacenters are there already; end them first with `down`")
        subprocess.run([sys.executable, "-m", "mako", "warmup"], check=True)
        network.claim()  # Of two that begin at once one fails here, and leaves the other alone.
        try:
            self._make(round_trip_ms)
        except BaseException:
            self.down()
            raise

    def _make(self, round_trip_ms: float) -> None:
        one_way_ms = round_trip_ms / 2
        by = network.make(
            self._hosts,
            one_way_ms,
            lambda devices: self._programs.start_link(devices, one_way_ms),
        )
        delayed = f"packets take {one_way_ms:g} ms each way, delayed by {by}"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _BY).write_text(f"{delayed}\n")
        print(delayed)
        for name in self._names:
            self._programs.start_server(name)
            print(f"{name}: in {network.namespace(name[0])}, log in {self._folder / name}.log")
        self._programs.attend(["wait"], [*self._names, LINK], START_SECONDS)

    def bench(self, count: int) -> None:
        self._check_up()
        words = ["measure", "--count", str(count)]
        self._programs.attend(words, [*self._names, LINK], _BENCH_SECONDS)

    def status(self) -> int:
        self._check_up()
        print((self._folder / _BY).read_text().strip(), flush=True)
        command = [sys.executable, "-m", "mako", "status", "-f", str(FILE)]
        return subprocess.run(network.inside("a", command)).returncode

    def _check_up(self) -> None:
        if len(network.existing()) < len(network.SIDES):
            raise ConfigError("there are no datacenters; make them first with `up`")

    def down(self) -> list[str]:
        """What was ended."""
        # The link last, as servers hand their leaderships over.
        ended = self._programs.end(self._names) + self._programs.end([LINK])
        network.remove()
        return ended


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="datacenters.sh", description="Two datacenters on this host, and what 50 ms cost."
    )
    parser.add_argument("command", choices=["up", "bench", "status", "down"])
    parser.add_argument(
        "--round-trip-ms",
        type=real(most=1000),
        default=ROUND_TRIP_MS,
        help="up: between them, there and back",
    )
    parser.add_argument(
        "--count", type=whole(), default=100, help="bench: transactions of each kind"
    )
    return parser.parse_args(arguments)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # What was made by then is removed.
        signal.signal(number, _end)
    try:
        network.check_tools(os.geteuid())
        datacenters = Datacenters(load([FILE]))
        if given.command == "up":
            datacenters.up(given.round_trip_ms)
        elif given.command == "bench":
            datacenters.bench(given.count)
        elif given.command == "status":
            return datacenters.status()
        else:
            for name in datacenters.down() or ["nothing"]:
                print(f"{name}: ended" if name != "nothing" else "nothing runs")
    except ConfigError as error:
        print(f"mako: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
