"""Transactions over two partitions, through the servers of both: they commit together, or not."""

import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import mako
from mako.client.remote.async_database import AsyncDatabase
from mako.ids import REMOTE_ROWS_MAX
from tests.client.remote.test_partitions import keys_of
from tests.engine.running import until
from tests.server.divided import ACCOUNT, RATE, Divided
from tests.server.joined import Joined

pytestmark = pytest.mark.usefixtures("patient")

HERE, THERE = keys_of(0, 5), keys_of(1, 5)


@pytest.fixture(scope="module")
def joined() -> Iterator[Joined]:
    with Joined() as made:
        yield made


@pytest.fixture
def db(joined: Joined) -> Iterator[mako.RemoteDatabase]:
    with mako.connect(joined.address) as made:
        yield made


def test_keys_of_both_commit_together(db: mako.RemoteDatabase) -> None:
    table = db.table("together")
    with db.transaction() as tx:
        tx.put(HERE[0], b"1", table=table)
        tx.insert(THERE[0], b"2", table=table)
        assert tx.get_many([THERE[0], HERE[0], THERE[1]], table=table) == [b"2", b"1", None]
    assert tx.commit_ts > 0
    assert table.get_many([HERE[0], THERE[0]]) == [b"1", b"2"]
    with db.transaction() as tx:
        assert tx.table("together").add(b"n1", 4) == 4
        assert tx.table("together").add(b"n2", 5) == 5
        assert tx.table("together").add(b"n1", 4) == 8
        assert tx.delete(HERE[0], table=table)
        assert tx.delete(THERE[0], table=table)
        assert not tx.delete(THERE[0], table=table)
    assert [table.get_int(key) for key in (b"n1", b"n2")] == [8, 5]
    assert table.get_many([HERE[0], THERE[0]]) == [None, None]
    tx = db.begin()
    tx.put(HERE[0], b"1", table=table)
    tx.put(THERE[0], b"1", table=table)
    tx.abort()
    assert table.get_many([HERE[0], THERE[0]]) == [None, None]


@pytest.mark.parametrize("name", ["ranges", "words"])  # By hash, and by range.
def test_ranges_of_both(db: mako.RemoteDatabase, name: str) -> None:
    keys = sorted([b"r%04d" % number for number in range(1200)] + [b"a", b"b", b"m"])
    batch = mako.WriteBatch()
    for key in keys:
        batch.put(key, key[1:], table=name)
    db.load(batch)
    with db.transaction() as tx:
        view = tx.table(name)
        assert [key for key, _ in view.scan()] == keys
        assert [key for key, _ in view.scan(b"r02", b"r03", limit=7, reverse=True)] == [
            b"r0%d" % number for number in range(299, 292, -1)
        ]
        for key, _ in view.scan(b"r09", b"r1"):
            view.delete(key)
        view.put(b"r05", b"between")
        assert [key for key, _ in view.scan(b"r0499", b"r0501")] == [b"r0499", b"r05", b"r0500"]
        assert list(view[b"r09":b"r1"]) == []
    table = db.table(name)
    assert len(table.scan()) == 1104
    del table[b"r04":b"r05"]
    assert len(table.scan()) == 1004


def test_typed_rows_and_what_is_everywhere(db: mako.RemoteDatabase) -> None:
    db.create(ACCOUNT, RATE)
    batch = mako.WriteBatch()
    batch.put((2004,), {"percent": 4}, table=RATE)
    db.load(batch)
    accounts = db.table(ACCOUNT)
    with db.transaction() as tx:
        view = tx.table(ACCOUNT)
        percent = tx.get((2004,), table=RATE)["percent"]
        for branch in (1, 10, 11, 20):
            view.insert((branch, 5), {"cents": 100 * branch + percent})
        assert [row["cents"] for _, row in view.scan((1,), (12,))] == [104, 1004, 1104]
    assert accounts.get((20, 5)) == {"cents": 2004}
    tx = db.begin()
    tx.put((1, 6), {"cents": 1}, table=ACCOUNT)
    with pytest.raises(mako.Exists, match=r"use put\(\)"):
        tx.insert((11, 5), {"cents": 1}, table=ACCOUNT)
    tx.abort()
    assert accounts.get((1, 6)) is None


@pytest.mark.parametrize("change", ["row here", "row there", "range"])
def test_what_has_changed_is_a_conflict(db: mako.RemoteDatabase, change: str) -> None:
    table = db.table(f"changing {change}")
    table.put(HERE[0], b"1")
    tx = db.begin()
    view = tx.table(table)
    view.get(HERE[0])
    view.get(THERE[0])
    if change == "range":
        list(view.scan(b"x", b"y"))
    view.put(THERE[1], b"1")
    table.put({"row here": HERE[0], "row there": THERE[0], "range": b"xx"}[change], b"2")
    with pytest.raises(mako.Conflict, match=r"^commit: another transaction was faster; .* \(cha"):
        tx.commit()
    assert table.get(THERE[1]) is None
    tx = db.begin()
    assert tx.get_many([HERE[0], THERE[1]], table=table)[1] is None
    table.put(THERE[1], b"3")
    with pytest.raises(mako.Conflict):
        tx.commit()  # Though it has only read.


