"""The driver of a process whose disk is full: nothing grows, and it goes on when there is room."""

from dataclasses import dataclass

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
