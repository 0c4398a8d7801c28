"""A replica of the first members in a folder that never had it: what its node has voted is not
known there."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.entry import Configuration, HardState, Index, NodeId, Term
from mako.errors import ConfigError
from mako.replication.contract import DriverSettings
from mako.server import process
from mako.server.events import EventLog
from mako.server.folder import Folder, FolderState
from mako.server.plan import ReplicaPlan, ServerPlan, group_of
from mako.server.process import ServerProcess
from mako.sim.model import ModelMachine
from mako.storage.os_disk import OsDisk
from mako.storage.wal import Identity, Wal, WalSettings
from mako.wire.hello import Hello, Role

CLUSTER = 9
FIRST = Configuration(frozenset({NodeId(1), NodeId(2), NodeId(3)}))
WAL = WalSettings(segment_bytes=8192, reserve_bytes=4096, keep_bytes=8192, keep_ms=1 << 40)
GROUPS = group_of(0), group_of(1)


class World:
    """The folder of process 1, which has node 1 of partition 0 for long."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writes = 0
        #: What was on disk when the first replica was added.
        self.found: FolderState | None = None
        self.told: list[str] = []
        folder.mkdir()
        disk = OsDisk(folder, lock=True)
        wal = Wal(disk, "wal", Identity(CLUSTER, 1), WAL)
        wal.recover()
        wal.append(GROUPS[0], HardState(Term(1), NodeId(1), Index(0)))
        wal.seal()
        wal.write()
        wal.sync()
        wal.close()
        self.write(disk, nodes={str(GROUPS[0]): 1})
        disk.close()

    def write(self, disk: OsDisk, **what: Any) -> None:
        Folder(disk, "p1").write(FolderState(CLUSTER, 1, formed=True, **what))

    def note(self, **what: Any) -> None:
        """What an earlier start has left in state.json."""
        disk = OsDisk(self.folder, lock=True)
        self.write(disk, **what)
        disk.close()

    @property
    def state(self) -> FolderState:
        disk = OsDisk(self.folder, lock=False)
        state = Folder(disk, "p1").load()
        disk.close()
        assert state is not None
        return state

    def hosted(self, *_: object, **__: object) -> SimpleNamespace:
        if self.found is None:
            self.found = self.state
        backend = SimpleNamespace(administration=None)
        return SimpleNamespace(
            backend=backend, connections=None, partition=ModelMachine(), close=lambda: None
        )

    async def start(self, *nodes: int) -> list[bool]:
        """Start with these nodes, of partitions 0 and 1; which of them are returning."""
        self.found, self.writes = None, 0
        plan = ServerPlan(
            cluster_id=CLUSTER,
            process=1,
            name="p1",
            replicas=[ReplicaPlan(p, NodeId(node), FIRST) for p, node in enumerate(nodes)],
            process_of={(group, NodeId(n)): n for group in GROUPS for n in (1, 2, 3)},
            names={1: "p1"},
            addresses={1: ("127.0.0.1", 0)},
            listen=[("127.0.0.1", 0)],
            http=None,
            folder=self.folder,
            wal=WAL,
            driver=DriverSettings(cluster_id=CLUSTER),
        )
        hello = Hello(CLUSTER, Role.PEER, 1, "p1", 1, "t")
        log = cast(EventLog, lambda event, **facts: self.told.append(event))
        made = ServerProcess(plan, log, lambda: 0, hello=lambda: hello)
        try:
            await made.form()
            return [cast(Any, one.node).returning for one in made.hosted.values()]
        finally:
            made.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "p1")
    monkeypatch.setattr(process, "Hosted", made.hosted)
    monkeypatch.setattr(process, "Hub", lambda *_: None)
    write = Folder.write

    def counted(folder: Folder, state: FolderState) -> None:
        made.writes += 1
        write(folder, state)

    monkeypatch.setattr(Folder, "write", counted)
    return made


async def test_a_first_member_that_moves_in_has_no_vote(world: World) -> None:
    """Its site was given to this process, and no new id. With a vote, it could vote twice."""
    assert await world.start(1, 3) == [False, True]
    assert world.found is not None
    assert world.found.returning == [str(GROUPS[1])], "and that is on disk before it says anything"
    assert "has no log of a first member: it returns without a vote" in world.told[-1]


async def test_who_moved_in_has_none_after_a_restart_either(world: World) -> None:
    """As it may have been killed before its log was on disk, or after."""
    for _ in range(2):
        assert await world.start(1, 3) == [False, True]
    assert world.writes == 0, "nothing is new"
    assert world.state.returning == [str(GROUPS[1])]


async def test_what_moved_in_is_that_node_from_then_on(world: World) -> None:
    await world.start(1, 3)
    with pytest.raises(ConfigError) as caught:
        await world.start(1, 4)
    assert str(caught.value) == (
        "the replica of partition 1 in this folder is node 3, and the configuration says node 4;"
        " correct `node:` in the configuration, or, if the node was replaced, start once with"
        " its site elsewhere and --forget-partition 1"
    )


async def test_a_new_node_moves_in_as_one(world: World) -> None:
    """As `mako replica replace` and `add` want it. It is noted, too; whether it is the first time
    that it comes, nobody knows."""
    assert await world.start(1, 4) == [False, True]
    assert world.found is not None
    assert world.found.nodes == {str(GROUPS[0]): 1, str(GROUPS[1]): 4}
    with pytest.raises(ConfigError, match="partition 1 in this folder is node 4, and the"):
        await world.start(1, 5)


async def test_a_process_with_nothing_else_has_a_folder_to_move_away(world: World) -> None:
    with pytest.raises(ConfigError, match=r"or, if the node was replaced, move the folder away$"):
        await world.start(4)


async def test_who_was_here_without_a_note_keeps_its_vote(world: World) -> None:
    """What came later was not noted by programs of before."""
    world.note(nodes={})
    assert await world.start(1) == [False]
    assert world.state.nodes == {str(GROUPS[0]): 1}


async def test_who_began_here_and_was_killed_at_once_keeps_its_vote(world: World) -> None:
    """It was noted, and nothing of it had reached the log: so nothing had been said, either."""
    world.note(nodes={str(group): 1 for group in GROUPS})
    assert await world.start(1, 1) == [False, False]


async def test_a_note_goes_with_its_replica(world: World) -> None:
    """Else it would vouch for one that has been elsewhere meanwhile."""
    world.note(nodes={str(group): 1 for group in GROUPS})
    assert await world.start(1) == [False]
    assert await world.start(1, 1) == [False, True]


async def test_who_was_forgotten_and_moves_in_returns_once(world: World) -> None:
    world.note(nodes={str(GROUPS[0]): 1}, returning=[str(GROUPS[1])])
    assert await world.start(1, 3) == [False, True]
    assert world.state.returning == [str(GROUPS[1])]


async def test_a_later_member_without_a_log_has_no_vote(world: World) -> None:
    """It may be new, or have lost its disk; then it has forgotten whom it voted for, as a first
    member has, and what it had acknowledged."""
    shutil.rmtree(world.folder)
    world.folder.mkdir()
    for _ in range(2):
        assert await world.start(4) == [True]
    assert world.state.returning == [str(GROUPS[0])]
    assert world.found is not None
    assert world.found.returning == [str(GROUPS[0])], "that is on disk before it says anything"
