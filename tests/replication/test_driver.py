"""The driver of a process: one replica group, three drivers, no faults but those of the test."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from mako.entry import Configuration, GroupId, NodeId
from mako.raft import Refusal, Role, Settings
from mako.recovery.gossip import Gossip
from mako.replication.driver import (
    Driver,
    DriverSettings,
    Fate,
    ProcessMustEnd,
    ReadReply,
    Reply,
)
from mako.replication.replica import UNCOMMITTED_MAX
from mako.sim.disk import SimDisk
from mako.sim.model import ModelMachine, append_request, position_of
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import StreamSettings
from mako.storage.wal import Identity, Wal, WalSettings

GROUP = GroupId(1)
FIRST = Configuration(frozenset(map(NodeId, (1, 2, 3))))
WAL = WalSettings(
    segment_bytes=8192,
    reserve_bytes=4096,
    headroom_bytes=1024,
    keep_bytes=8192,
    keep_ms=1 << 40,
    cache_bytes=2048,
)
DRIVER = DriverSettings(
    cluster_id=1,
    snapshot_entries=10,
    cut_ticks=2,
    stream=StreamSettings(chunk_bytes=300, window_bytes=600, timeout_ms=50),
)


def work_aside(driver: Driver) -> None:
    """Carry out what was put aside, at once."""
    while driver.aside.begin():
        driver.aside.run()
        driver.aside.end()
        driver.pump()


@dataclass
class Process:
    """One process: its disk outlives its driver."""

    number: int
    disk: SimDisk
    settings: DriverSettings = DRIVER
    raft: Settings = field(default_factory=Settings)
    first: Configuration = FIRST
    replies: list[Reply | ReadReply] = field(default_factory=list)
    #: Writes wait until the test lets them through.
    held: bool = False

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.wal = Wal(self.disk, "wal", Identity(1, self.number), WAL)
        self.wal.recover()
        snapshots = SnapshotStore(self.disk, "snapshots", 1)
        snapshots.recover({g: self.wal.storage(g).snapshot_meta() for g in self.wal.groups()})
        self.driver = Driver(
            self.number, self.wal, snapshots, self.settings, process_of=lambda _, node: int(node)
        )
        self.machine = ModelMachine()
        self.driver.add(
            GROUP,
            self.machine,
            self.raft,
            node=NodeId(self.number),
            first=self.first,
            randrange=Random(self.number).randrange,
        )

    def run(self, now_ms: int) -> None:
        """Pump, and carry the disk's part out at once."""
        driver = self.driver
        driver.pump()
        work_aside(driver)
        while not self.held and driver.begin_write():
            if not driver.write(now_ms):
                return
            driver.sync()
            driver.end_write()
            driver.pump()
            work_aside(driver)
        self.replies += driver.replies
        driver.replies.clear()

    @property
    def leads(self) -> bool:
        return self.driver.replicas[GROUP].node.role is Role.LEADER


class World:
    """Some processes, and a network that brings everything unless told otherwise."""

    def __init__(
        self, settings: DriverSettings = DRIVER, raft: Settings | None = None, count: int = 3
    ) -> None:
        self.now_ms = 0
        #: How far the wall clocks are off.
        self.wall_ms = 0
        self.deaf: set[int] = set()
        self.next_ticket = 0
        numbers = range(1, count + 1)
        first = Configuration(frozenset(map(NodeId, numbers)))
        self.processes = [
            Process(number, SimDisk(Random(number)), settings, raft or Settings(), first=first)
            for number in numbers
        ]

    def settle(self) -> None:
        """Bring messages until there are none."""
        while True:
            moved = False
            for process in self.processes:
                process.run(self.now_ms)
                for target, batch in process.driver.outbox.take().items():
                    moved = True
                    if not {target, process.number} & self.deaf:
                        self.processes[target - 1].driver.step(batch)
            if not moved:
                return

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_ms += 10
            for process in self.processes:
                process.driver.tick(self.now_ms + self.wall_ms, self.now_ms)
            self.settle()

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            self.tick()
        pytest.fail("it does not happen")

    @property
    def leader(self) -> Process:
        for process in self.processes:
            if process.leads and process.number not in self.deaf:
                return process
        self.tick()
        return self.leader

    def append(self, value: int, *, padding: int = 0) -> Reply:
        """Append through the leader and wait for the answer."""
        self.next_ticket += 1
        leader = self.leader
        leader.driver.execute(GROUP, self.next_ticket, append_request(value, 7, padding))
        self.settle()
        reply = leader.replies.pop()
        assert isinstance(reply, Reply)
        assert reply.ticket == self.next_ticket
        return reply


