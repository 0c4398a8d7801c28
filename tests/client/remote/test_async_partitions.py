"""A cluster of two partitions, through the client for tasks: as tests/client/remote/test_partitions
does for threads."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import mako
from mako.client.remote.async_database import AsyncDatabase
from tests.client.remote.test_partitions import WORDS, keys_of
from tests.server.divided import ACCOUNT, RATE, Divided

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(scope="module")
def divided() -> Iterator[Divided]:
    with Divided() as made:
        yield made


def run(divided: Divided, act: Callable[[AsyncDatabase], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with await mako.aconnect(divided.address, **options) as db:
            await act(db)

    anyio.run(main, backend="asyncio")


@pytest.mark.parametrize("name", ["hashed", "words"])
def test_keys_and_ranges(divided: Divided, name: str) -> None:
    async def act(db: AsyncDatabase) -> None:
        table = await db.table(name)
        keys = sorted(WORDS + [b"w%04d" % number for number in range(600)])
        batch = mako.WriteBatch()
        for key in keys:
            batch.put(key, key, table=name)
        await db.load(batch)
        rows = [(key, key) for key in keys]
        assert await table.get_many(keys[::-1]) == keys[::-1]
        assert await table.scan() == rows
        assert await table.scan(reverse=True) == rows[::-1]
        assert await table.scan(b"bird", b"mango", limit=2, reverse=True) == rows[3:1:-1]
        assert await table.scan(limit=4) == rows[:4]
        for key in WORDS:
            await table.put(key, b"new")
            assert await table.get(key) == b"new"
        assert [await table.add(key, 2) for key in (b"n1", b"n2", b"n1")] == [2, 2, 4]
        assert await table.delete(b"n2")
        async with db.snapshot() as snapshot:
            assert await snapshot.get_many(WORDS, table=table) == [b"new"] * len(WORDS)
        assert list(db.partitions) == [0, 1]
        assert (await db.status(partition=1))["role"] == "leader"

    run(divided, act)


def test_transactions(divided: Divided) -> None:
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]

    async def act(db: AsyncDatabase) -> None:
        async with db.transaction() as tx:
            await tx.put(there, b"1")
            assert await tx.get(there) == b"1"
        assert tx.commit_ts > 0
        tx = await db.begin()
        await tx.put(there, b"2")
        await tx.put(here, b"2")
        with pytest.raises(mako.Rejected, match="does not run transactions over these partitions"):
            await tx.commit()
        assert await db.get_many([there, here]) == [b"1", None]
        async with db.transaction(partition=0) as tx:
            await tx.insert(here, b"3")
        assert await db.get(here) == b"3"
        batch = mako.WriteBatch()
        batch.put(here, b"4")
        assert await db.write(batch) > 0
        batch.put(there, b"4")
        with pytest.raises(mako.Rejected, match="does not run transactions over these partitions"):
            await db.write(batch)
        assert await db.get_many([there, here]) == [b"1", b"4"]

    run(divided, act)


def test_what_is_everywhere(divided: Divided) -> None:
    async def act(db: AsyncDatabase) -> None:
        await db.create(RATE)
        rates = await db.table(RATE)
        batch = mako.WriteBatch()
        batch.put((1999,), {"percent": 9}, table=rates)
        await db.load(batch)
        assert await rates.get((1999,)) == {"percent": 9}
        for partition in (0, 1):
            async with db.transaction(partition=partition) as tx:
                assert await tx.get((1999,), table=rates) == {"percent": 9}
        with pytest.raises(mako.Rejected, match="table rate is in every partition"):
            await rates.put((1999,), {"percent": 1})

    run(divided, act)


def test_procedures(divided: Divided) -> None:
    async def act(db: AsyncDatabase) -> None:
        assert await db.run("deposit", 1, 3, 30) == 30
        answer = await db.submit("deposit", 1, 13, 31)
        assert await answer.wait_durable() == 31
        accounts = await db.table(ACCOUNT)
        assert [key for key, _ in await accounts.scan()] == [(3, 1), (13, 1)]
        with pytest.raises(mako.SchemaError, match="it does not say which of 2 partitions"):
            await db.run("balance", 13, 1)
        assert await db.run("balance", 13, 1, partition=1) == 31
        async with db.snapshot() as snapshot:
            assert await snapshot.run("balance", 13, 1, partition=1) == 31

    run(divided, act)


def test_one_partition_alone(divided: Divided) -> None:
    async def act(db: AsyncDatabase) -> None:
        await db.put(keys_of(0, 2)[1], b"1")  # The first one is another test's.
        with pytest.raises(mako.Rejected, match="belongs to partition 1, and this database was"):
            await db.put(keys_of(1, 1)[0], b"1")

    run(divided, act, partition=0)
