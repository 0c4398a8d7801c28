"""Every kind of fault really happens: a fault that does nothing would make every run clean."""

import random
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from mako.entry import GroupId, NodeId
from mako.raft.message import HeartbeatReply
from mako.sim.clock import MS, Loop
from mako.sim.cluster import Cluster, run_seed
from mako.sim.disk import PowerCut, SimDisk, Trouble
from mako.sim.network import LinkSettings, Network
from mako.sim.plan import FAULTS
from mako.sim.process import Life
from mako.storage.errors import DiskFailed, DiskFull


def disk(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def written(found: SimDisk, path: str = "file", data: bytes = b"x" * 2000) -> None:
    file = found.open(path, create=True)
    found.sync_folder("")
    file.write(0, data)


# --- Disks -------------------------------------------------------------------------------------


def test_a_power_cut_loses_or_tears_what_was_not_synced() -> None:
    left = set()
    for seed in range(20):
        found = disk(seed)
        written(found)
        found.power_cut()
        left.add(found.memory.contents("file").count(b"x"))
    assert 0 in left
    assert any(0 < count < 2000 for count in left)


def test_a_power_cut_leaves_what_was_synced() -> None:
    found = disk()
    written(found)
    found.open("file").sync()
    found.power_cut()
    assert found.memory.contents("file") == b"x" * 2000


def test_a_failing_sync_fails_until_the_power_is_cut() -> None:
    found = disk()
    written(found)
    found.failing = True
    for _ in range(2):
        with pytest.raises(DiskFailed):
            found.open("file").sync()
    found.power_cut()
    found.open("file").sync()
    assert found.counts["failed sync"] == 2


def test_what_a_failed_sync_forgot_is_there_until_the_power_is_cut() -> None:
    left = set()
    for seed in range(20):
        found = disk(seed)
        written(found)
        found.failing = True
        with pytest.raises(DiskFailed):
            found.open("file").sync()
        found.restarted()
        assert found.memory.contents("file") == b"x" * 2000
        found.open("file").sync()
        found.power_cut()
        left.add(found.memory.contents("file").count(b"x"))
    assert 0 in left
    assert any(0 < count < 2000 for count in left)


def test_a_full_disk_refuses_growth_until_it_is_emptied() -> None:
    found = disk()
    found.fill(1000)
    with pytest.raises(DiskFull):
        written(found)
    found.empty()
    written(found)


class Troubles:
    """The n-th operation of a disk meets trouble."""

    def __init__(self, trouble: Trouble, left: int = 1) -> None:
        self.trouble = trouble
        self.left = left

    def __call__(self, operation: str) -> Trouble | None:
        self.left -= 1
        return None if self.left else self.trouble


def operations(found: SimDisk) -> dict[str, Callable[[], object]]:
    """All that may meet trouble, by its name."""
    written(found)
    found.open("file").sync()
    file = found.open("file")
    return {
        "write": lambda: file.write(0, b"y" * 2000),
        "allocate": lambda: file.allocate(4000),
        "truncate": lambda: file.truncate(100),
        "sync": file.sync,
        "create": lambda: found.open("new", create=True),
        "rename": lambda: found.rename("file", "other"),
        "remove": lambda: found.remove("file"),
        "sync_folder": lambda: found.sync_folder(""),
    }


@pytest.mark.parametrize("name", sorted(operations(disk())))
def test_a_power_cut_comes_before_an_operation_and_nothing_is_done_after_it(name: str) -> None:
    found = disk()
    every = operations(found)
    asked: list[str] = []

    def cut(operation: str) -> Trouble:
        asked.append(operation)
        return Trouble.CUT

    found.trouble = cut
    with pytest.raises(PowerCut):
        every[name]()
    assert asked == [name]
    found.trouble = lambda operation: None
    for other in every.values():
        with pytest.raises(PowerCut):
            other()
    found.power_cut()
    assert found.list("") == ["file"]
    assert found.memory.contents("file") == b"x" * 2000
    found.sync_folder("")


@pytest.mark.parametrize("name", sorted(operations(disk())))
def test_an_operation_fails_once(name: str) -> None:
    found = disk()
    every = operations(found)
    found.trouble = Troubles(Trouble.ERROR)
    with pytest.raises(DiskFailed, match=name):
        every[name]()
    assert found.list("") == ["file"]
    every[name]()


def test_a_write_that_fails_leaves_any_part_of_it() -> None:
    left = set()
    for seed in range(20):
        found = disk(seed)
        every = operations(found)
        found.trouble = Troubles(Trouble.ERROR)
        with pytest.raises(DiskFailed):
            every["write"]()
        contents = found.memory.contents("file")
        left.add(contents.count(b"y"))
        assert contents == b"y" * contents.count(b"y") + b"x" * contents.count(b"x")
    assert len(left) > 10
    assert max(left) <= 2000


def test_a_hung_disk_takes_until_it_is_not() -> None:
    found = disk()
    found.hung_until = 900
    assert found.latency(now=100) == 800
    assert found.latency(now=1000) == 0


def test_rot_flips_one_bit_of_what_is_on_disk() -> None:
    found = disk()
    found.make_folder("wal")
    before = bytes(range(256))
    found.memory.damage("wal/1.wal", before)
    where = found.rot()
    after = found.memory.contents("wal/1.wal")
    changed = [a ^ b for a, b in zip(before, after, strict=True) if a != b]
    assert where.startswith("wal/1.wal")
    assert len(changed) == 1
    assert changed[0].bit_count() == 1


def test_sectors_are_lost_at_the_end_of_a_segment_that_is_not_the_last() -> None:
    left = set()
    for seed in range(20):
        found = disk(seed)
        found.make_folder("wal")
        for name in ("1.wal", "2.wal"):
            found.memory.damage(f"wal/{name}", b"x" * 1500 + bytes(500))
        assert found.lose_sectors()
        first = found.memory.contents("wal/1.wal")
        left.add(first.count(b"x"))
        assert first == (b"x" * first.count(b"x")).ljust(2000, b"\0")
        assert found.memory.contents("wal/2.wal") == b"x" * 1500 + bytes(500)
    assert left == {512, 1024}, "whole sectors, and never the first"


def _note(arrived: list[int], source: int, target: int, batch: object) -> None:
    arrived.append(source)


# --- Links -------------------------------------------------------------------------------------


def arrivals(settings: LinkSettings, packets: int = 200) -> list[int]:
    """The packets that arrive, by their number."""
    loop = Loop()
    arrived: list[int] = []
    network = Network(
        loop, random.Random(1), settings, lambda source, target, batch: arrived.append(len(batch))
    )
    parcel = HeartbeatReply(GroupId(1), NodeId(1), NodeId(2), 1, 0)
    for number in range(packets):
        loop.at(number * MS // 10, network.send, 1, 2, [parcel] * number)
    loop.run(10_000 * MS)
    return arrived


def test_a_good_ordered_link_brings_everything_in_order() -> None:
    assert arrivals(LinkSettings(ordered=True)) == list(range(200))


def test_a_link_reorders() -> None:
    found = arrivals(LinkSettings())
    assert found != sorted(found)
    assert sorted(found) == list(range(200))


def test_a_link_loses_and_repeats() -> None:
    assert 100 < len(arrivals(LinkSettings(loss=0.3))) < 180
    assert len(arrivals(LinkSettings(duplication=0.3))) > 220


def test_a_late_packet_comes_after_many_others() -> None:
    found = arrivals(LinkSettings(late=0.05))
    assert max(abs(at - number) for at, number in enumerate(found)) > 50


def test_a_cut_works_one_way_and_each_is_mended_by_itself() -> None:
    loop = Loop()
    arrived: list[tuple[int, int]] = []
    network = Network(
        loop,
        random.Random(1),
        LinkSettings(),
        lambda source, target, batch: arrived.append((source, target)),
    )

    def exchange() -> list[tuple[int, int]]:
        arrived.clear()
        for source, target in ((1, 2), (2, 1)):
            network.send(source, target, [])
        loop.run(loop.now + 1000 * MS)
        return sorted(arrived)

    one = network.cut([(1, 2)])
    assert exchange() == [(2, 1)]
    both = network.split([1], [2])
    assert exchange() == []
    network.mend(one)
    assert exchange() == []
    network.mend(both)
    assert exchange() == [(1, 2), (2, 1)]


def test_a_cut_may_lose_what_is_on_the_way() -> None:
    for loses, expected in ((True, []), (False, [1])):
        loop = Loop()
        arrived: list[int] = []
        network = Network(
            loop,
            random.Random(1),
            LinkSettings(cut_loses=loses),
            partial(_note, arrived),
        )
        network.send(1, 2, [])
        network.cut([(1, 2)])
        loop.run(1000 * MS)
        assert arrived == expected


def test_a_link_delivers_what_production_would_have_sent() -> None:
    loop = Loop()
    arrived: list[object] = []
    network = Network(
        loop, random.Random(1), LinkSettings(), lambda source, target, batch: arrived.extend(batch)
    )
    sent = [HeartbeatReply(GroupId(1), NodeId(1), NodeId(2), 1, 7)]
    network.send(1, 2, sent)
    loop.run(1000 * MS)
    assert arrived == sent
    assert arrived[0] is not sent[0]
    with pytest.raises(struct.error):
        network.send(1, 2, [HeartbeatReply(GroupId(1), NodeId(1), NodeId(2), 1, 1 << 64)])


# --- Processes ---------------------------------------------------------------------------------


def test_a_fault_that_needs_all_to_be_settled_waits_for_that() -> None:
    seed = next(seed for seed in range(1, 50) if not Cluster(seed).plan.fault_weights["wipe"])
    cluster = Cluster(seed)
    counts = cluster.faults.counts
    cluster.faults.order("wipe", cluster.processes[0])
    assert not cluster.operator.settled
    assert dict(counts) == {}
    cluster.loop.run(1200 * MS)
    assert counts["wipe"] == 1


def test_nothing_is_settled_while_a_change_of_members_is_under_way() -> None:
    """Also if nobody wants it any more: a disk that it needs must not be lost meanwhile."""
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(1000 * MS)
    operator = cluster.operator
    assert operator.settled
    leader = operator.leader_of(cluster.groups[0])
    assert leader is not None
    follower = next(one for one in cluster.processes if one is not leader)
    operator.demoted.add(follower.number)
    node = leader.node(cluster.groups[0])
    assert node is not None
    now = 1000 * MS
    while not node.configuration.joint:
        now += MS
        cluster.loop.run(now)
    operator.demoted.clear()
    assert not operator.settled


def test_a_paused_process_works_off_what_came_meanwhile() -> None:
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(1000 * MS)
    process = cluster.processes[0]
    process.pause()
    node = process.node(cluster.groups[0])
    assert node is not None
    before = node.commit_index
    cluster.loop.run(1200 * MS)
    assert node.commit_index == before
    process.resume()
    assert process.life is Life.UP
    cluster.loop.run(1400 * MS)
    assert node.commit_index > before


def test_a_process_with_a_failed_disk_ends_and_starts_again() -> None:
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(500 * MS)
    process = cluster.processes[0]
    lives = process.lives
    process.disk.failing = True
    cluster.loop.run(3000 * MS)
    assert process.lives > lives
    assert cluster.coverage["process_ended_by_disk"] == 1


@pytest.mark.parametrize("trouble", list(Trouble))
@pytest.mark.parametrize("rotten", ["", "rotten"])
def test_a_start_may_end_before_each_operation(trouble: Trouble, rotten: str) -> None:
    """Also the one that begins anew, because the log is damaged."""
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(1000 * MS)
    process = cluster.processes[0]
    for place in range(1, 100):
        process.crash(power=True)
        if rotten:
            path = "wal/" + process.disk.list("wal")[0]
            process.disk.memory.damage(path, bytes(400))
        process.disk.trouble = troubles = Troubles(trouble, place)
        process.start()
        if troubles.left > 0:
            break
        assert process.driver is None
        process.disk.trouble = lambda operation: None
        cluster.loop.run(cluster.loop.now + 1000 * MS)
        assert process.life is Life.UP
    assert 5 < place < 100


def test_a_process_ends_before_an_operation_and_starts_again() -> None:
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(500 * MS)
    process = cluster.processes[0]
    for trouble in Trouble:
        lives = process.lives
        process.disk.trouble = Troubles(trouble, 20)
        cluster.loop.run(cluster.loop.now + 1000 * MS)
        assert process.lives == lives + 1
        assert process.life is Life.UP
    assert cluster.coverage["process_ended_by_disk"] == 1


def test_a_process_with_rot_is_fenced_and_returns_under_a_new_id() -> None:
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(1000 * MS)
    process = cluster.processes[0]
    old = process.members[cluster.groups[0]].node
    process.crash(power=False)
    path = "wal/" + process.disk.list("wal")[0]
    contents = bytearray(process.disk.memory.contents(path))
    contents[400] ^= 1
    process.disk.memory.damage(path, bytes(contents))
    process.start()
    assert cluster.coverage["replica_fenced"] == 1
    assert process.members[cluster.groups[0]].node != old
    cluster.loop.run(3000 * MS)
    assert cluster.operator.settled


def test_clients_are_asked_to_ease_off_only_where_a_learner_is_sent_all_that_it_can_take() -> None:
    cluster = Cluster(1)
    cluster.faults.stop()
    cluster.loop.run(1000 * MS)
    assert not cluster.operator.is_saturated, "there is no learner"
    group = cluster.groups[0]
    leader = cluster.operator.leader_of(group)
    assert leader is not None
    other = next(process for process in cluster.processes if process is not leader)
    cluster.operator.demoted.add(other.number)
    cluster.operator.disturb()
    cluster.loop.run(2000 * MS)
    node = leader.node(group)
    assert node is not None
    assert node.configuration.learners == {other.members[group].node}
    progress = node.state.progress[other.members[group].node]
    progress.match = 0
    limit = cluster.plan.raft.inflight_messages_max
    progress.inflight.extend((index, 0) for index in range(1, limit + 1 - len(progress.inflight)))
    assert cluster.operator.is_saturated
    progress.inflight.pop()
    assert not cluster.operator.is_saturated, "there is room for more"
    progress.become_snapshot(1)
    assert not cluster.operator.is_saturated, "it is not the clients who hold it up"


def test_all_kinds_of_faults_come_up_in_a_few_seeds() -> None:
    counts: Counter[str] = Counter()
    wanted = FAULTS.keys() | {trouble.value for trouble in Trouble}
    for seed in range(1, 60):
        counts.update(run_seed(seed).faults)
        if counts.keys() == wanted:
            return
    pytest.fail(f"never happened: {sorted(wanted - counts.keys())}")
