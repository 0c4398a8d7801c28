"""A partition without a majority for a while, on real processes: the others go on, except for what
depends on it (DESIGN §6, §8).

    partition 0   a             partition 1   d e f, of which e and f stand still

For as long as `MAKO_OUTAGE_SECONDS` says; a minute by hand.
"""

import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mako
from mako.client.remote.submitted import RemoteSubmitted
from mako.placement import Kind, Placement
from tests.server.procedures import COUNTER
from tests.server.processes import Cluster

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("MAKO_OUTAGE_SECONDS", "3"))
HASH = Placement(Kind.HASH, 2)
HERE, ALSO_HERE = [n for n in range(99) if HASH.partition_of(COUNTER.pack_key(n)) == 0][:2]
THERE = next(n for n in range(99) if HASH.partition_of(COUNTER.pack_key(n)) == 1)
NAMES = ("a", "d", "e", "f")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, NAMES, procedures=["tests.server.procedures"])
    sites = {name: f"s{name}:{made.ports[name]}" for name in NAMES}
    made.write(
        NAMES,
        site={"server": [[sites["a"]], [sites["d"], sites["e"], sites["f"]]]},
        process={f"s{name}": name for name in NAMES},
        preferred={"1": "sd"},
    )
    try:
        for name in NAMES:
            made.start(name)
        made.line("a", " leads partition=0")
        made.line("d", " leads partition=1")
        yield made
    finally:
        signal_both(made, signal.SIGCONT)
        made.close()


def signal_both(cluster: Cluster, number: signal.Signals) -> None:
    """To the followers of partition 1."""
    for name in ("e", "f"):
        if name in cluster.running:
            cluster.running[name].send_signal(number)


def depend_on_them(cluster: Cluster, db: mako.RemoteDatabase) -> RemoteSubmitted:
    """Stop both, and then have a transaction over both partitions executed, which d can as long as
    it has not noticed: the answer of that one."""
    for _ in range(20):
        signal_both(cluster, signal.SIGSTOP)
        with contextlib.suppress(mako.Error, TimeoutError):
            answer = db.submit("move", HERE, THERE, 5)
            answer.result(timeout=SECONDS)
            return answer
        # It noticed first; what became of it does not matter.
        signal_both(cluster, signal.SIGCONT)
        db.run("move", HERE, THERE, 0)
    pytest.fail("d notices every time before anything is executed")


def count_of(cluster: Cluster, what: str) -> float:
    """`mako_distributed_total` of a."""
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.http[0]}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    (family,) = (each for each in families if each.name == "mako_distributed")
    return sum(one.value for one in family.samples if one.labels.get("what") == what)


def look(db: mako.RemoteDatabase, how: str) -> None:
    """A transaction that reads the row, or writes it, or is told that it is there."""
    with db.transaction() as tx:
        if how == "get":
            assert tx.get((HERE,), table=COUNTER) is not None
        elif how == "put":
            tx.put((HERE,), {"value": 0}, table=COUNTER)
        else:
            tx.insert((HERE,), {"value": 0}, table=COUNTER)


def look_back(cluster: Cluster, done: int) -> None:
    """A snapshot of partition 0 has what was done meanwhile, and does not show what waits."""
    with cluster.connect(partition=0) as here, here.snapshot() as new:
        assert new.get((ALSO_HERE,), table=COUNTER) == {"value": done}
        with pytest.raises(mako.Unavailable):
            new.get((HERE,), table=COUNTER)
        assert new.get((ALSO_HERE,), table=COUNTER) == {"value": done}


def test_others_go_on_except_for_what_depends_on_it(cluster: Cluster) -> None:
    with cluster.connect() as db:
        for number, amount in ((HERE, 1000), (ALSO_HERE, 0), (THERE, 1000)):
            db.run("add", number, amount)
        moved = depend_on_them(cluster, db)
        total = db.submit("value_of", HERE, partition=0).result()
        stopped = time.monotonic()
        while count_of(cluster, "stalled") == 0:  # Until then they have early results, and wait.
            db.submit("value_of", HERE, partition=0)
        for how in ("get", "put", "insert"):  # Calls are asked again; these are told at once.
            with pytest.raises(mako.Unavailable, match="stalled"):
                look(db, how)
        done = 0
        while done == 0 or time.monotonic() < stopped + SECONDS:
            done += 1
            assert db.run("add", ALSO_HERE, 1) == done
        assert count_of(cluster, "stalled") >= 3
        look_back(cluster, done)
        with pytest.raises(TimeoutError):
            moved.wait_durable(timeout=0.01)

        signal_both(cluster, signal.SIGCONT)
        try:
            moved.wait_durable()
        except mako.Discarded:
            total += 5
        # Whoever was refused has had no effect, and nobody is any more.
        assert db.run("add", HERE, 1) == total + 1
        assert db.run("add", ALSO_HERE, 1) == done + 1
        assert db.run("sum_of", 0, 99, partition=0) == 2000 + done + 2
