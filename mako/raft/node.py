"""One node of a Raft group: a state machine without clock, disk, network or chance of its own.

    tick()      a unit of time has passed         ready()    what must be written, sent, applied
    step(m)     a message has arrived             advance()  a Ready is on disk
    propose(d)  the application has entries       applied()  entries were applied

Feed it, then take a Ready while `has_ready()`, and do what `Ready` says. Several Readys may be on
their way to the disk; ticks, messages and proposals go on meanwhile.

Invariants (cited by number where the code relies on them; numbers in brackets: where):

    R1   A node's term never falls. [state]
    R2   A node votes once in a term, and a vote leaves only when it is on disk. [election]
    R3   A leader only appends to its log. [node]
    R4   An entry is taken only behind one that matches, so equal ids mean equal logs. [following]
    R5   What is committed is never replaced; the commit index never falls or passes the end. [log]
    R6   A leader commits by counting only entries of its own term. [leading]
    R7   An append is acknowledged once it is on disk. [following]
    R8   Entries are applied in order, once in a life, and only from the own disk. [log]
    R9   A read is answered at the commit index of a leader that has committed in its term and was
         confirmed by a majority after the read came; attempts end with the term. [reading]
    R10  The last configuration in the log is in force, committed or not; one change at a time; a
         joint configuration decides by both majorities. [membership, quorum]
    R11  A node that lost its disk does not vote, lead or count until it has on disk a committed
         entry that was created after the loss, with all before it, and a term as new. Its floor
         proves that: the end of the log of a leader that a majority confirmed after the node
         asked, none of them returning. The argument is in [returning]; see also [election,
         leading, reading]
    R12  A candidate's own vote counts once it is on disk. [election]
    R13  Of a follower, match < next. [progress]
    R14  A candidate asks for votes once its term, and the log that it speaks of, are on disk: after
         a crash it would campaign in the same term with less, and count votes for more. [election]
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from mako.entry import (
    NODE_NONE,
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    GroupId,
    HardState,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.errors import Error
from mako.raft import election, following, leading, membership, reading, returning, transfer
from mako.raft import message as m
from mako.raft.configuration import History, decode
from mako.raft.log import RaftLog
from mako.raft.progress import Flow
from mako.raft.ready import Ready, SoftState
from mako.raft.sending import flush
from mako.raft.settings import Settings
from mako.raft.state import NodeState, Refusal, Refused, Role
from mako.raft.storage import LogStorage, MemoryLogStorage

_GROUP: Final = GroupId(0)
_SCAN_BYTES: Final = 16 << 20

NOT_LEADER: Final = Refused(Refusal.NOT_LEADER, "this node does not lead; ask the leader")
NOBODY_FOLLOWS: Final = Refused(Refusal.NOT_ALLOWED, "no other voter answers, or takes over")
CANNOT_LEAD: Final = Refused(Refusal.NOT_ALLOWED, "this node may not begin to lead")
TRANSFERRING: Final = Refused(
    Refusal.TRANSFERRING, "the leadership is being handed over; ask the next leader"
)
UNCOMMITTED_FULL: Final = Refused(
    Refusal.BUSY, "too many bytes wait for a majority; propose again when they are committed"
)
ENTRY_TOO_LARGE: Final = Refused(Refusal.TOO_LARGE, "the entry is over the limit; split it")


class LogLost(Error):
    """The store lacks entries that it once had. Rebuild the node from the others, as returning."""


class SnapshotStatus(Enum):
    """What a driver reports of a snapshot on its way to a follower."""

    MOVING = "moving"
    FAILED = "failed"


class RaftNode:
    """A member of one group. See the module for the verbs, and `Ready` for the contract."""

    __slots__ = ("_flying", "_number", "_saved", "_shown", "_snapshot_taken", "_ticks", "state")

    def __init__(
        self,
        settings: Settings,
        storage: LogStorage,
        *,
        node: NodeId,
        group: GroupId = _GROUP,
        randrange: Callable[[int], int],
        applied: int = 0,
        returning: bool = False,
        preferred: NodeId = NODE_NONE,
    ) -> None:
        """Go on from what `storage` holds; an empty one begins a group or waits for a leader.

        randrange    randrange(n) is a number in [0, n), drawn by the caller's generator
        applied      the application's state is as of this index (at least the snapshot's)
        returning    this node's disk was lost: it does not vote until it is safe to (R11).
                     Pass it again after restarts, until the property `returning` is False
        preferred    the node of the group that should lead when it is well

        Raises LogLost where the commit index that was stored is beyond the log.
        """
        assert node != NODE_NONE, "0 names no node"
        hard_state, first_members = storage.initial_state()
        meta = storage.snapshot_meta()
        # The commit index may be older than a snapshot, which was written after it.
        commit = max(int(hard_state.commit), int(meta.index), applied)
        if commit > storage.last_index():
            raise LogLost(
                f"group {group}: the log ends at entry {storage.last_index()}, but entry {commit}"
                " was committed here; rebuild this node from the others"
            )
        members = meta.configuration if meta.index else first_members
        history = History(meta.index, members)
        if "configuration_applied_on_restart_lost" not in settings.planted:
            _find_configurations(storage, history)
        self.state = NodeState(
            settings,
            RaftLog(storage, commit=commit, applied=max(applied, int(meta.index))),
            history,
            node=node,
            group=group,
            term=hard_state.term,
            vote=hard_state.vote,
            randrange=randrange,
            returning=returning,
            preferred=preferred,
        )
        # What the last Ready said, so that the next one says only what changed.
        self._saved = hard_state
        self._shown = (NODE_NONE, Role.FOLLOWER)
        self._snapshot_taken = 0
        # Readys on their way to the disk: number, term, vote, snapshot index, tick or -1.
        self._flying: deque[tuple[int, int, NodeId, int, int]] = deque()
        self._number = 0
        self._ticks = 0

    @classmethod
    def restore(
        cls,
        settings: Settings,
        *,
        node: NodeId,
        configuration: Configuration,
        entries: Iterable[Entry] = (),
        term: int = 0,
        vote: NodeId = NODE_NONE,
        commit: int = 0,
        snapshot: SnapshotMeta | None = None,
        group: GroupId = _GROUP,
        randrange: Callable[[int], int] = lambda count: 0,
        applied: int = 0,
        returning: bool = False,
        preferred: NodeId = NODE_NONE,
    ) -> "RaftNode":
        """A node in any situation, on a store in memory: what every scenario starts from."""
        hard_state = HardState(Term(term), vote, Index(commit))
        storage = MemoryLogStorage(configuration, entries, hard_state, snapshot)
        return cls(
            settings,
            storage,
            node=node,
            group=group,
            randrange=randrange,
            applied=applied,
            returning=returning,
            preferred=preferred,
        )

    # --- Facts ---------------------------------------------------------------------------------

    @property
    def id(self) -> NodeId:
        return self.state.id

    @property
    def group(self) -> GroupId:
        return self.state.group

    @property
    def term(self) -> int:
        return self.state.term

    @property
    def role(self) -> Role:
        return self.state.role

    @property
    def leader(self) -> NodeId:
        """Who leads in this term as far as is known; NODE_NONE: nobody."""
        return self.state.leader

    @property
    def lead_ended(self) -> str:
        """Why it ceased to lead when it last did, in words; '' if it never has."""
        return self.state.lead_ended

    @property
    def commit_index(self) -> int:
        return self.state.log.commit

    @property
    def applied_index(self) -> int:
        return self.state.log.applied

    @property
    def last_index(self) -> int:
        return self.state.log.last_index

    @property
    def configuration(self) -> Configuration:
        """The members in force (R10)."""
        return self.state.configuration

    @property
    def returning(self) -> bool:
        """Whether this node still stays out of votes and counts because it lost its disk."""
        return self.state.returning

    @property
    def needed_after(self) -> int:
        """The entries above it are still needed by members that answer: keep them if possible.

        Who can be brought up to date from the log would else need a snapshot, and could fall
        behind the log again while that is on its way. `last_index` on who does not lead.
        """
        s = self.state
        needed = s.log.last_index
        first = s.log.storage.first_index()
        for progress in s.peers:
            # A snapshot that is on its way counts as arrived. Below the log only a new one helps.
            has = max(progress.match, progress.snapshot_index)
            if progress.answers and first - 1 <= has < needed:
                needed = has
        return needed

    @property
    def storage(self) -> LogStorage:
        return self.state.log.storage

    def configuration_at(self, index: int) -> Configuration:
        """The members as of `index`, for a snapshot there. Not before the newest snapshot."""
        return self.state.history.at(index)

    # --- What happens to it --------------------------------------------------------------------

    def tick(self) -> bool:
        """A unit of time has passed. Return False where this brought nothing for a Ready."""
        s = self.state
        self._ticks += 1
        if self._flying:
            self._watch_disk()
        if s.asked_reads:
            reading.tick(s)
        if s.returning and returning.tick(s):
            election.tick(s)
            return True
        news = leading.tick(s) if s.role is Role.LEADER else election.tick(s)
        return news or bool(s.reads_done)

    def step(self, message: m.Message) -> None:
        """A message has arrived. Old, repeated and misplaced ones do no harm."""
        s = self.state
        assert message.target == s.id, "messages are brought to their target"
        assert message.group == s.group, "messages are brought to their group"
        if message.term != s.term and not self._enter_term_of(message):
            return
        _HANDLERS[type(message)](s, message)

    def propose(self, data: Sequence[bytes]) -> EntryId | Refused:
        """Append entries to the log. Return the last one's id, or why nothing was done.

        An id says where the entries are, not that they will be committed: another leader may
        replace them. They are committed once an entry with this id is applied.
        """
        s = self.state
        if s.role is not Role.LEADER:
            return NOT_LEADER
        if s.transfer_target:
            return TRANSFERRING
        assert data, "a proposal has at least one entry"
        size = sum(map(len, data))
        if s.uncommitted_bytes and s.uncommitted_bytes + size > s.settings.uncommitted_bytes_max:
            return UNCOMMITTED_FULL
        if size > s.settings.entry_bytes_max and max(map(len, data)) > s.settings.entry_bytes_max:
            return ENTRY_TOO_LARGE
        term = Term(s.term)
        first = s.log.last_index + 1
        entries = [
            Entry(term, Index(first + i), EntryKind.NORMAL, item) for i, item in enumerate(data)
        ]
        s.log.append(entries)  # R3: behind the last one.
        s.uncommitted.append((s.log.last_index, size))
        s.uncommitted_bytes += size
        s.flush_needed = True
        return entries[-1].id

    def propose_configuration(self, target: Configuration) -> EntryId | Refused:
        """Begin to change the members to `target`, which has voters and learners only.

        Where voters change, the joint configuration comes first, and its end follows by itself.
        A change after which no majority would answer is refused (see docs/raft.md).
        """
        s = self.state
        refused = membership.refusal_of(s, target)
        if refused is not None:
            return refused
        return membership.append(s, membership.start(s, target))

    def read_index(self, context: int) -> Refused | None:
        """Ask at which index a read may be answered; the answer is in the `reads` of a Ready.

        `context` comes back with it and is the caller's own; it may be used again.
        """
        return reading.read_index(self.state, context)

    def transfer_leadership(self, target: NodeId) -> Refused | None:
        """Hand over to `target`. Proposals are refused until that has worked or timed out."""
        return transfer.transfer_leadership(self.state, target)

    def hand_over(self) -> Refused | None:
        """The same, to the follower that answers, was not asked in vain and has the longest log."""
        best = transfer.next_successor(self.state)
        if best is None:
            return NOBODY_FOLLOWS if self.role is Role.LEADER else NOT_LEADER
        return transfer.transfer_leadership(self.state, best.id)

    def decline(self) -> None:
        """Take no leadership that is handed over from now on: this process is about to end. Of two
        that end together each would hand over to the other."""
        self.state.declines = True

    def lead_anew(self) -> Refused | None:
        """Begin a new term of this leader, with an entry that begins it, where nobody is there to
        hand over to. It may turn out that somebody else leads it."""
        s = self.state
        if s.role is not Role.LEADER:
            return NOT_LEADER
        if not s.may_campaign:
            return CANNOT_LEAD
        # Others are asked as in a hand-over: they have just heard of the leader that asks.
        election.campaign(s, transfer=True)
        return None

    def campaign(self) -> None:
        """Begin an election now, as if the timeout had passed. Does nothing to who cannot lead."""
        s = self.state
        if s.role is not Role.LEADER and s.may_campaign:
            election.pre_campaign(s)

    def prefer(self, node: NodeId) -> None:
        """Name the node that should lead; NODE_NONE: whoever does."""
        s = self.state
        s.preferred = node
        s.preferred_penalty = 1
        s.preferred_well_ticks = 0

    def report_unreachable(self, target: NodeId) -> None:
        """The link to `target` broke: what was in flight may be lost."""
        progress = self.state.progress.get(target)
        if progress is not None and progress.flow is Flow.REPLICATE:
            progress.become_probe()

    def report_snapshot(self, target: NodeId, status: SnapshotStatus) -> None:
        """A snapshot on its way to `target` moved on, or failed and is to be sent anew."""
        progress = self.state.progress.get(target)
        if progress is None or progress.flow is not Flow.SNAPSHOT:
            return
        if status is SnapshotStatus.MOVING:
            progress.snapshot_ticks = 0
            return
        progress.snapshot_index = 0
        progress.become_probe()
        progress.probe_sent = True  # The next heartbeat's answer starts it: not at once.

    # --- What it wants -------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether `ready()` would have anything in it (a flush may turn out to be empty)."""
        s = self.state
        log = s.log
        unstable = log.unstable
        return bool(
            s.messages
            or s.after_sync
            or s.flush_needed
            or s.reads_started
            or s.reads_done
            or unstable.taken_to < log.last_index
            or log.has_committed()
            or (log.snapshot_id is not None and log.snapshot_id[1] != self._snapshot_taken)
            or self._hard_state() != self._saved
            or (s.leader, s.role) != self._shown
        )

    def ready(self) -> Ready:
        """Take what is to be done now. Each is given once; `advance` it when it is on disk."""
        s = self.state
        log = s.log
        if s.flush_needed or s.reads_started:
            flush(s)
        self._number += 1
        number = self._number
        snapshot = None
        if log.snapshot_id is not None and log.snapshot_id[1] != self._snapshot_taken:
            term, index = log.snapshot_id
            snapshot = SnapshotMeta(Index(index), Term(term), s.history.at(index))
            self._snapshot_taken = index
        entries = log.unstable.take(number)
        before = self._saved
        hard_state: HardState | None = self._hard_state()
        must_sync = bool(entries) or snapshot is not None
        if hard_state == before:
            hard_state = None
        else:
            assert hard_state is not None
            self._saved = hard_state
            changed = hard_state.term != before.term or hard_state.vote != before.vote
            must_sync = must_sync or changed
        shown = (s.leader, s.role)
        soft_state = None
        if shown != self._shown:
            self._shown = shown
            soft_state = SoftState(s.leader, s.role)
        result = Ready(
            number,
            hard_state,
            entries,
            snapshot,
            must_sync,
            s.messages,
            s.after_sync,
            log.take_committed(s.settings.committed_bytes_max),
            s.reads_done,
            soft_state,
        )
        s.messages = []
        s.after_sync = []
        s.reads_done = []
        tick = self._ticks if must_sync else -1
        self._flying.append((number, s.term, s.vote, snapshot.index if snapshot else 0, tick))
        return result

    def advance(self, ready: Ready) -> None:
        """`ready` and all before it are on disk; a snapshot in it is installed."""
        s = self.state
        log = s.log
        flying = self._flying
        assert flying, "advance is called once for a Ready, in order"
        assert flying[0][0] <= ready.number <= flying[-1][0], "advance follows the order of ready"
        snapshot = 0
        while flying and flying[0][0] <= ready.number:
            _, term, vote, index, _ = flying.popleft()
            snapshot = index or snapshot
            s.durable_vote = (term, vote)
        moved = log.unstable.written(ready.number)
        if snapshot and log.snapshot_id is not None and log.snapshot_id[1] == snapshot:
            log.snapshot_installed()
            self._snapshot_taken = 0
        if s.returning:
            returning.maybe_return(s)
        if s.oldest_ready_ticks:
            self._watch_disk()
        if s.role is Role.LEADER:
            if moved:
                assert s.self_progress is not None
                s.self_progress.accepted(log.unstable.stable)
                leading.maybe_commit(s)
        elif s.role is Role.CANDIDATE:
            election.own_vote_durable(s)

    def join(self, before: Ready, ready: Ready) -> None:
        """Make `before` stand for `ready` as well, which is the newest one and follows it directly.

        For a driver that keeps both back, so that a disk that is full for hours does not have it
        keep one for every message. They are written at once then, and what `before` has waiting
        leaves after both. `ready` brings no entries and no snapshot.
        """
        assert not ready.entries
        assert ready.snapshot is None
        _, _, _, snapshot, tick = self._flying[-2]
        number, term, vote, _, later = self._flying.pop()
        assert (self._flying.pop()[0], number) == (before.number, ready.number), "the newest two"
        self._flying.append((number, term, vote, snapshot, later if tick < 0 else tick))
        self.state.log.unstable.join()
        before.number = number
        if ready.hard_state is not None:
            before.hard_state = ready.hard_state
        before.must_sync = before.must_sync or ready.must_sync
        before.messages_after_sync += ready.messages_after_sync

    def applied(self, index: int) -> None:
        """The application has applied the committed entries up to `index`."""
        self.state.log.applied_to(index)

    # --- Inside --------------------------------------------------------------------------------

    def _hard_state(self) -> HardState:
        s = self.state
        log = s.log
        # Never ahead of the own disk, or a restart finds a commit index without its entries.
        commit = min(log.commit, log.unstable.stable)
        vote = NODE_NONE if "vote_not_persisted" in s.planted else s.vote  # R2
        saved = self._saved
        if saved.term == s.term and saved.vote == vote and saved.commit == commit:
            return saved
        return HardState(Term(s.term), vote, Index(max(commit, saved.commit)))

    def _watch_disk(self) -> None:
        """For how long the oldest write has been on its way."""
        started = next((flying[4] for flying in self._flying if flying[4] >= 0), self._ticks)
        self.state.oldest_ready_ticks = self._ticks - started

    def _enter_term_of(self, message: m.Message) -> bool:
        """Deal with a message of another term. Return whether it is to be handled (Raft §5.1)."""
        s = self.state
        kind = type(message)
        if message.term < s.term:
            self._refuse_old(message)
            return False
        if isinstance(message, m.PreVoteRequest | m.VoteRequest) and election.is_protected(
            s, message
        ):
            return False  # There is a leader: as if it had not come (thesis §4.2.3).
        if kind is m.PreVoteRequest or (isinstance(message, m.PreVoteReply) and message.granted):
            return True  # Terms that do not exist yet.
        s.become_follower(message.term, NODE_NONE)
        return True

    def _refuse_old(self, message: m.Message) -> None:
        """Tell a sender of an older term of this one, where it asks for something."""
        s = self.state
        source = message.source
        if isinstance(message, m.AppendRequest | m.Heartbeat | m.SnapshotRequest):
            # The answer deposes it, and lets it see that this node is alive.
            hint = following.NO_HINT
            s.messages.append(
                m.AppendReply(s.group, s.id, source, s.term, accepted=False, index=0, hint=hint)
            )
        elif isinstance(message, m.VoteRequest):
            s.messages.append(m.VoteReply(s.group, s.id, source, s.term, granted=False))
        elif isinstance(message, m.PreVoteRequest):
            s.messages.append(m.PreVoteReply(s.group, s.id, source, s.term, granted=False))
        elif isinstance(message, m.ReadIndexRequest):
            s.messages.append(m.ReadIndexReply(s.group, s.id, source, s.term, message.context, 0))


def _find_configurations(storage: LogStorage, history: History) -> None:
    """Read the log behind the snapshot for the configurations in it (R10)."""
    low = max(history.current_index + 1, storage.first_index())
    end = storage.last_index() + 1
    while low < end:
        entries = storage.entries(low, end, _SCAN_BYTES)
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                history.append(entry.index, decode(entry.data))
        low = entries[-1].index + 1


_HANDLERS: Final[Mapping[type, Callable[[NodeState, Any], None]]] = MappingProxyType(
    {
        m.PreVoteRequest: election.on_pre_vote_request,
        m.PreVoteReply: election.on_pre_vote_reply,
        m.VoteRequest: election.on_vote_request,
        m.VoteReply: election.on_vote_reply,
        m.AppendRequest: following.on_append,
        m.AppendReply: leading.on_append_reply,
        m.Heartbeat: following.on_heartbeat,
        m.HeartbeatReply: leading.on_heartbeat_reply,
        m.SnapshotRequest: following.on_snapshot,
        m.SnapshotReply: leading.on_snapshot_reply,
        m.TimeoutNow: election.on_timeout_now,
        m.ReadIndexRequest: reading.on_read_index_request,
        m.ReadIndexReply: reading.on_read_index_reply,
    }
)
