"""A node that lost its disk and comes back under its own id: from when on it may be trusted (R11).

It has forgotten its votes, its term and entries that others count on. It takes entries at once,
but neither votes nor leads, and says in every answer that it is returning, so that its answers
count for nothing. It asks a leader for a *floor*: the last index of the leader's log, after the
leader has committed in its term, once a majority confirmed the leader after the question came. It
is back when it knows a committed entry above the floor, and all up to that entry and its own
term are on its disk. Where nothing follows the floor, the leader adds an empty entry. What the
members of the group were, and when, proves nothing: the entries that say so may be from before
the loss.

Why that is enough. Let P be that leader, T its term, F the floor, and e, at index i > F, the
committed entry with the node X is back; e was committed in term C ≥ T. "Before" is before the
loss. No majority below counts X, because an answer of a returning node does not.

1.  A leader of a term above T was elected after the question. Otherwise its voters share a node
    with those who confirmed P, and that node would have refused P.
2.  An entry of the committed log above F was created after the question, so X cannot have
    acknowledged it before. P's entry of term T is committed at or below F, so what follows has
    a term ≥ T: if T, P appended it above F, later; if more, step 1.
3.  X has every entry that it acknowledged before and that is ever committed by that. Let it be
    of term t, which is ≤ T by step 1. If the leader of e has it, it is below e (step 2), and X
    has all below e. That leader does have it: it is of term t itself, or was elected after t
    (Raft §5.4.3; X did not vote for it without the entry, because it voted when it still had
    it, or not at all).
4.  No vote that X forgot is repeated with effect. X's term is ≥ C, on disk. Whom it voted for
    before had a log without e; whom it votes for now has one with e. A majority without X has
    acknowledged e in term C, so nobody without e is elected in a term above C, X's old vote or
    not. In term C itself there is a leader already. If it made e, no candidate of C has e, and X
    votes for none. If not, it had e when it was elected, so without X; no second majority of C
    can be had from X alone.
5.  It follows that X confirms no leader that one of a higher term has replaced by its old vote.

Steps 1 to 5 hold for the next loss, of any node, when they hold for those before. They need a
majority that kept its disks: without one no floor is given and X stays out.
"""

from mako.entry import NODE_NONE
from mako.raft.message import ReadIndexReply, ReadIndexRequest
from mako.raft.state import NodeState


def tick(s: NodeState) -> bool:
    """Ask the leader for a floor, until it has answered. Return whether something was asked.

    Another leader is asked anew: every floor is good, and the log of the next may be shorter.
    """
    if s.leader == NODE_NONE or s.floor_term == s.term:
        return False
    s.floor_ticks -= 1
    if s.floor_ticks > 0:
        return False
    s.floor_ticks = s.settings.election_ticks
    s.floor_asked = s.take_read_number()
    request = ReadIndexRequest(s.group, s.id, s.leader, s.term, s.floor_asked, returning=True)
    s.messages.append(request)
    return True


def take_floor(s: NodeState, message: ReadIndexReply) -> bool:
    """Whether this is the answer to a question for a floor; then it is one, or no."""
    if message.context != s.floor_asked:
        return False
    s.floor_asked = 0
    if message.index:
        s.floor = min(s.floor, message.index) if s.floor else message.index
        s.floor_term = s.term
        maybe_return(s)
    return True


def maybe_return(s: NodeState) -> None:
    """Something became known or durable: be trusted again if that is enough (R11)."""
    if not s.returning or not s.floor or s.log.snapshot_id is not None:
        return
    durable = min(s.log.commit, s.log.unstable.stable)
    if durable > s.floor and s.durable_vote[0] == s.term:
        s.returning = False
