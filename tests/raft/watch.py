"""The five safety properties of Raft (figure 3) and two of ours, checked at every step.

    election safety        at most one leader in a term
    leader append-only     a leader never overwrites or deletes an entry of its log
    log matching           equal ids: equal entries, and the same ones before them
    leader completeness    a committed entry is in the log of every later leader
    state machine safety   no two nodes apply different entries at an index
    fresh reads            a read's index is at least what was committed when it was asked
    one vote               a node does not grant its vote to two candidates of a term

Log matching is checked by induction: the watch knows the entry of every id that was ever seen,
and the id before it. So a step costs what it changed, not the length of the logs.
"""

from mako.entry import Entry, NodeId, SnapshotMeta
from mako.raft import RaftNode, ReadState, Ready, Role
from mako.raft.message import AppendRequest, Message, VoteReply
from mako.raft.storage import Compacted


class Violation(AssertionError):
    """A safety property does not hold."""


class Watch:
    """What has been seen of a group."""

    def __init__(self) -> None:
        #: Term -> who led in it.
        self.leaders: dict[int, NodeId] = {}
        # (term, index) -> the entry, and the term of the one before it.
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        #: Committed entries, from index 1.
        self.committed: list[Entry] = []
        # Of each node: term in which it led at the last step, and its last id then.
        self._led: dict[NodeId, tuple[int, int, int]] = {}
        self._commit_seen: dict[NodeId, int] = {}
        # (voter, term) -> the candidate that got the vote.
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        # (node, context) -> what was committed when the read was asked.
        self._asked: dict[tuple[NodeId, int], int] = {}
        self.terms: dict[NodeId, int] = {}
        self.reads_answered = 0

    def started(self, node: RaftNode) -> None:
        """A node starts: what it has on disk is all it has."""
        self._led.pop(node.id, None)
        self._commit_seen.pop(node.id, None)
        for key in [key for key in self._asked if key[0] == node.id]:
            del self._asked[key]
        log = node.state.log
        low = node.storage.first_index()
        if low <= log.last_index:
            entries = log.entries(low, log.last_index + 1, 1 << 40)
            self._note_entries(entries, log.term(low - 1))
        self.terms[node.id] = node.term
        self._commits(node)

    def returned(self, node: NodeId) -> None:
        """A node that lost its disk is back. The votes that it forgot bind it no more (R11)."""
        for key in [key for key in self._votes if key[0] == node]:
            del self._votes[key]

    def sent(self, message: Message) -> None:
        if type(message) is VoteReply and message.granted:
            key = (message.source, message.term)
            if self._votes.setdefault(key, message.target) != message.target:
                raise Violation(f"one vote: {key[0]} voted twice in term {message.term}")
        elif type(message) is AppendRequest:
            leader = self.leaders.setdefault(message.term, message.source)
            if leader != message.source:
                raise Violation(f"election safety: two leaders in term {message.term}")

    def ready(self, node: RaftNode, ready: Ready) -> None:
        if ready.entries:
            first = ready.entries[0].index
            self._note_entries(ready.entries, node.state.log.term(first - 1))
        self.stepped(node)

    def _note_entries(self, entries: object, previous: int) -> None:
        assert isinstance(entries, list | tuple)
        for entry in entries:
            key = (entry.term, entry.index)
            known = self._entries.setdefault(key, (entry, previous))
            if known != (entry, previous):
                raise Violation(f"log matching: two entries {entry.index}@{entry.term}")
            previous = entry.term

    def stepped(self, node: RaftNode) -> None:
        """Check what one step of one node may have changed."""
        log = node.state.log
        log.check()
        if node.term < self.terms[node.id]:
            raise Violation(f"the term of {node.id} fell to {node.term}")
        self.terms[node.id] = node.term
        if node.role is Role.LEADER:
            self._leads(node)
        else:
            self._led.pop(node.id, None)
        if log.commit != self._commit_seen.get(node.id):
            self._commits(node)

    def _leads(self, node: RaftNode) -> None:
        log = node.state.log
        before = self._led.get(node.id)
        if before is None or before[0] != node.term:
            if self.leaders.setdefault(node.term, node.id) != node.id:
                raise Violation(f"election safety: two leaders in term {node.term}")
            self._is_complete(node)
        else:
            _, term, index = before
            if log.last_index < index or not log.matches(term, index):
                raise Violation(f"leader append-only: {node.id} lost {index}@{term}")
        self._led[node.id] = (node.term, log.last_term, log.last_index)
        for progress in node.state.peers:
            progress.check()

    def _is_complete(self, node: RaftNode) -> None:
        """By log matching, the last committed entry stands for all before it."""
        if not self.committed:
            return
        last = self.committed[-1]
        if last.term < node.term and not node.state.log.matches(last.term, last.index):
            raise Violation(
                f"leader completeness: {node.id} leads term {node.term}"
                f" without {last.index}@{last.term}"
            )

    def _commits(self, node: RaftNode) -> None:
        """What a node takes for committed is the same entry everywhere."""
        log = node.state.log
        known = self._commit_seen.get(node.id, 0)
        self._commit_seen[node.id] = log.commit
        for index in range(max(known, 0) + 1, log.commit + 1):
            try:
                term = log.term(index)
            except Compacted:
                continue
            if index <= len(self.committed):
                if self.committed[index - 1].term != term:
                    raise Violation(f"{node.id} commits {index}@{term}, which is another entry")
                continue
            if index > len(self.committed) + 1:
                raise Violation(f"{node.id} commits {index} before the ones in between")
            entry = self._entries.get((term, index))
            if entry is None:
                found = log.entries(index, index + 1, 0)[0]
                self._note_entries([found], log.term(index - 1))
                entry = self._entries[term, index]
            self.committed.append(entry[0])

    def applied(self, node: NodeId, entry: Entry) -> None:
        if entry.index > len(self.committed) or self.committed[entry.index - 1] != entry:
            raise Violation(f"state machine safety: {node} applies {entry.index}@{entry.term}")

    def state_at(self, meta: SnapshotMeta) -> list[bytes]:
        """The application's state that a snapshot holds; it must be of committed entries."""
        if meta.index > len(self.committed) or self.committed[meta.index - 1].term != meta.term:
            raise Violation(f"a snapshot at {meta.index}@{meta.term} was never committed")
        return [entry.data for entry in self.committed[: meta.index]]

    def asked(self, node: NodeId, context: int) -> None:
        self._asked[node, context] = len(self.committed)

    def read(self, node: NodeId, reads: list[ReadState]) -> None:
        for read in reads:
            committed = self._asked.pop((node, read.context), None)
            if committed is None or read.index is None:
                continue
            self.reads_answered += 1
            if read.index < committed:
                raise Violation(
                    f"fresh reads: {node} may read at {read.index}, {committed} was committed"
                )
