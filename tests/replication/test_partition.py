"""The engine as a state machine: what is applied counts, what is ahead of it can vanish."""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from mako.engine.codec import check, epoch_entry, final_of, frame_of
from mako.engine.region import Region
from mako.entry import Configuration, Entry, EntryKind, Index, NodeId, SnapshotMeta, Term
from mako.log_format import EntryType
from mako.procedure import procedure
from mako.replication.across import FORGET_EPOCHS
from mako.replication.ahead import Ahead
from mako.replication.partition import Partition
from mako.replication.replica import NotNow
from mako.replication.settings import PartitionSettings
from mako.schema import BytesTable, Table
from mako.storage.snapshot_format import SnapshotHeader

pytestmark = pytest.mark.interpreted

TABLE: Final = BytesTable("lists", id=1)
MEMBERS: Final = Configuration(frozenset({NodeId(1)}))


def append(tx: Ahead, request: bytes) -> bytes:
    """The request is a key of one byte and what to append; the answer is the whole value."""
    key, data = request[:1], request[1:]
    value = (tx.get(key) or b"") + data
    if data == b"!":
        tx.delete(key)
        return b""
    tx.put(key, value)
    return value


Make = Callable[[], Partition]


@pytest.fixture
def make() -> Iterator[Make]:
    machines: list[Partition] = []

    def made() -> Partition:
        settings = PartitionSettings(memory_bytes=16 << 20, ring_bytes=256 << 10)
        machines.append(Partition(settings, [TABLE], lambda: 1_000, transact=append))
        return machines[-1]

    yield made
    for machine in machines:
        machine.close()


