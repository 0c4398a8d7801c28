"""The driver of a process: its own snapshots, and those of its leader that come between."""

from mako.replication.outbox import PeerMessage
from mako.replication.snapshots import SnapshotParcel
from mako.storage.snapshot_stream import SnapshotChunk
from tests.replication.test_driver import GROUP, Process, World


def follower_of(world: World) -> Process:
    return next(process for process in world.processes if not process.leads)


def is_last_chunk(message: PeerMessage) -> bool:
    if not isinstance(message, SnapshotParcel) or not isinstance(message.body, SnapshotChunk):
        return False
    return message.body.offset + len(message.body.data) == message.body.name.size


def up_to_last_chunk(world: World, late: Process) -> list[PeerMessage]:
    """Bring everything but the last bytes of the snapshot that the follower is sent."""
    for _ in range(1000):
        world.now_ms += 10
        for process in world.processes:
            process.driver.tick(world.now_ms)
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
        driver.tick(world.now_ms)
        driver.pump()
    own = late.wal.storage(GROUP).snapshot_meta().index
    assert own == late.machine.applied, "its own mark is on its way"
    driver.step(rest)
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
