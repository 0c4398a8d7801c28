"""What a leader does with answers and with time (Raft §5.3, §5.4.2, §6; thesis §6.2, §9.6).

A leader gives up its role when it sees a higher term, when no majority answered for an election
time (check-quorum), when its own disk has not finished a write for an election time, and when it
has committed a configuration without itself.
"""

from mako.entry import NODE_NONE, Entry, EntryKind, Index, NodeId, Term
from mako.raft import membership, reading, transfer
from mako.raft.message import AppendReply, HeartbeatReply, SnapshotReply
from mako.raft.progress import Flow, Progress
from mako.raft.quorum import has_quorum, joint_index
from mako.raft.sending import broadcast_heartbeats, send_append
from mako.raft.state import NodeState, Role
from mako.raft.storage import Compacted


def become_leader(s: NodeState) -> None:
    """Lead `s.term`: an entry of the new term first, so that older ones can commit (Raft §8)."""
    assert s.role is Role.CANDIDATE, "only a candidate wins"
    s.role = Role.LEADER
    s.votes.clear()
    s.declined.clear()
    s.set_leader(s.id)
    s.election_elapsed = 0
    s.heartbeat_elapsed = 0
    s.preferred_well_ticks = s.preferred_goal_ticks = 0
    s.progress = {}
    membership.track_members(s)
    assert s.self_progress is not None
    s.self_progress.match = s.log.unstable.stable
    s.term_start = s.preferred_goal = s.log.last_index + 1
    data = s.settings.first_entry(s.term)
    s.log.append((Entry(Term(s.term), Index(s.term_start), EntryKind.NORMAL, data),))
    s.flush_needed = True


def on_append_reply(s: NodeState, message: AppendReply) -> None:
    progress = _heard(s, message.source)
    if progress is None:
        return
    # An honest follower acknowledges no more than it was sent.
    if message.index > s.log.last_index:
        return
    if message.returning or progress.returning:
        _note_returning(s, progress, message)
    if not message.accepted:
        _on_rejected(s, progress, message)
        return
    if progress.accepted(message.index):
        _on_match(s, progress)
    elif progress.flow is Flow.PROBE and progress.match == message.index:
        progress.become_replicate()
    if progress.next <= s.log.last_index:
        s.flush_needed = True


def _note_returning(s: NodeState, progress: Progress, message: AppendReply | SnapshotReply) -> None:
    """Keep track of who lost its disk, and from when on its answers are to be counted (R11)."""
    accepted = isinstance(message, SnapshotReply) or message.accepted
    if not accepted and message.index <= progress.match:
        progress.lost_disk(s.log.last_index)  # Once more, or what it said before the loss.
    elif message.returning and not progress.returning:
        progress.lost_disk(s.log.last_index)
    elif accepted and not message.returning and message.index > progress.lost_at:
        # Beyond what it can have acknowledged before the loss: it counts again.
        progress.returning = False


def _on_rejected(s: NodeState, progress: Progress, message: AppendReply) -> None:
    """Skip back to where the logs may agree, a whole term at a time (Raft §5.3)."""
    try:
        next_index = s.log.last_not_after(message.hint.index, message.hint.term)[1] + 1
    except Compacted:
        next_index = message.hint.index + 1
    if progress.rejected(message.index, next_index):
        s.flush_needed = True
        send_append(s, progress, may_be_empty=True)


def _on_match(s: NodeState, progress: Progress) -> None:
    """A member has more than before: leave the probe, commit, hand over."""
    if progress.flow is Flow.PROBE:
        progress.become_replicate()
        s.flush_needed = True  # It may have missed a newer commit index.
    elif progress.flow is Flow.SNAPSHOT and progress.match + 1 >= s.log.storage.first_index():
        progress.become_probe()
        progress.become_replicate()
    maybe_commit(s)
    if s.transfer_target == progress.id:
        transfer.maybe_send_timeout(s)


def on_heartbeat_reply(s: NodeState, message: HeartbeatReply) -> None:
    progress = _heard(s, message.source)
    if progress is None:
        return
    if message.returning:
        if not progress.returning:
            progress.lost_disk(s.log.last_index)
        # It takes no commit index from heartbeats, and the append that said it may be lost.
        progress.commit_sent = 0
        s.flush_needed = True
    # An append or its answer may have been lost: ask again, with an empty one if need be.
    progress.probe_sent = False
    if progress.match < s.log.last_index and progress.flow is not Flow.SNAPSHOT:
        send_append(s, progress, may_be_empty=True)
        s.flush_needed = True
    reading.on_acknowledged(s, progress, message)


