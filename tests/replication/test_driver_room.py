"""The driver of a process whose disk is full: nothing grows, and it goes on when there is room."""

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from mako.replication.driver import Fate
from mako.replication.replica import MachineSnapshot, NotNow
from mako.storage.errors import DiskFull
from mako.storage.memory_disk import MemoryFile
from tests.replication.test_driver import DRIVER, GROUP, Process, World


@dataclass
class Attempts:
    """Snapshots that one process has begun, by the files that it made for them."""

    process: Process
    count: int = 0

    def __post_init__(self) -> None:
        memory = self.process.disk.memory
        opened = memory.open

        def watched(path: str, *, create: bool = False) -> MemoryFile:
            self.count += create and path.endswith(".tmp")
            return opened(path, create=create)

        memory.open = watched  # type: ignore[method-assign]


def alone() -> tuple[World, Process]:
    world = World(count=1)
    world.tick(60)
    for value in range(1, 6):
        world.append(value)
    return world, world.leader


def test_a_snapshot_that_finds_no_room_is_begun_again_ever_more_seldom() -> None:
    world, process = alone()
    attempts = Attempts(process)
    files = process.disk.memory.open_files
    process.disk.fill(0)
    process.driver.replicas[GROUP].snapshot_wanted = True
    world.tick()
    assert attempts.count == 1
    world.tick(DRIVER.cut_ticks * 200)
    # After 1, 2, 4, 8 cuts, and 16 from then on.
    assert 10 < attempts.count < 20
    assert process.disk.memory.open_files == files
    process.disk.empty()
    world.tick(DRIVER.cut_ticks * 17)
    assert process.wal.storage(GROUP).snapshot_meta().index == process.machine.applied
    # Once there was room, the next one that finds none begins with a short pause again.
    before = attempts.count
    world.append(6)
    process.disk.fill(0)
    process.driver.replicas[GROUP].snapshot_wanted = True
    world.tick(DRIVER.cut_ticks * 6)
    assert attempts.count - before == 3


def test_a_snapshot_that_is_larger_than_the_room_is_not_begun_again_at_once() -> None:
    world, process = alone()
    attempts = Attempts(process)
    process.disk.fill(200)  # The header has room, and not all of the rest.
    for _ in range(DRIVER.cut_ticks * 200):
        process.driver.replicas[GROUP].snapshot_wanted = True
        world.tick()
    assert 10 < attempts.count < 20
    assert not [name for name in process.disk.list("snapshots") if name.endswith(".snap")]


def test_a_snapshot_that_the_machine_cannot_make_now_is_begun_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients may have all contexts for long; the process goes on meanwhile."""
    world, process = alone()
    write, asked, free = process.machine.write_snapshot, 0, False

    def write_if_free() -> MachineSnapshot:
        nonlocal asked
        asked += 1
        if not free:
            raise NotNow("all contexts are in use")
        return write()

    monkeypatch.setattr(process.machine, "write_snapshot", write_if_free)
    process.driver.replicas[GROUP].snapshot_wanted = True
    world.tick(DRIVER.cut_ticks * 200)
    assert 10 < asked < 20
    assert world.append(6).fate is Fate.DONE
    free = True
    world.tick(DRIVER.cut_ticks * 17)
    assert process.wal.storage(GROUP).snapshot_meta().index == process.machine.applied


def full_follower(world: World) -> Process:
    """A follower that lacks entries which have no room on its disk."""
    follower = next(process for process in world.processes if not process.leads)
    follower.disk.fill(0)
    for value in range(1, 30):
        assert world.append(value, padding=900).fate is Fate.DONE
    assert follower.driver.waits_for_room
    return follower


def held_by(process: Process) -> tuple[int, int]:
    """What a process without room keeps: Readys, and the messages that leave after them."""
    waiting = process.driver._stuck._waiting[GROUP]
    messages = sum(len(ready.messages_after_sync) for _, ready in waiting)
    return len(process.driver._stuck), messages


def test_what_waits_for_room_does_not_grow_with_the_time_that_it_waits() -> None:
    world = World()
    world.tick(60)
    follower = full_follower(world)
    world.tick(30)
    node = follower.driver.replicas[GROUP].node
    held, flying = held_by(follower), len(node._flying)
    assert held[1] <= 3 * held[0]
    number = node._number
    world.tick(500)
    assert node._number > number + 100, "it is asked all the time what it has"
    assert held_by(follower) == held
    assert len(node._flying) == flying
    assert len(node.state.log.unstable._outstanding) == flying
    follower.disk.empty()
    world.tick(5)
    assert not follower.driver.waits_for_room
    assert not node._flying
    assert follower.machine.values(7) == world.leader.machine.values(7)
    assert world.append(100).fate is Fate.DONE


def test_leaders_come_and_go_while_a_follower_waits_for_room(seed: int) -> None:
    """Each term is a hard state and a vote, which wait like the rest."""
    chance = Random(seed)
    world = World()
    world.tick(60)
    follower = full_follower(world)
    replica = follower.driver.replicas[GROUP]
    value = 100
    for _ in range(20):
        leader = world.leader
        assert leader.driver.begin_epoch(GROUP) is None
        world.tick(chance.randrange(1, 5))
        for _ in range(chance.randrange(3)):
            value += 1
            world.append(value)
        world.tick(chance.randrange(1, 5))
    # One for the first entry of each term, and those for what was written in it.
    readys, messages = held_by(follower)
    assert messages <= 3 * readys
    follower.disk.empty()
    world.tick(30)
    assert not follower.driver.waits_for_room
    assert follower.machine.values(7) == world.leader.machine.values(7)
    assert replica.node.state.durable_vote[0] == world.leader.driver.replicas[GROUP].node.term
    follower.disk.power_cut()
    follower.start()
    world.tick(30)
    assert follower.machine.values(7) == world.leader.machine.values(7)


def test_only_the_first_of_what_waits_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.tick(60)
    follower = full_follower(world)
    assert len(follower.driver._stuck) > 1
    refused = 0
    append = follower.wal.append

    def counting(*given: Any) -> None:
        nonlocal refused
        try:
            append(*given)
        except DiskFull:
            refused += 1
            raise

    monkeypatch.setattr(follower.wal, "append", counting)
    follower.driver.pump()
    assert refused == 1
