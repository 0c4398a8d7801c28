"""Transactions that clients make key by key, and batches, over any partitions.

    a client of each partition ─▶ Lanes ─▶ AsyncDatabase ─▶ AsyncTransaction ─▶ what it saw

It is the remote database's own code for tasks (`mako.client.remote`), whose links wait in virtual
time here. A transaction is a session of its first partition until it touches another one, and is
gathered from then on. What it has seen is believed if its commit is acknowledged.
"""

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

from mako.client.batch import WriteBatch
from mako.client.remote.asking import Known
from mako.client.remote.async_database import AsyncDatabase
from mako.client.remote.async_link import AsyncLink
from mako.client.remote.async_sessions import AsyncSnapshot, AsyncTransaction
from mako.client.remote.calls import Call
from mako.client.remote.core import Core
from mako.client.remote.lanes import Lane, Lanes
from mako.errors import Error, Exists, TooStale
from mako.placement import ShardMap
from mako.schema import Table
from mako.sim.checkers import Violation
from mako.sim.checking import Outcome
from mako.sim.client import SimClient, Task, Wait
from mako.sim.clock import MS
from mako.sim.lives import Lives, check_age, outcome_of
from mako.sim.shards.history import Seen, ShardHistory
from mako.sim.shards.plan import ACCOUNTS, ShardsPlan
from mako.sim.shards.procedures import (
    ACCOUNTS as ACCOUNTS_TABLE,
)
from mako.sim.shards.procedures import (
    ELEMENTS,
    HEADS,
    REGISTERS,
)
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

#: What is done by hand, and how often.
_KINDS: Final = {"append": 3, "look": 3, "registers": 4, "batch": 1, "moment": 2}
#: Chance that a commit may be sent again.
_ONCE: Final = 0.3
#: Lists of which a snapshot sees every element.
_SCANS_MAX: Final = 2
Trial = Coroutine[Wait, None, None]


@coroutine
def _wait(wait: Wait) -> Generator[Wait, None, None]:
    """Have the task wait (`mako.sim.client`)."""
    yield wait


class _Link(AsyncLink):
    """The way of a simulated client, in place of a socket."""

    def __init__(self, client: SimClient) -> None:
        self._client = client

    async def send(self) -> None:
        self._client.pump()

    async def wait(self, call: Call, enough: Callable[[], bool]) -> None:
        self._client.pump()
        if not enough():
            await _wait((call, enough))


class _Lanes(Lanes[AsyncLink]):
    """Those of simulated clients, one of each partition in their order."""

    def __init__(self, clients: Sequence[SimClient], *, once: bool, stay: bool) -> None:
        self._clients = clients
        self._asks_once = once
        super().__init__([], _no_link, once=once, stay=stay)

    def _make(self, partition: int, shards: ShardMap | None) -> Lane[AsyncLink]:
        del shards
        client = self._clients[partition]
        return Lane(client.core, _Link(client), once=self._asks_once)


def _no_link(core: Core) -> AsyncLink:
    raise AssertionError("a simulated client has one")


class HandDatabase(AsyncDatabase):
    """The database as one transaction sees it. `last` is what it has asked for last."""

    def __init__(
        self,
        clients: Sequence[SimClient],
        known: dict[Any, Known],
        deadline: Callable[[], float],
        *,
        once: bool,
        stay: bool,
    ) -> None:
        """`known`: tables that a server has described."""
        super().__init__(_Lanes(clients, once=once, stay=stay), timeout=0.0)
        self._known = known
        self._due = deadline
        for partition in range(len(clients)):  # What all of them were told counts.
            self._lanes.of(partition)
        self.last: Call | None = None

    def _deadline(self) -> float:
        return self._due()

    async def _done(
        self, call: Call, lane: Lane[AsyncLink], *, enough: Callable[[], bool] = lambda: False
    ) -> Call:
        self.last = call
        return await super()._done(call, lane, enough=enough)


