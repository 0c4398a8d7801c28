"""The client: how long transactions take as somebody in side a sees it.

    submit ──▶ executed at the leader, answered early ──▶ durable: a majority has it, here and there

It runs in the namespace of side a. All times are of one transaction at a time; the last line
begins each when the one before was answered early, and waits for all of them at the end.
"""

import argparse
import functools
import math
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Protocol

import mako
from bench.arguments import whole
from bench.datacenters.deployed import ACCOUNT, BLOCK, add, create, move
from mako.config import ClusterConfig, load

FILE: Final = Path(__file__).parents[2] / "config" / "datacenters.yml"
#: Accounts of each shard that are used, one after the other.
ACCOUNTS: Final = 50
#: Who leads shard 0 and shard 1, by the configuration.
LEADERS: Final = ("a1", "b1")
#: Handshakes of which the round trip is the median.
_HANDSHAKES: Final = 21
_CALL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each transaction from its submission."""

    name: str
    early: Sequence[float]
    durable: Sequence[float]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def table(rows: Sequence[Times], round_trip_ms: float) -> list[str]:
    """Lines: milliseconds, and medians in round trips."""
    width = max(len(row.name) for row in rows)
    lines = [
        f"{'':{width}}  {'early, ms':^20}  {'durable, ms':^20}  {'round trips':^16}",
        f"{'':{width}}  {'p50':>10}{'p99':>10}  {'p50':>10}{'p99':>10}  {'early':>8}{'durable':>8}",
    ]
    for row in rows:
        early, durable = (
            [percentile(values, share) for share in (0.5, 0.99)]
            for values in (row.early, row.durable)
        )
        lines.append(
            f"{row.name:{width}}  {early[0]:10.2f}{early[1]:10.2f}  {durable[0]:10.2f}"
            f"{durable[1]:10.2f}  {early[0] / round_trip_ms:8.2f}"
            f"{durable[0] / round_trip_ms:8.2f}"
        )
    return lines


class Client:
    """Both shards, reached from side a."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config

    def address(self, name: str) -> str:
        process = self._config.process(name)
        return f"{process.host}:{process.ports[0]}"

    def connect(self) -> mako.RemoteDatabase:
        return mako.connect(self.address("a1"), timeout=_CALL_SECONDS)

    def round_trip_ms(self) -> float:
        """A TCP handshake with the other side is one."""
        process = self._config.process("b1")
        found = []
        for _ in range(_HANDSHAKES):
            began = time.perf_counter()
            with socket.create_connection((process.host, process.ports[0]), timeout=5):
                found.append(1000 * (time.perf_counter() - began))
        return median(found)

    # --- Until there is something to measure ---------------------------------------------------

    def wait(self) -> None:
        """Until the shards are led where they should be, and reach each other. Makes accounts."""
        for shard, name in enumerate(LEADERS):
            while self._leader(shard) != self.address(name):
                time.sleep(0.1)
        with self.connect() as db:
            db.create(ACCOUNT)
            made = [
                db.submit(create, number)
                for first in (0, BLOCK)
                for number in range(first, first + ACCOUNTS)
            ]
            for each in made:
                each.wait_durable()
            db.run(move, 0, BLOCK, 0)  # It ends when both leaders have reached each other.
        print(f"{LEADERS[0]} leads shard 0, {LEADERS[1]} leads shard 1")
        print(f"a round trip between the datacenters takes {self.round_trip_ms():.1f} ms")

    def _leader(self, shard: int) -> str:
        address = ",".join(map(self.address, LEADERS))
        try:
            with mako.connect(address, replica=True, timeout=2, partition=shard) as db:
                return str(db.status()["leader_address"])
        except (mako.Error, TimeoutError):
            return ""

    # --- Measuring -----------------------------------------------------------------------------

    def measure(self, count: int) -> None:
        """Print the table, after `count` transactions of each kind. mako.Error: an answer is
        wrong, or none comes."""
        round_trip = self.round_trip_ms()
        with self.connect() as db:
            before = total(db)
            rows = [
                timed(name, count, functools.partial(submit, db)) for name, submit in KINDS.items()
            ]
            per_second = in_a_row(db, 20 * count)
            # Each `add` adds one; a `move` changes nothing of the sum.
            added, wanted = total(db) - before, 2 * count + 20 * count
            if added != wanted:
                raise mako.Error(f"{added} were added and not {wanted}; some are lost or ran twice")
        print(f"a round trip between the datacenters takes {round_trip:.1f} ms")
        print(*table(rows, round_trip), sep="\n")
        print(
            f"{20 * count} of shard 0, each begun when the one before was answered early:"
            f" {per_second:,.0f}/s, until the last is durable"
        )


class Submitted(Protocol):
    """What is measured of what `submit` returns."""

    def result(self) -> int: ...

    def wait_durable(self) -> int: ...


Submit = Callable[[mako.RemoteDatabase, int], Submitted]

#: How a transaction of each kind is begun, by its number.
KINDS: Final[dict[str, Submit]] = {
    "shard 0, led here": lambda db, number: db.submit(add, number % ACCOUNTS, 1),
    "shard 1, led there": lambda db, number: db.submit(add, BLOCK + number % ACCOUNTS, 1),
    "both, begun here": lambda db, number: db.submit(
        move, number % ACCOUNTS, BLOCK + number % ACCOUNTS, 1
    ),
}


def timed(name: str, count: int, submit: Callable[[int], Submitted]) -> Times:
    """One transaction after the other."""
    early, durable = [], []
    for number in range(count):
        began = time.perf_counter()
        submitted = submit(number)
        submitted.result()
        early.append(1000 * (time.perf_counter() - began))
        submitted.wait_durable()
        durable.append(1000 * (time.perf_counter() - began))
    return Times(name, early, durable)


def in_a_row(db: mako.RemoteDatabase, count: int) -> float:
    """Transactions per second of shard 0 which do not wait for each other's durability."""
    began = time.perf_counter()
    submitted = []
    for number in range(count):
        submitted.append(db.submit(add, number % ACCOUNTS, 1))
        submitted[-1].result()
    for each in submitted:
        each.wait_durable()
    return count / (time.perf_counter() - began)


def total(db: mako.RemoteDatabase) -> int:
    """What all accounts have together. Nobody changes them meanwhile: a snapshot would be one
    moment, but one that may lie before the last answer."""
    numbers = [(first + place,) for first in (0, BLOCK) for place in range(ACCOUNTS)]
    return sum(row["value"] for row in db.table(ACCOUNT).get_many(numbers))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.datacenters.measure")
    parser.add_argument("what", choices=["wait", "measure"])
    parser.add_argument("--count", type=whole(), default=100)
    given = parser.parse_args(arguments)
    client = Client(load([FILE]))
    try:
        if given.what == "wait":
            client.wait()
        else:
            client.measure(given.count)
    except (mako.Error, OSError) as error:
        print(f"mako: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
