"""One engine leads, follows and leads again, beside a model that only knows the log.

Three replicas, and a small Raft without messages: logs are copied, an entry is committed when two
have it, a leader that was deposed may go on for a while. Leaders execute transactions in several
contexts, over three kinds of keys and over tables that they create; they drain when they like,
and the log takes only part of what they drained. After each step every replica shows, at its
watermark, what its applied entries say, and a leader, to a transaction, what it has executed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from mako.engine.closing import close
from mako.engine.dump import Dumper
from mako.engine.engine import Engine
from mako.engine.interactive import (
    session_begin,
    session_begin_snapshot,
    session_commit,
    session_delete,
    session_get,
    session_put,
    session_rest,
)
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    C_ARGUMENTS,
    C_RESULT,
    C_SNAPSHOT,
    N_COUNT,
    N_LEVEL,
    N_NEXT,
    NONE,
    T_KIND,
    T_ROOT,
)
from mako.engine.reclaim import reclaim_at_rest
from mako.entry import Entry, EntryKind, Index, Term
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from mako.schema import BytesTable, Table
from tests.engine import log_reference

pytestmark = pytest.mark.interpreted

WORDS: Final = Table("words", id=1, key={"n": 64}, row={"v": "i8"})
PAIRS: Final = Table("pairs", id=2, key={"n": 64, "m": 64}, row={"v": "i8"})
STRINGS: Final = BytesTable("strings", id=3)
#: Numbers of tables that are created ahead, with keys of either kind.
AHEAD: Final = range(4, 20)
KEYS: Final = 25
WORKERS: Final = 2
STEPS: Final = 400

State = dict[tuple[int, bytes], bytes]
"""(table, key) -> value"""


class Machine:
    """A replica: its log, and the state that a transaction would see."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.log: list[Entry] = []
        self.ahead: State = {}
        self.workers: list[int] = []
        self.now_ms = 1_000
        settings = PartitionSettings(memory_bytes=16 << 20, ring_bytes=256 << 10)
        self.partition = Partition(
            settings,
            [WORDS, PAIRS, STRINGS],
            lambda: self.now_ms,
            on_lead=self._lead,
            on_rest=self._rest,
        )
        self.snapshot: tuple[int, int, State] | None = None

    def _lead(self) -> None:
        engine = self.partition.engine
        self.workers = [engine.take_context() for _ in range(WORKERS)]

    def _rest(self) -> None:
        for context in self.workers:
            self.partition.engine.give_context(context)
        self.workers = []

    # --- a leader ---------------------------------------------------------------------------

    def write(self) -> None:
        """One transaction of one to four writes."""
        engine, draw = self.partition.engine, self.draw
        context = draw.choice(self.workers)
        session_begin(context)
        for _ in range(draw.randint(1, 4)):
            # Mostly into the newest.
            number = draw.choice([*engine.tables, *[max(engine.tables)] * 3])
            handle = engine.tables[number]
            place = handle.address
            key = key_of(handle.table, draw.randrange(KEYS))
            engine.write(context + C_ARGUMENTS, key)
            if draw.random() < 0.4:
                assert session_delete(context, place, len(key)) == ((number, key) in self.ahead)
                self.ahead.pop((number, key), None)
                continue
            size = draw.randrange(200) if isinstance(handle.table, BytesTable) else 8
            value = draw.randbytes(size)
            put = session_put(context, place, len(key), size, 1)
            assert put > 0
            engine.write(put, value)
            self.ahead[number, key] = value
        assert session_commit(context) == 0

    def create(self) -> None:
        """Another table; who leads next may know it as another one."""
        engine = self.partition.engine
        number = next((n for n in AHEAD if n not in engine.tables), 0)
        if number and self.draw.random() < 0.5:
            engine.create_table(BytesTable(f"b{number}", id=number))
        elif number:
            table = Table(f"w{number}", id=number, key={"n": 64}, row={"v": "i8"})
            engine.create_table(table)

    def see(self) -> None:
        """A transaction sees what was executed."""
        context = self.workers[0]
        engine = self.partition.engine
        found: State = {}
        session_begin(context)
        for number, handle in engine.tables.items():
            for i in range(KEYS):
                key = key_of(handle.table, i)
                engine.write(context + C_ARGUMENTS, key)
                length = session_get(context, handle.address, len(key))
                if length >= 0:
                    found[number, key] = engine.read(context + C_RESULT + 8, length)
        assert session_commit(context) == 0
        session_rest(context)
        assert found == self.ahead

    def reclaim(self) -> None:
        close(self.partition.engine.base)
        for context in self.workers:
            reclaim_at_rest(context, self.draw.choice([3, 1000]))

    # --- readers ------------------------------------------------------------------------------

    def read(self, timestamp: int) -> State:
        """All rows at a timestamp that is pinned."""
        engine = self.partition.engine
        with engine.borrowed() as context:
            session_begin_snapshot(context, timestamp)
            with Dumper(engine, context) as dumper:
                data = b"".join(block.data for block in dumper.blocks())
        return decoded(data)

    def open_snapshot(self, state: State) -> None:
        if self.snapshot is None:
            context = self.partition.engine.take_context()
            timestamp = self.partition.engine.open_snapshot(context)
            assert timestamp == self.partition.watermark
            self.snapshot = context, timestamp, state

    def close_snapshot(self) -> None:
        if self.snapshot is not None:
            context, timestamp, state = self.snapshot
            assert self.read(timestamp) == state
            self.partition.engine.set_word(context + C_SNAPSHOT, NONE)
            self.partition.engine.give_context(context)
            self.snapshot = None


