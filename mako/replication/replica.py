"""One replica: a Raft node, the machine it feeds, and the clients that wait for it.

A leader executes requests at once, ahead of the log, and proposes what they changed:

    execute ──▶ machine, speculative ──drain──▶ propose ──committed──▶ apply ──▶ answer
                        ▲                                                │
                        └───────── step_down: taken back ◀── leadership lost

Invariants of the driver that live here (the others: mako.replication.driver):

    D2  Nothing is executed before everything in the log from earlier terms is applied, so that
        what is executed ahead stands on what the log says.
    D3  What was executed ahead and not applied is taken back when the leadership ends.
    D4  A client hears "done" once the entry that holds its transaction, and so everything that
        it saw, is applied here in the term in which it was executed.
    D5  A read is allowed once its index is applied.

A leader drains as often as its caller collects, until `UNCOMMITTED_MAX` entries wait to be
committed. Then it drains no more than is committed, so entries become larger and not more where
followers, links or the disk are slow: a queue of small entries would only make everybody in it
wait.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

from mako.entry import Entry, EntryId, GroupId, SnapshotMeta
from mako.errors import Error
from mako.raft import RaftNode, ReadState, Refusal, Role
from mako.storage.snapshot_format import Block, SnapshotHeader


class Machine(Protocol):
    """The state that a log makes. One object per replica; it does no I/O."""

    #: Index of the last entry that the applied state holds.
    applied: int

    @property
    def snapshot_index(self) -> int:
        """Index of the entry of which a snapshot would be now, at most `applied`."""
        ...

    def open_term(self, term: int, unapplied: Sequence[Entry]) -> bytes:
        """This replica leads in `term`: the data of the first entry, which follows the
        `unapplied` end of the log. Speculation begins when it is applied."""
        ...

    def execute(self, request: bytes) -> bytes:
        """Run a transaction now, ahead of the log. Only between open_term and step_down."""
        ...

    def drain(self) -> Sequence[bytes]:
        """The data of entries with all that was executed since the last call; or nothing."""
        ...

    def apply(self, entries: Sequence[Entry]) -> None:
        """Committed entries, in order. Those of the term that is open are installed already."""
        ...

    def step_down(self) -> None:
        """The leadership ended: what was executed and not applied vanishes."""
        ...

    def write_snapshot(self) -> "MachineSnapshot":
        """The state at `snapshot_index`; the blocks stay those of now while the machine goes on.
        NotNow.

        They are taken before the next step_down or restore, or not at all.
        """
        ...

    def restore(self, header: SnapshotHeader, blocks: Iterable[Block]) -> None:
        """Replace everything by a snapshot; `applied` is its index."""
        ...

    def state_hash(self) -> str:
        """Equal for equal applied states, whoever made them."""
        ...


class NotNow(Error):
    """Others use what a machine needs for a snapshot. Ask again later."""


class MachineSnapshot(NamedTuple):
    """What a machine puts into a snapshot."""

    #: Everything up to it is in the rows, and nothing above it.
    timestamp: int
    #: Descriptions of the tables, as in the body of a schema entry of the log.
    tables: bytes
    blocks: Iterable[Block]
    #: Epochs and final watermarks, the records of mako.recovery.history.
    epochs: bytes = b""


class Fate(Enum):
    """What became of a request."""

    DONE = "done"
    #: It had no effect and will have none.
    REFUSED = "refused"
    #: It may have happened, or may happen yet.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a request, by the ticket that its caller gave it."""

    group: GroupId
    ticket: int
    fate: Fate
    result: bytes


@dataclass(frozen=True, slots=True)
class ReadReply:
    """The end of a read: the machine may be read now, or the attempt is void."""

    group: GroupId
    ticket: int
    allowed: bool


#: An index that no log reaches.
_NEVER: Final = 1 << 62
#: Entries of a leader that may be uncommitted before it drains its machine again, and requests
#: that it executes meanwhile.
UNCOMMITTED_MAX: Final = 32
#: Read at a time.
_UNAPPLIED_BYTES: Final = 16 << 20

