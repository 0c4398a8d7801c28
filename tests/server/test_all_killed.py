"""All processes are killed at once, under transactions over two partitions, and start again."""

import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.apart import Apart
from tests.server.processes import PATIENCE, Cluster
from tests.server.transfers import Ledger

pytestmark = pytest.mark.slow

PROCEDURES = ["tests.server.procedures"]


@pytest.fixture(params=["one replica", "three replicas"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    made: Cluster
    if request.param == "one replica":
        made = Apart(tmp_path, replicas=1, procedures=PROCEDURES)
    else:
        made = Cluster(tmp_path, shards=2, procedures=PROCEDURES)
    try:
        yield made
    finally:
        made.close()


def start_all(cluster: Cluster) -> None:
    """Until there are leaders, or will be within an election time."""
    for name in cluster.names:
        cluster.start(name)
    for name in cluster.names:
        cluster.line(name, " listens ")


def replicas_of(cluster: Cluster, partition: int) -> list[str]:
    apart = isinstance(cluster, Apart)
    return [name for name in cluster.names if not apart or name.endswith(str(partition))]


def test_what_was_acknowledged_is_there_on_both_sides(cluster: Cluster) -> None:
    ledger, stop = Ledger(4), threading.Event()
    start_all(cluster)
    with ExitStack() as opened, concurrent.futures.ThreadPoolExecutor(4) as pool:
        # Once, as leaderships move in the first seconds to who should lead.
        db = opened.enter_context(cluster.connect(once=True))
        ledger.open(db)
        others = [opened.enter_context(cluster.connect(once=True)) for _ in ledger.clients]
        running = [
            pool.submit(client.run, other, stop)
            for client, other in zip(ledger.clients, others, strict=True)
        ]
        try:
            ledger.wait_for(200, PATIENCE)
            cluster.kill_all()
            start_all(cluster)
            ledger.wait_for(100, PATIENCE)
        finally:
            stop.set()
        for each in running:
            each.result()
        assert ledger.check(db) >= ledger.acknowledged
        written = db.watermark
    for partition in range(2):
        hashes = set()
        for name in replicas_of(cluster, partition):
            with cluster.connect(name, replica=True, partition=partition) as near:
                near.wait_watermark(written, timeout=PATIENCE)
                with near.snapshot() as snapshot:
                    hashes.add(snapshot.state_hash())
        assert len(hashes) == 1
