"""What an operator may ask for, with arguments that are none."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.engine.engine import Engine
from mako.entry import HARD_STATE_ZERO, Configuration, Entry, EntryKind, Index, SnapshotMeta, Term
from mako.ids import Status
from mako.raft import Refusal, Role
from mako.raft import Refused as RaftRefused
from mako.server.administration import PART_BYTES, Administration
from mako.server.backend import LoneBackend
from mako.server.clients import ClientConnection
from mako.server.sessions import Refused
from mako.server.workers import Crew
from mako.storage.errors import DiskFailed, damaged
from mako.storage.memory_store import MemoryStore
from mako.wire.hello import PROCESS_NONE, Hello, hello_parts
from mako.wire.hello import Role as HelloRole
from mako.wire.requests import ClientKind, Operation, Reply, frame, pack_requests, unpack_replies
from tests.raft.cluster import Cluster
from tests.raft.cluster import voters as members_of

GOOD = [9, "p9", "10.0.0.9", 7000]


class Raft:
    """Takes whom it is to prefer for what it is told. Its log has `last` entries."""

    def __init__(self, last: int = 0, size: int = 10) -> None:
        self.group = 1
        self.id = 2
        self.role = Role.LEADER
        self.preferred: Any = 0
        self.store = MemoryStore(keep_bytes=0)
        entries = [
            Entry(Term(1), Index(i), EntryKind.NORMAL, b"%d" % i * size) for i in range(1, last + 1)
        ]
        self.store.append(self.group, HARD_STATE_ZERO, entries)
        self.storage: Any = self.store.storage(self.group)
        self.commit_index = last

    def prefer(self, node: Any) -> None:
        self.preferred = node


class Driver:
    """Answers every request alike."""

    def __init__(self) -> None:
        self.refuses: RaftRefused | None = None
        self.asked: list[tuple[Any, ...]] = []

    def transfer(self, group: int, node: int) -> RaftRefused | None:
        self.asked.append((group, node))
        return self.refuses

    def change_members(self, group: int, target: Configuration) -> RaftRefused | None:
        self.asked.append((group, sorted(target.voters), sorted(target.learners)))
        return self.refuses


class Asked:
    """A process that knows itself alone."""

    def __init__(self, last: int = 0, size: int = 10) -> None:
        self.plan = SimpleNamespace(process=1, names={1: "p1"}, addresses={}, process_of={})
        self.met: list[tuple[int, str, tuple[str, int]]] = []
        self.node = Raft(last, size)
        self.driver = Driver()
        self.kicks: list[int] = []
        server = SimpleNamespace(
            plan=self.plan,
            driver=self.driver,
            log=lambda *_, **__: None,
            kick=lambda: self.kicks.append(1),
        )
        self.hosted = SimpleNamespace(
            node=self.node, leader_address="b:2", replica=SimpleNamespace(partition=0)
        )
        self.administration = Administration(
            cast(Any, server), cast(Any, self.hosted), lambda *told: self.met.append(told)
        )


def test_a_process_is_met() -> None:
    asked = Asked()
    asked.administration.meet(cast(Any, [GOOD]), cast(Any, [[0, 4, 9]]))
    assert asked.met == [(9, "p9", ("10.0.0.9", 7000))]
    assert asked.plan.addresses == {9: ("10.0.0.9", 7000)}
    assert asked.plan.process_of == {(1, 4): 9}


@pytest.mark.parametrize(
    ("processes", "places"),
    [
        ([["x", "p", "h", 1]], []),
        ([[-1, "p", "h", 1]], []),
        ([[1 << 31, "p", "h", 1]], []),
        ([[99, 5, "h", 1]], []),
        ([[99, "p", 5, 7000]], []),
        ([[99, "p", "", 7000]], []),
        ([[99, "p", "h" * 256, 7000]], []),
        ([[99, "p\n", "h", 7000]], []),
        ([[99, "p", "h", "7000"]], []),
        ([[99, "p", "h", 0]], []),
        ([[99, "p", "h", 65_536]], []),
        ([[99, "p", "h", True]], []),
        ([[99, "p", "h"]], []),
        ([], [["x", 4, 9]]),
        ([], [[64, 4, 9]]),
        ([], [[0, [], 9]]),
        ([], [[0, 4, None]]),
    ],
)
def test_what_is_no_process_and_no_place_is_refused_before_anything_is_known(
    processes: list[Any], places: list[Any]
) -> None:
    asked = Asked()
    with pytest.raises((Refused, TypeError)):
        asked.administration.meet([cast(Any, GOOD), *processes], places)
    assert asked.met == []
    assert asked.plan.addresses == {}
    assert asked.plan.process_of == {}


@pytest.mark.parametrize("node", [[], "x", -1, 1 << 31, None])
def test_only_a_node_is_preferred(node: Any) -> None:
    """Each tick of Raft would look it up."""
    asked = Asked()
    with pytest.raises(Refused):
        asked.administration.prefer(node)
    assert asked.node.preferred == 0
    asked.administration.prefer(3)
    assert asked.node.preferred == 3


@pytest.mark.parametrize("offset", [-1, "x", 1 << 63])
def test_a_snapshot_is_read_at_places_that_are_some(offset: Any) -> None:
    with pytest.raises(Refused, match="is the number of no place"):
        Asked().administration.read_snapshot([1, 1, 10, b"d"], offset)


# --- Members and leaders -------------------------------------------------------------------------


def test_members_are_changed_to_nodes_that_somebody_has() -> None:
    asked = Asked()
    asked.plan.process_of |= {(1, node): node for node in (1, 2, 3)}
    asked.administration.change_members([1, 2], [3])
    assert asked.driver.asked == [(1, [1, 2], [3])]
    assert asked.kicks == [1]
    with pytest.raises(Refused, match="nobody said where node 4 lives"):
        asked.administration.change_members([1, 2, 4], [])


def test_a_change_of_the_members_is_shown_as_under_way_until_it_is_committed() -> None:
    """Whoever changes them in steps goes on then, and ends processes that are members no more."""
    asked, cluster = Asked(), Cluster(3)
    leader: Any = cluster.elect(1)
    asked.hosted.node = leader

    def shown() -> list[Any]:
        found = asked.administration.members()
        return [found[name] for name in ("voters", "outgoing", "learners", "committed")]

    assert shown() == [[1, 2, 3], [], [], True]
    assert leader.propose_configuration(members_of(1, 2, learners=(3,)))
    assert shown() == [[1, 2], [1, 2, 3], [3], False], "in force on the leader alone"
    cluster.run(5)
    assert shown() == [[1, 2], [], [3], True]
    found, last = asked.administration.members(), leader.last_index
    assert (found["node"], found["leads"], found["commit"]) == (1, True, last)
    assert found["progress"] == [[2, last, True, False], [3, last, True, False]]
    asked.hosted.node = cluster[2]
    assert (asked.administration.members()["leads"], shown()) == (False, [[1, 2], [], [3], True])


@pytest.mark.parametrize("nodes", [[True], [1.0], ["1"], [-1], [1 << 31], [None], [[1]], 1, "12"])
def test_what_is_no_node_becomes_no_member(nodes: Any) -> None:
    """True and 1.0 are found where 1 is, and cannot be written into the log."""
    asked = Asked()
    asked.plan.process_of |= {(1, node): node for node in (1, 2)}
    for voters, learners in ((nodes, []), ([1, 2], nodes)):
        with pytest.raises(Refused):
            asked.administration.change_members(voters, learners)
    assert asked.driver.asked == []


def test_the_leadership_is_handed_to_a_node() -> None:
    asked = Asked()
    asked.administration.hand_over(3)
    assert asked.driver.asked == [(1, 3)]
    assert asked.kicks == [1], "nobody waits for the next tick"


def test_who_leads_already_need_not_be_handed_anything() -> None:
    """The preferred node may get the leadership between being told so and being asked."""
    asked = Asked()
    asked.administration.hand_over(2)
    assert asked.driver.asked == []
    asked.node.role = Role.FOLLOWER
    asked.administration.hand_over(2)
    assert asked.driver.asked == [(1, 2)], "Raft says who has to be asked"


@pytest.mark.parametrize("node", [-1, 1 << 31, True, 1.0, "2", None, [2]])
def test_the_leadership_is_handed_to_nothing_else(node: Any) -> None:
    asked = Asked()
    with pytest.raises(Refused) as refused:
        asked.administration.hand_over(node)
    assert refused.value.status == Status.REFUSED
    assert asked.driver.asked == []


@pytest.mark.parametrize(
    ("reason", "status", "text"),
    [
        (Refusal.NOT_LEADER, Status.NOT_LEADER, "b:2"),
        (Refusal.BUSY, Status.BUSY, "why"),
        (Refusal.TRANSFERRING, Status.BUSY, "why"),
        (Refusal.NOT_ALLOWED, Status.REFUSED, "why"),
    ],
)
def test_a_hand_over_that_is_refused_says_what_to_do(
    reason: Refusal, status: Status, text: str
) -> None:
    """NOT_LEADER has the address of the leader, BUSY is asked again, REFUSED is an error."""
    asked = Asked()
    asked.driver.refuses = RaftRefused(reason, "why")
    with pytest.raises(Refused) as refused:
        asked.administration.hand_over(3)
    assert (refused.value.status, str(refused.value)) == (status, text)
    assert asked.kicks == []


# --- The log -------------------------------------------------------------------------------------


def test_the_log_is_read_up_to_what_is_committed() -> None:
    asked = Asked(last=5, size=1)
    asked.node.commit_index = 4
    read = asked.administration.read_log
    assert read(0) == [[1, i, 1, b"%d" % i] for i in (1, 2, 3, 4)]
    assert read(3) == [[1, 4, 1, b"4"]]
    assert read(4) == read(5) == read((1 << 63) - 1) == []


def test_the_log_is_read_in_parts_of_at_least_an_entry() -> None:
    size = PART_BYTES // 2 + 1
    asked = Asked(last=4, size=size)
    assert [entry[1] for entry in asked.administration.read_log(0)] == [1]
    asked = Asked(last=3, size=3 * PART_BYTES)
    assert [entry[1] for entry in asked.administration.read_log(1)] == [2]


def test_a_log_that_was_cut_says_so_and_an_empty_one_has_nothing() -> None:
    asked = Asked(last=5)
    store, group = asked.node.store, asked.node.group
    store.append(group, snapshot=SnapshotMeta(Index(3), Term(1), Configuration(frozenset())))
    store.release(group, 3)
    store.cut(0)
    for after in (0, 2):
        with pytest.raises(Refused, match="the log was cut") as refused:
            asked.administration.read_log(after)
        assert refused.value.status == Status.NO_SESSION
    assert [entry[1] for entry in asked.administration.read_log(3)] == [4, 5]
    assert Asked().administration.read_log(0) == []


@pytest.mark.parametrize("after", [-1, 1 << 63, True, 1.0, "0", None, [0], b"0"])
def test_the_log_is_read_behind_an_index(after: Any) -> None:
    with pytest.raises(Refused, match="is the number of no index") as refused:
        Asked(last=3).administration.read_log(after)
    assert refused.value.status == Status.REFUSED


@pytest.mark.parametrize("error", [damaged("wal-1", 7, "bad"), DiskFailed("input/output error")])
def test_a_log_that_cannot_be_read_is_not_asked_for_again(error: Exception) -> None:
    class Broken:
        def first_index(self) -> int:
            return 1

        def last_index(self) -> int:
            return 3

        def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
            raise error

    asked = Asked(last=3)
    asked.node.storage = Broken()
    with pytest.raises(Refused, match="copy from another process") as refused:
        asked.administration.read_log(0)
    assert refused.value.status == Status.REFUSED


@pytest.mark.parametrize("ask", ["hand_over", "read_log"])
def test_a_process_that_starts_is_asked_again(ask: str) -> None:
    asked = Asked()
    asked.hosted.node = None
    with pytest.raises(Refused) as refused:
        getattr(asked.administration, ask)(0)
    assert refused.value.status == Status.BUSY


# --- By a connection -----------------------------------------------------------------------------


class Backend(LoneBackend):
    """A replica that may be administered, and may lead."""

    def __init__(self, crew: Crew, asked: Asked | None) -> None:
        super().__init__(crew, {})
        self.leads = True
        self.leader = "b:2"
        self.administration = asked and asked.administration  # type: ignore[assignment]


@pytest.fixture
def crew() -> Any:
    engine = Engine(16 << 20, contexts=4)
    made = Crew(engine, 5.0)
    yield made
    made.close()
    engine.close()


def replies(backend: Backend, *requests: list[Any]) -> list[Reply]:
    sent: list[bytes] = []
    client = ClientConnection(backend, sent.append, 0.0)
    hello = Hello(0, HelloRole.CLIENT, PROCESS_NONE, "test", 1, "test")
    client.receive(b"".join(hello_parts(hello)), 0.0)
    sent.clear()
    client.receive(frame(ClientKind.REQUEST, pack_requests(requests)), 0.0)
    client.close()
    return [reply for one in sent for reply in unpack_replies(one[8:])]


def test_a_client_hands_over_and_reads_the_log(crew: Crew) -> None:
    asked = Asked(last=2, size=1)
    backend = Backend(crew, asked)
    hand_over, read_log = int(Operation.HAND_OVER), int(Operation.READ_LOG)
    wrong: list[list[Any]] = [
        [hand_over],
        [hand_over, 3, 4],
        [read_log],
        [read_log, 0, 1],
        [read_log, {}],
    ]
    good = replies(backend, [1, hand_over, 3], [2, read_log, 1])
    assert [reply[:2] for reply in good] == [(1, 0), (2, 0)]
    assert [reply.value for reply in good] == [None, [[1, 2, 1, b"2"]]]
    bad = replies(backend, *([number, *one] for number, one in enumerate(wrong)))
    assert [reply.status for reply in bad] == [Status.REFUSED] * len(wrong)
    assert asked.driver.asked == [(1, 3)]
    backend.leads = False  # Any replica has a log, and only a leader can hand over.
    there, here = replies(backend, [1, hand_over, 3], [2, read_log, 1])
    assert (there.status, there.text) == (Status.NOT_LEADER, "b:2")
    assert here.value == [[1, 2, 1, b"2"]]
    backend.close()


def test_a_database_without_replicas_has_none_to_administer(crew: Crew) -> None:
    backend = Backend(crew, None)
    for operation in (Operation.HAND_OVER, Operation.READ_LOG):
        [reply] = replies(backend, [1, int(operation), 0])
        assert (reply.status, "no replicas" in str(reply.text)) == (Status.REFUSED, True)
    backend.close()