class Log:
    """Entries, as Raft would agree on them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, term: int, data: bytes) -> Entry:
        index = Index(len(self.entries) + 1)
        self.entries.append(Entry(Term(term), index, EntryKind.NORMAL, data))
        return self.entries[-1]


def lead(machine: Partition, log: Log, term: int) -> None:
    machine.apply(log.entries[machine.applied :])
    machine.apply([log.add(term, machine.open_term(term, []))])
    assert machine.leading
    for data in machine.drain():  # The tables, if nobody has described them.
        machine.apply([log.add(term, data)])


def run(machine: Partition, log: Log, term: int, *requests: bytes) -> Entry:
    for request in requests:
        machine.execute(request)
    (data,) = machine.drain()
    assert check(data) == (0, 0)
    return log.add(term, data)


def follow(machine: Partition, entries: Sequence[Entry]) -> None:
    machine.apply([entry for entry in entries if entry.index > machine.applied])


def test_a_follower_reaches_the_leaders_state(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    for number in range(20):
        entry = run(leader, log, 1, b"a%d" % number, b"b%d" % number)
        leader.apply([entry])
    follow(follower, log.entries)
    assert follower.applied == leader.applied == len(log.entries)
    assert follower.read(b"a", 1) == b"".join(b"%d" % number for number in range(20))
    assert follower.state_hash() == leader.state_hash()


def test_a_scan_reads_what_is_applied_as_rows_of_a_dump_in_several_pieces(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    keys = [b"%c" % number for number in range(65, 75)]
    leader.apply([run(leader, log, 1, *(key + b"x" * 40 for key in keys))])
    leader.execute(b"Fmore")  # Ahead of what is applied.
    space = Region(128)
    with leader.reading(TABLE.id) as tx:
        pieces = list(tx.scan(keys[2], keys[9], space))
    space.close()
    row = struct.Struct("<HHcI40s")
    rows = [found for piece in pieces for found in row.iter_unpack(piece)]
    assert rows == [(1, 1, key, 40, b"x" * 40) for key in keys[2:9]]
    assert len(pieces) > 1


def test_the_first_leader_puts_the_tables_into_the_log(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    assert [kind_of(entry) for entry in log.entries] == [EntryType.EPOCH, EntryType.SCHEMA]
    leader.step_down()
    lead(follower, log, 2)
    assert [kind_of(entry) for entry in log.entries[2:]] == [EntryType.EPOCH]
    follower.apply([run(follower, log, 2, b"ax")])
    follow(leader, log.entries)
    assert leader.read(b"a", 1) == b"x"


def test_an_epoch_follows_the_end_of_the_log_applied_or_not(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.apply([run(leader, log, 1, b"a1")])
    follow(follower, log.entries)
    unapplied = [run(leader, log, 1, b"a2"), log.add(2, leader_of(leader))]
    entry = log.add(3, follower.open_term(3, unapplied))
    frame = frame_of(entry.data)
    assert frame.epoch == 3
    assert frame.closed == final_of(entry.data) == frame_of(unapplied[0].data).closed
    follow(follower, log.entries)
    assert follower.leading
    assert (follower.epoch, follower.final) == (3, frame.closed)


def leader_of(machine: Partition) -> bytes:
    """The epoch entry of a leader between, which nobody has applied."""
    return epoch_entry(2, machine.watermark + 1, stable=0, submitted=0)


def kind_of(entry: Entry) -> EntryType:
    return frame_of(entry.data).type


def test_tables_made_ahead_go_with_what_was_ahead(make: Make) -> None:
    old, new, log = make(), make(), Log()
    lead(old, log, 1)
    follow(new, log.entries)
    old.engine.create_table(BytesTable("more", id=7))
    old.step_down()
    lead(new, log, 2)
    new.engine.create_table(BytesTable("other", id=7))
    for data in new.drain():
        new.apply([log.add(2, data)])
    follow(old, log.entries)
    assert old.engine.tables[7].table.name == "other"
    assert old.engine.table_named("more") is None


def test_nothing_executed_shows_before_it_is_applied(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.apply([run(leader, log, 1, b"a1")])
    before = leader.state_hash()
    entry = run(leader, log, 1, b"a2", b"b1")
    assert leader.execute(b"a3") == b"123"
    assert leader.state_hash() == before
    assert leader.read(b"a", 1) == b"1"
    leader.apply([entry])
    assert leader.read(b"a", 1) == b"12"
    assert leader.state_hash() != before


def test_what_was_ahead_vanishes_when_the_leadership_ends(make: Make) -> None:
    old, new, log = make(), make(), Log()
    lead(old, log, 1)
    old.apply([run(old, log, 1, b"a1", b"c1")])
    before = old.state_hash()
    assert old.execute(b"d1") == b"1"
    run(old, log, 1, b"a2", b"c!")  # Proposed, and never agreed on.
    old.execute(b"b9")
    del log.entries[-1]
    old.step_down()
    assert old.state_hash() == before
    lead(new, log, 2)
    new.apply([run(new, log, 2, b"a3")])
    follow(old, log.entries)
    assert old.read(b"a", 1) == b"13"
    assert old.read(b"b", 1) is None
    assert old.read(b"c", 1) == b"1"
    assert old.read(b"d", 1) is None
    assert old.discarded == 4
    assert old.state_hash() == new.state_hash()
    old_again = old
    lead(old_again, log, 3)
    assert old_again.execute(b"a4") == b"134"


def test_nothing_runs_before_the_first_entry_of_the_term_is_applied(make: Make) -> None:
    leader = make()
    leader.open_term(1, [])
    assert not leader.leading
    assert leader.drain() == []
    with pytest.raises(AssertionError):
        leader.execute(b"a1")


def header_of(machine: Partition, timestamp: int, tables: bytes) -> SnapshotHeader:
    meta = SnapshotMeta(Index(machine.applied), Term(1), MEMBERS)
    return SnapshotHeader(7, 1, meta, timestamp, tables=tables)


def test_without_a_context_there_is_no_snapshot_for_now(make: Make) -> None:
    machine, log = make(), Log()
    lead(machine, log, 1)
    engine = machine.engine
    taken = [engine.take_context() for _ in range(len(engine._free_contexts))]
    with pytest.raises(NotNow, match="contexts are in use"):
        machine.write_snapshot()
    for context in taken:
        engine.give_context(context)
    made = machine.write_snapshot()
    assert made.timestamp == machine.watermark


def test_a_snapshot_is_that_of_its_moment_and_brings_a_replica_up(make: Make, seed: int) -> None:
    draw = random.Random(seed)
    leader, late, log = make(), make(), Log()
    lead(leader, log, 1)
    for _ in range(100):
        key = bytes([draw.randrange(97, 105)])
        leader.apply([run(leader, log, 1, key + b"x" * draw.randrange(1, 4000))])
    made = leader.write_snapshot()
    header = header_of(leader, made.timestamp, made.tables)
    at_snapshot = leader.state_hash()
    rest = len(log.entries)
    leader.apply([run(leader, log, 1, b"a!", b"q1")])
    leader.step_down()
    blocks = list(made.blocks)
    late.restore(header, blocks)
    assert late.applied == rest
    assert late.state_hash() == at_snapshot
    follow(late, log.entries)
    assert late.state_hash() == leader.state_hash()
    lead(late, log, 2)
    assert late.execute(b"q2") == b"12"


class Judgements(list[tuple[int, bool]]):
    """What a partition says about what it had executed ahead."""

    def __call__(self, final: int, *, certain: bool) -> None:
        self.append((final, certain))


@pytest.fixture
def judgements() -> Judgements:
    return Judgements()


def deposed(leader: Partition, log: Log, judgements: Judgements) -> int:
    """It has led, and has executed something that is in no entry; its final watermark."""
    leader._on_judged = judgements
    lead(leader, log, 1)
    entry = run(leader, log, 1, b"a1")
    leader.apply([entry])
    leader.execute(b"a2")
    leader.step_down()
    assert judgements == []
    return frame_of(entry.data).closed


def test_the_first_epoch_after_its_own_judges_what_a_leader_executed_ahead(
    make: Make, judgements: Judgements
) -> None:
    leader, second, third, log = make(), make(), make(), Log()
    final = deposed(leader, log, judgements)
    for term, machine in ((2, second), (3, third)):
        lead(machine, log, term)
        machine.apply([run(machine, log, term, b"b1")])
        machine.step_down()
    assert third.final > final
    follow(leader, log.entries)  # Both epochs at once.
    assert judgements == [(final, True)]


def test_a_leader_is_judged_by_its_own_next_epoch_before_it_leads(
    make: Make, judgements: Judgements
) -> None:
    leader, log = make(), Log()
    final = deposed(leader, log, judgements)
    leader._on_lead = lambda: judgements.append((0, leader.leading))
    lead(leader, log, 2)
    assert judgements == [(final, True), (0, True)]


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_a_snapshot_tells_of_the_end_of_an_epoch_and_that_of_its_own_epoch_does_not(
    make: Make, judgements: Judgements, missed: int
) -> None:
    leader, other, log = make(), make(), Log()
    final = deposed(leader, log, judgements)
    follow(other, log.entries)
    for term in range(2, 2 + missed):
        lead(other, log, term)
        other.apply([run(other, log, term, b"b1")])
        other.step_down()
    made = other.write_snapshot()
    meta = SnapshotMeta(Index(other.applied), Term(9), MEMBERS)
    header = SnapshotHeader(7, 1, meta, made.timestamp, tables=made.tables, epochs=made.epochs)
    leader.restore(header, list(made.blocks))
    # Without a later epoch its own may go on in the log.
    assert judgements == [(final, missed > 0)]


def test_a_lone_partition_keeps_the_last_of_its_epochs(make: Make, judgements: Judgements) -> None:
    leader, other, log = make(), make(), Log()
    deposed(leader, log, judgements)
    follow(other, log.entries)
    for term in range(2, 2 + FORGET_EPOCHS):
        lead(other, log, term)
        other.step_down()
    assert len(list(other.history.starts())) == FORGET_EPOCHS
    assert other.epoch == FORGET_EPOCHS + 1
    lead(other, log, 99)
    other.step_down()
    made = other.write_snapshot()
    meta = SnapshotMeta(Index(other.applied), Term(99), MEMBERS)
    header = SnapshotHeader(7, 1, meta, made.timestamp, tables=made.tables, epochs=made.epochs)
    leader.restore(header, list(made.blocks))
    assert judgements == [(0, False)]  # The end of its epoch is forgotten: nobody can tell.


def test_equal_logs_make_equal_snapshots(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    for number in range(30):
        leader.apply([run(leader, log, 1, bytes([97 + number % 5]) + b"%d" % number)])
    follow(follower, log.entries)
    leader.execute(b"a-more")
    first, second = leader.write_snapshot(), follower.write_snapshot()
    assert (first.timestamp, first.tables) == (second.timestamp, second.tables)
    assert list(first.blocks) == list(second.blocks)


def test_a_transaction_without_a_write_makes_no_entry(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.execute(b"a!")
    assert leader.drain() == []


def test_an_entry_that_only_closes_is_made_once_for_who_waits(make: Make) -> None:
    """While it is on its way, another one would bring the same news later."""
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.execute(b"a!")
    seen = leader.engine.clock
    leader.want(seen)
    (data,) = leader.drain()
    assert leader.drained >= seen
    for _ in range(3):
        leader.engine.tick(leader.engine.clock + (1 << 20) >> 20)
        leader.want(seen)
        assert leader.drain() == []
    leader.want(leader.engine.clock)
    assert len(leader.drain()) == 1
    leader.apply([log.add(1, data)])
    assert leader.watermark >= seen


def test_a_wait_for_the_far_future_makes_no_entry_per_turn(make: Make) -> None:
    """It is closed when time gets there; until then an entry now and then is enough."""
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.want(1 << 62)
    leader.engine.tick(1_100)
    assert len(leader.drain()) == 1
    for _ in range(3):
        leader.engine.tick(leader.engine.clock + (1 << 20) >> 20)
        assert leader.drain() == []


def test_a_snapshot_nobody_takes_pins_nothing(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    for number in range(50):
        leader.apply([run(leader, log, 1, b"a%d" % number)])
        leader.write_snapshot()


def test_random_leaders_agree(make: Make, seed: int) -> None:
    """Leaders come and go, some with entries that nobody agreed on."""
    draw = random.Random(seed)
    machines, log = [make() for _ in range(3)], Log()
    for term in range(1, 30):
        leader = draw.choice(machines)
        lead(leader, log, term)
        for _ in range(draw.randrange(4)):
            key = bytes([97 + draw.randrange(4)])
            request = key + draw.choice([b"!", b"%d" % draw.randrange(1000)])
            leader.apply([run(leader, log, term, b"always", request)])
        if draw.random() < 0.5:
            run(leader, log, term, b"alost", b"blost")
            del log.entries[-1]
        leader.step_down()
        for machine in machines:
            if draw.random() < 0.7:
                follow(machine, log.entries)
    for machine in machines:
        follow(machine, log.entries)
    assert len({machine.state_hash() for machine in machines}) == 1
    assert machines[0].read(b"a", 1) == machines[1].read(b"a", 1)


def test_a_context_that_replayed_runs_procedures_afterwards(make: Make) -> None:
    """What the replayer asked for ahead, of tables of byte strings too, is not the worker's."""
    leader, log = make(), Log()
    settings = PartitionSettings(memory_bytes=16 << 20, ring_bytes=256 << 10)
    # Without `transact`, which would take the replayer's context first.
    follower = Partition(settings, [TABLE], lambda: 1_000)
    lead(leader, log, 1)
    leader.engine.create_table(TYPED)
    for data in leader.drain():
        leader.apply([log.add(1, data)])
    leader.apply([run(leader, log, 1, *[b"a%d" % number for number in range(40)])])
    follow(follower, log.entries)
    lead(follower, log, 2)
    follower.engine.create_table(TYPED)  # The log knows no fields.
    # Every context of it, that of the replayer included.
    taken = [follower.engine.take_context() for _ in range(8)]
    for context in taken:
        follower.engine.give_context(context)
        result, _ = follower.engine.run(fetch_ahead, (12,))
        assert result == 12
    follower.close()


