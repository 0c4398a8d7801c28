"""What a leader sends: appends within the window, heartbeats, snapshots (Raft §5.3, §7).

Nothing is sent while something is stepped: proposals and replies only say that there may be
something to send, and `flush` does it once, when the next Ready is made. So one append carries
what a whole turn proposed.
"""

from collections.abc import Sequence

from mako.entry import Entry, EntryId, Index, Term
from mako.raft.message import AppendRequest, Heartbeat, SnapshotRequest
from mako.raft.progress import Flow, Progress
from mako.raft.state import NodeState, Role
from mako.raft.storage import Compacted


def flush(s: NodeState) -> None:
    """Send every follower what it lacks and may be sent, or else a commit index that is news."""
    s.flush_needed = False
    if s.role is not Role.LEADER:
        return
    log = s.log
    waits = s.settings.commit_waits and not s.commit_due
    s.commit_held = s.commit_due = False
    for progress in s.peers:
        while progress.next <= log.last_index and send_append(s, progress):
            pass
        if progress.commit_sent < log.commit and progress.flow is Flow.REPLICATE:
            if waits:
                s.commit_held = True
            else:
                send_append(s, progress, may_be_empty=True)
    if s.reads_started:
        # To the quiet peers too: the beats of a host prove nothing to a read.
        s.reads_started = False
        for progress in s.peers:
            send_heartbeat(s, progress)


def send_append(s: NodeState, progress: Progress, *, may_be_empty: bool = False) -> bool:
    """Send the next append, or the snapshot where its entries are gone. Return whether sent."""
    settings = s.settings
    log = s.log
    paused = progress.is_paused(settings.inflight_messages_max, settings.inflight_bytes_max)
    if paused and not (may_be_empty and progress.flow is Flow.REPLICATE):
        return False
    next_index = progress.next
    try:
        previous = EntryId(Term(log.term(next_index - 1)), Index(next_index - 1))
        end = log.last_index + 1
        if paused or next_index >= end:
            if not may_be_empty:
                return False
            entries: Sequence[Entry] = ()
        else:
            entries = log.entries(next_index, end, settings.append_bytes_max)
    except Compacted:
        return _send_snapshot(s, progress)
    progress.sent(entries)
    progress.commit_sent = log.commit
    s.messages.append(
        AppendRequest(s.group, s.id, progress.id, s.term, previous, entries, log.commit)
    )
    return True


def _send_snapshot(s: NodeState, progress: Progress) -> bool:
    if not progress.active:
        return False  # It would be built and streamed to nobody.
    meta = s.log.storage.snapshot_meta()
    assert meta.index > progress.match, "a store compacts only what its snapshot covers"
    assert meta.index <= s.log.commit, "a snapshot holds only what is committed (Raft §7)"
    progress.become_snapshot(meta.index)
    s.messages.append(SnapshotRequest(s.group, s.id, progress.id, s.term, meta))
    return True


def broadcast_heartbeats(s: NodeState) -> None:
    """Say to everyone that this leader lives, and which read waits for a proof of it."""
    for progress in s.peers:
        if progress.id not in s.quiet:
            send_heartbeat(s, progress)


def send_heartbeat(s: NodeState, progress: Progress) -> None:
    # Not beyond what the member is known to have: it may lack the entries up to the commit.
    commit = s.log.commit
    if "commit_index_beyond_match" not in s.planted:
        commit = min(commit, progress.match)
    read = next(reversed(s.reads), 0)
    s.messages.append(Heartbeat(s.group, s.id, progress.id, s.term, commit, read))
