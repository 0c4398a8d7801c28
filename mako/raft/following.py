"""What a follower does with what its leader sends (Raft §5.3, §7).

A leader's message of this term makes a candidate a follower; two leaders of one term cannot be.
"""

from collections.abc import Sequence

from mako.entry import Entry, EntryId, EntryKind, Index, NodeId, Term
from mako.raft import returning
from mako.raft.configuration import History, decode
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    SnapshotReply,
    SnapshotRequest,
)
from mako.raft.state import NodeState, Role

NO_HINT = EntryId(Term(0), Index(0))


def on_append(s: NodeState, message: AppendRequest) -> None:
    _follow(s, message.source)
    log = s.log
    entries = message.entries
    previous_term, previous_index = message.previous
    compares = "append_truncates_without_comparing" not in s.planted
    if previous_index + len(entries) <= log.commit and previous_index < log.commit and compares:
        # Old or repeated: what is committed here agrees with every leader (R5).
        _accept(s, message, log.commit)
        return
    if not log.matches(previous_term, previous_index):
        hint_term, hint_index = log.last_not_after(previous_index - 1, previous_term)
        hint = EntryId(Term(hint_term), Index(hint_index))
        s.messages.append(_reply(s, message, previous_index, hint, accepted=False))
        return
    matched = previous_index + len(entries)
    if entries:
        assert entries[0].index == previous_index + 1, "entries follow the previous one"
        assert entries[-1].index == matched, "entries have no gap"
        new = log.first_new(entries) if compares else 0  # R4
        if new < len(entries):
            take(s, entries[new:] if new else entries)
    # Beyond `matched` the logs may differ, whatever the leader has committed (Raft figure 2).
    limit = log.last_index if "commit_index_beyond_match" in s.planted else matched
    commit(s, min(message.commit, limit))
    _accept(s, message, matched)


def _accept(s: NodeState, message: AppendRequest, index: int) -> None:
    """Acknowledge, once what was appended is on disk (R7)."""
    reply = _reply(s, message, index, NO_HINT, accepted=True)
    if "append_acknowledged_before_sync" in s.planted:
        s.messages.append(reply)
    else:
        s.after_sync.append(reply)


def _reply(
    s: NodeState, message: AppendRequest, index: int, hint: EntryId, *, accepted: bool
) -> AppendReply:
    source = message.source
    return AppendReply(s.group, s.id, source, s.term, accepted, index, hint, s.returning)


def take(s: NodeState, entries: Sequence[Entry]) -> None:
    """Put entries into the log, replacing what contradicts them, with the members they bring."""
    log = s.log
    if entries[0].index <= log.last_index and s.history.truncate(entries[0].index):
        s.use_configuration()
    log.append(entries)
    for entry in entries:
        if entry.kind is EntryKind.CONFIGURATION:
            s.history.append(entry.index, decode(entry.data))
            s.use_configuration()


def commit(s: NodeState, index: int) -> None:
    """Move the commit index, if that is forward."""
    if s.log.commit_to(index) and s.returning:
        returning.maybe_return(s)


def on_heartbeat(s: NodeState, message: Heartbeat) -> None:
    _follow(s, message.source)
    if "commit_index_beyond_match" in s.planted:
        commit(s, min(message.commit, s.log.last_index))
    elif message.commit > s.log.commit:
        # The leader never says more than this node has acknowledged, unless the disk was lost.
        known = message.commit <= s.log.last_index
        assert known or s.returning, (
            f"R5: node {s.id} lacks entry {message.commit}, which it acknowledged: its disk was"
            " lost or replaced; start it as a new node or as one that is returning"
        )
        # What the leader knows of a returning node may be from before the loss.
        if known and not s.returning:
            commit(s, message.commit)
    s.messages.append(
        HeartbeatReply(s.group, s.id, message.source, s.term, message.read, s.returning)
    )


def on_snapshot(s: NodeState, message: SnapshotRequest) -> None:
    _follow(s, message.source)
    meta = message.meta
    log = s.log
    if meta.index > log.commit:
        whole = log.matches(meta.term, meta.index)
        if "snapshot_over_uncommitted_prefix" in s.planted:
            whole = not whole and meta.index <= log.last_index
        if whole:
            # The log agrees with it and may go on behind it: keep what follows (Raft §7).
            commit(s, meta.index)
        else:
            log.restore(meta.term, meta.index)
            s.history = History(meta.index, meta.configuration)
            s.use_configuration()
    reply = SnapshotReply(
        s.group, s.id, message.source, s.term, max(log.commit, meta.index), s.returning
    )
    s.after_sync.append(reply)


def _follow(s: NodeState, leader: NodeId) -> None:
    """A leader of this term lives."""
    assert s.role is not Role.LEADER, f"two leaders in term {s.term}"
    if s.leader != leader:
        assert not s.leader, f"two leaders in term {s.term}: {s.leader} and {leader}"
        s.become_follower(s.term, leader)
    s.election_elapsed = 0
