"""What must hold at every moment of a run, whatever fails.

    election safety        at most one leader in a term
    leader append-only     a leader never replaces an entry of its log
    log matching           equal ids: equal entries, and the same ones before them
    leader completeness    a later leader has every entry that was applied anywhere
    state machine safety   an index is applied with the same entry everywhere, for ever
    equal states           equal positions have equal state hashes
    one vote               a node grants one vote in a term
    honest messages        a vote or an acknowledgement leaves once the disk has it
    honest disk            a restarted node has what it had made durable

All are checked by induction: an event costs what it changed. A Violation names the rule that broke.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mako.entry import (
    NODE_NONE,
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    HardState,
    NodeId,
    SnapshotMeta,
)
from mako.raft import RaftNode, Ready, Role
from mako.raft.message import AppendReply, Message, PreVoteReply, VoteReply
from mako.raft.storage import Compacted
from mako.replication.driver import Machine
from mako.sim.coverage import Coverage


class Violation(AssertionError):
    """A rule does not hold: there is a bug in what was simulated."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


@dataclass(slots=True)
class _Seen:
    """What is known of one node."""

    term: int = 0
    vote: NodeId = NODE_NONE
    last_index: int = 0
    #: Term in which it led, as of the last look.
    led: int = 0
    applied: int = 0
    #: What survives a power cut: it said so.
    durable: HardState | None = None
    durable_term: int = 0
    durable_index: int = 0
    members: Configuration | None = None
    #: Readys with entries on their way to the disk: number, and index of the first entry.
    writing: deque[tuple[int, int]] = field(default_factory=deque)


