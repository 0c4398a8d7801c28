"""The driver of a process: its own snapshots, and those of its leader that come between."""

from dataclasses import replace

import pytest

from mako.raft import Settings
from mako.replication.contract import DriverSettings, ProcessMustEnd
from mako.replication.driver import Fate
from mako.replication.outbox import PeerMessage
from mako.replication.snapshots import SnapshotParcel
from mako.storage.errors import DiskFull
from mako.storage.snapshot_stream import SnapshotChunk, SnapshotName
from tests.replication.test_driver import DRIVER, GROUP, WAL, Process, World, work_aside


def follower_of(world: World) -> Process:
    return next(process for process in world.processes if not process.leads)


def is_last_chunk(message: PeerMessage) -> bool:
    if not isinstance(message, SnapshotParcel) or not isinstance(message.body, SnapshotChunk):
        return False
    return message.body.offset + len(message.body.data) == message.body.name.size


def with_a_late_follower(settings: DriverSettings) -> tuple[World, Process]:
    """A world with a follower that lacks what is no longer in the log, and hears again."""
    world = World(settings, Settings(snapshot_ticks_max=1 << 20))
    world.tick(60)
    late = follower_of(world)
    world.deaf = {late.number}
    for value in range(1, 100):
        world.append(value, padding=300)
        world.tick()
    world.deaf = set()
    return world, late


def test_a_wall_clock_that_is_set_back_holds_up_no_snapshot() -> None:
    """Nothing was sent any more, nothing timed out, and so the log was not cut either."""
    world, late = with_a_late_follower(replace(DRIVER, stream_rate=2000))
    leader = world.leader.driver
    world.until(lambda: leader._mover.sends(GROUP))
    world.wall_ms = -3_600_000
    world.until(lambda: late.machine.applied == world.leader.machine.applied)
    assert not leader._mover.sends(GROUP)


