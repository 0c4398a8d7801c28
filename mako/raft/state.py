"""The state of one node, and the few moves that everything else is made of.

The modules beside this one are functions on it, by subject: election, following, leading,
sending, membership, reading, returning, transfer. mako.raft.node holds the invariants R1 to R14
and the verbs.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mako.entry import NODE_NONE, Configuration, EntryId, GroupId, Index, NodeId, Term
from mako.raft.configuration import History
from mako.raft.log import RaftLog
from mako.raft.message import Message
from mako.raft.progress import Progress
from mako.raft.settings import Settings


class Role(Enum):
    """FOLLOWER ──silence──▶ PRE_CANDIDATE ──majority──▶ CANDIDATE ──majority──▶ LEADER
    ▲                        │                         │                   │
    └── a leader, a higher term, a refusal ────────────┴── no quorum ──────┘
    """

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Refusal(Enum):
    """Why a request to a node was not taken. A value, because refusing is an everyday matter."""

    NOT_LEADER = "not-leader"
    BUSY = "busy"
    TOO_LARGE = "too-large"
    TRANSFERRING = "transferring"
    NOT_ALLOWED = "not-allowed"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done. `message` is one line that says what to do."""

    reason: Refusal
    message: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `read_index(context)`: serve the read once `index` is applied.

    `index` is None where the attempt is void (the leader or the term changed, or nobody
    answered): ask again, as a new attempt.
    """

    context: int
    index: int | None


@dataclass(slots=True)
class PendingRead:
    """One attempt of a read, on the leader that proves it."""

    number: int
    index: int
    #: The node that asked, and its number for the attempt.
    source: NodeId
    context: int
    #: It is not a read: a returning node asks for its floor, the end of the log (R11).
    returning: bool = False


class NodeState:
    """Everything a node knows. Only the modules of mako.raft change it."""

    __slots__ = (
        "after_sync",
        "asked_reads",
        "asked_ticks",
        "commit_due",
        "commit_held",
        "configuration",
        "declined",
        "declines",
        "durable_vote",
        "election_elapsed",
        "election_timeout",
        "floor",
        "floor_asked",
        "floor_term",
        "floor_ticks",
        "flush_needed",
        "group",
        "heartbeat_elapsed",
        "history",
        "id",
        "lead_ended",
        "leader",
        "log",
        "messages",
        "next_read",
        "oldest_ready_ticks",
        "peers",
        "planted",
        "preferred",
        "preferred_goal",
        "preferred_goal_ticks",
        "preferred_penalty",
        "preferred_well_ticks",
        "progress",
        "quiet",
        "randrange",
        "reads",
        "reads_done",
        "reads_started",
        "returning",
        "role",
        "self_progress",
        "settings",
        "term",
        "term_start",
        "transfer_elapsed",
        "transfer_target",
        "uncommitted",
        "uncommitted_bytes",
        "unproven_reads",
        "vote",
        "votes",
    )

    def __init__(
        self,
        settings: Settings,
        log: RaftLog,
        history: History,
        *,
        node: NodeId,
        group: GroupId,
        term: int,
        vote: NodeId,
        randrange: Callable[[int], int],
        returning: bool,
        preferred: NodeId,
    ) -> None:
        self.id = node
        self.group = group
        self.settings = settings
        self.planted = settings.planted
        self.randrange = randrange
        self.log = log
        self.history = history
        self.configuration: Configuration = history.current
        self.term = term
        self.vote = vote
        #: Term and vote that are on disk: only a durable vote for oneself counts (R12).
        self.durable_vote: tuple[int, NodeId] = (term, vote)
        self.role = Role.FOLLOWER
        self.leader: NodeId = NODE_NONE
        # Lost its disk: not to be counted until it has an entry above the floor (R11). 0: none
        # known; the read number of the question for it; the term of the last answer.
        self.returning = returning
        self.floor = self.floor_asked = self.floor_term = self.floor_ticks = 0
        # Time, in ticks.
        self.election_elapsed = self.heartbeat_elapsed = 0
        self.election_timeout = 0
        self.oldest_ready_ticks = 0
        self.votes: dict[NodeId, bool] = {}

        # Leadership. The first entry of the term, and what each member has.
        self.term_start = 0
        self.progress: dict[NodeId, Progress] = {}
        self.self_progress: Progress | None = None
        self.peers: list[Progress] = []
        # Last index and bytes of each proposal that is not committed.
        self.uncommitted: deque[tuple[int, int]] = deque()
        self.uncommitted_bytes = 0
        self._begin_transfers(preferred)
        #: The peers whose heartbeats the host sends for all its groups at once.
        self.quiet: frozenset[NodeId] = frozenset()

        # Reads: numbered on the leader, by context on the node that asked. The first number is
        # drawn, so that a number is not used again after a restart.
        self.next_read = 1 + randrange(1 << 48)
        self.reads: dict[int, PendingRead] = {}
        self.unproven_reads: list[PendingRead] = []
        self.asked_reads: dict[int, int] = {}
        self.asked_ticks = 0
        self.reads_done: list[ReadState] = []
        #: Reads came since the last heartbeats left: the next Ready sends a round for them.
        self.reads_started = False
        # For the next Ready. Held: followers lack a commit index; due: it leaves with this one.
        self.messages: list[Message] = []
        self.after_sync: list[Message] = []
        self.flush_needed = self.commit_held = self.commit_due = False
        self.draw_timeout()

    def _begin_transfers(self, preferred: NodeId) -> None:
        """The part of the state that is about handing over (mako.raft.transfer)."""
        self.transfer_target: NodeId = NODE_NONE
        self.transfer_elapsed = 0
        #: Whether this node takes no leadership that is handed over; and to whom this leader has
        #: tried to hand over in vain.
        self.declines = False
        self.declined: set[NodeId] = set()
        #: Why this node ceased to lead when it last did, for people; '' if it never has.
        self.lead_ended = ""
        self.preferred = preferred
        self.preferred_penalty = 1
        self.preferred_well_ticks = 0
        # What it has to acknowledge next, and for how long that has been so.
        self.preferred_goal = self.preferred_goal_ticks = 0

    # --- Facts ---------------------------------------------------------------------------------

    @property
    def last_id(self) -> EntryId:
        return EntryId(Term(self.log.last_term), Index(self.log.last_index))

    @property
    def is_voter(self) -> bool:
        return self.id in self.configuration.voters or self.id in self.configuration.outgoing

    @property
    def may_campaign(self) -> bool:
        """Whether this node could lead: a voter, with its disk, that is not being rebuilt."""
        if self.returning and "wiped_node_votes" not in self.planted:
            return False  # R11
        return (
            (self.is_voter or self._is_voter_until_committed)
            and self.log.snapshot_id is None
            # A disk that hangs would make it a leader that cannot append.
            and self.oldest_ready_ticks < self.settings.election_ticks
        )

    @property
    def _is_voter_until_committed(self) -> bool:
        """Whether the entry that takes the vote from this node may be on no other (thesis §4.2.2).

        Its log may then be the newest: without it nobody wins. Its own vote does not count.
        """
        index = self.history.current_index
        if index <= self.log.commit:
            return False
        before = self.history.before(index)
        return self.id in before.voters or self.id in before.outgoing

    @property
    def hears_leader(self) -> bool:
        """Whether a leader was heard of within the least election timeout (thesis §4.2.3)."""
        return self.leader != NODE_NONE and self.election_elapsed < self.settings.election_ticks

    @property
    def committed_in_term(self) -> bool:
        """Whether this leader has committed an entry of its own term (Raft §8)."""
        return self.role is Role.LEADER and self.log.commit >= self.term_start

    # --- Moves ---------------------------------------------------------------------------------

    def draw_timeout(self) -> None:
        """Draw the silence after which to campaign: one to two election times (Raft §5.2)."""
        ticks = self.settings.election_ticks
        self.election_timeout = ticks + self.randrange(ticks)
        self.election_elapsed = 0

    def enter_term(self, term: int) -> None:
        """Begin a higher term: no vote, no leader (R1)."""
        assert term > self.term, "R1: terms rise"
        self.term = term
        self.vote = NODE_NONE

    def become_follower(self, term: int, leader: NodeId) -> None:
        """Follow `leader` (or nobody) in `term`; whatever was led or asked for is dropped."""
        if term > self.term:
            self.enter_term(term)
        self.drop_role("it was handed over" if self.transfer_target else "a higher term")
        self.set_leader(leader)

    def drop_role(self, why: str = "an election of its own") -> None:
        """Become a follower of nobody in the same term, with nothing under way."""
        if self.role is Role.LEADER:
            self.lead_ended = why
        self.role = Role.FOLLOWER
        self.set_leader(NODE_NONE)
        self.votes.clear()
        self.progress = {}
        self.peers = []
        self.self_progress = None
        self.quiet = frozenset()
        self.uncommitted.clear()
        self.uncommitted_bytes = 0
        self.transfer_target = NODE_NONE
        self.flush_needed = False
        self.commit_held = self.commit_due = False
        self.reads_started = False
        self.void_reads()
        self.draw_timeout()

    def set_leader(self, leader: NodeId) -> None:
        """Note who leads, and how long the preferred node lasted."""
        if leader == self.leader:
            return
        if self.leader == self.preferred != NODE_NONE:
            self.judge_preferred()
        self.leader = leader
        self.preferred_well_ticks = 0

    def judge_preferred(self) -> None:
        """The preferred node lost the leadership: it waits twice as long if that was soon."""
        if self.preferred_well_ticks < self.settings.preferred_ticks_min * self.preferred_penalty:
            self.delay_preferred()
        else:
            self.preferred_penalty = 1

    def delay_preferred(self) -> None:
        """The preferred node waits twice as long for the leadership as before."""
        limit = self.settings.preferred_ticks_max // self.settings.preferred_ticks_min
        self.preferred_penalty = min(2 * self.preferred_penalty, max(limit, 1))

    def take_read_number(self) -> int:
        """A number that no attempt of a read had before (R9)."""
        number = self.next_read
        if "read_index_reused" not in self.planted:
            self.next_read += 1
        return number

    def void_reads(self) -> None:
        """End all attempts without an answer: they were for this leader in this term (R9)."""
        for read in [*self.reads.values(), *self.unproven_reads]:
            if read.source == self.id:
                self.reads_done.append(ReadState(read.context, None))
        for context in self.asked_reads.values():
            self.reads_done.append(ReadState(context, None))
        self.reads.clear()
        self.unproven_reads.clear()
        self.asked_reads.clear()

    def use_configuration(self) -> None:
        """Take the last configuration of the log into force (R10)."""
        self.configuration = self.history.current