class ByHand(Lives):
    """What clients of several partitions do by hand; the rest is mako.sim.shards.traffic."""

    # One may wait for a partition that stalls, while the other leaves it out.
    _staying_tasks = 2
    history: ShardHistory
    _lists: range
    _map: ShardMap

    def __init__(
        self, cluster: "Cluster", shares: dict[str, float], clients: list[SimClient]
    ) -> None:
        self._hands = cluster.chances.of("by hand")
        self._known: dict[Any, Known] = {}
        super().__init__(cluster, shares, clients)

    @property
    @abstractmethod
    def _drawn(self) -> ShardsPlan:
        """What is drawn for several partitions."""

    @abstractmethod
    def _key(self, number: int) -> int:
        """The key of list, register or account `number`."""

    @abstractmethod
    def _some_of(self, client: SimClient, numbers: range) -> tuple[int, ...]:
        """Up to three of them, as keys; mostly one of them is where the client asks."""

    def database(self, client: SimClient, *, once: bool = False) -> HandDatabase | None:
        """A database at this client and those of the other partitions. None: it is not known yet
        how many there are."""
        clients = self._beside(client)
        if clients[0].core.about is None:
            return None
        due = partial(self._deadline, client)
        return HandDatabase(clients, self._known, due, once=once, stay=client.stays)

    def _beside(self, client: SimClient) -> list[SimClient]:
        """A client of each partition, this one among them: together they are one user."""
        count = self._drawn.partitions
        like = [one for one in self.clients if one.stays == client.stays]
        first = like.index(client) // count * count
        return like[first : first + count]

    def _by_hand(self, client: SimClient) -> Task:
        db = self.database(client, once=self._hands.random() < _ONCE)
        if db is None:
            return
        (kind,) = self._hands.choices(list(_KINDS), list(_KINDS.values()))
        trial: Callable[[SimClient, HandDatabase], Trial] = {
            "append": self._append_by_hand,
            "look": self._look_by_hand,
            "registers": self._registers_by_hand,
            "batch": self._write_batch,
            "moment": self._look_at_moment,
        }[kind]
        yield from trial(client, db).__await__()

    def _moment(self, client: SimClient) -> Task:
        """By a client that talks to any replica."""
        db = self.database(client)
        if db is not None:
            yield from self._look_at_moment(client, db).__await__()

    # --- One transaction -----------------------------------------------------------------------

    async def _think_some(self) -> None:
        await _wait(int(self._hands.expovariate(4.0 / self._think)) + 1)

    async def _committed(
        self,
        one: Seen,
        db: HandDatabase,
        act: Callable[[AsyncTransaction], Coroutine[Wait, None, None]],
    ) -> bool:
        """Do it in a transaction; whether it is acknowledged."""
        tx = AsyncTransaction(db)
        try:
            await act(tx)
        except (Error, TimeoutError) as error:
            # Nobody has asked for its commit, so whatever went wrong it is without effect.
            with suppress(Error, TimeoutError):
                await tx.abort()
            self._ended_badly(one, error, Outcome.ABORTED, Exists)
            return False
        try:
            await tx.commit()
        except (Error, TimeoutError) as error:
            self._ended_badly(one, error, outcome_of(error))
            return False
        gathers = tx._gathered is not None and tx._gathered.gathers
        self._cluster.reach("gathered" if gathers else "by_hand_in_a_session")
        return self._is_done(one, db, tx.commit_ts)

    def _is_done(self, one: Seen, db: HandDatabase, timestamp: int) -> bool:
        assert db.last is not None
        if db.last.lost:
            self._cluster.reach("asked_again")
        self.history.done(one, self._loop.now, timestamp, exact=not db.last.lost)
        return True

    def _ended_badly(
        self, one: Seen, error: Exception, outcome: Outcome, *also: type[Exception]
    ) -> None:
        self._check_error(one.name, error, *also)
        self._cluster.reach(f"ended_{type(error).__name__}")
        self.history.failed_as(one, self._loop.now, outcome)

    def _begun(self, client: SimClient, name: str) -> Seen:
        return self.history.begin(client.number, name, self._loop.now)

    # --- Lists ---------------------------------------------------------------------------------

    async def _append_by_hand(self, client: SimClient, db: HandDatabase) -> None:
        self._next_value += 1
        value, keys = self._next_value, self._some_of(client, self._lists)
        one = self._begun(client, "append by hand")
        one.appends = dict.fromkeys(keys, value)
        lengths: dict[int, int] = {}

        async def act(tx: AsyncTransaction) -> None:
            heads = await tx.get_many([(key,) for key in keys], table=HEADS)
            lengths.update((key, _length(head)) for key, head in zip(keys, heads, strict=True))
            await self._think_some()
            for key, length in lengths.items():
                await tx.insert((key, length + 1), {"value": value}, table=ELEMENTS)
                await tx.put((key,), {"length": length + 1}, table=HEADS)

        if await self._committed(one, db, act):
            one.lengths = lengths

    async def _look_by_hand(self, client: SimClient, db: HandDatabase) -> None:
        """Lists by their elements, from either end, and lengths of others."""
        *scanned, last = self._some_of(client, self._lists)
        one = self._begun(client, "look by hand")
        found = Seen(client.number, one.name, one.begin)
        reverse = self._hands.random() < 0.5

        async def act(tx: AsyncTransaction) -> None:
            for key in scanned:
                bounds = (key,), (key + 1,)
                rows = await tx.scan(*bounds, reverse=reverse, table=ELEMENTS)
                values = [row["value"] for _, row in rows]
                found.values[key] = values[::-1] if reverse else values
            await self._think_some()
            if reverse:
                rows = await tx.scan((last,), (last + 1,), limit=1, reverse=True, table=ELEMENTS)
                found.lasts[last] = rows[0][1]["value"] if rows else 0
            else:
                found.lengths[last] = _length(await tx.get((last,), table=HEADS))

        if await self._committed(one, db, act):
            one.values, one.lasts, one.lengths = found.values, found.lasts, found.lengths

    # --- Registers -----------------------------------------------------------------------------

    async def _registers_by_hand(self, client: SimClient, db: HandDatabase) -> None:
        """Some are read, and then some are written, which may be the same ones."""
        keys = self._some_of(client, range(self._drawn.registers))
        more = self._some_of(client, range(self._drawn.registers))
        self._next_value += 1
        one = self._begun(client, "registers by hand")
        one.writes = {
            key: None if self._hands.random() < 0.2 else self._next_value
            for key in more[: self._hands.randint(0, len(more))]
        }
        reads: dict[int, int | None] = {}

        async def act(tx: AsyncTransaction) -> None:
            rows = await tx.get_many([(key,) for key in keys], table=REGISTERS)
            reads.update((key, _value(row)) for key, row in zip(keys, rows, strict=True))
            await self._think_some()
            for key, value in one.writes.items():
                if value is not None:
                    await tx.put((key,), {"value": value}, table=REGISTERS)
                elif not await tx.delete((key,), table=REGISTERS):
                    reads[key] = None

        if await self._committed(one, db, act):
            one.reads = reads

    async def _write_batch(self, client: SimClient, db: HandDatabase) -> None:
        keys = self._some_of(client, range(self._drawn.registers))
        self._next_value += 1
        one = self._begun(client, "batch")
        batch = WriteBatch()
        for key in keys:
            if self._hands.random() < 0.2:
                one.writes[key] = None
                batch.delete((key,), table=REGISTERS)
            else:
                one.writes[key] = self._next_value
                batch.put((key,), {"value": self._next_value}, table=REGISTERS)
        try:
            timestamp = await db.write(batch)
        except (Error, TimeoutError) as error:
            self._ended_badly(one, error, outcome_of(error))
        else:
            self._is_done(one, db, timestamp)

    # --- Snapshots of several partitions -------------------------------------------------------

    async def _look_at_moment(self, client: SimClient, db: HandDatabase) -> None:
        oldest = self._hands.choice((None, None, 0.2, 2.0))
        over = [*range(self._drawn.partitions)]
        if self._hands.random() < 0.3:
            over = sorted(self._hands.sample(over, self._hands.randint(1, len(over))))
        one = Seen(client.number, "open a moment", self._loop.now)
        told = max(self.history.told.get(each.number, 0) for each in self._beside(client))
        snapshot = AsyncSnapshot(db)
        try:
            await snapshot._begin(over, oldest)
        except (Error, TimeoutError) as error:
            self._check_error(one.name, error, *(() if oldest is None else (TooStale,)))
            return
        if snapshot.timestamp < told:
            raise Violation(
                "reads", f"a snapshot at {snapshot.timestamp} lacks its client's own, at {told}"
            )
        age = round(1000 * snapshot.staleness)
        oldest_ms = -1 if oldest is None else round(1000 * oldest)
        check_age(age, oldest_ms, None)
        one.age, one.oldest = age * MS, None if oldest is None else oldest_ms * MS
        parts = [snapshot._parts[each].bound for each in over]
        one.session = f"{client.number} {over} {parts}"
        self.history.opened(one, self._loop.now, snapshot.timestamp)
        try:
            for _ in range(self._hands.randint(1, 3)):
                await self._see(client, snapshot, over)
                await self._think_some()
        except (Error, TimeoutError) as error:  # Who stalls is refused, too.
            self._check_error(one.name, error)
        else:
            self._cluster.reach("moment_over_several" if len(over) > 1 else "moment_of_one")
        await snapshot._end(Operation.CLOSE)

    async def _see(self, client: SimClient, snapshot: AsyncSnapshot, over: list[int]) -> None:
        """Lists, registers and accounts, all of one moment."""
        one = Seen(client.number, "moment", self._loop.now)
        lists = self._in(HEADS, [self._key(number) for number in self._lists], over)
        for key in lists[:_SCANS_MAX] if len(over) == self._drawn.partitions else ():
            rows = await snapshot.scan((key,), (key + 1,), table=ELEMENTS)
            one.values[key] = [row["value"] for _, row in rows]
        rest = [key for key in lists if key not in one.values]
        heads = await snapshot.get_many([(key,) for key in rest], table=HEADS)
        one.lengths = dict(zip(rest, map(_length, heads), strict=True))
        registers = self._in(REGISTERS, self._numbers_of(self._drawn.registers), over)
        found = await snapshot.get_many([(key,) for key in registers], table=REGISTERS)
        one.reads = dict(zip(registers, map(_value, found), strict=True))
        accounts = self._in(ACCOUNTS_TABLE, self._numbers_of(ACCOUNTS), over)
        balances = await snapshot.get_many([(key,) for key in accounts], table=ACCOUNTS_TABLE)
        one.gets = dict(zip(accounts, map(_balance, balances), strict=True))
        self.history.seen.append(one)
        self.history.saw(one, self._loop.now, snapshot.timestamp)

    def _numbers_of(self, count: int) -> list[int]:
        return [self._key(number) for number in range(count)]

    def _in(self, table: Table, keys: list[int], over: list[int]) -> list[int]:
        """The keys that are in some of these partitions."""
        placement = self._map.of(table.name)
        return [key for key in keys if placement.partition_of(table.pack_key((key,))) in over]


def _balance(row: dict[str, Any] | None) -> int:
    return 0 if row is None else int(row["balance"])


def _length(head: dict[str, Any] | None) -> int:
    return 0 if head is None else int(head["length"])


def _value(row: dict[str, Any] | None) -> int | None:
    return None if row is None else int(row["value"])
