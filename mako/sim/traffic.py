"""What clients of a served group do, one thing after the other, and what came of it.

    append       a procedure call, packed; perhaps run once, perhaps answered early, too
    lengths      a procedure call that only reads
    interactive  begin, read, write, commit, with pauses between
    snapshot     reads, a procedure and a hash at a snapshot of any replica
    write, get   single keys and batches of a table that clients create

What clients saw goes to the history (mako.sim.serial). Troubles of connections happen meanwhile.
"""

import struct
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from mako.client.remote.asking import Asking
from mako.client.remote.calls import Call
from mako.errors import Exists, Unknown
from mako.replication.partition import Partition
from mako.sim.checkers import Violation
from mako.sim.client import SimClient, Task, Wait
from mako.sim.lives import Lives, ended, outcome_of
from mako.sim.procedures import ELEMENTS, HEADS, LISTS_MAX, arguments_of, numbers_in
from mako.sim.serial import Append, ClientHistory
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

_NUMBER: Final = struct.Struct("<q")
#: An element as a row of a dump: table, bytes of the key, key, bytes of the value, value.
_ROW: Final = struct.Struct("<HH16sIq")
#: What is before a key, and before a value, in such a row.
_KEY: Final = struct.Struct("<HH")
_VALUE: Final = struct.Struct("<I")
_REGISTERS: Final = 4


