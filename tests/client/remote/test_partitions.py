"""A cluster of two partitions, through the client for threads: everything is where it belongs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mako
from mako.placement import Kind, Placement, ShardMap
from tests.client.remote.conftest import Clock
from tests.engine.running import until
from tests.server.divided import ACCOUNT, RATE, SHARDS, Divided

pytestmark = pytest.mark.usefixtures("patient")

WORDS = [b"apple", b"bird", b"lime", b"m", b"mango", b"zebra"]


@pytest.fixture(scope="module")
def divided() -> Iterator[Divided]:
    with Divided() as made:
        yield made


@pytest.fixture
def db(divided: Divided) -> Iterator[mako.RemoteDatabase]:
    with mako.connect(divided.address) as made:
        yield made


def loaded(db: mako.RemoteDatabase, name: str) -> list[tuple[bytes, bytes]]:
    """The rows of a table, which are there then."""
    keys = sorted(WORDS + [b"w%04d" % number for number in range(700)])
    batch = mako.WriteBatch()
    for key in keys:
        batch.put(key, key, table=name)
    db.load(batch)
    return [(key, key) for key in keys]


def keys_of(partition: int, count: int, table: str = "default") -> list[bytes]:
    """Some keys that belong to a partition."""
    placement = SHARDS.of(table)
    found = (b"key %d" % number for number in range(1000))
    return [key for key in found if placement.partition_of(key) == partition][:count]


def stored(divided: Divided, partition: int, table: str) -> list[bytes]:
    """The keys of a table that a server has."""
    with divided.at(partition) as alone:
        return [key for key, _ in alone.table(table).scan()]


def test_each_key_is_written_and_read_where_it_belongs(
    divided: Divided, db: mako.RemoteDatabase
) -> None:
    table = db.table("one by one")
    here, there = keys_of(0, 3), keys_of(1, 3)
    for key in here + there:
        table.put(key, key)
    for key in here + there:
        assert table.get(key) == key
    for partition, keys in ((0, here), (1, there)):
        assert stored(divided, partition, "one by one") == sorted(keys)
    with pytest.raises(mako.Exists):
        table.insert(there[0], b"again")
    assert table.delete(there[0])
    assert not table.delete(there[0])
    assert table.get(there[0]) is None
    assert [table.add(key, 5) for key in (b"n1", b"n2", b"n3", b"n1")] == [5, 5, 5, 10]
    early = [table.submit_put(key, b"early") for key in here + there]
    early.append(table.submit_add(b"n1", 1))
    assert early[-1].wait_durable() == 11
    assert [each.wait_durable() for each in early[:-1]]
    assert set(table.get_many(here + there)) == {b"early"}
    long = b"v" * 100_000
    table.put(there[1], long)
    assert table.get(there[1]) == long


def test_many_keys_come_in_the_order_asked(db: mako.RemoteDatabase) -> None:
    table = db.table("many")
    keys = [b"%d" % number for number in range(40)]
    for key in keys[::2]:
        table.put(key, b"v" + key)
    wanted = [b"v" + key if int(key) % 2 == 0 else None for key in keys]
    assert table.get_many(keys) == wanted
    assert table.get_many(keys[::-1]) == wanted[::-1]
    assert table.get_many([]) == []
    with db.snapshot() as snapshot:
        assert snapshot.table("many").get_many(keys) == wanted


@pytest.mark.parametrize("name", ["hashed", "words"])
def test_ranges_are_in_order_whoever_has_the_rows(db: mako.RemoteDatabase, name: str) -> None:
    rows = loaded(db, name)
    table = db.table(name)
    assert table.scan() == rows
    assert table.scan(reverse=True) == rows[::-1]
    assert list(table.items()) == rows
    assert table.scan(b"bird", b"mango") == rows[1:4]
    assert table.scan(b"bird", b"mango", limit=2, reverse=True) == rows[3:1:-1]
    assert table.scan(limit=600) == rows[:600]
    assert table.scan(b"x", b"y") == []
    assert list(table[b"a":b"c"]) == rows[:2]


def test_the_servers_have_the_rows_of_their_range(
    divided: Divided, db: mako.RemoteDatabase
) -> None:
    loaded(db, "words")
    assert stored(divided, 0, "words") == WORDS[:3]
    assert stored(divided, 1, "words")[:2] == WORDS[3:5]


def test_only_the_partitions_of_a_range_are_asked(
    divided: Divided, db: mako.RemoteDatabase
) -> None:
    loaded(db, "words")
    with mako.connect(divided.address) as new:
        assert new.table("words").scan(b"a", b"m")[:1] == [(b"apple", b"apple")]
        assert [lane.partition for lane in new._lanes.made] == [0]


def test_tables_have_the_same_number_in_all_partitions(divided: Divided) -> None:
    with mako.connect(divided.address) as db:
        for number in range(3):
            table = db.table(f"numbered {number}")
            if number:  # The first one is not used there, so that its number would be free.
                table.put(keys_of(1, 1)[0], b"%d" % number)
    with divided.at(1) as alone:
        assert [alone.table(f"numbered {n}").get(keys_of(1, 1)[0]) for n in (1, 2)] == [b"1", b"2"]
        with pytest.raises(mako.SchemaError, match="partition 0 gives tables their numbers; open"):
            alone.table("numbered 0")


# --- What is everywhere ------------------------------------------------------------------------


def test_what_is_everywhere_is_loaded_everywhere_and_read_anywhere(
    divided: Divided, db: mako.RemoteDatabase
) -> None:
    db.create(RATE)
    rates = db.table(RATE)
    batch = mako.WriteBatch()
    for year in range(2000, 2010):
        batch.put((year,), {"percent": year - 2000}, table=rates)
    db.load(batch)
    assert rates.get((2005,)) == {"percent": 5}
    assert [key for key, _ in rates.scan((2003,), (2006,))] == [(2003,), (2004,), (2005,)]
    for partition in (0, 1):
        with divided.at(partition) as alone:
            assert len(alone.table(RATE).scan()) == 10
    for write in (
        lambda: rates.put((2001,), {"percent": 1}),
        lambda: rates.delete((2001,)),
        lambda: db.write(batch),
    ):
        with pytest.raises(mako.Rejected, match=r"table rate is in every partition, and is only"):
            write()
    for partition in (0, 1):
        with db.transaction(partition=partition) as tx:
            assert tx.get((2004,), table=rates) == {"percent": 4}
            with pytest.raises(mako.Rejected, match="table rate is in every partition"):
                tx.put((2001,), {"percent": 1}, table=rates)


# --- Transactions ------------------------------------------------------------------------------


def test_a_transaction_is_where_its_first_key_is(db: mako.RemoteDatabase) -> None:
    table = db.table("transfers")
    for partition in (0, 1):
        one, two, three = keys_of(partition, 3)
        with db.transaction() as tx:
            tx.put(one, b"1", table=table)
            tx.insert(two, b"2", table=table)
            assert tx.get_many([one, two, three], table=table) == [b"1", b"2", None]
            assert tx.delete(two, table=table)
        assert tx.commit_ts > 0
        assert table.get_many([one, two]) == [b"1", None]


def test_servers_that_are_not_connected_commit_nothing_of_both(db: mako.RemoteDatabase) -> None:
    """Reading is possible (tests/client/remote/test_over_partitions.py has what is, otherwise)."""
    table = db.table("crossing")
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]
    said = "the server does not run transactions over these partitions; keep together"
    tx = db.begin()
    tx.put(here, b"1", table=table)
    tx.put(there, b"1", table=table)
    assert list(tx.scan(table=table)) == [(key, b"1") for key in sorted([here, there])]
    with pytest.raises(mako.Rejected, match=f"^commit: {said}"):
        tx.commit()
    tx = db.begin()
    tx.get_many([here, there], table=table)
    with pytest.raises(mako.Rejected, match=said):
        tx.commit()
    batch = mako.WriteBatch()
    batch.put(here, b"1", table=table)
    batch.put(there, b"1", table=table)
    with pytest.raises(mako.Rejected, match=f"^write: {said}"):
        db.write(batch)
    assert table.get_many([here, there]) == [None, None]
    assert not mako.Rejected.retryable


def test_a_batch_of_one_partition_is_written_at_once(db: mako.RemoteDatabase) -> None:
    one, two = keys_of(1, 2)
    batch = mako.WriteBatch()
    batch.put(one, b"1")
    batch.put(two, b"2")
    assert db.write(batch) > 0
    assert db.get_many([two, one]) == [b"2", b"1"]


def test_a_transaction_at_a_partition_that_is_given(db: mako.RemoteDatabase) -> None:
    (there,) = keys_of(1, 1)
    with db.transaction(partition=1) as tx:
        tx.put(there, b"given")
    assert db.get(there) == b"given"
    tx = db.begin(partition=0)
    tx.put(there, b"from partition 0")
    with pytest.raises(mako.Rejected, match="does not run transactions over these partitions"):
        tx.commit()
    for wrong in (2, -1, True, "1"):
        with pytest.raises(mako.SchemaError, match="there is no partition"):
            db.begin(partition=wrong)  # type: ignore[arg-type]
    with db.transaction() as tx:
        pass
    assert tx.commit_ts == 0


# --- Procedures --------------------------------------------------------------------------------


def test_a_procedure_runs_at_its_home(divided: Divided, db: mako.RemoteDatabase) -> None:
    for branch in (1, 10, 11, 99):
        assert db.run("deposit", 7, branch, 100 + branch) == 100 + branch
    assert db.submit("deposit", 7, 11, 1).wait_durable() == 112
    accounts = db.table(ACCOUNT)
    # Those with other numbers are of another test.
    sevens = [key for key, _ in accounts.scan() if key[1] == 7]
    assert sevens == [(1, 7), (10, 7), (11, 7), (99, 7)]
    assert accounts.get((99, 7)) == {"cents": 199}
    for partition, branches in ((0, [1, 10]), (1, [11, 99])):
        with divided.at(partition) as alone:
            keys = [key for key, _ in alone.table(ACCOUNT).scan()]
        assert [branch for branch, number in keys if number == 7] == branches
    with db.snapshot() as snapshot:
        assert snapshot.run("balance", 99, 7, partition=1) == 199


def test_a_procedure_without_a_home_needs_a_partition(db: mako.RemoteDatabase) -> None:
    db.run("deposit", 8, 11, 5)
    assert db.run("balance", 11, 8, partition=1) == 5
    assert db.run("balance", 11, 8, partition=0) == -1, "it is not there"
    with pytest.raises(mako.SchemaError, match="procedure balance: it does not say which of 2"):
        db.run("balance", 11, 8)
    with pytest.raises(mako.SchemaError, match="there is no partition 2; give one from 0 to 1"):
        db.run("balance", 11, 8, partition=2)
    with pytest.raises(mako.SchemaError, match="argument 2 is 65536, and the home is a key of acc"):
        db.run("deposit", 8, 65536, 5)
    with pytest.raises(mako.SchemaError, match="deposit takes 3 arguments"):
        db.run("deposit", 8)
    with pytest.raises(mako.Rejected, match="no procedure withdraw"):
        db.run("withdraw", 8)


# --- Parts that are not there ------------------------------------------------------------------


def test_snapshots_are_of_each_partition(divided: Divided, db: mako.RemoteDatabase) -> None:
    table = db.table("snapshots")
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]
    table.put(here, b"old")
    table.put(there, b"old")
    with db.snapshot() as snapshot:
        table.put(here, b"new")
        table.put(there, b"new")
        assert snapshot.table("snapshots").get_many([here, there]) == [b"old", b"old"]
        assert snapshot.timestamp > 0
        hashes = [snapshot.state_hash(partition=partition) for partition in (0, 1)]
        assert hashes[0] != hashes[1]
        with pytest.raises(mako.SchemaError, match="a hash is of one partition: there are 2"):
            snapshot.state_hash()
    with pytest.raises(mako.Closed):
        snapshot.get(here)
    with divided.at(1) as alone, alone.snapshot() as one:
        assert one.table("snapshots").get(there) == b"new"


def test_a_database_of_one_partition_refuses_the_others(
    divided: Divided, db: mako.RemoteDatabase
) -> None:
    db.put(keys_of(1, 1)[0], b"0")  # The table is there from now on.
    with divided.at(1) as alone:
        assert list(alone.partitions) == [1]
        assert alone.status()["role"] == "leader"
        alone.put(keys_of(1, 1)[0], b"1")
        with pytest.raises(mako.Rejected, match="belongs to partition 0, and this database was"):
            alone.put(keys_of(0, 1)[0], b"1")
    with pytest.raises(mako.ConfigError, match="a partition of 64; give 0 to 63"):
        mako.connect(divided.address, partition=64)
    with pytest.raises(mako.Rejected, match="this is partition 0, and you ask for 5"):
        mako.connect(divided.address, partition=5)


def test_a_closed_database_makes_no_more_connections(divided: Divided) -> None:
    db = mako.connect(divided.address)
    db.put(keys_of(0, 1)[0], b"1")
    db.close()
    for partition in (0, 1):
        with pytest.raises(mako.Closed):
            db.get(keys_of(partition, 1)[0])
    assert [lane.partition for lane in db._lanes.made] == [0]


def test_a_partition_that_is_gone_harms_only_what_it_has(clock: Clock) -> None:
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]
    with Divided() as divided, mako.connect(divided.address) as db:
        db.put(here, b"1")
        db.put(there, b"1")
        divided.stop(1)
        with clock.jumps_after("lost"):
            with pytest.raises(mako.RemoteError):
                db.get(there)
            with pytest.raises(mako.RemoteError):
                db.get_many([here, there])
            with pytest.raises(mako.RemoteError, match=r"^partition 1: snapshot: "):
                db.snapshot()
        assert db.get(here) == b"1"
        db.put(here, b"2")
        with mako.connect(divided.address) as another:
            assert another.get(here) == b"2"
        # What was opened there is closed: it is asked for, and nobody waits for the answer.
        until(lambda: divided.servers[0].engine.sessions == 0)


def test_servers_with_different_maps_are_not_mixed(clock: Clock) -> None:
    with Divided() as divided:
        other = ShardMap(2, Placement(Kind.RANGE, 2, (b"k",)))
        backend = divided.servers[1].backend
        places = backend.whereabouts()["places"]
        backend.whereabouts = lambda: {  # type: ignore[method-assign]
            "shards": other.plain(),
            "places": places,
        }
        said = "has another shard map than others"
        with mako.connect(divided.address) as db:
            db.put(keys_of(0, 1)[0], b"1")
            with clock.jumps_after("lost"), pytest.raises(mako.ConnectionLost, match=said):
                db.put(keys_of(1, 1)[0], b"1")