@pytest.fixture
def world() -> World:
    found = World()
    found.tick(60)
    return found


def test_a_request_is_answered_when_its_entry_is_applied(world: World) -> None:
    reply = world.append(5)
    assert reply.fate is Fate.DONE
    assert position_of(reply.result) == 1
    assert world.leader.machine.values(7) == [5]


def test_a_repeated_request_is_answered_again_and_changes_nothing(world: World) -> None:
    first = world.append(5)
    assert world.append(5).result == first.result
    assert world.leader.machine.values(7) == [5]


def test_gossip_is_for_the_caller(world: World) -> None:
    driver = world.processes[0].driver
    said = [Gossip(2, 1, 3, 4, 5, 6), Gossip(2, 1, 3, 4, 9, 6)]
    driver.step(said)
    assert driver.gossip == said


def test_a_follower_refuses(world: World) -> None:
    follower = next(process for process in world.processes if not process.leads)
    follower.driver.execute(GROUP, 1, append_request(5, 7, 0))
    follower.run(0)
    assert [reply for reply in follower.replies if isinstance(reply, Reply)] == [
        Reply(GROUP, 1, Fate.REFUSED, b"")
    ]


def test_nothing_is_answered_before_a_majority_has_it_on_disk(world: World) -> None:
    leader = world.leader
    for process in world.processes:
        process.held = process is not leader
    leader.driver.execute(GROUP, 1, append_request(5, 7, 0))
    world.settle()
    assert leader.replies == []
    for process in world.processes:
        process.held = False
    world.settle()
    assert [reply.ticket for reply in leader.replies] == [1]


def test_where_commits_are_slow_entries_grow_larger_and_not_more(world: World) -> None:
    leader = world.leader
    before = len(leader.replies)
    for process in world.processes:
        process.held = process is not leader  # They acknowledge nothing.
    tickets = range(1, UNCOMMITTED_MAX + 21)
    for ticket in tickets:
        leader.driver.execute(GROUP, ticket, append_request(ticket, 7, 0))
        leader.run(world.now_ms)
    node = leader.driver.replicas[GROUP].node
    assert node.last_index - node.commit_index == UNCOMMITTED_MAX
    # Its log has no room for any number of them, and no one waits for it here.
    late = range(tickets.stop, tickets.stop + 100)
    for ticket in late:
        leader.driver.execute(GROUP, ticket, append_request(ticket, 7, 0))
        leader.run(world.now_ms)
    taken = 2 * UNCOMMITTED_MAX - len(tickets)
    refused = [Reply(GROUP, ticket, Fate.REFUSED, b"") for ticket in late[taken:]]
    assert leader.replies[before:] == refused
    leader.replies.clear()
    for process in world.processes:
        process.held = False
    world.settle()
    done = [*tickets, *late[:taken]]
    assert [reply.ticket for reply in leader.replies] == done
    assert leader.machine.values(7) == done
    assert node.last_index - node.commit_index == 0


def test_a_deposed_leader_takes_back_what_it_had_executed_and_says_unknown(world: World) -> None:
    world.append(1)
    old = world.leader
    world.deaf = {old.number}
    old.driver.execute(GROUP, 50, append_request(2, 7, 0))
    old.run(world.now_ms)
    world.until(lambda: not old.leads)
    old.run(world.now_ms)
    assert Reply(GROUP, 50, Fate.UNKNOWN, b"") in old.replies
    world.append(3)
    world.deaf = set()
    world.tick(30)
    assert [process.machine.values(7) for process in world.processes] == [[1, 3]] * 3