def test_a_batch_over_both(db: mako.RemoteDatabase) -> None:
    table = db.table("batch")
    batch = mako.WriteBatch()
    batch.insert(HERE[0], b"1", table=table)
    batch.insert(THERE[0], b"2", table=table)
    batch.delete(THERE[1], table=table)
    assert db.write(batch) > 0
    batch.clear()
    batch.put(HERE[1], b"3", table=table)
    batch.insert(THERE[0], b"4", table=table)
    with pytest.raises(mako.Exists):
        db.write(batch)
    assert table.get_many([HERE[0], HERE[1], THERE[0]]) == [b"1", None, b"2"]
    for number in range(2 * REMOTE_ROWS_MAX + 100):
        batch.put(b"%d" % number, b"", table=table)
    with pytest.raises(mako.TransactionTooLarge, match="more than 1024 rows"):
        db.write(batch)


def test_money_moves_and_none_is_lost(joined: Joined) -> None:
    """Threads with databases of their own, and one that looks: it always sees the same sum."""
    keys = HERE[:3] + THERE[:3]
    with mako.connect(joined.address, once=True) as db:
        table = db.table("money")
        for key in keys:
            table.add(key, 100)
    troubles: list[Exception] = []
    moved: list[int] = []

    def move(number: int) -> None:
        chance = random.Random(number)
        try:
            with mako.connect(joined.address, once=bool(number & 1)) as own:
                for _ in range(15):
                    one, other = chance.sample(keys, 2)
                    transfer(own, one, other, chance.randrange(1, 20))
                    moved.append(1)
                    assert total(own) == 100 * len(keys)
        except Exception as error:
            troubles.append(error)

    @mako.transactional
    def transfer(tx: Any, one: bytes, other: bytes, amount: int) -> None:
        view = tx.table("money")
        view.add(one, -amount)
        view.add(other, amount)

    @mako.transactional
    def total(tx: Any) -> int:
        values = tx.get_many(keys, table="money")
        return sum(int.from_bytes(value, "little", signed=True) for value in values)

    threads = [threading.Thread(target=move, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles
    assert len(moved) == 60
    mesh = joined.mesh
    assert mesh is not None
    assert sum(mesh.counts(partition).distributed for partition in range(2)) > 30
    # Who took part may be told of the end a little later than whoever asked.
    until(lambda: mesh.busy == 0)


def test_for_tasks(joined: Joined) -> None:
    async def act(db: AsyncDatabase) -> None:
        table = await db.table("tasks")
        async with db.transaction() as tx:
            await tx.put(HERE[0], b"1", table=table)
            await tx.insert(THERE[0], b"2", table=table)
            assert await tx.scan(table=table) == sorted([(HERE[0], b"1"), (THERE[0], b"2")])
        assert tx.commit_ts > 0
        assert await table.get_many([HERE[0], THERE[0]]) == [b"1", b"2"]

        async def swap(tx: Any) -> None:
            one, other = await tx.get_many([HERE[0], THERE[0]], table=table)
            await tx.put(HERE[0], other, table=table)
            await tx.put(THERE[0], one, table=table)

        async with anyio.create_task_group() as tasks:
            for _ in range(7):
                tasks.start_soon(db.transact, swap)
        assert await table.get_many([HERE[0], THERE[0]]) == [b"2", b"1"]
        batch = mako.WriteBatch()
        batch.put(HERE[1], b"3", table=table)
        batch.put(THERE[1], b"3", table=table)
        assert await db.write(batch) > 0
        tx = await db.begin()
        await tx.get_many([HERE[1], THERE[1]], table=table)
        await table.put(THERE[1], b"4")
        with pytest.raises(mako.Conflict):
            await tx.commit()

    run(joined, act)


def run(divided: Divided, act: Callable[[AsyncDatabase], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await mako.aconnect(divided.address) as db:
            await act(db)

    anyio.run(main, backend="asyncio")


def test_servers_that_are_not_connected_refuse_it() -> None:
    with Divided() as divided, mako.connect(divided.address) as db:
        tx = db.begin()
        tx.put(HERE[0], b"1")
        tx.put(THERE[0], b"1")
        with pytest.raises(mako.Rejected, match="commit: the server does not run transactions ov"):
            tx.commit()
        assert db.get_many([HERE[0], THERE[0]]) == [None, None]