def key_of(table: Table | BytesTable, number: int) -> bytes:
    if isinstance(table, Table):
        return number.to_bytes(8, "big") * (table.key_size // 8)
    return b"k" * (number % 7) + b"%d" % number


def decoded(data: bytes) -> State:
    """The rows of a dump."""
    state: State = {}
    while data:
        size = int.from_bytes(data[2:4], "little")
        key, data_ = data[4 : 4 + size], data[4 + size :]
        length = int.from_bytes(data_[:4], "little")
        state[int.from_bytes(data[:2], "little"), key] = data_[4 : 4 + length]
        data = data_[4 + length :]
    return state


@dataclass
class Cluster:
    """Three replicas, and what the committed log says after each entry."""

    draw: random.Random
    machines: list[Machine] = field(init=False)
    states: list[State] = field(default_factory=lambda: [{}])
    term: int = 0
    leader: Machine | None = None

    def __post_init__(self) -> None:
        self.machines = [Machine(self.draw) for _ in range(3)]

    def close(self) -> None:
        for machine in self.machines:
            machine.close_snapshot()
            machine.partition.close()

    def step(self) -> None:
        for machine in self.machines:
            machine.now_ms += self.draw.choice([0, 0, 1, 5])
            if machine.partition.leading:
                self.run(machine)
            if self.draw.random() < 0.05:
                machine.open_snapshot(self.states[machine.partition.applied])
            if self.draw.random() < 0.05:
                machine.close_snapshot()
        if self.leader is not None:
            self.replicate(self.leader)
        if self.leader is None or self.draw.random() < 0.04:
            self.elect()

    def run(self, machine: Machine) -> None:
        """Whoever believes to lead goes on, also when another one does by now."""
        for _ in range(self.draw.randrange(4)):
            machine.write()
        action = self.draw.random()
        if action < 0.08:
            machine.create()
        elif action < 0.18:
            machine.see()
        elif action < 0.3:
            machine.reclaim()
        elif action < 0.7:
            for data in machine.partition.drain():
                machine.log.append(entry_of(machine, machine.partition._term, data))

    def replicate(self, leader: Machine) -> None:
        """Copy a part of the leader's log to one follower; commit and apply what two have."""
        other = self.draw.choice([m for m in self.machines if m is not leader])
        if other.partition._term:
            other.partition.step_down()
        alike = agreed(other.log, leader.log)
        length = self.draw.randint(alike, len(leader.log))
        if length > alike:  # What is not the leader's goes.
            other.log = leader.log[:length]
        had = max(agreed(leader.log, m.log) for m in self.machines if m is not leader)
        if had and leader.log[had - 1].term == self.term:
            self.commit(leader.log[:had])
        self.apply(leader, leader)
        self.apply(other, leader)

    @property
    def committed(self) -> int:
        return len(self.states) - 1

    def commit(self, log: list[Entry]) -> None:
        for entry in log[self.committed :]:
            state = dict(self.states[-1])
            for transaction in log_reference.decode(entry.data).transactions:
                for write in transaction.writes:
                    if write.value is None:
                        state.pop((write.table, write.key), None)
                    else:
                        state[write.table, write.key] = write.value
            self.states.append(state)

    def apply(self, machine: Machine, leader: Machine) -> None:
        """Some of what is committed."""
        first = machine.partition.applied
        last = min(self.draw.randint(first, self.committed), agreed(machine.log, leader.log))
        was_leading = machine.partition.leading
        machine.partition.apply(machine.log[first:last])
        if machine.partition.leading and not was_leading:
            machine.ahead = dict(self.states[machine.partition.applied])
        self.check(machine)

    def elect(self) -> None:
        """Somebody who has what is committed leads in a new term."""
        able = [m for m in self.machines if self.may_lead(m)]
        machine = self.draw.choice(able)
        if machine.partition._term:
            machine.partition.step_down()
        self.term += 1
        self.leader = machine
        unapplied = machine.log[machine.partition.applied :]
        data = machine.partition.open_term(self.term, unapplied)
        machine.log.append(entry_of(machine, self.term, data))

    def may_lead(self, machine: Machine) -> bool:
        """Two of three logs are no newer than its own (Raft §5.4.1)."""
        return sum(newness(m.log) <= newness(machine.log) for m in self.machines) >= 2

    def check(self, machine: Machine) -> None:
        partition = machine.partition
        assert machine.read(partition.watermark) == self.states[partition.applied]

    def share(self, *, write: bool) -> None:
        """Everybody has and applies everything. Then the leader executes a little, or closes."""
        leader = self.leader
        assert leader is not None
        for machine in self.machines:
            machine.now_ms += 1_000
            if machine is leader:
                continue
            if machine.partition._term:
                machine.partition.step_down()
            machine.log = list(leader.log)
        self.commit(leader.log)
        for machine in self.machines:
            was_leading = machine.partition.leading
            machine.partition.apply(machine.log[machine.partition.applied :])
            if machine.partition.leading and not was_leading:
                machine.ahead = dict(self.states[-1])
            self.check(machine)
        if write:
            leader.write()
        leader.partition.want(leader.partition.engine.clock)
        for data in leader.partition.drain():
            leader.log.append(entry_of(leader, self.term, data))


def entry_of(machine: Machine, term: int, data: bytes) -> Entry:
    return Entry(Term(term), Index(len(machine.log) + 1), EntryKind.NORMAL, data)


def newness(log: list[Entry]) -> tuple[int, int]:
    return (log[-1].term if log else 0, len(log))


def agreed(one: list[Entry], other: list[Entry]) -> int:
    """Entries that two logs begin with alike."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left.term != right.term:
            break
        count += 1
    return count


CHILDREN: Final = {1: WORD_KIND.children, 2: PAIR_KIND.children, 3: BYTES_KIND.children}


def records(engine: Engine, table: int) -> int:
    """How many records the tree of a table holds, rows or not."""
    kind = engine.word(table + T_KIND)
    node = engine.word(table + T_ROOT)
    while engine.word(node + N_LEVEL) != 0:
        node = engine.word(node + CHILDREN[kind])
    count = 0
    while node != 0:
        count += engine.word(node + N_COUNT)
        node = engine.word(node + N_NEXT)
    return count


@pytest.fixture
def cluster(seed: int) -> Iterator[Cluster]:
    cluster = Cluster(random.Random(seed))
    yield cluster
    cluster.close()


def test_replicas_show_what_the_log_says_whoever_leads(cluster: Cluster) -> None:
    for _ in range(STEPS):
        cluster.step()
    for machine in cluster.machines:
        machine.close_snapshot()
    cluster.leader = None
    cluster.elect()
    for _ in range(5):
        cluster.share(write=True)
    assert len({machine.partition.state_hash() for machine in cluster.machines}) == 1
    assert sum(machine.partition.discarded for machine in cluster.machines) > 0
    # Nothing is left of what was taken back, once the watermark has passed everything.
    for _ in range(6):
        cluster.share(write=False)
        for machine in cluster.machines:
            reclaim_all(machine.partition.engine)
    for machine in cluster.machines:
        engine = machine.partition.engine
        rows = Counter(number for number, _ in cluster.states[-1])
        for number, handle in engine.tables.items():
            assert records(engine, handle.address) == rows[number]
        assert engine.retired == 0


def reclaim_all(engine: Engine) -> None:
    """Nobody runs."""
    close(engine.base)
    for i in range(engine.context_count):
        reclaim_at_rest(engine.context(i), 1 << 20)
