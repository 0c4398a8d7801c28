"""Interactive transactions over the partitions of a real process, which leads all of them."""

import concurrent.futures
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import mako
from tests.server.processes import Cluster

pytestmark = pytest.mark.slow

PARTITIONS = 3
ACCOUNTS = [b"account %d" % number for number in range(12)]
EACH = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(
        tmp_path_factory.mktemp("interactive"),
        ("a",),
        shards=PARTITIONS,
        memory="256MiB",
        # A disk that takes its time is no reason to give the lead up, and transactions with it.
        raft={"election_ticks": 200},
    )
    try:
        made.start("a")
        made.line("a", f" leads partition={PARTITIONS - 1}")
        yield made
    finally:
        made.close()


@mako.transactional
def transfer(tx: Any, one: bytes, other: bytes, amount: int) -> None:
    view = tx.table("bank")
    view.add(one, -amount)
    view.add(other, amount)
    view.put(b"last", one + b" to " + other)


@mako.transactional
def total(tx: Any) -> int:
    rows = list(tx.scan(b"account ", b"account!", table="bank"))
    assert len(rows) == len(ACCOUNTS)
    return sum(int.from_bytes(value, "little", signed=True) for _, value in rows)


def fill(db: mako.RemoteDatabase) -> None:
    """Each test does: it may be the first one of its process of pytest."""
    batch = mako.WriteBatch()
    for key in ACCOUNTS:
        batch.put(key, EACH.to_bytes(8, "little"), table="bank")
    assert db.write(batch) > 0


def test_every_partition_is_used(cluster: Cluster) -> None:
    with cluster.connect() as db:
        placement = db.table("bank").known.placement
        assert {placement.partition_of(key) for key in ACCOUNTS} == set(range(PARTITIONS))


def test_money_moves_between_partitions_and_none_is_lost(cluster: Cluster) -> None:
    with cluster.connect() as db:
        fill(db)
        assert total(db) == EACH * len(ACCOUNTS)

    def move(seed: int) -> None:
        chance = random.Random(seed)
        with cluster.connect(once=bool(seed & 1)) as db:
            for _ in range(8):
                transfer(db, *chance.sample(ACCOUNTS, 2), chance.randrange(1, 9))
                assert total(db) == EACH * len(ACCOUNTS)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(move, seed) for seed in range(2)]:
            each.result()


def test_what_has_changed_is_a_conflict(cluster: Cluster) -> None:
    with cluster.connect() as db:
        fill(db)
        table = db.table("bank")
        tx = db.begin()
        values = tx.get_many(ACCOUNTS, table=table)
        assert None not in values
        table.add(ACCOUNTS[3], 0)  # The same value: nobody can tell.
        tx.put(b"new", b"1", table=table)
        tx.commit()
        tx = db.begin()
        tx.get_many(ACCOUNTS, table=table)
        table.add(ACCOUNTS[3], 1)
        with pytest.raises(mako.Conflict):
            tx.commit()
        table.add(ACCOUNTS[3], -1)


def test_ranges_and_single_reads_see_all_partitions(cluster: Cluster) -> None:
    with cluster.connect() as db:
        fill(db)
        table = db.table("bank")
        wanted = sorted(ACCOUNTS)
        assert [key for key, _ in table.scan(b"account ", b"account!")] == wanted
        assert [key for key, _ in table.scan(b"account ", b"account!", reverse=True)] == wanted[
            ::-1
        ]
        tx = db.begin()
        view = tx.table(table)
        view.delete(wanted[3])
        view.put(wanted[2] + b" a", b"")
        shown = [key for key, _ in view.scan(b"account ", b"account!", limit=5)]
        assert shown == [*wanted[:3], wanted[2] + b" a", wanted[4]]
        tx.abort()


def test_what_was_committed_survives_the_process(cluster: Cluster) -> None:
    with cluster.connect() as db:
        fill(db)
        for number in range(5):
            transfer(db, ACCOUNTS[number], ACCOUNTS[number + 1], 10)
        before = db.table("bank").get_many(ACCOUNTS)
    cluster.end("a", signal.SIGKILL)
    cluster.start("a")
    with cluster.connect() as db:
        assert db.table("bank").get_many(ACCOUNTS) == before
        assert total(db) == EACH * len(ACCOUNTS)
        transfer(db, ACCOUNTS[0], ACCOUNTS[-1], 1)