TYPED: Final = Table("typed", id=2, key={"n": 32}, row={"v": "i8"})


@procedure
def fetch_ahead(tx: Any, count: int) -> int:
    for n in range(count):
        tx.prefetch(TYPED, (n,))
    found = 0
    for n in range(count):
        there, _ = tx.find(TYPED, (n,))
        if not there:
            found += 1
    return found


PAIRS = Table("pairs", id=2, key={"one": 64, "other": 64}, row={"value": "i8"})


def test_a_scan_of_a_typed_table_in_several_pieces_repeats_no_row() -> None:
    def transact(tx: Ahead, request: bytes) -> bytes:
        for number in range(int(request)):
            tx.put(PAIRS.pack_key((7, number)), number.to_bytes(8, "little"))
        return b""

    machine = Partition(PartitionSettings(), [PAIRS], lambda: 1000, transact=transact)
    log = Log()
    lead(machine, log, 1)
    machine.apply([run(machine, log, 1, b"50")])
    space = Region(1024)
    first, end = PAIRS.pack_key((7, 0)), PAIRS.pack_key((8, 0))
    with machine.reading(PAIRS.id) as tx:
        rows = b"".join(tx.scan(first, end, space))
    space.close()
    values = [value for *_, value in struct.Struct("<HH16sIq").iter_unpack(rows)]
    assert values == list(range(50))
    machine.close()
