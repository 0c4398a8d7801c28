"""A folder with a replica that the configuration lacks: nothing is deleted, or grows for ever."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.entry import Configuration, Entry, EntryKind, HardState, Index, NodeId, SnapshotMeta, Term
from mako.errors import ConfigError
from mako.raft import RaftNode
from mako.replication.contract import DriverSettings, ProcessMustEnd
from mako.server.events import EventLog
from mako.server.folder import Folder, FolderState
from mako.server.forgetting import forget_strangers
from mako.server.plan import ReplicaPlan, ServerPlan, group_of
from mako.server.process import ServerProcess
from mako.storage.disk import Disk
from mako.storage.errors import DiskFailed, DiskFull
from mako.storage.memory_disk import MemoryDisk
from mako.storage.os_disk import OsDisk
from mako.storage.snapshot_format import SnapshotHeader
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.wal import Identity, Wal, WalSettings
from mako.wire.hello import Hello, Role

CLUSTER = 9
MEMBERS = Configuration(frozenset({NodeId(1), NodeId(2), NodeId(3)}))
WAL = WalSettings(segment_bytes=8192, reserve_bytes=4096, keep_bytes=8192, keep_ms=1 << 40)
GROUPS = group_of(0), group_of(1)


def plan(*partitions: int, folder: Path | None = None, forget: tuple[int, ...] = ()) -> ServerPlan:
    return ServerPlan(
        cluster_id=CLUSTER,
        process=1,
        name="p1",
        replicas=[ReplicaPlan(partition, NodeId(1), MEMBERS) for partition in partitions],
        process_of={(group, NodeId(n)): n for group in GROUPS for n in (1, 2, 3)},
        names={1: "p1"},
        addresses={1: ("127.0.0.1", 0)},
        listen=[("127.0.0.1", 0)],
        http=None,
        folder=folder or Path("data/p1"),
        forget=frozenset(forget),
        wal=WAL,
        driver=DriverSettings(cluster_id=CLUSTER),
    )


def opened(disk: Disk) -> Wal:
    wal = Wal(disk, "wal", Identity(CLUSTER, 1), WAL)
    wal.recover()
    return wal


def fill(disk: Disk) -> Wal:
    """Partitions 0 and 1 are here, with a snapshot each, and entries behind it."""
    wal = opened(disk)
    snapshots = SnapshotStore(disk, "snapshots", CLUSTER)
    snapshots.recover({})
    meta = SnapshotMeta(Index(5), Term(1), MEMBERS)
    for group in GROUPS:
        snapshots.commit(snapshots.create(SnapshotHeader(CLUSTER, group, meta, 7)))
        entries = [Entry(Term(1), Index(6 + i), EntryKind.NORMAL, bytes(900)) for i in range(30)]
        wal.append(group, HardState(Term(1), NodeId(1), Index(5)), (), meta)
        for entry in entries:
            wal.append(group, None, [entry])
            wal.seal()
            wal.write()
    wal.sync()
    nodes = {str(group): 1 for group in GROUPS}
    Folder(disk, "p1").write(FolderState(CLUSTER, 1, nodes, formed=True))
    return wal


class World:
    """The folder of a process as it starts."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.wal = fill(self.disk)
        self.folder = Folder(self.disk, "data/p1")
        self.state = self.folder.read(CLUSTER, 1)
        self.told: list[str] = []

    def start(self, *partitions: int, forget: tuple[int, ...] = ()) -> None:
        def tell(event: str, **facts: Any) -> None:
            self.told.append(f"{event} {facts['partition']}")

        made = plan(*partitions, forget=forget)
        forget_strangers(made, self.state, self.wal, self.folder.write, tell, 0)


@pytest.fixture
def world() -> World:
    return World()


def test_what_the_configuration_lacks_is_neither_deleted_nor_passed_over(world: World) -> None:
    with pytest.raises(ConfigError) as caught:
        world.start(0)
    assert str(caught.value) == (
        "data/p1 has a replica of partition 1, and the configuration gives p1 none; correct the"
        " configuration, or, if the replica is no member any more (mako replica replace, remove),"
        " start once with --forget-partition 1, which deletes it"
    )
    assert opened(world.disk).groups() == list(GROUPS)
    world.start(0, 1)
    assert world.told == []
    assert not world.folder.read(CLUSTER, 1).returning


def test_only_what_it_is_told_to_is_forgotten(world: World) -> None:
    with pytest.raises(ConfigError, match=r"has a replica of partition 0, .*--forget-partition 0"):
        world.start(2, forget=(1,))
    with pytest.raises(ConfigError, match="--forget-partition 1: the configuration gives p1 a"):
        world.start(0, 1, forget=(1,))
    assert opened(world.disk).groups() == list(GROUPS)
    assert world.told == []


