"""Handing over the leadership: on request, at resignation, and back to a preferred node.

On request (thesis §3.10): the leader takes no more proposals, brings the target up to date, and
tells it to campaign at once. Each of the two has an election time; if that was not enough, the
leader goes on as before.

    leader   last entry ──▶ ······ ◀── has it   TimeoutNow ──▶ ······ ◀── VoteRequest
                            one round trip                     another one

The preferred node gets the leadership back only after it has been well for a while, and longer
each time it lost it soon, or it was handed over in vain: a node with a bad disk or link is not
tried every few seconds. *Well* is who answers, and acknowledges what is committed within an
election time. It need not have what is committed now: over a long link nobody ever has, while
others write.
"""

from collections.abc import Set as AbstractSet

from mako.entry import NODE_NONE, NodeId
from mako.raft.message import TimeoutNow
from mako.raft.progress import Progress
from mako.raft.state import NodeState, Refusal, Refused, Role


def transfer_leadership(s: NodeState, target: NodeId) -> Refused | None:
    """Begin to hand over to `target`. Whether it works is seen by who leads next."""
    if s.role is not Role.LEADER:
        return Refused(Refusal.NOT_LEADER, "ask the leader to hand over")
    if target == s.id:
        return Refused(Refusal.NOT_ALLOWED, f"node {target} leads already")
    if target not in s.configuration.voters:
        return Refused(Refusal.NOT_ALLOWED, f"node {target} is not a voter")
    progress = s.progress[target]
    if progress.returning:
        return Refused(Refusal.NOT_ALLOWED, f"node {target} lost its disk and is being rebuilt")
    if s.transfer_target == target:
        return None
    s.transfer_target = target
    # The election time of the attempt starts now.
    s.transfer_elapsed = 0
    maybe_send_timeout(s)
    s.flush_needed = True
    return None


def maybe_send_timeout(s: NodeState) -> None:
    """Tell the target to campaign as soon as it has the whole log."""
    progress = s.progress.get(s.transfer_target)
    if progress is not None and progress.match == s.log.last_index:
        send_timeout(s, progress)


def send_timeout(s: NodeState, progress: Progress) -> None:
    if s.transfer_target == progress.id:
        s.transfer_elapsed = 0
    s.messages.append(TimeoutNow(s.group, s.id, progress.id, s.term))


def tick(s: NodeState) -> None:
    """Go on leading if the target does not come up, or does not take over, within an election
    time."""
    s.transfer_elapsed += 1
    if s.transfer_elapsed >= s.settings.election_ticks:
        if s.transfer_target == s.preferred:
            s.delay_preferred()
        s.declined.add(s.transfer_target)
        s.transfer_target = NODE_NONE


def best_successor(s: NodeState) -> Progress | None:
    """The voter that answers and has the longest log; None where no voter does."""
    return _best(s, frozenset())


def next_successor(s: NodeState) -> Progress | None:
    """The same of those that were not asked in vain; None where all were, who are asked again then.

    A process that ends takes over from nobody, and may have the longest log.
    """
    best = _best(s, s.declined)
    if best is None:
        s.declined.clear()
    return best


def _best(s: NodeState, without: AbstractSet[NodeId]) -> Progress | None:
    found = [
        progress
        for progress in s.peers
        if progress.id in s.configuration.voters
        and not progress.returning
        and progress.answers
        and progress.id not in without
    ]
    return max(found, key=lambda progress: (progress.match, -progress.id), default=None)


def tick_preferred(s: NodeState) -> None:
    """Count for how long the preferred node has been well, and hand over when it was long."""
    if s.preferred == s.id or s.transfer_target:
        return
    progress = s.progress.get(s.preferred)
    well = (
        progress is not None
        and s.preferred in s.configuration.voters
        and not progress.returning
        and progress.answers
    )
    if not well:
        s.preferred_well_ticks = s.preferred_goal_ticks = 0
        s.preferred_goal = s.log.last_index
        return
    assert progress is not None
    s.preferred_well_ticks += 1
    if not _keeps_up(s, progress):
        return
    if s.preferred_well_ticks < s.settings.preferred_ticks_min * s.preferred_penalty:
        return
    if s.committed_in_term:
        # It starts to count anew, so that a transfer that fails is not repeated at once.
        s.preferred_well_ticks = 0
        transfer_leadership(s, s.preferred)


def _keeps_up(s: NodeState, progress: Progress) -> bool:
    """Whether it has just acknowledged what was committed less than an election time ago, as in
    the rounds by which a learner is judged (thesis §4.2.1)."""
    s.preferred_goal_ticks += 1
    if progress.match < s.preferred_goal:
        return False
    ticks, s.preferred_goal_ticks = s.preferred_goal_ticks, 0
    s.preferred_goal = s.log.commit
    return ticks < s.settings.election_ticks
