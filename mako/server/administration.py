"""What an operator asks of a process: to meet another one, to change the members of a partition, to
hand a leadership over, and for a copy of the data (docs/operations.md).

Each request is about the partition of the connection it comes by, and does one small thing at
once; `mako replica` and `mako backup` take many of them, and look at what became of each. So a
client that goes away leaves nothing half done but what it has asked for already: a learner that
nobody promotes, a snapshot that nobody fetches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from mako.entry import Configuration, Entry, NodeId
from mako.ids import PARTITIONS_MAX, Status
from mako.raft import RaftNode, Refusal, Role
from mako.raft import Refused as RaftRefused
from mako.server.plan import Address, group_of
from mako.server.sessions import Refused
from mako.storage.errors import StorageError
from mako.storage.snapshot_stream import SnapshotName
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.server.hosting import Hosted
    from mako.server.process import ServerProcess

#: Bytes of a snapshot, and about as many of the log, in one answer.
PART_BYTES: Final = 1 << 20

#: Numbers of processes and nodes lie below it: they have four bytes where they are sent and stored.
NUMBERS_END: Final = 1 << 31
#: Longest name of a process, and of a host.
NAME_MAX: Final = 255

Place = tuple[int, int, int]
"""Partition, node, number of its process."""


class Administration:
    """The operator's requests about one replica. Refused says why something cannot be done.

    `meet(process, name, address)` is called when a process is new or has moved.
    """

    def __init__(
        self, server: ServerProcess, hosted: Hosted, meet: Callable[[int, str, Address], None]
    ) -> None:
        self._server = server
        self._hosted = hosted
        self._meet = meet

    def operations(self) -> dict[Operation, Callable[..., Any]]:
        """What does each operation of the protocol."""
        return {
            Operation.MEET: self.meet,
            Operation.MEMBERS: self.members,
            Operation.CHANGE_MEMBERS: self.change_members,
            Operation.PREFER: self.prefer,
            Operation.HAND_OVER: self.hand_over,
            Operation.TAKE_SNAPSHOT: self.take_snapshot,
            Operation.NEWEST_SNAPSHOT: self.newest_snapshot,
            Operation.READ_SNAPSHOT: self.read_snapshot,
            Operation.READ_LOG: self.read_log,
        }

    @property
    def _node(self) -> RaftNode:
        node = self._hosted.node
        if node is None:
            raise Refused(Status.BUSY, "the process is starting; ask again")
        return node

    # --- Members -------------------------------------------------------------------------------

    def meet(self, processes: Iterable[tuple[int, str, str, int]], places: Iterable[Place]) -> None:
        """Know processes by number, name and address, and which nodes they have. It is forgotten
        with a restart: then the configuration has to say so."""
        processes = [_checked_process(*each) for each in processes]  # All, before any is known.
        places = [_checked_place(*each) for each in places]
        plan = self._server.plan
        for number, name, host, port in processes:
            if number == plan.process or plan.addresses.get(number) == (host, port):
                continue
            plan.names[number] = name
            plan.addresses[number] = host, port
            self._meet(number, name, (host, port))
            self._server.log("knows a process", peer=name, address=f"{host}:{port}")
        for partition, node, number in places:
            plan.process_of[group_of(partition), NodeId(node)] = number

    def members(self) -> dict[str, Any]:
        """Who is a member, and how far each is, as the leader sees it."""
        node = self._node
        state = node.state
        now = node.configuration
        return {
            "node": int(node.id),
            "leads": node.role is Role.LEADER,
            "voters": sorted(now.voters),
            "outgoing": sorted(now.outgoing),
            "learners": sorted(now.learners | now.learners_next),
            "committed": state.history.current_index <= node.commit_index,
            "commit": int(node.commit_index),
            "progress": [
                [int(peer.id), int(peer.match), peer.answers, peer.returning]
                for peer in state.peers
            ],
        }

    def change_members(self, voters: Sequence[int], learners: Sequence[int]) -> None:
        """Begin to make these the members."""
        target = Configuration(_checked_nodes(voters), learners=_checked_nodes(learners))
        unknown = [
            node
            for node in sorted(target.members)
            if (self._node.group, node) not in self._server.plan.process_of
        ]
        if unknown:
            raise Refused(
                Status.REFUSED, f"nobody said where node {unknown[0]} lives; meet its process first"
            )
        refused = self._server.driver.change_members(self._node.group, target)
        if isinstance(refused, RaftRefused):
            raise self._refused(refused)
        self._server.log(
            "changes its members",
            partition=self._hosted.replica.partition,
            voters=sorted(voters),
            learners=sorted(learners),
        )
        self._server.kick()

    def prefer(self, node: int) -> None:
        """Another node should lead from now on, if it is well; until the process is restarted."""
        self._node.prefer(NodeId(_number(node, "node")))

    def hand_over(self, node: int) -> None:
        """Begin to hand the leadership over. To who has it there is nothing to do: it may have got
        it, as the preferred one, while it was asked for."""
        target = NodeId(_number(node, "node"))
        if target == self._node.id and self._node.role is Role.LEADER:
            return
        refused = self._server.driver.transfer(self._node.group, target)
        if refused is not None:
            raise self._refused(refused)
        self._server.kick()

    def _refused(self, why: RaftRefused) -> Refused:
        if why.reason is Refusal.NOT_LEADER:
            return Refused(Status.NOT_LEADER, self._hosted.leader_address)
        soon = why.reason in (Refusal.BUSY, Refusal.TRANSFERRING)
        return Refused(Status.BUSY if soon else Status.REFUSED, why.message)

    # --- A copy of the data --------------------------------------------------------------------

    def take_snapshot(self) -> int:
        """Take a snapshot, in a while; the index it will have at least. That may be behind what is
        applied: a snapshot has nothing that another partition's failure may take back."""
        replica = self._server.driver.replicas[self._node.group]
        replica.snapshot_wanted = True
        return replica.machine.snapshot_index

    def newest_snapshot(self) -> list[Any]:
        """[index, term, bytes, hash] of the newest one; [0, 0, 0, b""]: there is none."""
        node = self._node
        meta = node.storage.snapshot_meta()
        if not meta.index:
            return [0, 0, 0, b""]
        try:
            name = self._server.snapshots.name_of(node.group, meta)
        except StorageError as error:
            raise Refused(Status.BUSY, f"{error}; ask again") from None
        return [int(meta.index), int(meta.term), name.size, name.digest]

    def read_snapshot(self, name: Sequence[Any], offset: int) -> bytes:
        """`PART_BYTES` of a snapshot. It may be gone: a newer one has taken its place."""
        index, term, size, digest = name
        for number in (index, term, size, offset):
            _number(number, "place in a snapshot", 1 << 63)
        wanted = SnapshotName(self._node.group, index, term, size, digest)
        try:
            return self._server.snapshots.read(wanted, offset, PART_BYTES)
        except StorageError:
            raise Refused(
                Status.NO_SESSION, "a newer snapshot has taken the place of this one; begin again"
            ) from None

    def read_log(self, after: int) -> list[list[Any]]:
        """Committed entries behind an index, as [term, index, kind, data]; none: it is the end."""
        node = self._node
        _number(after, "index", 1 << 63)
        storage = node.storage
        end = min(node.commit_index, storage.last_index())
        if after + 1 < storage.first_index():
            raise Refused(
                Status.NO_SESSION, "the log was cut meanwhile; begin again, or raise wal.keep_bytes"
            )
        if after >= end:
            return []
        try:
            entries: Sequence[Entry] = storage.entries(after + 1, end + 1, PART_BYTES)
        except StorageError as error:  # It will be the same the next time.
            raise Refused(Status.REFUSED, f"{error}; copy from another process") from None
        return [
            [int(entry.term), int(entry.index), int(entry.kind), entry.data] for entry in entries
        ]


