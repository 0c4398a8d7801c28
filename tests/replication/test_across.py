"""A replica among other partitions: what depends on those that fail goes, everywhere alike."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest

from mako.engine.codec import Discard, discard_entry, discard_of, frame_of
from mako.engine.dependent import record_of
from mako.engine.layout import C_ARGUMENTS, C_MASK, POINTER, R_HEAD, V_MASK, V_TIMESTAMP, WATERMARKS
from mako.entry import Configuration, Entry, Index, NodeId, SnapshotMeta, Term
from mako.log_format import EntryType
from mako.recovery.catching_up import Deposed, Nothing, Undo
from mako.recovery.history import EpochStart, History, decode_records
from mako.replication.across import FORGET_EPOCHS
from mako.replication.ahead import Ahead
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from mako.schema import BytesTable
from mako.storage.snapshot_format import SnapshotHeader
from tests.engine.log_reference import Transaction, decode
from tests.replication.test_partition import Log, follow, kind_of

pytestmark = pytest.mark.interpreted

TABLE: Final = BytesTable("rows", id=1)
OWN: Final = 0
OTHERS: Final = (1, 2)
ALL: Final = (OWN, *OTHERS)
MEMBERS: Final = Configuration(frozenset({NodeId(1)}))

State = dict[bytes, bytes]


def put(tx: Ahead, request: bytes) -> bytes:
    """The request is a mask of other partitions, a key, and the value; without one it deletes."""
    mask, key, value = request[0], request[1:2], request[2:]
    if value:
        tx.put(key, value)
    else:
        tx.delete(key)
    tx._engine.set_word(tx._context + C_MASK, mask | inherited(tx, key))
    return b""


def inherited(tx: Ahead, key: bytes) -> int:
    """The other partitions that the version waits for which is about to be overwritten."""
    engine, context = tx._engine, tx._context
    engine.write(context + C_ARGUMENTS, key)
    record = record_of(context, tx._table, context + C_ARGUMENTS, len(key))
    version = engine.word(record + R_HEAD) & POINTER if record else 0
    if not version:
        return 0
    mask, timestamp = engine.word(version + V_MASK), engine.word(version + V_TIMESTAMP)
    return sum(
        1 << partition
        for partition in OTHERS
        if mask >> partition & 1
        and engine.word(engine.base + WATERMARKS + 8 * partition) < timestamp
    )


Make = Callable[[], Partition]


@pytest.fixture
def make() -> Iterator[Make]:
    machines: list[Partition] = []

    def made() -> Partition:
        settings = PartitionSettings(partitions=ALL, memory_bytes=16 << 20, ring_bytes=256 << 10)
        machines.append(Partition(settings, [TABLE], lambda: 1_000, transact=put))
        return machines[-1]

    yield made
    for machine in machines:
        machine.close()


def lead(machine: Partition, log: Log, term: int) -> None:
    """Everything in the log is committed, and it leads behind that."""
    follow(machine, log.entries)
    machine.apply([log.add(term, machine.open_term(term, []))])
    assert machine.leading
    commit(machine, log, term)


def drain(machine: Partition, log: Log, term: int) -> list[Entry]:
    return [log.add(term, data) for data in machine.drain()]


def commit(machine: Partition, log: Log, term: int) -> list[Entry]:
    """Bring what the leader has executed into the log, and apply it there."""
    entries = drain(machine, log, term)
    machine.apply(entries)
    return entries


def hear_all(machine: Partition, watermark: int) -> None:
    for partition in OTHERS:
        machine.across.hear(partition, machine.history.epoch(partition), watermark)


def fail(*starts: tuple[int, int, int]) -> History:
    return History(EpochStart(*start) for start in starts)


def rows(machine: Partition) -> State:
    """What a reader of the replica sees."""
    found = {}
    for number in range(97, 123):
        value = machine.read(bytes([number]), 1)
        if value is not None:
            found[bytes([number])] = value
    return found


def newest(machine: Partition) -> State:
    """What a transaction of the leader sees."""
    assert machine._ahead is not None
    found = {}
    with machine._ahead as tx:
        for number in range(97, 123):
            value = tx.get(bytes([number]))
            if value is not None:
                found[bytes([number])] = value
    return found


def test_what_waits_for_another_partition_is_not_shown(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    follow(follower, log.entries)
    for machine in (leader, follower):
        assert machine.stable == 0
        assert rows(machine) == {}
        machine.across.hear(1, 0, leader.watermark)
        assert rows(machine) == {}
        machine.across.hear(2, 0, leader.watermark - 1)
        assert machine.stable == leader.watermark - 1
        machine.across.hear(2, 0, leader.watermark)
        assert rows(machine) == {b"a": b"x"}
    assert leader.state_hash() == follower.state_hash()


def test_a_leader_undoes_what_depends_on_who_failed_and_logs_it_first(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\0ax")
    leader.execute(b"\2ay")
    leader.execute(b"\2by")
    leader.execute(b"\4cz")
    commit(leader, log, 1)
    leader.execute(b"\2dy")  # In the ring.
    leader.execute(b"\0ez")
    theirs = fail((1, 1, 0))
    assert leader.catch_up(theirs) == Undo((EpochStart(1, 1, 0),))
    assert newest(leader) == {b"a": b"x", b"c": b"z", b"e": b"z"}
    assert leader.across.discarded == {1: 3}
    assert leader.catch_up(theirs) == Nothing(is_ahead=True)  # They lack the own epoch.
    assert (leader.view.vector(), leader.history.vector()) == ({OWN: 1, 1: 1}, {OWN: 1})
    leader.execute(b"\2bw")  # In the new epoch.
    entries = commit(leader, log, 1)
    assert [kind_of(entry) for entry in entries] == [EntryType.DISCARD, EntryType.TRANSACTIONS]
    assert discard_of(entries[0].data) == Discard(1, 1, 0)
    logged = decode(entries[1].data).transactions
    assert [write.key for transaction in logged for write in transaction.writes] == [b"e", b"b"]
    follow(follower, log.entries)
    assert follower.across.discarded == {1: 2}  # One was never logged.
    for machine in (leader, follower):
        assert machine.history.vector() == {OWN: 1, 1: 1}
        hear_all(machine, leader.watermark)
        assert rows(machine) == {b"a": b"x", b"b": b"w", b"c": b"z", b"e": b"z"}
    assert leader.state_hash() == follower.state_hash()


def test_what_is_at_or_below_the_final_watermark_stays(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    (first,) = decode(commit(leader, log, 1)[0].data).transactions
    leader.execute(b"\2ay")
    leader.catch_up(fail((1, 1, first.timestamp)))
    assert newest(leader) == {b"a": b"x"}


def test_each_epoch_that_was_missed_is_logged_and_the_first_decides(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    (first,) = decode(commit(leader, log, 1)[0].data).transactions
    theirs = fail((1, 1, first.timestamp - 1), (1, 2, first.timestamp + 9), (2, 1, 0))
    undo = leader.catch_up(theirs)
    assert isinstance(undo, Undo)
    assert newest(leader) == {}
    commit(leader, log, 1)
    follow(follower, log.entries)
    for machine in (leader, follower):
        assert list(machine.history.starts())[1:] == list(theirs.starts())


def test_a_watermark_of_an_epoch_counts_from_its_discard_entry_on(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    high = leader.watermark
    follow(follower, log.entries)
    for machine in (leader, follower):
        machine.across.hear(2, 0, high)
        machine.across.hear(1, 1, high)  # Of an epoch that its log has not.
        assert (machine.stable, rows(machine)) == (0, {})
    leader.catch_up(fail((1, 1, 0)))
    assert rows(leader) == {}
    leader.apply(drain(leader, log, 1))
    assert leader.stable == high
    assert (follower.stable, rows(follower)) == (0, {})
    follow(follower, log.entries)
    assert follower.stable == high
    assert rows(follower) == rows(leader) == {}


def test_who_knows_that_an_epoch_is_over_counts_its_final_watermark(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    leader.across.hear(2, 0, leader.watermark)
    leader.across.hear_history(1, fail((1, 1, leader.watermark)))
    assert rows(leader) == {b"a": b"x"}
    leader.across.hear_history(OWN, fail((OWN, 9, 99)))  # Nobody else tells of the own ones.
    assert leader.history.epoch(OWN) == 1


def test_a_deposed_leader_is_told_so_and_does_nothing(make: Make) -> None:
    leader, log = make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    theirs = fail((OWN, 1, 0), (OWN, 2, 77), (1, 1, 0))
    assert leader.catch_up(theirs) == Deposed(77)
    assert newest(leader) == {b"a": b"x"}
    assert [frame_of(data).type for data in leader.drain()] == [EntryType.TRANSACTIONS]


def test_who_waits_is_told_of_what_is_lost_on_every_replica(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    told: list[tuple[str, int, int]] = []
    leader._on_lost = lambda partition, final: told.append(("leader", partition, final))
    follower._on_lost = lambda partition, final: told.append(("follower", partition, final))
    lead(leader, log, 1)
    leader.catch_up(fail((1, 1, 5)))
    assert told == [("leader", 1, 5)]
    commit(leader, log, 1)
    follow(follower, log.entries)
    assert told == [("leader", 1, 5), ("follower", 1, 5)]


def test_what_a_leader_did_behind_a_loss_is_not_lost_if_it_is_deposed(make: Make) -> None:
    """Its own discard entry comes when it follows: what waits has been executed since."""
    leader, log = make(), Log()
    told: list[tuple[int, int]] = []
    leader._on_lost = lambda partition, final: told.append((partition, final))
    lead(leader, log, 1)
    leader.catch_up(fail((1, 1, 5)))
    assert told == [(1, 5)]
    leader.execute(b"\2ax")
    entries = drain(leader, log, 1)
    assert [kind_of(entry) for entry in entries].count(EntryType.DISCARD) == 1
    leader.step_down()
    follow(leader, log.entries)
    assert told == [(1, 5)]


def test_a_leader_that_is_deposed_before_it_has_logged_it_learns_it_again(make: Make) -> None:
    """Its memory lacks what the log has until the next leader catches up, and nobody can see it."""
    old, new, log = make(), make(), Log()
    lead(old, log, 1)
    old.execute(b"\2ax")
    old.execute(b"\0by")
    commit(old, log, 1)
    follow(new, log.entries)
    old.catch_up(fail((1, 1, 0)))
    old.execute(b"\0az")
    lost = drain(old, log, 1)
    del log.entries[-len(lost) :]
    old.step_down()
    assert old.drain() == []
    assert old.view.vector() == {OWN: 1}
    lead(new, log, 2)
    assert newest(new) == {b"a": b"x", b"b": b"y"}
    new.execute(b"\2aw")  # It stands on what is lost.
    commit(new, log, 2)
    follow(old, log.entries)
    new.catch_up(fail((1, 1, 0)))
    commit(new, log, 2)
    follow(old, log.entries)
    for machine in (old, new):
        hear_all(machine, new.watermark)
        assert rows(machine) == {b"b": b"y"}
    assert old.state_hash() == new.state_hash()


def test_a_leader_that_leads_again_logs_what_it_had_undone(make: Make) -> None:
    """Its followers have it still, and would not know what it stands on."""
    leader, follower, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    leader.catch_up(fail((1, 1, 0)))
    leader.step_down()
    end = len(log.entries)
    lead(leader, log, 2)
    assert [kind_of(entry) for entry in log.entries[end:]] == [EntryType.EPOCH, EntryType.DISCARD]
    leader.execute(b"\0az")
    commit(leader, log, 2)
    follow(follower, log.entries)
    for machine in (leader, follower):
        hear_all(machine, leader.watermark)
        assert rows(machine) == {b"a": b"z"}


def test_what_the_log_brings_back_below_what_a_deposed_leader_executed_goes_again(
    make: Make,
) -> None:
    old, follower, log = make(), make(), Log()
    lead(old, log, 1)
    old.execute(b"\0av")
    commit(old, log, 1)
    old.execute(b"\2ax")
    old.execute(b"\2bx")
    drain(old, log, 1)
    old.catch_up(fail((1, 1, 0)))
    old.execute(b"\0az")
    drain(old, log, 1)
    old.step_down()
    old.step_down()  # Twice is harmless.
    for _ in range(2):
        follow(old, log.entries)
        follow(follower, log.entries)
        for machine in (old, follower):
            hear_all(machine, old.watermark)
            assert rows(machine) == {b"a": b"z"}
        assert old.state_hash() == follower.state_hash()
        lead(old, log, 2)  # And once more behind the epoch entry.
        old.step_down()


def test_a_new_leader_has_the_history_of_the_log(make: Make) -> None:
    old, new, log = make(), make(), Log()
    lead(old, log, 1)
    old.catch_up(fail((1, 1, 0), (1, 2, 5)))
    commit(old, log, 1)
    old.step_down()
    lead(new, log, 2)
    assert new.view.vector() == {OWN: 2, 1: 2}
    assert new.catch_up(fail((1, 1, 0), (1, 2, 5))) == Nothing(is_ahead=True)
    new.step_down()
    follow(old, log.entries)
    assert list(old.history.starts()) == list(new.history.starts())


def snapshot_of(machine: Partition) -> tuple[SnapshotHeader, list[object]]:
    index = machine.snapshot_index
    made = machine.write_snapshot()
    meta = SnapshotMeta(Index(index), Term(1), MEMBERS)
    header = SnapshotHeader(7, 1, meta, made.timestamp, tables=made.tables, epochs=made.epochs)
    return header, list(made.blocks)


def test_a_snapshot_is_of_an_entry_that_cannot_be_undone(make: Make) -> None:
    leader, late, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\2ax")
    commit(leader, log, 1)
    stable = leader.applied
    hear_all(leader, leader.watermark)
    at = leader.watermark
    leader.execute(b"\2ay")
    leader.execute(b"\2by")
    commit(leader, log, 1)
    leader.catch_up(fail((1, 1, at)))
    commit(leader, log, 1)
    leader.execute(b"\0cz")
    commit(leader, log, 1)
    assert leader.snapshot_index == stable < leader.applied
    header, blocks = snapshot_of(leader)
    assert header.timestamp == at
    assert decode_records(header.epochs).vector() == {OWN: 1}
    late.restore(header, blocks)  # type: ignore[arg-type]
    assert (late.applied, rows(late)) == (stable, {b"a": b"x"})
    follow(late, log.entries)
    for machine in (leader, late):
        hear_all(machine, leader.watermark)
        assert rows(machine) == {b"a": b"x", b"c": b"z"}
        assert machine.snapshot_index == machine.applied
    assert late.state_hash() == leader.state_hash()
    assert decode_records(snapshot_of(late)[0].epochs) == leader.history


def test_a_restored_replica_may_count_a_failure_below_what_it_was_given(make: Make) -> None:
    """The snapshot was made by one who knew of a later epoch than its entry."""
    leader, late, log = make(), make(), Log()
    lead(leader, log, 1)
    leader.execute(b"\0ax")
    commit(leader, log, 1)
    leader.catch_up(fail((1, 1, 0)))
    drained = drain(leader, log, 1)
    leader.apply(drained)
    hear_all(leader, leader.watermark)
    # As of the entry before the discard.
    leader.across._cuts.base = leader.across._cuts.base._replace(
        index=drained[0].index - 1, epochs=fail((OWN, 1, 0)).records()
    )
    header, blocks = snapshot_of(leader)
    late.restore(header, blocks)  # type: ignore[arg-type]
    assert late.stable == header.timestamp > 0
    follow(late, log.entries)
    assert late.history == leader.history
    assert late.stable == header.timestamp


def test_epochs_that_all_logs_have_are_forgotten_in_all_of_them(make: Make) -> None:
    leader, follower, log = make(), make(), Log()
    count = 2 * FORGET_EPOCHS + 1
    for term in range(1, count + 1):
        lead(leader, log, term)
        if term < count:
            leader.step_down()
    everything = leader.history.copy()
    for partition in OTHERS:
        assert leader.drain() == []
        leader.across.hear_history(partition, everything)
    (entry,) = commit(leader, log, count)
    assert discard_of(entry.data) == Discard(OWN, count, leader.final, count - 1)
    assert leader.drain() == []
    follow(follower, log.entries)
    for machine in (leader, follower):
        assert [start.epoch for start in machine.history.starts()] == [count]
    # Those of another partition go with its next epoch.
    leader.catch_up(fail((1, 1, 0), (1, 2, 0)))
    for partition in OTHERS:
        leader.across.hear_history(
            partition, fail((OWN, count, leader.final), (1, 1, 0), (1, 2, 0))
        )
    commit(leader, log, count)
    leader.catch_up(fail((1, 2, 0), (1, 3, 0)))
    (entry,) = commit(leader, log, count)
    assert discard_of(entry.data) == Discard(1, 3, 0, 2)
    assert [start.epoch for start in leader.history.starts() if start.partition == 1] == [3]


def test_a_lone_partition_takes_in_nobody_elses_epochs() -> None:
    settings = PartitionSettings(memory_bytes=16 << 20, ring_bytes=256 << 10)
    machine, log = Partition(settings, [TABLE], lambda: 1_000), Log()
    entry = log.add(1, discard_entry(Discard(1, 1, 0), closed=0, stable=0, submitted=0))
    with pytest.raises(AssertionError, match="another partition"):
        machine.apply([entry])
    machine.close()


# --- Random ------------------------------------------------------------------------------------


def state_of(entries: Sequence[Entry]) -> State:
    """What a log says, by its format alone."""
    kept: list[Transaction] = []
    for entry in entries:
        said = decode(entry.data)
        kept += said.transactions
        if said.final is not None:
            kept = [one for one in kept if one.timestamp <= said.final]
        if said.discard is not None and said.discard.partition != OWN:
            lost = said.discard
            kept = [
                one
                for one in kept
                if one.timestamp <= lost.final or not (one.dependencies or 1) >> lost.partition & 1
            ]
    state: State = {}
    for one in sorted(kept, key=lambda one: one.timestamp):
        for write in one.writes:
            if write.value is None:
                state.pop(write.key, None)
            else:
                state[write.key] = write.value
    return state


class Cluster:
    """Three replicas of one partition; of two others only what is heard of them."""

    def __init__(self, machines: list[Partition], seed: int) -> None:
        self.draw = random.Random(seed)
        self.machines = machines
        self.log = Log()
        self.committed = 0
        self.term = 0
        self.truth = History()
        # What the others have announced, in their present epochs.
        self.reach = dict.fromkeys(OTHERS, 0)
        self.elect()

    leader: Partition

    def elect(self) -> None:
        """The uncommitted end of the log stays or goes, and somebody leads behind it."""
        if self.term:
            self.leader.step_down()
        keep = self.draw.randint(self.committed, len(self.log.entries))
        del self.log.entries[keep:]
        self.committed = keep
        self.leader = self.draw.choice(self.machines)
        self.term += 1
        lead(self.leader, self.log, self.term)
        self.committed = len(self.log.entries)

    def execute(self) -> None:
        key = bytes([self.draw.randrange(97, 103)])
        foreign = self.draw.choice([0, 0, 2, 4, 6])
        value = b"" if self.draw.random() < 0.2 else self.draw.randbytes(3)
        self.leader.execute(bytes([foreign]) + key + value)

    def drain(self) -> None:
        drain(self.leader, self.log, self.term)

    def commit(self) -> None:
        self.committed = self.draw.randint(self.committed, len(self.log.entries))
        follow(self.leader, self.log.entries[: self.committed])

    def follow(self) -> None:
        machine = self.draw.choice(self.machines)
        follow(machine, self.log.entries[: self.draw.randint(0, self.committed)])

    def hear(self) -> None:
        partition = self.draw.choice(OTHERS)
        now = self.leader.engine.clock
        self.reach[partition] = max(self.reach[partition], self.draw.randint(0, now))
        machine = self.draw.choice(self.machines)
        machine.across.hear(partition, self.truth.epoch(partition), self.reach[partition])

    def fail(self) -> None:
        partition = self.draw.choice(OTHERS)
        final = self.reach[partition] + self.draw.choice([0, 0, 1, 3])
        self.reach[partition] = final
        epoch = self.truth.epoch(partition) + 1
        self.truth.add(EpochStart(partition, epoch, final))

    def learn(self) -> None:
        self.leader.catch_up(self.truth)

    def gossip(self) -> None:
        self.draw.choice(self.machines).across.hear_history(self.draw.choice(OTHERS), self.truth)

    def restart(self, fresh: Partition) -> None:
        gone = self.draw.choice([each for each in self.machines if each is not self.leader])
        source = self.draw.choice(self.machines)
        fresh.restore(*snapshot_of(source))  # type: ignore[arg-type]
        self.machines[self.machines.index(gone)] = fresh

    def settle(self) -> None:
        self.learn()
        self.leader.engine.tick(self.leader.engine.clock + (1 << 20) >> 20)
        self.leader.want(self.leader.engine.clock)
        self.drain()
        self.committed = len(self.log.entries)
        expected = state_of(self.log.entries)
        follow(self.leader, self.log.entries)
        self.reach = dict.fromkeys(OTHERS, self.leader.watermark)
        for machine in self.machines:
            follow(machine, self.log.entries)
            for partition in OTHERS:
                machine.across.hear(partition, self.truth.epoch(partition), self.leader.watermark)
            assert machine.stable == self.leader.watermark
            assert rows(machine) == expected
        assert len({(each.state_hash(), each.history.hash) for each in self.machines}) == 1
        assert newest(self.leader) == expected


def test_replicas_agree_whatever_fails(make: Make, seed: int) -> None:
    cluster = c = Cluster([make() for _ in range(3)], seed)
    steps = [c.execute] * 12 + [c.drain] * 6 + [c.commit, c.follow, c.hear] * 4 + [c.learn] * 2
    for turn in range(1, 1001):
        cluster.draw.choice([*steps, c.gossip, c.fail])()
        if turn % 40 == 0:
            cluster.elect()
        if turn % 150 == 0:
            cluster.restart(make())
        if turn % 250 == 0:
            cluster.settle()
    assert sum(machine.across.discarded.total() for machine in cluster.machines) > 0