class Traffic(Lives):
    """All clients of a run, in place of mako.sim.workload.Workload."""

    def __init__(self, cluster: "Cluster") -> None:
        self.history = ClientHistory()
        self._lists = range(cluster.plan.keys)
        shares = cluster.plan.clients_plan.shares
        count = cluster.plan.clients
        clients = [SimClient(cluster, i, stay=False) for i in range(count)]
        if shares["snapshot"]:
            clients.append(SimClient(cluster, count, stay=True))
        super().__init__(cluster, shares, clients)

    def _make_scripts(self) -> dict[str, Callable[[Any], Task]]:
        return {
            "append": self._append,
            "lengths": self._read_lengths,
            "interactive": self._interactive,
            "snapshot": self._snapshot,
            "write": self._write,
            "get": self._get,
        }

    def check_end(self) -> None:
        """The last checks, when all replicas have the same log."""
        machines = []
        for process in self._cluster.processes:
            machine = process.machines[self._cluster.groups[0]]
            assert isinstance(machine, Partition)
            machines.append(machine)
        found = [_values_of(machines[0], number) for number in self._lists]
        for machine in machines[1:]:
            if [_values_of(machine, number) for number in self._lists] != found:
                raise Violation("equal states", "lists differ between replicas")
        registers = _registers_of(machines[0])
        if any(_registers_of(machine) != registers for machine in machines[1:]):
            raise Violation("equal states", "registers differ between replicas")
        now = self._loop.now
        self._gave_up(self.history.check_end(found.__getitem__, self._lists, registers, now))
        self._cluster.installed.check_end()

    # --- Packed calls --------------------------------------------------------------------------

    def _some_lists(self) -> tuple[int, ...]:
        most = min(LISTS_MAX, len(self._lists))
        return tuple(self._chance.sample(self._lists, self._chance.randint(1, most)))

    def _new_append(self) -> Append:
        self._next_value += 1
        return Append(self._next_value, self._some_lists(), self.history.floor)

    def _append(self, client: SimClient) -> Task:
        append = self._new_append()
        early = self._chance.random() < 0.3
        call = client.asking.procedure(
            "append",
            (append.value, *arguments_of(append.lists)),
            self._deadline(client),
            early=early,
            once=self._chance.random() < 0.4,
        )

        def positions() -> tuple[int, ...]:
            return numbers_in(call.value)[: len(append.lists)]

        def told() -> None:
            where = dict(zip(append.lists, positions(), strict=True))
            self._cluster.installed.told_positions(client.partition, call, where)

        told_early = None
        if early:
            yield call, lambda: call.committed
            told_early = self._early(client, call)
            if told_early is not None:
                told()
        yield ended(call)
        self._check_early(call, told_early)
        if call.error is None:
            told()
        self._finish(append, call, positions)

    def _finish(self, append: Append, call: Call, positions: Callable[[], tuple[int, ...]]) -> None:
        """What became of an append."""
        self._check(call)
        error = call.error
        if error is None:
            exact = not call.lost
            if not exact:
                self._cluster.reach("asked_again")
            self.history.appended(append, positions(), call.timestamp, exact=exact)
        elif isinstance(error, Unknown):
            self.history.lost(append)
        else:
            self.history.gone(append, f"{type(error).__name__}: {error}")
        if error is not None:
            self._cluster.reach(f"ended_{type(error).__name__}")

    def _read_lengths(self, client: SimClient) -> Task:
        lists, floor = self._some_lists(), self.history.floor
        arguments = arguments_of(lists)
        deadline = self._deadline(client)
        call = client.asking.procedure("lengths", arguments, deadline, early=False, once=False)
        yield ended(call)
        self._check(call)
        if call.error is None:
            self.history.read(lists, numbers_in(call.value)[: len(lists)], call.timestamp, floor)

    # --- Transactions call by call -------------------------------------------------------------

    def _lengths_at(
        self, client: SimClient, session: int, bound: int, lists: tuple[int, ...]
    ) -> Generator[Wait, None, tuple[int, ...]]:
        keys = [HEADS.pack_key((number,)) for number in lists]
        call = yield from self._ask(client, Operation.GET, session, HEADS.id, keys, bound=bound)
        return tuple(0 if value is None else _NUMBER.unpack(value)[0] for value in call.value)

    def _interactive(self, client: SimClient) -> Task:
        append = self._new_append()
        lists = append.lists
        begun = yield from self._ask(client, Operation.BEGIN)
        session, bound = begun.value, client.core.connection or -1
        writes = self._chance.random() < 0.7
        lengths = yield from self._lengths_at(client, session, bound, lists)
        yield self._some(self._think // 4)
        for number, length in zip(lists, lengths, strict=True) if writes else ():
            head, element = HEADS.pack_key((number,)), ELEMENTS.pack_key((number, length + 1))
            for table, key, word in (
                (ELEMENTS, element, append.value),
                (HEADS, head, length + 1),
            ):
                row, replace = _NUMBER.pack(word), table is HEADS
                # An element that is there is told at once; that the length is an older one would
                # be only at the end.
                yield from self._ask(
                    client,
                    Operation.PUT,
                    session,
                    table.id,
                    key,
                    row,
                    replace,
                    bound=bound,
                    also=() if replace else (Exists,),
                )
        if bound != client.core.connection:
            return
        call = client.asking.request(
            Operation.COMMIT, session, 0, deadline=self._deadline(client), bound=bound
        )
        yield ended(call)
        if writes:
            self._finish(append, call, lambda: tuple(length + 1 for length in lengths))
            return
        self._check(call)
        if call.error is None:
            self.history.read(lists, lengths, call.timestamp, append.floor)

    # --- Snapshots -----------------------------------------------------------------------------

    def _snapshot(self, client: SimClient) -> Task:
        oldest = self._chance.choice((-1, -1, 20, 200, 2000))
        call = yield from self._open_snapshot(client, oldest)
        session, _ = call.value
        bound, timestamp = client.core.connection or -1, call.timestamp
        for _ in range(self._chance.randint(1, 3)):
            yield from self._look(client, session, bound, timestamp)
            yield self._some(self._think)
        yield from self._ask(client, Operation.CLOSE, session, bound=bound)
        self._cluster.reach("snapshot_served")

    def _look(
        self, client: SimClient, session: int, bound: int, timestamp: int
    ) -> Generator[Wait, None, None]:
        lists = self._some_lists()
        kind = self._chance.choice(("heads", "elements", "procedure", "hash"))
        if kind == "hash":
            call = yield from self._ask(client, Operation.STATE_HASH, session, bound=bound)
            self.history.hashed(timestamp, call.value)
            return
        if kind == "heads":
            lengths = yield from self._lengths_at(client, session, bound, lists)
        elif kind == "elements":
            lists = lists[:1]
            first, end = (ELEMENTS.pack_key((lists[0] + i, 0)) for i in range(2))
            call = yield from self._ask(
                client, Operation.SCAN, session, ELEMENTS.id, first, end, 1000, 0, bound=bound
            )
            rows, more = call.value
            if not more:
                values = [_NUMBER.unpack(row)[0] for _, row in rows]
                self.history.scanned(lists[0], values, timestamp)
            return
        else:
            directory = client.core.directory
            assert directory is not None
            number, _ = directory.procedures["lengths"]
            arguments = list(arguments_of(lists))
            call = yield from self._ask(
                client, Operation.RUN_AT, session, number, arguments, None, bound=bound
            )
            lengths = numbers_in(call.value[0])[: len(lists)]
        self.history.saw(lists, lengths, timestamp)

    # --- Registers -----------------------------------------------------------------------------

    def _register(self) -> bytes:
        return b"register %d" % self._chance.randrange(_REGISTERS)

    def _table(self, client: SimClient) -> Generator[Wait, None, int]:
        """The number of the table, which a leader creates for the first who asks."""
        call = yield from self._ask(client, Operation.OPEN_TABLE, "registers")
        return int(call.value[0])

    def _write(self, client: SimClient) -> Task:
        number = yield from self._table(client)
        history, floor, begin = self.history, self.history.floor, self._loop.now
        keys = sorted({self._register() for _ in range(self._chance.randint(1, 3))})
        self._next_value += 1
        value = b"%d" % self._next_value + b" " * self._chance.choice((0, 0, 1500))
        deleted = {key for key in keys if self._chance.random() < 0.2}
        writes = [
            ["delete" if key in deleted else "put", number, key, b"" if key in deleted else value]
            for key in keys
        ]
        one = history.registers.begin(client.number, begin)
        for key in keys:
            one.write(key.decode(), None if key in deleted else _shown(value))
        once = self._chance.random() < 0.5
        call = Asking(client.core, once=once).write(writes, self._deadline(client))
        yield ended(call)
        self._check(call)
        if call.error is None:
            now, exact = self._loop.now, not call.lost
            history.over_registers(one, now, call.timestamp, floor, exact=exact)
        else:
            history.failed_over_registers(one, self._loop.now, outcome_of(call.error))

    def _get(self, client: SimClient) -> Task:
        number = yield from self._table(client)
        begin, floor = self._loop.now, self.history.floor
        key = self._register()
        call = yield from self._ask(client, Operation.GET, 0, number, [key])
        one = self.history.registers.begin(client.number, begin)
        one.saw(key.decode(), _shown(call.value[0]))
        self.history.over_registers(one, self._loop.now, call.timestamp, floor, exact=True)


def _shown(value: bytes | None) -> str | None:
    """The value of a register as the history has it. Most of a long one is padding."""
    if value is None:
        return None
    return f"{value.rstrip(b' ').decode(errors='replace')}, {len(value)} bytes"


def _registers_of(machine: Partition) -> dict[str, str | None]:
    """The applied values of all registers."""
    found: dict[str, str | None] = {f"register {i}": None for i in range(_REGISTERS)}
    table = machine.engine.table_named("registers")
    if table is not None:
        data, at = machine.rows(int(table.table.id), b"", b"\xff"), 0
        while at < len(data):
            _, key_bytes = _KEY.unpack_from(data, at)
            at += _KEY.size + key_bytes
            key = data[at - key_bytes : at]
            (value_bytes,) = _VALUE.unpack_from(data, at)
            at += _VALUE.size + value_bytes
            found[key.decode(errors="replace")] = _shown(data[at - value_bytes : at])
    return found


def _values_of(machine: Partition, number: int) -> list[int]:
    """The applied values of a list."""
    first, end = (ELEMENTS.pack_key((number + i, 0)) for i in range(2))
    return [value for *_, value in _ROW.iter_unpack(machine.rows(ELEMENTS.id, first, end))]