def test_a_leader_whose_snapshot_is_refused_as_bad_makes_another() -> None:
    """Nobody could ever be brought up by the damaged one, and it would be sent for ever."""
    world, late = with_a_late_follower(DRIVER)
    leader = world.leader
    (bad,) = snapshots_of(leader)
    data = bytearray(leader.disk.memory.contents(f"snapshots/{bad}"))
    data[len(data) // 2] ^= 1
    leader.disk.memory.damage(f"snapshots/{bad}", bytes(data))
    # There is no other reason to make one.
    leader.driver._settings = replace(DRIVER, snapshot_entries=1 << 20, cut_ticks=1 << 20)
    world.append(100)
    world.until(lambda: late.machine.applied == leader.machine.applied)
    assert len(snapshots_of(leader)) == 2, "the bad one goes with the next cut"
    assert late.machine.state_hash() == leader.machine.state_hash()


#: So much of the log is kept for those who trail.
BOUND = 12 * WAL.segment_bytes


def snapshots_of(process: Process) -> list[str]:
    return [name for name in process.disk.list("snapshots") if name.endswith(".snap")]


def parts_of(process: Process) -> list[str]:
    return [name for name in process.disk.list("snapshots") if name.endswith(".part")]


def test_a_snapshot_that_takes_long_lets_the_log_grow_no_further_than_its_bound() -> None:
    """It blocked the next one, and with it all cuts of the log that all groups share."""
    world, late = with_a_late_follower(replace(DRIVER, stream_rate=50, catch_up_bytes=BOUND))
    leader = world.leader
    world.until(lambda: leader.driver._mover.sends(GROUP))
    (sent,) = snapshots_of(leader)
    most, held = 0, 0
    for value in range(100, 600):
        world.append(value, padding=300)
        world.tick()
        if leader.driver._mover.sends(GROUP):
            assert sent in snapshots_of(leader), "D6"
            assert len(snapshots_of(leader)) <= 2, "those between are removed"
        most = max(most, leader.wal.total_bytes)
        held = max(held, len(snapshots_of(leader)))
    assert leader.driver._mover.sends(GROUP)
    assert held == 2, "a newer one was made"
    # Until the newer one is there and the log may be cut, it grows a little more.
    assert BOUND < most <= BOUND + 4 * WAL.segment_bytes
    assert leader.driver._mover._bucket is not None
    leader.driver._mover._bucket.rate_per_s = 1 << 30
    world.until(lambda: late.machine.applied == leader.machine.applied)


def test_a_snapshot_that_was_sent_goes_if_there_is_a_newer_one() -> None:
    """D6: nothing else may be written for long."""
    world, late = with_a_late_follower(replace(DRIVER, stream_rate=50, catch_up_bytes=0))
    leader = world.leader
    world.until(lambda: leader.driver._mover.sends(GROUP))
    world.append(100)
    leader.driver.replicas[GROUP].snapshot_wanted = True
    world.until(lambda: len(snapshots_of(leader)) == 2)
    world.deaf = {late.number}
    world.tick(DRIVER.cut_ticks)
    assert len(snapshots_of(leader)) == 2
    leader.driver._mover.forget(GROUP)
    world.tick(DRIVER.cut_ticks)
    assert len(snapshots_of(leader)) == 1


def test_a_follower_without_room_for_a_snapshot_holds_up_nobody() -> None:
    """Its leader's log grew until the disk was full, and it filled its own again and again."""
    world, late = with_a_late_follower(replace(DRIVER, catch_up_bytes=BOUND))
    leader = world.leader
    late.disk.fill(500)
    used = late.disk.memory.used_bytes()
    most = 0
    for value in range(100, 600):
        world.append(value, padding=300)
        world.tick()
        most = max(most, leader.wal.total_bytes)
    assert most <= BOUND + 4 * WAL.segment_bytes
    assert late.disk.memory.used_bytes() == used
    late.disk.empty()
    world.until(lambda: late.machine.applied == leader.machine.applied)
    assert world.append(600).fate is Fate.DONE


def test_what_has_come_of_a_snapshot_goes_when_the_log_has_caught_up() -> None:
    world = World()
    world.tick(60)
    follower = follower_of(world)
    for index in (follower.machine.applied + 1, 1000):
        name = SnapshotName(GROUP, index, 1, 10, b"d" * 32)
        follower.driver._snapshots.write_part(name, 0, b"part")
    assert len(parts_of(follower)) == 2
    world.append(1)
    world.tick(DRIVER.cut_ticks + 1)
    (part,) = parts_of(follower)
    assert "1000" in part


def up_to_last_chunk(world: World, late: Process) -> list[PeerMessage]:
    """Bring everything but the last bytes of the snapshot that the follower is sent."""
    for _ in range(1000):
        world.now_ms += 10
        for process in world.processes:
            process.driver.tick(world.now_ms, world.now_ms)
        for _ in range(10):
            for process in world.processes:
                process.run(world.now_ms)
                for target, batch in process.driver.outbox.take().items():
                    if target == late.number and any(map(is_last_chunk, batch)):
                        return list(batch)
                    world.processes[target - 1].driver.step(batch)
    raise AssertionError("no snapshot is sent")


def test_what_has_just_come_from_the_leader_survives_the_mark_of_an_own_snapshot() -> None:
    """D6: between the end of a stream and the next pump only the node knows of the snapshot."""
    world = World()
    world.tick(60)
    for value in range(1, 6):
        world.append(value)
    world.tick()
    late = follower_of(world)
    world.deaf = {late.number}
    for value in range(6, 100):
        world.append(value, padding=300)
        world.tick()
    world.deaf = set()
    rest = up_to_last_chunk(world, late)
    driver = late.driver
    replica = driver.replicas[GROUP]
    replica.snapshot_wanted = True
    while not driver.begin_write():
        driver.tick(world.now_ms, world.now_ms)
        driver.pump()
        work_aside(driver)
    own = late.wal.storage(GROUP).snapshot_meta().index
    assert own == late.machine.applied, "its own mark is on its way"
    driver.step(rest)
    assert driver.aside.begin()
    driver.aside.run()
    driver.aside.end()
    assert replica.node.commit_index > own, "the leader's snapshot is here"
    assert replica.restoring is None
    driver.write(world.now_ms)
    driver.sync()
    driver.end_write()
    late.run(world.now_ms)
    assert late.wal.storage(GROUP).snapshot_meta().index > own
    world.until(lambda: late.machine.applied == world.leader.machine.applied)
    assert len(late.disk.list("snapshots")) == 1, "the other is removed"
    late.disk.power_cut()
    late.start()
    world.tick(10)
    assert late.machine.state_hash() == world.leader.machine.state_hash()


def with_an_ended_snapshot(world: World) -> Process:
    """A leader all of whose snapshot is written, and not yet synced."""
    world.tick(60)
    for value in range(1, 6):
        world.append(value)
    world.tick()
    leader = world.leader
    leader.driver.replicas[GROUP].snapshot_wanted = True
    while not leader.driver.aside.begin():
        leader.driver.tick(world.now_ms, world.now_ms)
        leader.driver.pump()
    return leader


def test_what_is_synced_aside_counts_once_that_is_over_and_not_before() -> None:
    """N1, D10: a power cut meanwhile leaves the snapshot before, or none."""
    world = World()
    leader = with_an_ended_snapshot(world)
    driver = leader.driver
    assert not driver.aside.begin(), "one at a time"
    driver.tick(world.now_ms, world.now_ms)
    assert driver.makes_snapshot
    assert leader.wal.storage(GROUP).snapshot_meta().index == 0
    world.append(6)
    assert leader.machine.values(7) == [1, 2, 3, 4, 5, 6], "everything else goes on"
    driver.aside.run()
    assert leader.wal.storage(GROUP).snapshot_meta().index == 0
    driver.aside.end()
    world.settle()
    assert leader.wal.storage(GROUP).snapshot_meta().index
    leader.disk.power_cut()
    leader.start()
    assert leader.wal.storage(GROUP).snapshot_meta().index
    assert leader.machine.values(7) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("synced_before", [False, True])
def test_an_ended_snapshot_that_is_abandoned_is_removed_when_it_comes_back(
    synced_before: bool,  # noqa: FBT001
) -> None:
    leader = with_an_ended_snapshot(World())
    driver = leader.driver
    if synced_before:
        driver.aside.run()
    driver._maker.abandon(GROUP)  # As the driver does for a snapshot of the leader.
    assert driver.makes_snapshot, "the file is another thread's"
    assert len(leader.disk.list("snapshots")) == 1
    if not synced_before:
        driver.aside.run()
    driver.aside.end()
    assert not driver.makes_snapshot
    assert leader.disk.list("snapshots") == []
    assert leader.wal.storage(GROUP).snapshot_meta().index == 0


def test_who_loses_the_lead_while_its_snapshot_is_synced_keeps_it() -> None:
    """All of it is of applied state."""
    world = World()
    leader = with_an_ended_snapshot(world)
    driver = leader.driver
    driver.replicas[GROUP].node.state.drop_role()
    driver.pump()
    driver.replicas[GROUP].watch_role()
    assert driver.replicas[GROUP].term == 0
    driver.aside.run()
    driver.aside.end()
    assert leader.wal.storage(GROUP).snapshot_meta().index


def test_who_ends_with_a_mark_that_is_not_written_loses_neither_mark_nor_name() -> None:
    """N2: the log is written a last time as it is closed."""
    leader = with_an_ended_snapshot(World())
    leader.driver.aside.run()
    leader.driver.aside.end()
    leader.driver.close()
    leader.wal.close()
    leader.disk.power_cut()
    leader.start()
    assert leader.wal.storage(GROUP).snapshot_meta().index


def test_the_mark_of_a_name_that_cannot_be_synced_is_never_written() -> None:
    """N2: a second sync would say that all is well."""
    leader = with_an_ended_snapshot(World())
    driver = leader.driver
    driver.aside.run()
    driver.aside.end()
    assert driver.begin_write()
    leader.disk.failing = True
    with pytest.raises(ProcessMustEnd):
        driver.write(0)
    leader.disk.restarted()
    driver.close()
    leader.wal.close()
    leader.disk.power_cut()
    leader.start()
    assert leader.wal.storage(GROUP).snapshot_meta().index == 0


def test_a_snapshot_for_whose_mark_the_log_has_no_room_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leader = with_an_ended_snapshot(World())
    leader.driver.aside.run()

    def append(*_: object, **__: object) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(leader.wal, "append", append)
    leader.driver.aside.end()
    assert not leader.driver.makes_snapshot
    assert leader.disk.list("snapshots") == []


def test_a_snapshot_that_finds_no_room_for_its_end_is_given_up() -> None:
    world = World()
    leader = with_an_ended_snapshot(world)
    leader.disk.fill(0)
    leader.driver.aside.run()
    leader.driver.aside.end()
    assert not leader.driver.makes_snapshot
    assert leader.disk.list("snapshots") == []


def big_snapshot(*, sync_bytes: int) -> tuple[World, Process]:
    """A leader that writes a snapshot."""
    world = World(replace(DRIVER, snapshot_sync_bytes=sync_bytes, snapshot_entries=1 << 20))
    world.tick(60)
    for value in range(1, 40):
        world.append(value, padding=2000)
    leader = world.leader
    leader.driver.replicas[GROUP].snapshot_wanted = True
    leader.driver.tick(world.now_ms, world.now_ms)  # It begins.
    return world, leader


def test_a_snapshot_is_synced_now_and_then_while_it_is_written() -> None:
    """The log shares the disk, and its syncs would wait for all of it."""
    world, leader = big_snapshot(sync_bytes=1)
    driver = leader.driver
    unsynced = []
    while not leader.wal.storage(GROUP).snapshot_meta().index:
        driver.tick(world.now_ms, world.now_ms)
        driver.pump()
        if driver.aside.begin():
            before = leader.disk.memory.unsynced_bytes()
            driver.tick(world.now_ms, world.now_ms)
            assert leader.disk.memory.unsynced_bytes() == before, "nothing is written meanwhile"
            unsynced.append(before)
            driver.aside.run()
            driver.aside.end()
    assert unsynced[0] > 0
    assert unsynced[-1] == 0, "only its end is left to the last sync"


def test_a_process_that_ends_lets_go_of_the_state_of_a_snapshot_that_is_synced() -> None:
    """The engine that holds it goes first."""
    world, leader = big_snapshot(sync_bytes=1)
    while not leader.driver.aside.begin():
        leader.driver.tick(world.now_ms, world.now_ms)
        leader.driver.pump()
    making = leader.driver._maker._making[GROUP]
    blocks = making.blocks
    opened = leader.disk.memory.open_files
    leader.driver.close()
    assert making.blocks is not blocks
    assert leader.disk.memory.open_files == opened - 1


def test_a_snapshot_that_is_abandoned_while_it_is_synced_lets_go_of_the_state_at_once() -> None:
    world, leader = big_snapshot(sync_bytes=1)
    driver = leader.driver
    while not driver.aside.begin():
        driver.tick(world.now_ms, world.now_ms)
        driver.pump()
    blocks = leader.driver._maker._making[GROUP].blocks
    driver.replicas[GROUP].node.state.drop_role()
    driver.pump()
    driver.replicas[GROUP].watch_role()
    assert leader.driver._maker._making[GROUP].blocks is not blocks
    assert driver.makes_snapshot
    driver.aside.run()
    driver.aside.end()
    assert not driver.makes_snapshot
    assert leader.disk.list("snapshots") == []