def test_an_entry_that_is_too_large_is_refused_and_the_leader_goes_on() -> None:
    world = World(raft=Settings(entry_bytes_max=500))
    world.tick(60)
    world.append(1)
    assert world.append(2, padding=600).fate is Fate.REFUSED
    world.tick()
    assert world.append(3).fate is Fate.DONE
    assert world.processes[0].machine.values(7) == [1, 3]


def test_a_read_is_allowed_on_any_replica_once_it_is_as_new_as_what_was_answered(
    world: World,
) -> None:
    world.append(5)
    for process in world.processes:
        process.replies.clear()
        process.driver.read(GROUP, 9)
        world.settle()
        assert process.replies == [ReadReply(GROUP, 9, allowed=True)]
        assert process.machine.values(7) == [5]


def test_a_restarted_process_has_what_it_had(world: World) -> None:
    for value in range(1, 40):
        world.append(value)
    world.tick(5)
    process = next(process for process in world.processes if not process.leads)
    before = process.machine.values(7)
    process.disk.power_cut()
    process.start()
    world.tick(30)
    assert process.machine.values(7)[: len(before)] == before
    assert process.machine.values(7) == world.leader.machine.values(7)


def test_the_log_is_cut_behind_snapshots_and_a_follower_behind_it_gets_one(world: World) -> None:
    late = next(process for process in world.processes if not process.leads)
    world.deaf = {late.number}
    for value in range(1, 100):
        world.append(value, padding=300)
        world.tick()
    storage = world.leader.wal.storage(GROUP)
    assert storage.first_index() > 50
    world.deaf = set()
    world.until(lambda: late.machine.applied == world.leader.machine.applied)
    assert late.machine.state_hash() == world.leader.machine.state_hash()
    assert late.wal.storage(GROUP).snapshot_meta().index >= storage.first_index() - 1


def slow_follower(world: World) -> Process:
    """One that answers, and has nothing of what 100 requests have written on its disk."""
    late = next(process for process in world.processes if not process.leads)
    late.held = True
    for value in range(1, 100):
        world.append(value, padding=300)
        world.tick()
    assert world.leader.wal.storage(GROUP).snapshot_meta().index > 50
    return late


def known_of(follower: Process, world: World) -> int:
    """Up to where the leader knows that the follower has the log."""
    node = world.leader.driver.replicas[GROUP].node
    return node.state.progress[NodeId(follower.number)].match


def test_the_log_is_kept_for_a_slow_follower_though_a_snapshot_covers_it(world: World) -> None:
    late = slow_follower(world)
    assert world.leader.wal.storage(GROUP).first_index() <= known_of(late, world) + 1
    late.held = False
    world.tick(3)
    assert late.machine.values(7) == world.leader.machine.values(7)
    world.tick(30)
    assert world.leader.wal.storage(GROUP).first_index() > 50, "nobody needs it any more"


def test_the_log_is_kept_for_a_slow_follower_up_to_a_bound_only() -> None:
    world = World(replace(DRIVER, catch_up_bytes=20_000))
    world.tick(60)
    late = slow_follower(world)
    leader = world.leader
    assert leader.wal.storage(GROUP).first_index() > known_of(late, world) + 1
    assert leader.wal.total_bytes <= 20_000 + 2 * WAL.segment_bytes


