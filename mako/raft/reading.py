"""Reads without writing to the log: read index (Raft §8, thesis §6.4).

A leader notes its commit index, proves by a round of heartbeats that it still leads, and then the
read may be answered by whoever has applied up to that index. Two traps, both seen in the field:

* A new leader does not know how far the log is committed until an entry of its own term is:
  until then reads wait.
* An attempt that is repeated must not be proved by answers to the first one: every attempt has a
  number of its own, rising, never used again, and all attempts end with the term (R9).
"""

from mako.entry import NODE_NONE, Entry, EntryKind, Index, Term
from mako.raft import returning
from mako.raft.message import HeartbeatReply, ReadIndexReply, ReadIndexRequest
from mako.raft.progress import Progress
from mako.raft.quorum import has_quorum
from mako.raft.state import NodeState, PendingRead, ReadState, Refusal, Refused, Role

NO_LEADER = Refused(Refusal.NOT_LEADER, "no leader is known; ask again after an election")
READS_BUSY = Refused(Refusal.BUSY, "too many reads wait for a majority; ask again later")


def read_index(s: NodeState, context: int) -> Refused | None:
    """Begin an attempt. Its answer comes as `ReadState(context, …)` in a later Ready."""
    if s.leader == NODE_NONE:
        return NO_LEADER
    if len(s.reads) + len(s.unproven_reads) + len(s.asked_reads) >= s.settings.reads_max:
        return READS_BUSY
    if s.role is Role.LEADER:
        _begin(s, PendingRead(s.take_read_number(), 0, s.id, context))
        return None
    number = s.take_read_number()
    if not s.asked_reads:
        s.asked_ticks = 0
    s.asked_reads[number] = context
    s.messages.append(ReadIndexRequest(s.group, s.id, s.leader, s.term, number))
    return None


def on_read_index_request(s: NodeState, message: ReadIndexRequest) -> None:
    if s.role is not Role.LEADER or len(s.reads) + len(s.unproven_reads) >= s.settings.reads_max:
        no = ReadIndexReply(s.group, s.id, message.source, s.term, message.context, 0)
        s.messages.append(no)
        return
    number = s.take_read_number()
    _begin(s, PendingRead(number, 0, message.source, message.context, message.returning))


def on_read_index_reply(s: NodeState, message: ReadIndexReply) -> None:
    if returning.take_floor(s, message):
        return
    context = s.asked_reads.pop(message.context, None)
    if context is None:
        return  # Answered twice, or given up meanwhile.
    s.reads_done.append(ReadState(context, message.index or None))


def _begin(s: NodeState, read: PendingRead) -> None:
    if not s.committed_in_term and "read_index_before_own_term_commit" not in s.planted:
        s.unproven_reads.append(read)
        return
    read.index = s.log.last_index if read.returning else s.log.commit
    s.reads[read.number] = read
    if has_quorum(s.configuration, (s.id,)):
        prove(s)
    else:
        s.reads_started = True


def begin_waiting(s: NodeState) -> None:
    """The leader has committed in its term: start the reads that waited for that."""
    waiting, s.unproven_reads = s.unproven_reads, []
    for read in waiting:
        read.number = s.take_read_number()
        _begin(s, read)


def on_acknowledged(s: NodeState, progress: Progress, message: HeartbeatReply) -> None:
    """A member confirms that it still follows, as of a heartbeat sent after that read came."""
    if not s.reads:
        return
    progress.read_acknowledged = max(progress.read_acknowledged, message.read)
    if message.read in s.reads:
        prove(s)


def prove(s: NodeState) -> None:
    """Answer the reads that a majority has confirmed, in the order in which they came."""
    if not s.committed_in_term and "read_index_before_own_term_commit" not in s.planted:
        return
    assert s.role is Role.LEADER, "R9: only a leader proves"
    for number in list(s.reads):
        confirmed = [
            progress.id
            for progress in s.peers
            if progress.read_acknowledged >= number and not progress.returning
        ]
        if not has_quorum(s.configuration, (*confirmed, s.id), s.planted):
            return  # Later reads have later numbers.
        read = s.reads.pop(number)
        if read.source == s.id:
            s.reads_done.append(ReadState(read.context, read.index))
        else:
            reply = ReadIndexReply(s.group, s.id, read.source, s.term, read.context, read.index)
            s.messages.append(reply)
            s.commit_due = s.flush_needed = True  # Who asked waits until it has applied that much.
            if read.returning and s.log.last_index == read.index:
                _add_empty(s)


def _add_empty(s: NodeState) -> None:
    """An entry above a floor, so that a node comes back to a group in which nobody writes (R11)."""
    index = Index(s.log.last_index + 1)
    s.log.append((Entry(Term(s.term), index, EntryKind.NORMAL, b""),))  # R3
    s.flush_needed = True


def tick(s: NodeState) -> None:
    """Give up asking a leader that does not answer within an election time."""
    if not s.asked_reads:
        return
    s.asked_ticks += 1
    if s.asked_ticks >= s.settings.election_ticks:
        s.asked_ticks = 0
        for context in s.asked_reads.values():
            s.reads_done.append(ReadState(context, None))
        s.asked_reads.clear()