def test_what_is_forgotten_is_gone_for_good_and_the_log_can_be_cut(world: World) -> None:
    world.wal.release(GROUPS[0], 5)
    assert world.wal.cut(0).blocked, "of both groups there are entries that are needed"
    world.start(0, forget=(1,))
    assert world.told == ["forgets a replica: its log and its snapshots are removed 1"]
    wal = opened(world.disk)
    assert wal.groups() == [GROUPS[0]]
    snapshots = SnapshotStore(world.disk, "snapshots", CLUSTER)
    snapshots.recover({GROUPS[0]: wal.storage(GROUPS[0]).snapshot_meta()})
    assert len(world.disk.list("snapshots")) == 1
    snapshots.commit(
        snapshots.create(
            SnapshotHeader(CLUSTER, GROUPS[0], SnapshotMeta(Index(35), Term(1), MEMBERS), 9)
        )
    )
    wal.append(GROUPS[0], None, (), SnapshotMeta(Index(35), Term(1), MEMBERS))
    wal.release(GROUPS[0], 35)
    cut = wal.cut(0)
    assert cut.segments
    assert not cut.blocked


def test_who_is_told_again_has_nothing_to_forget(world: World) -> None:
    """As where the option stays in a unit file."""
    for _ in range(2):
        world.start(0, forget=(1,))
    assert world.told[1:] == ["has nothing to forget 1"]


def test_what_was_forgotten_comes_back_without_a_vote(world: World) -> None:
    """It may still be a member, and has lost its votes. That lasts before the log is gone."""
    store, removed = world.wal, []

    class Failing:
        groups = store.groups

        def remove_group(self, group: int) -> None:
            removed.append(world.folder.read(CLUSTER, 1).is_returning(GROUPS[1]))
            raise ZeroDivisionError

    world.wal = cast(Wal, Failing())
    with pytest.raises(ZeroDivisionError):
        world.start(0, forget=(1,))
    assert removed == [True]
    state = world.folder.read(CLUSTER, 1)
    assert state.node(GROUPS[1]) is None, "it may come back as another node"
    assert not state.is_returning(GROUPS[0])


def process(made: ServerPlan) -> ServerProcess:
    hello = Hello(CLUSTER, Role.PEER, 1, "p1", 1, "t")
    log = cast(EventLog, lambda event, **facts: None)
    return ServerProcess(made, log, lambda: 0, hello=lambda: hello)


def begun(folder: Path) -> Path:
    folder.mkdir()
    disk = OsDisk(folder, lock=True)
    fill(disk).close()
    disk.close()
    return folder


def test_a_process_refuses_to_start_with_a_replica_that_is_not_its_own(tmp_path: Path) -> None:
    folder = begun(tmp_path / "p1")
    with pytest.raises(ConfigError, match="has a replica of partition 1, and"):
        process(plan(0, folder=folder))
    assert len(list((folder / "snapshots").iterdir())) == 2


def test_a_process_starts_once_it_has_forgotten_it(tmp_path: Path) -> None:
    folder = begun(tmp_path / "p1")
    for forget in ((1,), ()):
        made = process(plan(0, folder=folder, forget=forget))
        assert made.store.groups() == [GROUPS[0]]
        assert len(list((folder / "snapshots").iterdir())) == 1
        assert made.state.returning == [str(GROUPS[1])]
        made._note_returned()
        made.close()
    with_it_again = process(plan(0, 1, folder=folder))
    assert with_it_again.state.is_returning(GROUPS[1])
    node = cast(RaftNode, SimpleNamespace(returning=False))
    with_it_again.hosted[GROUPS[1]] = cast(Any, SimpleNamespace(node=node, close=lambda: None))
    with_it_again._note_returned()
    assert with_it_again.state.returning == []
    with_it_again.close()


def test_that_a_replica_has_returned_waits_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = process(plan(0, 1, folder=tmp_path / "p1"))
    try:
        made.state.returning = [str(GROUPS[1])]
        node = cast(RaftNode, SimpleNamespace(returning=False))
        made.hosted[GROUPS[1]] = cast(Any, SimpleNamespace(node=node, close=lambda: None))

        def fails(error: Exception) -> Callable[[FolderState], None]:
            def write(state: FolderState) -> None:
                raise error

            return write

        with monkeypatch.context() as patch:
            patch.setattr(made._folder, "write", fails(DiskFull("state.json")))
            made._note_returned()
            assert made.state.returning == [str(GROUPS[1])]
            patch.setattr(made._folder, "write", fails(DiskFailed("state.json")))
            with pytest.raises(ProcessMustEnd):
                made._note_returned()
        made.state.returning = [str(GROUPS[1])]
        made._note_returned()
        assert made.state.returning == []
    finally:
        made.close()
