"""What must hold after the failover: nothing lost, nothing half done, replicas that are equal.

conditions   of clause 3.3.2, over all shards together, at one snapshot of a process
looked up    every new order and payment that was acknowledged, at every replica of its shard
hashes       of all rows of a shard, at one timestamp, at every replica: `mako status --hash`
undone       what a leader removed as it depended on a shard that failed, from its log
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import mako
from bench.demo.cluster import NAMES, Cluster
from bench.moments import again, passed, snapshot_from
from bench.tpcc.benchmark import Tpcc
from bench.tpcc.lookup import Acknowledged, lost_of

#: Seconds for a procedure, which is compiled when it first runs, and for a command.
PATIENCE: Final = 120.0
_UNDONE: Final = re.compile(
    r" has undone what others lost partition=(\d+) of=\S+ versions=(\d+) stopped_ms=([\d.]+)"
)


class Undone(NamedTuple):
    """What the leader of a shard removed because another shard had failed."""

    shard: int
    versions: int
    #: How long its workers stood still for it.
    stopped_ms: float


def undone_in(log: str) -> list[Undone]:
    """Each time that a process has done it, in the order of its log."""
    found = _UNDONE.findall(log)
    return [Undone(int(shard), int(count), float(ms)) for shard, count, ms in found]


def undone(cluster: Cluster, before: Mapping[str, int]) -> list[Undone]:
    """The same of all processes, without those that they had told `before`."""
    found = []
    for name in NAMES:
        found += undone_in(cluster.log(name).read_text())[before[name] :]
    return found


def undone_so_far(cluster: Cluster) -> dict[str, int]:
    """How often each process has done it."""
    return {name: len(undone_in(cluster.log(name).read_text())) for name in NAMES}


def acknowledged(cluster: Cluster) -> int:
    """The timestamp up to which leaders have acknowledged anything."""
    with mako.connect(cluster.addresses, timeout=PATIENCE) as db:
        return passed(db)


def conditions(cluster: Cluster, benchmark: Tpcc, name: str, since: int) -> tuple[int, list[str]]:
    """How many conditions were checked at a snapshot of the replicas of one process, not before
    `since`, and the clauses that fail."""
    with mako.connect(cluster.address(name), replica=True, timeout=PATIENCE) as db:
        results = benchmark.check(db, after_load=False, since=since)  # type: ignore[arg-type]
    return len(results), [each.clause for each in results if each.status.value == "FAIL"]


def lost(cluster: Cluster, told: Sequence[Acknowledged], name: str, since: int) -> int:
    """How many of the acknowledged orders and payments the replicas of one process do not have, at
    `since` or later."""
    with mako.connect(cluster.address(name), replica=True, timeout=PATIENCE) as db:

        def look_up() -> int:
            with snapshot_from(db, since) as snapshot:
                return sum(lost_of(snapshot, told))

        return again(look_up)


def hashes(cluster: Cluster) -> dict[int, dict[str, str]]:
    """By shard and process: the hash of all rows, of a shard at one timestamp."""
    command = [sys.executable, "-m", "mako", "status", *cluster.options, "--hash", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    found: dict[int, dict[str, str]] = {}
    for row in json.loads(done.stdout)["replicas"]:
        found.setdefault(row["partition"], {})[row["process"]] = _hash(row)
    return found


def _hash(row: Mapping[str, Any]) -> str:
    if "hash" in row:
        return str(row["hash"])
    return f"none ({row.get('hash_error') or row.get('error')})"


def are_equal(found: Mapping[str, str]) -> bool:
    """Whether every process has the same hash."""
    return len(set(found.values())) == 1 and not any(
        each.startswith("none") for each in found.values()
    )
