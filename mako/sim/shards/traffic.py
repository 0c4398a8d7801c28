"""What clients of several partitions do, one thing after the other, and what came of it.

    append      a value to up to three lists, in any partitions; perhaps run once, perhaps early
    lengths     of up to three lists; lasts: their last values
    write       up to three registers, blindly, or delete them; read: them
    change      up to three registers that are there; watch: one is read, others are written
    transfer    between two accounts; balances: of all of them
    order       small TPC-C (terminals): two lines from any warehouses; newest_order: reads one
    pay         at a warehouse, by a customer of any
    snapshot    lists and hashes of one partition, at any replica of it
    by_hand     reads and writes key by key, and batches (mako.sim.shards.by_hand)

A client knows one partition, which coordinates what it asks for, wherever that is.
"""

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mako.client.remote.calls import Call
from mako.errors import NotFound, RolledBack, Unavailable
from mako.ids import MILLISECOND_SHIFT
from mako.placement import ShardMap
from mako.replication.partition import Partition
from mako.schema import Table
from mako.server.hosting import Hosted
from mako.sim.checkers import Violation
from mako.sim.client import SimClient, Task
from mako.sim.clock import MS
from mako.sim.lives import EXPECTED, Failed, ended, outcome_of
from mako.sim.process import SimProcess
from mako.sim.shards.by_hand import ByHand
from mako.sim.shards.history import Seen, ShardHistory
from mako.sim.shards.plan import ACCOUNTS, NUMBERS_EACH, ShardsPlan, key_of, shard_map
from mako.sim.shards.procedures import (
    ACCOUNTS as ACCOUNTS_TABLE,
)
from mako.sim.shards.procedures import (
    BITS,
    ELEMENTS,
    HEADS,
    REGISTERS,
    ZERO,
)
from mako.sim.shards.terminals import Terminals
from mako.sim.shards.tpcc import ORDERS, TABLES
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

_LISTS_MAX: Final = 3
#: In a row of a dump, before the key and before the value (docs/state-dump.md).
_KEY_AT: Final = 4
_VALUE_BYTES: Final = 4
_NUMBER: Final = struct.Struct("<q")
#: What was under way as clients stopped is over after this, ms.
_REST_MS: Final = 500
#: Chance that a call may be sent again.
_ONCE: Final = 0.3
#: Chance that a client at any replicas looks at several partitions at one moment.
_OVER_SEVERAL: Final = 0.3