_Tickets = list[tuple[int, bytes]]


class Replica:
    """See the module. `replies` and `read_replies` are the driver's, shared by its replicas."""

    __slots__ = (
        "_before_step_down",
        "_collecting",
        "_drained",
        "_executed",
        "_last",
        "_open",
        "_open_at",
        "_planted",
        "_reads",
        "_reopen",
        "_replies",
        "_waiting",
        "applied_bytes",
        "machine",
        "node",
        "restoring",
        "snapshot_wanted",
        "term",
    )

    node: RaftNode

    def __init__(
        self,
        machine: Machine,
        replies: list[Reply | ReadReply],
        make_node: Callable[[Callable[[int], bytes]], RaftNode],
        planted: frozenset[str],
        before_step_down: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine = machine
        self._replies = replies
        self._planted = planted
        self._before_step_down = before_step_down
        #: In which it leads, as far as the machine knows; 0: it follows.
        self.term = 0
        self._open = False
        # Once this entry is applied the machine may execute. `_reopen`: it is not proposed yet.
        self._open_at = 0
        self._reopen = False
        # Last entry that was proposed in the term.
        self._last = 0
        # Tickets and results: executed and not drained; drained and not taken by Raft; proposed.
        self._executed: _Tickets = []
        self._drained: tuple[Sequence[bytes], _Tickets] | None = None
        # Workers may have executed something: look into the machine.
        self._collecting = False
        self._waiting: deque[tuple[int, _Tickets]] = deque()
        self._reads: list[tuple[int, int]] = []
        #: A snapshot of the leader that is on its way into the log.
        self.restoring: SnapshotMeta | None = None
        #: Bytes applied since the newest snapshot.
        self.applied_bytes = 0
        self.snapshot_wanted = False
        self.node = make_node(self._first_entry)

    # --- Leading -------------------------------------------------------------------------------

    def _first_entry(self, term: int) -> bytes:
        if self.term:
            self._step_down()
        self.term = term
        self._last = self._open_at = self.node.last_index + 1
        self._reopen = False
        return self.machine.open_term(term, self._unapplied())

    def _unapplied(self) -> Sequence[Entry]:
        """The end of the log that the machine has not applied."""
        log = self.node.state.log
        entries: list[Entry] = []
        low = self.machine.applied + 1
        while low <= log.last_index:
            entries += log.entries(low, log.last_index + 1, _UNAPPLIED_BYTES)
            low = entries[-1].index + 1
        return entries

    def watch_role(self) -> None:
        """After anything that may have ended the leadership."""
        if self.term and (self.node.role is not Role.LEADER or self.node.term != self.term):
            self._step_down()

    def _step_down(self) -> None:
        if "speculation_kept" not in self._planted:
            self._take_back()  # D3
        self.term = 0
        self._open = self._reopen = self._collecting = False
        drained = [] if self._drained is None else self._drained[1]
        for ticket, _ in [*drained, *self._executed]:
            self._reply(ticket, Fate.REFUSED)
        for _, tickets in self._waiting:
            for ticket, _ in tickets:
                self._reply(ticket, Fate.UNKNOWN)
        self._drained = None
        self._executed = []
        self._waiting.clear()

    def _take_back(self) -> None:
        self._before_step_down()
        self.machine.step_down()

    def _reply(self, ticket: int, fate: Fate, result: bytes = b"") -> None:
        self._replies.append(Reply(self.node.group, ticket, fate, result))

    def execute(self, ticket: int, request: bytes) -> bool:
        """Run a request here. False: it was refused, and the reply says so."""
        self.watch_role()
        full = self._is_far_ahead and len(self._executed) >= UNCOMMITTED_MAX
        if not self._open or self._drained is not None or full:  # D2
            self._reply(ticket, Fate.REFUSED)
            return False
        self._executed.append((ticket, self.machine.execute(request)))
        return True

    def collect(self) -> bool:
        """Workers run: bring what they executed into the log. False: nothing may run here."""
        self.watch_role()
        self._collecting = self._open
        return self._open

    @property
    def stuck(self) -> bool:
        """Whether something was executed, or may have been, that Raft has not taken yet."""
        return self._drained is not None or bool(self._executed) or self._collecting or self._reopen

    @property
    def _is_far_ahead(self) -> bool:
        return self.node.last_index - self.node.commit_index >= UNCOMMITTED_MAX

    def propose(self) -> bool:
        """Bring what was executed into the log. Return whether the node was given something."""
        if self._reopen and self.machine.applied >= self._last:
            self._reopen = False
            self._drained = [self.machine.open_term(self.term, self._unapplied())], []
        wanted = self._executed or self._collecting
        if wanted and self._drained is None and not self._is_far_ahead:
            tickets, self._executed = self._executed, []
            self._collecting = False
            data = self.machine.drain()
            if not data:
                if tickets:  # They changed nothing; but what they saw may not be applied yet.
                    self._wait(self._last, tickets)
                return False
            self._drained = data, tickets
        if self._drained is None:
            return False
        data, tickets = self._drained
        taken = self.node.propose(data)
        if isinstance(taken, EntryId):
            self._drained = None
            self._last = taken.index
            if not self._open:
                self._open_at = taken.index
            self._wait(taken.index, tickets)
            return True
        if taken.reason is Refusal.TOO_LARGE:
            self._discard(tickets)
        elif taken.reason is Refusal.NOT_LEADER:
            self._step_down()
        return False  # Else it is busy: again later, and nothing new meanwhile.

    def _wait(self, index: int, tickets: _Tickets) -> None:
        if "acknowledged_when_proposed" in self._planted or index <= self.machine.applied:
            for ticket, result in tickets:
                self._reply(ticket, Fate.DONE, result)
        else:
            self._waiting.append((index, tickets))

    def _discard(self, tickets: _Tickets) -> None:
        """Take back an entry that can never be proposed; what was proposed before it stands.

        The machine opens the term once more, with another first entry, when that is applied.
        """
        self._take_back()
        self._drained = None
        self._open = False
        self._open_at, self._reopen = _NEVER, True
        for ticket, _ in tickets:
            self._reply(ticket, Fate.REFUSED)

    def _maybe_open(self) -> None:
        if self.term and not self._open and self.machine.applied >= self._open_at:
            self._open = True  # D2

    # --- Applying ------------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> None:
        self.machine.apply(entries)
        applied = entries[-1].index
        self.applied_bytes += sum([len(entry.data) for entry in entries])
        self.node.applied(applied)
        waiting = self._waiting
        while waiting and waiting[0][0] <= applied:
            for ticket, result in waiting.popleft()[1]:
                self._reply(ticket, Fate.DONE, result)  # D4
        self._maybe_open()
        self._answer_reads()

    def restore(self, header: SnapshotHeader, blocks: Iterable[Block]) -> None:
        self.machine.restore(header, blocks)
        self.restoring = None
        self.applied_bytes = 0
        self._answer_reads()

    # --- Reading -------------------------------------------------------------------------------

    def read(self, ticket: int) -> None:
        """Ask for leave to read; the answer is a ReadReply."""
        if self.node.read_index(ticket) is not None:
            self._replies.append(ReadReply(self.node.group, ticket, allowed=False))

    def on_reads(self, reads: Iterable[ReadState]) -> None:
        for read in reads:
            if read.index is None:
                self._replies.append(ReadReply(self.node.group, read.context, allowed=False))
            else:
                heappush(self._reads, (read.index, read.context))
        self._answer_reads()

    def _answer_reads(self) -> None:
        reads = self._reads
        at_once = "read_served_before_applied" in self._planted
        while reads and (reads[0][0] <= self.machine.applied or at_once):  # D5
            ticket = heappop(reads)[1]
            self._replies.append(ReadReply(self.node.group, ticket, allowed=True))

    def abandon(self) -> None:
        """The replica is let go: nobody waits any longer."""
        if self.term:
            self._step_down()
        for _, ticket in self._reads:
            self._replies.append(ReadReply(self.node.group, ticket, allowed=False))
        self._reads.clear()
