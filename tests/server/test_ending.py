"""A process that is told to end, perhaps twice: how long it offers what it leads. And one that has
to end: what it is told to have ended by."""

import io
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from mako.entry import GroupId
from mako.errors import ConfigError
from mako.raft import RaftNode, Refused, Role
from mako.replication.contract import DriverSettings, ProcessMustEnd
from mako.replication.driver import Driver
from mako.server import running
from mako.server.events import EventLog
from mako.server.hosting import Hosted
from mako.server.plan import ServerPlan
from mako.server.process import HANDOVERS_IN_VAIN, ServerProcess
from mako.server.turns import Links
from mako.wire.hello import Hello
from mako.wire.hello import Role as PeerRole
from tests.raft.cluster import Cluster

LOST, WON = GroupId(1), GroupId(2)


def plan() -> ServerPlan:
    """Of a process in memory without a replica, which listens wherever there is room."""
    address = "127.0.0.1", 0
    return ServerPlan(
        cluster_id=9,
        process=1,
        name="a",
        replicas=[],
        process_of={},
        names={1: "a"},
        addresses={1: address},
        listen=[address],
        http=None,
        folder=None,
        driver=DriverSettings(cluster_id=9),
    )


def nothing(event: str, **facts: object) -> None:
    """Nobody reads what is logged."""


class Groups:
    """Of groups of three the process has node 1, which leads. In place of its driver."""

    def __init__(self, *groups: GroupId) -> None:
        self.clusters = {group: Cluster(3) for group in groups}
        self.leaders: dict[GroupId, RaftNode] = {
            group: cluster.elect(1) for group, cluster in self.clusters.items()
        }
        self.replicas = {
            group: SimpleNamespace(node=node, connections=SimpleNamespace(holds=False))
            for group, node in self.leaders.items()
        }
        #: How often a group was offered, and nobody was left who could be asked.
        self.refused: Counter[GroupId] = Counter()
        self.on_refused: Callable[[GroupId], None] = lambda group: None

    def decline(self, group: GroupId, *followers: int) -> None:
        for follower in followers:
            self.clusters[group][follower].decline()

    def hand_over(self, group: GroupId) -> Refused | None:
        refused = self.leaders[group].hand_over()
        if refused is not None:
            self.refused[group] += 1
            self.on_refused(group)
        return refused

    async def live(self) -> None:
        """Time passes in all groups."""
        while True:
            await trio.sleep(0.01)
            for cluster in self.clusters.values():
                cluster.run(1)

    async def end(self) -> None:
        """The process is told to, and hands over what it leads."""
        hello = Hello(9, PeerRole.PEER, 1, "a", 1, "t")
        process = ServerProcess(plan(), cast(EventLog, nothing), lambda: 0, hello=lambda: hello)
        own, process.driver = process.driver, cast(Driver, self)
        process.hosted = cast(dict[GroupId, Hosted], self.replicas)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.live)
            await process.hand_over()
            nursery.cancel_scope.cancel()
        process.driver, process.hosted = own, {}
        process.close()


async def test_a_process_that_ends_does_not_wait_for_groups_in_which_nobody_takes_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As where all end at once. What can be handed over meanwhile is."""
    groups = Groups(LOST, WON)
    groups.decline(LOST, 2, 3)
    groups.decline(WON, 2)
    await groups.end()
    assert groups.refused == {LOST: HANDOVERS_IN_VAIN}, "and is not offered any more"
    assert groups.leaders[LOST].role is Role.LEADER
    assert groups.clusters[WON][3].role is Role.LEADER
    assert all(node.state.declines for node in groups.leaders.values()), "nor takes it anything"


async def test_whom_nobody_relieved_once_tries_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    groups = Groups(WON)
    groups.decline(WON, 2, 3)

    def return_to_life(group: GroupId) -> None:
        groups.clusters[group][2].state.declines = False

    groups.on_refused = return_to_life
    await groups.end()
    assert groups.refused == {WON: 1}
    assert groups.clusters[WON][2].role is Role.LEADER


class Ending(ServerProcess):
    """Runs until it is told to end, and is told so again wherever it is by then."""

    told: signal.Signals
    at: str
    closed = 0

    async def run(self, links: Links) -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    async def hand_over(self) -> None:
        if self.at == "handing over":
            signal.raise_signal(self.told)
        await super().hand_over()

    def close(self) -> None:
        if self.at == "closing":
            signal.raise_signal(self.told)
        super().close()
        Ending.closed += 1


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Signals that would have ended this process; it handles them as it did afterwards."""
    found: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        found.append(number)

    before = {each: signal.signal(each, hear) for each in (signal.SIGTERM, signal.SIGINT)}
    yield found
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", ["handing over", "closing"])
async def test_a_second_signal_does_not_end_a_process_that_ends(
    monkeypatch: pytest.MonkeyPatch, heard: list[int], at: str, told: signal.Signals
) -> None:
    """Neither while it hands over, nor while its log is closed, when nobody waits for signals."""
    monkeypatch.setattr(running, "_load_engine", lambda log: None)
    monkeypatch.setattr(running, "_load_procedures", lambda procedures, log: None)
    monkeypatch.setattr(running, "ServerProcess", Ending)
    monkeypatch.setattr(Ending, "at", at, raising=False)
    monkeypatch.setattr(Ending, "told", told, raising=False)
    monkeypatch.setattr(Ending, "closed", 0)
    said = io.StringIO()
    await running.serve(plan(), EventLog("a", said))
    assert Ending.closed == 1
    assert heard == []
    assert said.getvalue().count("is told to end") == 1


class Failing(ServerProcess):
    """One of its tasks meets an error, while the others go on."""

    error: Exception
    closed = 0

    async def run(self, links: Links) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise self.error

    def close(self) -> None:
        super().close()
        Failing.closed += 1


@pytest.mark.parametrize(
    "error", [ProcessMustEnd("wal-1: input/output error"), ConfigError("set the clock")]
)
async def test_what_ends_a_process_is_told_without_the_groups_in_which_it_comes(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The exit status depends on its kind, and its text is what an operator reads."""
    monkeypatch.setattr(running, "_load_engine", lambda log: None)
    monkeypatch.setattr(running, "_load_procedures", lambda procedures, log: None)
    monkeypatch.setattr(running, "ServerProcess", Failing)
    monkeypatch.setattr(Failing, "error", error, raising=False)
    monkeypatch.setattr(Failing, "closed", 0)
    with pytest.raises(type(error)) as ended:
        await running.serve(plan(), EventLog("a", io.StringIO()))
    assert str(ended.value) == str(error)
    assert Failing.closed == 1
