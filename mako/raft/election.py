"""Elections (Raft §5.2, §5.4.1; thesis §3.10, §4.2.3, §9.6).

Silence makes a follower ask first whether it would win (pre-vote), with nothing changed; only a
majority of yes makes it raise its term. Who hears a leader says no to both, so a node that comes
back, or that only some can reach, disturbs nobody. Both rules need the third: a leader that no
majority answers steps down (check-quorum, in leading). All three are always on.

A voter's yes, and a candidate's own, count only once they are on disk (R2, R12), and a vote is
asked for once the term and the log that the request speaks of are (R14).
"""

from mako.entry import NODE_NONE
from mako.raft.leading import become_leader
from mako.raft.message import PreVoteReply, PreVoteRequest, TimeoutNow, VoteReply, VoteRequest
from mako.raft.quorum import Outcome, vote_outcome
from mako.raft.state import NodeState, Role


def tick(s: NodeState) -> bool:
    """One tick of a node that does not lead. Return whether there may be news for a Ready."""
    s.election_elapsed += 1
    if s.leader == s.preferred != NODE_NONE:
        s.preferred_well_ticks += 1
    if s.election_elapsed < s.election_timeout:
        return False
    s.draw_timeout()
    if s.may_campaign:
        pre_campaign(s)
    elif s.leader != NODE_NONE:
        s.drop_role()  # It is silent: nobody is to be sent there.
    return True


def pre_campaign(s: NodeState) -> None:
    """Ask whether an election would be won. Nothing but the role changes (thesis §9.6)."""
    s.drop_role()
    s.role = Role.PRE_CANDIDATE
    s.votes[s.id] = True
    if _decide(s):
        return
    for node in sorted((s.configuration.voters | s.configuration.outgoing) - {s.id}):
        s.messages.append(PreVoteRequest(s.group, s.id, node, s.term + 1, s.last_id))


def campaign(s: NodeState, *, transfer: bool = False) -> None:
    """Raise the term, vote for oneself, ask all others (Raft §5.2).

    The requests wait for the disk (R14): who crashes before is not to find votes for what it was.
    """
    s.drop_role()
    s.enter_term(s.term + 1)
    s.vote = s.id
    s.role = Role.CANDIDATE
    for node in sorted((s.configuration.voters | s.configuration.outgoing) - {s.id}):
        request = VoteRequest(s.group, s.id, node, s.term, s.last_id, transfer)
        s.after_sync.append(request)


def own_vote_durable(s: NodeState) -> None:
    """The hard state on disk changed. If it is this candidate's own vote, it counts now (R12)."""
    if s.role is Role.CANDIDATE and s.durable_vote == (s.term, s.id) and s.id not in s.votes:
        s.votes[s.id] = True
        _decide(s)


def _decide(s: NodeState) -> bool:
    """Act on the votes if they decide. Return whether they did."""
    outcome = vote_outcome(s.configuration, s.votes, s.planted)
    if outcome is Outcome.PENDING:
        return False
    if outcome is Outcome.LOST:
        s.drop_role()
    elif s.role is Role.PRE_CANDIDATE:
        campaign(s)
    elif s.votes.get(s.id):
        become_leader(s)
    else:
        return False  # Enough others, but the own vote is not on disk yet.
    return True


# --- As a voter --------------------------------------------------------------------------------


def is_protected(s: NodeState, message: PreVoteRequest | VoteRequest) -> bool:
    """Whether a live leader makes this node deaf to elections (thesis §4.2.3)."""
    transfer = type(message) is VoteRequest and message.transfer
    return s.hears_leader and not transfer


def on_pre_vote_request(s: NodeState, message: PreVoteRequest) -> None:
    """Say what the vote would be. Neither term nor vote nor timer changes."""
    if s.returning and "wiped_node_votes" not in s.planted:
        return  # R11
    granted = message.term > s.term and _has_good_log(s, message)
    term = message.term if granted else s.term
    s.messages.append(PreVoteReply(s.group, s.id, message.source, term, granted))


def on_vote_request(s: NodeState, message: VoteRequest) -> None:
    assert message.term == s.term, "a higher term was entered, a lower one refused"
    if s.returning and "wiped_node_votes" not in s.planted:
        return  # R11
    free = s.vote in (NODE_NONE, message.source) or "vote_granted_twice" in s.planted
    granted = (
        free  # R2
        and s.leader == NODE_NONE
        and _has_good_log(s, message)
    )
    if granted:
        s.vote = message.source
        s.draw_timeout()
    s.after_sync.append(VoteReply(s.group, s.id, message.source, s.term, granted))  # R2


def _has_good_log(s: NodeState, message: PreVoteRequest | VoteRequest) -> bool:
    """Whether the candidate may lead as far as this voter's log goes (Raft §5.4.1)."""
    if "vote_without_log_check" in s.planted:
        return True
    return s.log.is_up_to_date(message.last.term, message.last.index)


# --- As a candidate ----------------------------------------------------------------------------


def on_pre_vote_reply(s: NodeState, message: PreVoteReply) -> None:
    # A yes repeats the term that was asked for, a no of this term is the voter's own.
    asked = s.term + 1 if message.granted else s.term
    if s.role is not Role.PRE_CANDIDATE or message.term != asked:
        return
    s.votes.setdefault(message.source, message.granted)
    _decide(s)


def on_vote_reply(s: NodeState, message: VoteReply) -> None:
    if s.role is not Role.CANDIDATE:
        return
    s.votes.setdefault(message.source, message.granted)
    _decide(s)


def on_timeout_now(s: NodeState, message: TimeoutNow) -> None:
    """The leader hands over: campaign without asking first (thesis §3.10)."""
    del message
    if s.role is not Role.LEADER and s.may_campaign and not s.declines:
        campaign(s, transfer=True)