def on_snapshot_reply(s: NodeState, message: SnapshotReply) -> None:
    progress = _heard(s, message.source)
    if progress is None or message.index > s.log.last_index:
        return
    if message.returning or progress.returning:
        _note_returning(s, progress, message)
    news = progress.accepted(message.index)
    if progress.flow is Flow.SNAPSHOT and progress.match >= progress.snapshot_index:
        progress.become_probe()
    if news:
        _on_match(s, progress)
    s.flush_needed = True


def _heard(s: NodeState, source: NodeId) -> Progress | None:
    """The sender's progress, now known to be alive; None where the answer is of no use."""
    if s.role is not Role.LEADER:
        return None
    progress = s.progress.get(source)
    if progress is not None:
        progress.active = True
    return progress


# --- Commit ------------------------------------------------------------------------------------


def maybe_commit(s: NodeState) -> None:
    """Commit what majorities have on disk, and do what waited for it."""
    assert s.role is Role.LEADER
    progress = s.progress

    def index_of(node: NodeId) -> int:
        member = progress.get(node)
        return 0 if member is None or member.returning else member.match  # R11

    log = s.log
    index = joint_index(s.configuration, index_of, s.planted)
    if index <= log.commit:
        return
    # R6: replicas of an older entry may be replaced yet, however many there are (Raft §5.4.2).
    if log.term(index) != s.term and "older_term_committed_by_counting" not in s.planted:
        return
    first_of_term = log.commit < s.term_start <= index
    before = log.commit
    log.commit_to(index)
    s.flush_needed = True
    _release(s)
    if first_of_term:
        reading.begin_waiting(s)
    # An older one too: its leader may have ended before it did what follows.
    if first_of_term or s.history.current_index > before:
        s.commit_due = True
        _on_configuration_committed(s)


def _release(s: NodeState) -> None:
    """Give back the bytes of the proposals that are committed."""
    uncommitted = s.uncommitted
    while uncommitted and uncommitted[0][0] <= s.log.commit:
        s.uncommitted_bytes -= uncommitted.popleft()[1]


def _on_configuration_committed(s: NodeState) -> None:
    if s.history.current_index > s.log.commit:
        return
    if (following := membership.next_step(s)) is not None:
        membership.append(s, following)
        return
    # Tell those who are out that they are, before they are forgotten; nobody waits for them.
    for progress in s.peers:
        if progress.id not in s.configuration.members:
            send_append(s, progress, may_be_empty=True)
    membership.track_members(s)
    if s.id not in s.configuration.voters:
        _leave(s)


def _leave(s: NodeState) -> None:
    """The configuration without this leader is committed: hand over and step down (Raft §6)."""
    for progress in s.peers:
        send_append(s, progress, may_be_empty=True)
    resign(s, "it was removed from the group")


def resign(s: NodeState, why: str) -> None:
    """Stop leading in this term, and ask the follower with the longest log to take over."""
    best = transfer.best_successor(s)
    if best is not None:
        transfer.send_timeout(s, best)
    s.drop_role(why)


# --- Time --------------------------------------------------------------------------------------


def tick(s: NodeState) -> bool:
    """One tick of a leader. Return whether there may be something for a Ready."""
    settings = s.settings
    s.election_elapsed += 1
    s.heartbeat_elapsed += 1
    if s.oldest_ready_ticks >= settings.election_ticks:
        # Its own disk hangs: others could commit, but it holds them up.
        resign(s, "its disk takes too long")
        return True
    if s.election_elapsed >= settings.election_ticks:
        s.election_elapsed = 0
        if not check_quorum(s):
            s.drop_role("no majority answers")
            return True
    if s.transfer_target:
        transfer.tick(s)
    if s.heartbeat_elapsed >= settings.heartbeat_ticks:
        s.heartbeat_elapsed = 0
        if len(s.quiet) < len(s.peers):
            broadcast_heartbeats(s)
    if s.preferred != NODE_NONE:
        transfer.tick_preferred(s)
    if s.commit_held:
        s.commit_due = s.flush_needed = True
    return bool(s.messages or s.flush_needed)


def check_quorum(s: NodeState) -> bool:
    """Whether a majority answered since the last look (thesis §6.2). Begins the next round."""
    alive = [s.id]
    for progress in s.peers:
        if progress.active:
            progress.active_ticks += s.settings.election_ticks
            if not progress.returning:
                alive.append(progress.id)
        else:
            progress.active_ticks = 0
        progress.active = False
        if progress.flow is Flow.SNAPSHOT:
            progress.snapshot_ticks += s.settings.election_ticks
            if progress.snapshot_ticks >= s.settings.snapshot_ticks_max:
                progress.become_probe()
    return has_quorum(s.configuration, alive)