def test_a_log_beyond_its_bound_is_kept_for_who_needs_none_of_the_surplus(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cut up to its end: who had just been brought up to the last of it by a snapshot needed
    another one, and was as far behind when that was there."""
    late = slow_follower(world)
    leader = world.leader
    known = known_of(late, world)
    for surplus, needed in [(known - 1, known), (known, known), (known + 5, known + 5)]:
        monkeypatch.setattr(leader.wal, "surplus", lambda group, limit, end=surplus: end)
        assert leader.driver._needed_after(GROUP) == needed
    monkeypatch.setattr(leader.wal, "surplus", lambda group, limit: known)
    world.tick(2 * DRIVER.cut_ticks)
    assert leader.wal.storage(GROUP).first_index() <= known + 1


def test_the_log_is_not_kept_for_a_slow_follower_on_a_full_disk(world: World) -> None:
    late = next(process for process in world.processes if not process.leads)
    late.held = True
    leader = world.leader
    leader.disk.fill(30_000)
    fates = []
    for value in range(1, 150):
        fates.append(world.append(value, padding=300).fate)
        world.tick()
    assert Fate.DONE in fates[-20:], "room is made again"
    assert leader.wal.storage(GROUP).first_index() > known_of(late, world) + 1


def test_a_follower_that_crashes_while_it_gets_a_snapshot_goes_on_after_it(world: World) -> None:
    late = next(process for process in world.processes if not process.leads)
    world.deaf = {late.number}
    for value in range(1, 100):
        world.append(value, padding=300)
        world.tick()
    world.deaf = set()
    world.until(lambda: any(n.endswith(".part") for n in late.disk.list("snapshots")))
    late.disk.power_cut()
    late.start()
    world.until(lambda: late.machine.applied == world.leader.machine.applied)
    assert late.machine.state_hash() == world.leader.machine.state_hash()


def test_a_full_disk_of_the_leader_refuses_and_clears_itself(world: World) -> None:
    leader = world.leader
    leader.disk.fill(0)
    replies = [world.append(value, padding=900) for value in range(1, 30)]
    assert replies[-1].fate is Fate.REFUSED
    leader.disk.empty()
    world.tick(3)
    assert world.append(100).fate is Fate.DONE
    done = [value for value, reply in enumerate(replies, 1) if reply.fate is Fate.DONE]
    assert world.leader.machine.values(7) == [*done, 100]


def test_a_leader_whose_disk_stays_full_hands_over(world: World) -> None:
    """PySyncObj's issue 164: the leader kept the lead, and nobody could write."""
    leader = world.leader
    leader.disk.fill(0)
    for value in range(1, 30):
        world.append(value, padding=900)
    assert leader.wal.full
    world.tick(DRIVER.full_ticks + 30)
    assert leader.wal.full
    assert not leader.leads
    for value in range(100, 130):
        assert world.append(value, padding=900).fate is Fate.DONE


def test_a_cluster_without_room_does_not_hand_over_for_ever(world: World) -> None:
    for process in world.processes:
        process.disk.fill(0)
    for value in range(1, 30):
        world.append(value, padding=900)
    terms = []
    for _ in range(30):
        world.tick(DRIVER.full_ticks)
        terms.append(world.processes[0].driver.replicas[GROUP].node.term)
    assert terms[0] > 1
    assert terms[-1] <= terms[0] + 12
    assert terms[-1] == terms[-6]


def test_a_full_disk_of_a_follower_makes_it_wait_and_it_catches_up(world: World) -> None:
    follower = next(process for process in world.processes if not process.leads)
    follower.disk.fill(0)
    for value in range(1, 30):
        assert world.append(value, padding=900).fate is Fate.DONE
    assert follower.driver.waits_for_room
    follower.disk.empty()
    world.tick(5)
    assert not follower.driver.waits_for_room
    assert follower.machine.values(7) == world.leader.machine.values(7)


def test_a_group_that_waits_for_room_does_not_hold_up_the_votes_of_another(world: World) -> None:
    """D7."""
    other = GroupId(2)
    for process in world.processes:
        process.driver.add(
            other,
            ModelMachine(),
            process.raft,
            node=NodeId(process.number),
            first=FIRST,
            randrange=Random(process.number).randrange,
        )
    world.tick(60)
    leader = world.leader
    full, third = (process for process in world.processes if process is not leader)
    full.disk.fill(0)
    for value in range(1, 30):
        assert world.append(value, padding=900).fate is Fate.DONE
    assert full.driver.waits_for_room
    waiting = full.driver.replicas[GROUP].node.applied_index
    # The third process is gone, and whoever wants to lead the other group needs the full one.
    world.deaf.add(third.number)
    node = leader.driver.replicas[other].node
    term = node.term
    full.driver.replicas[other].node.state.election_elapsed = 1000
    if node.role is Role.LEADER:
        node.state.drop_role()
    node.campaign()
    leader.driver.host.touch(other)
    world.settle()
    assert node.role is Role.LEADER
    assert node.term > term
    assert full.driver.replicas[other].node.state.durable_vote == (node.term, node.id)
    assert full.driver.waits_for_room
    # When there is room, the group that waited goes on where it was.
    full.disk.empty()
    world.tick(20)
    assert not full.driver.waits_for_room
    assert full.driver.replicas[GROUP].node.applied_index > waiting
    assert full.machine.values(7) == leader.machine.values(7)


def test_a_failed_sync_ends_the_process(world: World) -> None:
    leader = world.leader
    leader.disk.failing = True
    leader.driver.execute(GROUP, 1, append_request(5, 7, 0))
    with pytest.raises(ProcessMustEnd, match="the process ends"):
        leader.run(world.now_ms)


def test_one_sync_serves_all_that_came_up_during_the_one_before(world: World) -> None:
    leader = world.leader
    driver = leader.driver
    driver.execute(GROUP, 1, append_request(1, 7, 0))
    driver.pump()
    assert driver.begin_write()
    for value in (2, 3, 4):
        driver.execute(GROUP, value, append_request(value, 7, 0))
        driver.pump()
    assert not driver.begin_write()
    for _ in range(2):
        driver.write(0)
        driver.sync()
        driver.end_write()
        driver.pump()
        if not driver.begin_write():
            break
    world.settle()
    assert leader.wal.storage(GROUP).last_index() == leader.machine.applied
    assert leader.machine.values(7) == [1, 2, 3, 4]


def test_a_replica_that_was_let_go_can_come_back_under_another_id(world: World) -> None:
    world.append(1)
    follower = next(process for process in world.processes if not process.leads)
    follower.driver.remove(GROUP)
    assert GROUP not in follower.wal.groups()
    machine = ModelMachine()
    node = follower.driver.add(
        GROUP,
        machine,
        Settings(),
        node=NodeId(64 + follower.number),
        first=FIRST,
        randrange=Random(9).randrange,
    )
    assert (node.last_index, machine.applied) == (0, 0)
    follower.run(world.now_ms)


# --- Giving an epoch up ------------------------------------------------------------------------


def test_a_leader_that_gives_its_epoch_up_hands_it_over(world: World) -> None:
    leader = world.leader
    assert leader.driver.begin_epoch(GROUP) is None
    world.settle()
    assert not leader.leads
    assert world.leader is not leader


def test_where_nobody_can_take_over_a_new_term_begins_in_place() -> None:
    alone = World(count=1)
    alone.tick(60)
    alone.append(5)
    process = alone.leader
    replica = process.driver.replicas[GROUP]
    term = replica.node.term
    process.held = True
    process.driver.execute(GROUP, 7, append_request(6, 7, 0))
    alone.settle()  # It is proposed, and not on disk.
    process.driver.execute(GROUP, 8, append_request(7, 7, 0))
    assert process.driver.begin_epoch(GROUP) is None
    alone.settle()
    process.held = False
    alone.settle()
    assert (process.leads, replica.node.term) == (True, term + 1)
    # What is in the log stays, what was executed beyond it is gone, and clients are told.
    assert process.machine.values(7) == [5, 6]
    fates = {reply.ticket: reply.fate for reply in process.replies if isinstance(reply, Reply)}
    assert fates == {7: Fate.UNKNOWN, 8: Fate.REFUSED}
    alone.append(8)
    assert process.machine.values(7) == [5, 6, 8]


def test_who_follows_has_no_epoch_to_give_up(world: World) -> None:
    follower = next(process for process in world.processes if not process.leads)
    refused = follower.driver.begin_epoch(GROUP)
    assert refused is not None
    assert refused.reason is Refusal.NOT_LEADER
