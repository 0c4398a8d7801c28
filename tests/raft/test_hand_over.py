"""Hand-overs beyond the thesis: who declines one, who is asked next, and why a leadership ended."""

from mako.entry import NodeId
from mako.raft import Refusal, Refused, Role
from tests.raft.cluster import Cluster


def test_who_is_about_to_end_takes_no_leadership() -> None:
    """Of two that end together each would hand over to the other."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster[2].decline()
    assert leader.hand_over() is None
    cluster.run(9)
    assert leader.role is Role.LEADER
    cluster.run(1)
    assert leader.hand_over() is None, "the next one is asked"
    cluster.settle()
    assert cluster[3].role is Role.LEADER


def test_a_leader_whom_nobody_relieves_is_told_so_and_may_try_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for follower in (2, 3):
        cluster[follower].decline()
        assert leader.hand_over() is None
        cluster.run(10)
    refused = leader.hand_over()
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_ALLOWED
    assert leader.propose([b"x"]), "it goes on as before"
    assert leader.hand_over() is None


def test_a_leader_that_resigns_asks_who_was_asked_in_vain_too() -> None:
    """It goes anyway, and only the longest log is sure to win."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.crash(3)
    cluster[2].decline()
    assert leader.hand_over() is None
    cluster.run(10)
    cluster[2].state.declines = False
    cluster.members[NodeId(1)].hung = True
    leader.propose([b"x"])
    cluster.run(12)
    assert leader.lead_ended == "its disk takes too long"
    assert cluster[2].role is Role.CANDIDATE, "at once, without a silence"


def test_people_can_be_told_why_a_leadership_ended() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    assert leader.lead_ended == ""
    leader.transfer_leadership(NodeId(2))
    cluster.settle()
    assert leader.lead_ended == "it was handed over"
    cluster.members[NodeId(2)].hung = True
    cluster[2].propose([b"x"])
    cluster.run(12)
    assert cluster[2].lead_ended == "its disk takes too long"
    cluster.members[NodeId(2)].hung = False
    leader = cluster.elect(3)
    cluster.crash(1)
    cluster.crash(2)
    cluster.run(20)
    assert leader.lead_ended == "no majority answers"
