"""Changes of the members, on the leader: what is allowed, and the two steps of a joint change.

Configurations take effect when appended (Raft §6); the second step of a joint change is appended
by the leader as soon as the first is committed. A change that could not commit, because a
majority of its voters does not answer or trails far behind, is refused instead of accepted.
"""

from mako.entry import Configuration, Entry, EntryId, EntryKind, Index, NodeId, Term
from mako.raft.configuration import encode, enter, fault_of, leave
from mako.raft.progress import Progress
from mako.raft.quorum import majority
from mako.raft.state import NodeState, Refusal, Refused, Role


def refusal_of(s: NodeState, target: Configuration) -> Refused | None:
    """Why `target` cannot be proposed now; None if it can."""
    if s.role is not Role.LEADER:
        return Refused(Refusal.NOT_LEADER, "ask the leader to change the members")
    if s.transfer_target:
        return Refused(Refusal.TRANSFERRING, "the leadership is being handed over; ask again")
    if s.configuration.joint or s.history.current_index > s.log.commit:
        return Refused(Refusal.BUSY, "another change of the members is under way; wait for it")
    if not s.committed_in_term:
        # Thesis §4.1, the bug in single-server changes: an older change may still be lost.
        return Refused(Refusal.BUSY, "the new leader has committed nothing yet; ask again")
    if fault := fault_of(s.configuration, target):
        return Refused(Refusal.NOT_ALLOWED, fault)
    return _quorum_refusal(s, target)


def _quorum_refusal(s: NodeState, target: Configuration) -> Refused | None:
    """Refuse a change after which nothing could commit, or that would hold back commits."""
    well = [node for node in sorted(target.voters) if is_well(s, node)]
    needed = majority(len(target.voters))
    if len(well) < needed:
        ill = sorted(target.voters - set(well))
        return Refused(
            Refusal.NOT_ALLOWED,
            f"the change would lose the quorum: of {len(target.voters)} voters only {len(well)}"
            f" answer, {needed} are needed; repair or replace {', '.join(map(str, ill))} first",
        )
    limit = s.settings.promotion_entries_max
    for node in sorted(target.voters & s.configuration.learners):
        progress = s.progress[node]
        behind = s.log.commit - progress.match
        # One that lost its disk is promoted too: it is counted once it is back (R11).
        if behind > limit or not progress.answers:
            return Refused(
                Refusal.NOT_ALLOWED,
                f"learner {node} is {behind} entries behind or silent; it is promoted once it"
                f" answers and is within {limit}",
            )
    return None


def is_well(s: NodeState, node: NodeId) -> bool:
    """Whether a member answers, now or in the round before, and counts. The leader does."""
    if node == s.id:
        return True
    progress = s.progress.get(node)
    return progress is not None and not progress.returning and progress.answers


def start(s: NodeState, target: Configuration) -> Configuration:
    """The configuration to append first."""
    return enter(s.configuration, target)


def entry_of(s: NodeState, configuration: Configuration) -> Entry:
    index = Index(s.log.last_index + 1)
    return Entry(Term(s.term), index, EntryKind.CONFIGURATION, encode(configuration))


def append(s: NodeState, configuration: Configuration) -> EntryId:
    """Append a configuration to the leader's log, which brings it into force."""
    assert s.role is Role.LEADER
    entry = entry_of(s, configuration)
    s.log.append((entry,))
    s.history.append(entry.index, configuration)
    s.history.compact(s.log.storage.snapshot_meta().index)
    s.use_configuration()
    track_members(s)
    s.flush_needed = True
    return entry.id


def track_members(s: NodeState) -> None:
    """Keep a Progress for every member, and for those on their way out until that is committed."""
    wanted = set(s.configuration.members)
    index = s.history.current_index
    if index > s.log.commit:
        wanted |= s.history.before(index).members
    for node in sorted(wanted - s.progress.keys()):
        s.progress[node] = Progress(node, s.log.last_index + 1)
        # Give it the time of one round before it counts as silent.
        s.progress[node].active = True
    for node in sorted(s.progress.keys() - wanted - {s.id}):
        del s.progress[node]
    if s.id not in s.progress:
        s.progress[s.id] = Progress(s.id, s.log.last_index + 1)
    s.peers = [s.progress[node] for node in sorted(s.progress) if node != s.id]
    s.self_progress = s.progress[s.id]


def next_step(s: NodeState) -> Configuration | None:
    """What follows now that the configuration in force is committed: the end of a joint one."""
    if s.role is not Role.LEADER or not s.configuration.joint:
        return None
    if s.history.current_index > s.log.commit:
        return None
    return leave(s.configuration)