def _number(number: object, what: str, end: int = NUMBERS_END) -> int:
    """A number that a client has given. Refused: it is none, or is out of range."""
    if type(number) is not int or not 0 <= number < end:
        raise Refused(Status.REFUSED, f"{number!r:.40} is the number of no {what}")
    return number


def _checked_nodes(nodes: object) -> frozenset[NodeId]:
    if not isinstance(nodes, list):
        raise Refused(Status.REFUSED, f"{nodes!r:.40} is no list of nodes")
    return frozenset(NodeId(_number(node, "node")) for node in nodes)


def _checked_process(
    number: object, name: object, host: object, port: object
) -> tuple[int, str, str, int]:
    """A process that a client tells of: what cannot be an address is dialled for ever."""
    checked = _number(number, "process")
    for text in (name, host):
        if not isinstance(text, str) or not 0 < len(text) <= NAME_MAX or not text.isprintable():
            raise Refused(Status.REFUSED, f"{text!r:.40} is the name of no process and no host")
    assert isinstance(name, str)
    assert isinstance(host, str)
    if type(port) is not int or not 1 <= port <= 65_535:
        raise Refused(Status.REFUSED, f"{port!r:.40} is no port; give 1 to 65535")
    return checked, name, host, port


def _checked_place(partition: object, node: object, number: object) -> Place:
    return (
        _number(partition, "partition", PARTITIONS_MAX),
        _number(node, "node"),
        _number(number, "process"),
    )