class ShardTraffic(ByHand):
    """All clients of a run, in place of mako.sim.workload.Workload."""

    _expected = (*EXPECTED, Unavailable)

    def __init__(self, cluster: "Cluster") -> None:
        self._shards = plan = cluster.shards_plan
        self._map: ShardMap = shard_map(plan)
        self._lists = range(cluster.plan.keys)
        self._all_accounts = [key_of(plan, number) for number in range(ACCOUNTS)]
        self.history = ShardHistory(self._all_accounts, real_time=not plan.clocks_wrong_ms)
        warehouses = {
            partition: [
                key_of(plan, partition + number * plan.partitions)
                for number in range(plan.warehouses)
            ]
            for partition in range(plan.partitions)
        }
        self._terminals = Terminals(warehouses, cluster.chances.of("terminals"))
        self._floor = 0
        # In peace: which partitions have not reached which others yet, and are trying.
        self._probed: set[tuple[int, int]] | None = None
        self._probing: set[tuple[int, int]] = set()
        clients = [
            SimClient(cluster, number, stay=False, partition=number % plan.partitions)
            for number in range(cluster.plan.clients * plan.partitions)
        ]
        if plan.shares["snapshot"]:
            clients += [
                SimClient(cluster, len(clients) + partition, stay=True, partition=partition)
                for partition in range(plan.partitions)
            ]
        super().__init__(cluster, plan.shares, clients)

    def _make_scripts(self) -> dict[str, Callable[[Any], Task]]:
        return {
            "append": self._append,
            "lengths": self._read_lengths,
            "lasts": self._read_lasts,
            "write": self._write,
            "read": self._read,
            "transfer": self._transfer,
            "balances": self._read_balances,
            "snapshot": self._snapshot,
            "order": self._order,
            "newest_order": self._read_newest_order,
            "pay": self._pay,
            "change": self._change,
            "watch": self._watch,
            "by_hand": self._by_hand,
        }

    @property
    def _drawn(self) -> ShardsPlan:
        return self._shards

    # --- As the cluster sees it ----------------------------------------------------------------

    def reaches_all(self) -> bool:
        """Whether every partition has read a row of every other one, in peace. It is tried."""
        if self._probed is None:
            each = range(self._shards.partitions)
            self._probed = {(home, there) for home in each for there in each if home != there}
        for client in self.clients:
            if client.stays or not client.core.ready:
                continue
            for home, there in sorted(self._probed - self._probing):
                if home == client.partition:
                    self._probing.add((home, there))
                    self.running += 1
                    client.run(self._counted(self._probe(client, there)))
        return not self._probed

    @property
    def is_idle(self) -> bool:
        """Whether no transaction over partitions is under way anywhere."""
        found = [one for process in self._cluster.processes for one in hosted_of(process)]
        return not any(one.pumped is not None and one.pumped.station.busy for one in found)

    def stop(self) -> None:
        super().stop()
        self.rest()

    def rest(self) -> None:
        """Nothing is under way any more that is known: the last look is at what is above that.

        A transaction may outlive its client: what was in its way is asked for again after up to
        half a second. Partitions are shown as they are at timestamps of their own, so one that lies
        between these would be seen in half.
        """
        now_ms = max(process.now_ms for process in self._cluster.processes)
        # Timestamps of clocks that were ahead are above what the healed ones show.
        rest_ms = _REST_MS + self._shards.clocks_wrong_ms
        self._floor = now_ms + rest_ms << MILLISECOND_SHIFT

    @property
    def is_shown(self) -> bool:  # type: ignore[override]
        """Whether the stable timestamps have passed all that clients have done."""
        floor = max(self._floor, self.history.floor)
        return all(one.across.readable >= floor for one in self._machines())

    def _machines(self) -> list[Partition]:
        found = []
        for process in self._cluster.processes:
            for machine in process.machines.values():
                assert isinstance(machine, Partition)
                found.append(machine)
        return found

    def _rows(self, table: Table) -> dict[tuple[int, ...], tuple[int, ...]]:
        """All rows, from the replicas of one process, by key and each as its numbers."""
        rows = {}
        first, end = b"\0" * table.key_size, b"\xff" * table.key_size
        size = _KEY_AT + table.key_size + _VALUE_BYTES + table.row_size
        for machine in self._cluster.processes[0].machines.values():
            assert isinstance(machine, Partition)
            data = machine.rows(int(table.id), first, end)
            for at in range(0, len(data), size):
                row = data[at : at + size]
                key = table.unpack_key(row[_KEY_AT : _KEY_AT + table.key_size])
                rows[key] = struct.unpack(f"<{table.row_size // 8}q", row[-table.row_size :])
        return dict(sorted(rows.items()))

    def check_end(self) -> None:
        """The last checks, when all replicas have the same log."""
        checks = self._cluster.shard_checks
        for machine in self._machines():
            checks.finals(machine.history.starts())
        lists: dict[int, list[int]] = {self._key(number): [] for number in self._lists}
        for (number, position), (value,) in self._rows(ELEMENTS).items():
            lists[number].append(value)
            checks.expect(len(lists[number]) == position, f"list {number} lacks a value")
        for (number,), (length,) in self._rows(HEADS).items():
            checks.expect(len(lists[number]) == length, f"list {number} is not {length} long")
        registers = {number: value for (number,), (value,) in self._rows(REGISTERS).items()}
        accounts = {number: value for (number,), (value,) in self._rows(ACCOUNTS_TABLE).items()}
        shop = {table: self._rows(table) for table in TABLES}
        self._terminals.check_end(shop)
        lists |= self._terminals.lists(shop[ORDERS])
        counters, now = self._terminals.counters(shop), self._loop.now
        gave_up = self.history.check_end(lists, registers, accounts, now, checks.facts, counters)
        self._gave_up(gave_up)
        self._cluster.installed.check_end()

    # --- Calls ---------------------------------------------------------------------------------

    def _key(self, number: int) -> int:
        return key_of(self._shards, number)

    def _some_of(self, client: SimClient, numbers: range) -> tuple[int, ...]:
        """Up to three of them, as keys; mostly one of them is where the client asks."""
        size = self._chance.randint(1, min(_LISTS_MAX, len(numbers)))
        found = self._chance.sample(numbers, size)
        near = [n for n in numbers if n % self._shards.partitions == client.partition]
        if near and self._chance.random() >= self._shards.elsewhere:
            one = self._chance.choice(near)
            if one not in found:
                found[0] = one
        return tuple(self._key(number) for number in found)

    def _call(
        self, client: SimClient, one: Seen, arguments: tuple[int, ...], *, plain: bool = False
    ) -> Call:
        early = not plain and self._chance.random() < 0.2
        once = not plain and self._chance.random() < _ONCE
        deadline = self._deadline(client)
        return client.asking.procedure(one.name, arguments, deadline, early=early, once=once)

    def _told(
        self,
        client: SimClient,
        one: Seen,
        call: Call,
        positions: Callable[[], Mapping[int, int]] = dict,
    ) -> Task:
        """Wait for what a call is told, early and in the end; `positions` are in its value."""
        early, installed = None, self._cluster.installed
        if call.early:
            yield call, lambda: call.committed
            early = self._early(client, call)
            if early is not None:
                one.early = self._loop.now
                installed.told_positions(client.partition, call, positions())
        yield ended(call)
        self._check_early(call, early)
        if call.error is None:
            installed.told_positions(client.partition, call, positions())

    def _begin(self, client: SimClient, name: str) -> Seen:
        return self.history.begin(client.number, name, self._loop.now)

    def _finish(self, one: Seen, call: Call, *also: type[Exception]) -> bool:
        """What became of a transaction: whether it is acknowledged. For `also` see `_check`."""
        self._check(call, *also)
        error, now = call.error, self._loop.now
        if error is None:
            if call.lost:
                self._cluster.reach("asked_again")
            self.history.done(one, now, call.timestamp, exact=not call.lost)
            return True
        self._cluster.reach(f"ended_{type(error).__name__}")
        self.history.failed_as(one, now, outcome_of(error))
        return False

    def _numbers(self, call: Call, keys: tuple[int, ...]) -> dict[int, int]:
        found = [call.value >> BITS * i & (1 << BITS) - 1 for i in range(len(keys))]
        return dict(zip(keys, found, strict=True))

    # --- Scripts -------------------------------------------------------------------------------

    def _append(self, client: SimClient) -> Task:
        self._next_value += 1
        value, keys = self._next_value, self._some_of(client, self._lists)
        one = self._begin(client, "append")
        one.appends = dict.fromkeys(keys, value)
        call = self._call(client, one, (value, *_three(keys)))
        yield from self._told(client, one, call, lambda: self._numbers(call, keys))
        if self._finish(one, call):
            one.lengths = {key: at - 1 for key, at in self._numbers(call, keys).items()}

    def _read_lengths(self, client: SimClient) -> Task:
        keys = self._some_of(client, self._lists)
        one = self._begin(client, "lengths")
        call = self._call(client, one, _three(keys), plain=True)
        yield ended(call)
        if self._finish(one, call):
            one.lengths = self._numbers(call, keys)

    def _read_lasts(self, client: SimClient) -> Task:
        keys = self._some_of(client, self._lists)
        one = self._begin(client, "lasts")
        call = self._call(client, one, _three(keys), plain=True)
        yield ended(call)
        if self._finish(one, call):
            one.lasts = self._numbers(call, keys)

    def _write(self, client: SimClient) -> Task:
        keys = self._some_of(client, range(self._shards.registers))
        one = self._begin(client, "write_some")
        self._next_value += 1
        value = 0 if self._chance.random() < 0.2 else self._next_value
        one.writes = dict.fromkeys(keys, value or None)
        call = self._call(client, one, (value, *_three(keys)))
        yield from self._told(client, one, call)
        # A delete may meet no row.
        self._finish(one, call, *(() if value else (NotFound,)))

    def _change(self, client: SimClient) -> Task:
        keys = self._some_of(client, range(self._shards.registers))
        one = self._begin(client, "change_some")
        self._next_value += 1
        one.writes = dict.fromkeys(keys, self._next_value)
        call = self._call(client, one, (self._next_value, *_three(keys)))
        yield from self._told(client, one, call)
        self._finish(one, call, NotFound)

    def _watch(self, client: SimClient) -> Task:
        seen, *keys = self._some_of(client, range(self._shards.registers))
        one = self._begin(client, "watch_some")
        self._next_value += 1
        one.writes = dict.fromkeys(keys, self._next_value)
        call = self._call(client, one, (self._next_value, *_three((seen, *keys))))
        yield from self._told(client, one, call)
        if self._finish(one, call):
            one.reads = {seen: call.value or None}

    def _read(self, client: SimClient) -> Task:
        keys = self._some_of(client, range(self._shards.registers))
        one = self._begin(client, "read_some")
        call = self._call(client, one, _three(keys), plain=True)
        yield ended(call)
        if self._finish(one, call):
            one.reads = {key: value or None for key, value in self._numbers(call, keys).items()}

    def _probe(self, client: SimClient, there: int) -> Task:
        """Read a register of a partition, whatever it has."""
        home, placement = client.partition, self._map.of("registers")
        key = next(
            key
            for key in range(NUMBERS_EACH * self._shards.partitions)
            if placement.partition_of(REGISTERS.pack_key((key,))) == there
        )
        one = self._begin(client, "read_some")
        call = self._call(client, one, _three((key,)), plain=True)
        yield ended(call)
        if self._finish(one, call):
            one.reads = {key: value or None for key, value in self._numbers(call, (key,)).items()}
            assert self._probed is not None
            self._probed.discard((home, there))
        self._probing.discard((home, there))

    def _transfer(self, client: SimClient) -> Task:
        source, target = self._chance.sample(self._all_accounts, 2)
        amount = self._chance.randint(1, 9)
        one = self._begin(client, "transfer")
        one.adds = {source: -amount, target: amount}
        call = self._call(client, one, (source, target, amount))
        yield from self._told(client, one, call)
        self._finish(one, call)

    def _read_balances(self, client: SimClient) -> Task:
        keys = tuple(self._all_accounts)
        one = self._begin(client, "balances")
        call = self._call(client, one, keys, plain=True)
        yield ended(call)
        if self._finish(one, call):
            one.gets = {key: found - ZERO for key, found in self._numbers(call, keys).items()}

    # --- Small TPC-C ---------------------------------------------------------------------------

    def _order(self, client: SimClient) -> Task:
        self._next_value += 1
        order = self._terminals.draw_order(client.partition, self._next_value)
        where = self._terminals.list_of(order.district)
        one = self._begin(client, "order")
        one.appends = {where: order.tag}
        call = self._call(client, one, order.arguments)
        yield from self._told(client, one, call, lambda: {where: call.value})
        if self._finish(one, call, *((RolledBack,) if order.rolls_back else ())):
            one.lengths = {where: call.value - 1}
        elif isinstance(call.error, RolledBack):
            self._cluster.reach("order_rolled_back")

    def _read_newest_order(self, client: SimClient) -> Task:
        district = self._terminals.draw_district(client.partition)
        one = self._begin(client, "newest_order")
        call = self._call(client, one, district, plain=True)
        yield ended(call)
        if self._finish(one, call):
            number, lines, quantity = self._numbers(call, (0, 1, 2)).values()
            one.lengths = {self._terminals.list_of(district): number}
            if not lines <= quantity <= 10 * lines:
                raise Violation("reads", f"order {number} has {lines} lines of {quantity} in all")

    def _pay(self, client: SimClient) -> Task:
        payment = self._terminals.draw_payment(client.partition)
        one = self._begin(client, "pay")
        one.counts = payment.counts
        call = self._call(client, one, payment.arguments)
        yield from self._told(client, one, call)
        if self._finish(one, call):
            payment.seen_by(one, call.value)

    # --- Snapshots -----------------------------------------------------------------------------

    def _snapshot(self, client: SimClient) -> Task:
        if self._hands.random() < _OVER_SEVERAL:
            yield from self._moment(client)
            return
        oldest = self._chance.choice((-1, -1, 200, 2000))
        # Of its partition only: who stalls is left out.
        over = (1 << client.partition,) if self._chance.random() < 0.7 else ()
        one = Seen(client.number, "open", self._loop.now)
        call = yield from self._open_snapshot(client, oldest, *over)
        session, age = call.value
        bound, at = client.core.connection or -1, call.timestamp
        one.age, one.oldest = age * MS, oldest * MS if oldest >= 0 else None
        # With who stalls it is older than without: the two kinds go forward each by itself.
        one.session = f"{client.number} {call.connection} {over}"
        self.history.opened(one, self._loop.now, at)
        for _ in range(self._chance.randint(1, 3)):
            with suppress(Failed):  # It may be refused, and then goes on.
                yield from self._look_at(client, session, bound, at)
            yield self._some(self._think)
        yield from self._ask(client, Operation.CLOSE, session, bound=bound)
        self._cluster.reach("snapshot_served")

    def _look_at(self, client: SimClient, session: int, bound: int, at: int) -> Task:
        one = Seen(client.number, "snapshot", self._loop.now)
        if self._chance.random() < 0.2:
            call = yield from self._ask(client, Operation.STATE_HASH, session, bound=bound)
            self.history.hashed(client.partition, at, call.value)
        elif self._shards.together and self._chance.random() < 0.5:
            yield from self._scan(client, one, session, bound)
        else:
            yield from self._heads(client, one, session, bound)
        if one.values or one.lengths:
            self.history.seen.append(one)
            self.history.saw(one, self._loop.now, at)

    def _here(self, client: SimClient) -> list[int]:
        """The lists whose heads are in the partition of a client."""
        placement = self._map.of("heads")
        keys = [self._key(number) for number in self._lists]
        return [
            key
            for key in keys
            if placement.partition_of(HEADS.pack_key((key,))) == client.partition
        ]

    def _scan(self, client: SimClient, one: Seen, session: int, bound: int) -> Task:
        here = self._here(client)
        if not here:
            return
        number = self._chance.choice(here)
        first, end = (ELEMENTS.pack_key((number + i, 0)) for i in range(2))
        call = yield from self._ask(
            client, Operation.SCAN, session, ELEMENTS.id, first, end, 1000, 0, bound=bound
        )
        rows, more = call.value
        if not more:
            one.values = {number: [_NUMBER.unpack(row)[0] for _, row in rows]}

    def _heads(self, client: SimClient, one: Seen, session: int, bound: int) -> Task:
        here = self._here(client)[:_LISTS_MAX]
        if not here:
            return
        keys = [HEADS.pack_key((number,)) for number in here]
        call = yield from self._ask(client, Operation.GET, session, HEADS.id, keys, bound=bound)
        lengths = [0 if value is None else _NUMBER.unpack(value)[0] for value in call.value]
        one.lengths = dict(zip(here, lengths, strict=True))


def hosted_of(process: SimProcess) -> list[Hosted]:
    """The replicas of a process."""
    from mako.sim.shards.process import ShardProcess

    assert isinstance(process, ShardProcess)
    return list(process.hosted.values())


def _three(keys: tuple[int, ...]) -> tuple[int, ...]:
    """Keys as arguments, always three of them."""
    return (*keys, *[-1] * (_LISTS_MAX - len(keys)))