class GroupChecks:
    """The rules for one group. It sees every Ready of every node."""

    def __init__(
        self, group: GroupId, coverage: Coverage, on_leader: Callable[[RaftNode], None]
    ) -> None:
        self.group = group
        self._on_leader = on_leader
        self.coverage = coverage
        #: Term -> who led in it.
        self.leaders: dict[int, NodeId] = {}
        #: Applied entries from index 1.
        self.applied: list[Entry] = []
        # (term, index) -> the entry, and the term of the one before it.
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._seen: dict[NodeId, _Seen] = {}
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        self._hashes: dict[int, str] = {}

    def _of(self, node: NodeId) -> _Seen:
        seen = self._seen.get(node)
        if seen is None:
            seen = self._seen[node] = _Seen()
        return seen

    # --- Life of a node ------------------------------------------------------------------------

    def on_started(self, node: RaftNode) -> None:
        """A node starts from its disk, which must have what it had said to be durable."""
        seen = self._of(node.id)
        hard, _ = node.storage.initial_state()
        before = seen.durable
        if before is not None:
            if hard.term < before.term or hard.commit < before.commit:
                raise Violation("honest disk", f"n{node.id} had {before} and has {hard}")
            if hard.term == before.term and before.vote not in (hard.vote, NODE_NONE):
                raise Violation("honest disk", f"n{node.id} forgot its vote: {before}, {hard}")
        log = node.state.log
        if not log.matches(seen.durable_term, seen.durable_index):
            raise Violation(
                "honest disk",
                f"n{node.id} had entry {seen.durable_index}@{seen.durable_term} on disk, and its"
                f" log ends at {log.last_index}@{log.last_term}",
            )
        first = node.storage.first_index()
        if first <= log.last_index:
            entries = log.entries(first, log.last_index + 1, 1 << 40)
            self._note_entries(entries, log.term(first - 1))
        seen.term, seen.vote = hard.term, hard.vote
        seen.last_index = log.last_index
        # More than it had said, perhaps; recovery has synced whatever it found.
        seen.durable, seen.durable_term, seen.durable_index = hard, log.last_term, log.last_index
        seen.led = 0
        seen.applied = node.applied_index
        seen.writing.clear()

    def on_wiped(self, node: NodeId) -> None:
        """The disk of the node is gone: it owes nothing any more."""
        self._seen.pop(node, None)

    # --- What it does --------------------------------------------------------------------------

    def on_ready(self, node: RaftNode, ready: Ready) -> None:
        seen = self._of(node.id)
        hard = ready.hard_state
        if hard is not None:
            if hard.term < seen.term:
                raise Violation("terms rise", f"n{node.id} went from {seen.term} to {hard.term}")
            if hard.term == seen.term and seen.vote not in (hard.vote, NODE_NONE):
                raise Violation("one vote", f"n{node.id} changed its vote in term {hard.term}")
            seen.term, seen.vote = hard.term, hard.vote
        if ready.snapshot is not None:
            seen.last_index = ready.snapshot.index
            seen.writing.append((ready.number, 1))
            self._shorten(node, seen)
            if ready.snapshot.configuration.joint or node.configuration.joint:
                self.coverage["snapshot_during_conf_change"] += 1
        if ready.entries:
            self._on_entries(node, ready.entries, ready.number, seen)
        if ready.soft_state is not None or seen.led:
            self._on_role(node, seen)
        if ready.messages:
            self._on_sent(node, ready.messages, seen)

    @staticmethod
    def _shorten(node: RaftNode, seen: _Seen) -> None:
        """Where entries are being replaced, the disk may have the old ones or the new ones."""
        first = min((first for _, first in seen.writing), default=seen.durable_index + 1)
        if first <= seen.durable_index:
            try:
                seen.durable_term, seen.durable_index = node.state.log.term(first - 1), first - 1
            except Compacted:
                seen.durable_term = seen.durable_index = 0

    def _on_entries(
        self, node: RaftNode, entries: Sequence[Entry], number: int, seen: _Seen
    ) -> None:
        first = entries[0].index
        self._note_entries(entries, node.state.log.term(first - 1))
        if first <= seen.last_index:
            if seen.led == node.term and node.role is Role.LEADER:
                raise Violation("leader append-only", f"n{node.id} replaced entry {first}")
            self.coverage["log_truncated"] += 1
        seen.writing.append((number, first))
        self._shorten(node, seen)
        seen.last_index = entries[-1].index
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self._on_members(node.configuration, seen)

    def _on_members(self, now: Configuration, seen: _Seen) -> None:
        before = seen.members
        seen.members = now
        if before is not None:
            if before.joint and not now.joint:
                self.coverage["joint_left"] += 1
            if now.voters & before.learners:
                self.coverage["learner_promoted"] += 1

    def _note_entries(self, entries: Iterable[Entry], previous: int) -> None:
        known_entries = self._entries
        for entry in entries:
            key = (entry.term, entry.index)
            known = known_entries.setdefault(key, (entry, previous))
            if known[1] != previous or (known[0] is not entry and known[0] != entry):
                raise Violation("log matching", f"there are two entries {entry.index}@{entry.term}")
            previous = entry.term

    def _on_role(self, node: RaftNode, seen: _Seen) -> None:
        if node.role is not Role.LEADER:
            if seen.led == node.term:
                hung = node.state.oldest_ready_ticks >= node.state.settings.election_ticks
                self.coverage["hung_disk_resigned" if hung else "leader_resigned"] += 1
            seen.led = 0
            return
        if seen.led == node.term:
            return
        seen.led = node.term
        if self.leaders.setdefault(node.term, node.id) != node.id:
            other = self.leaders[node.term]
            raise Violation("election safety", f"n{other} and n{node.id} lead term {node.term}")
        if len(self.leaders) > 1:
            self.coverage["leader_changed"] += 1
        if self.applied:
            last = self.applied[-1]
            # Of an equal or later term: it was committed by this leader or its successors.
            if last.term < node.term and not node.state.log.matches(last.term, last.index):
                raise Violation(
                    "leader completeness",
                    f"n{node.id} leads term {node.term} without {last.index}@{last.term}",
                )
        self._on_leader(node)

    def _on_sent(self, node: RaftNode, messages: Iterable[Message], seen: _Seen) -> None:
        """Of what leaves at once, nothing may promise what the disk does not have."""
        for message in messages:
            kind = type(message)
            if kind is AppendReply:
                assert isinstance(message, AppendReply)
                if message.accepted and message.index > max(seen.durable_index, seen.applied):
                    raise Violation(
                        "honest messages",
                        f"n{node.id} acknowledges {message.index}, has {seen.durable_index}",
                    )
            elif kind is PreVoteReply:
                assert isinstance(message, PreVoteReply)
                if not message.granted:
                    self.coverage["pre_vote_refused"] += 1
            elif kind is VoteReply:
                assert isinstance(message, VoteReply)
                if message.granted:
                    raise Violation("honest messages", f"n{node.id} votes before it is on disk")

    def on_durable(self, node: RaftNode, ready: Ready) -> None:
        seen = self._of(node.id)
        if ready.must_sync:
            if ready.hard_state is not None:
                seen.durable = ready.hard_state
            while seen.writing and seen.writing[0][0] <= ready.number:
                seen.writing.popleft()
            if ready.entries:
                last = ready.entries[-1]
                seen.durable_term, seen.durable_index = last.term, last.index
                self._shorten(node, seen)
            elif ready.snapshot is not None:
                seen.durable_term, seen.durable_index = ready.snapshot.term, ready.snapshot.index
                self.coverage["snapshot_installed"] += 1
        for message in ready.messages_after_sync:
            if type(message) is VoteReply and message.granted:
                disk, term = seen.durable, message.term
                self._vote(message.source, term, message.target)
                if (
                    disk is None
                    or disk.term < term
                    or (disk.term == term and disk.vote != message.target)
                ):
                    raise Violation(
                        "honest messages", f"n{node.id} votes for n{message.target}, has {disk}"
                    )
        hard = ready.hard_state
        if hard is not None and hard.vote == node.id:
            self._vote(node.id, hard.term, node.id)

    def _vote(self, voter: NodeId, term: int, candidate: NodeId) -> None:
        if self._votes.setdefault((voter, term), candidate) != candidate:
            raise Violation("one vote", f"n{voter} voted twice in term {term}")

    # --- State machines ------------------------------------------------------------------------

    def on_applied(self, node: RaftNode, machine: Machine, entries: Iterable[Entry]) -> None:
        seen = self._of(node.id)
        applied = self.applied
        for entry in entries:
            index = entry.index
            if index != seen.applied + 1:
                raise Violation(
                    "state machine safety", f"n{node.id} applies {index} after {seen.applied}"
                )
            seen.applied = index
            if index <= len(applied):
                known = applied[index - 1]
                if known is not entry and known != entry:
                    raise Violation(
                        "state machine safety",
                        f"n{node.id} applies {index}@{entry.term}, which was @{known.term}",
                    )
            else:
                if index != len(applied) + 1:
                    raise Violation("state machine safety", f"n{node.id} invents entry {index}")
                applied.append(entry)
                if entry.term < node.term:
                    self.coverage["committed_by_other_leader"] += 1
        self._hash(node, machine)

    def on_restored(self, node: RaftNode, machine: Machine, meta: SnapshotMeta) -> None:
        applied = self.applied
        if meta.index > len(applied) or applied[meta.index - 1].term != meta.term:
            raise Violation(
                "state machine safety", f"a snapshot at {meta.index}@{meta.term} was never applied"
            )
        self._of(node.id).applied = meta.index
        self._hash(node, machine)

    def _hash(self, node: RaftNode, machine: Machine) -> None:
        # What others depend on is behind what is applied.
        found, index = machine.state_hash(), machine.snapshot_index
        if self._hashes.setdefault(index, found) != found:
            raise Violation("equal states", f"n{node.id} differs at entry {index}")


class Checks:
    """The rules for all groups; the `Watch` of the drivers."""

    def __init__(
        self,
        groups: Iterable[GroupId],
        coverage: Coverage,
        on_leader: Callable[[RaftNode], None] = lambda node: None,
    ) -> None:
        self.groups = {group: GroupChecks(group, coverage, on_leader) for group in groups}

    def on_ready(self, node: RaftNode, ready: Ready) -> None:
        self.groups[node.group].on_ready(node, ready)

    def on_durable(self, node: RaftNode, ready: Ready) -> None:
        self.groups[node.group].on_durable(node, ready)

    def on_applied(self, node: RaftNode, machine: Machine, entries: Iterable[Entry]) -> None:
        self.groups[node.group].on_applied(node, machine, entries)

    def on_restored(self, node: RaftNode, machine: Machine, meta: SnapshotMeta) -> None:
        self.groups[node.group].on_restored(node, machine, meta)
