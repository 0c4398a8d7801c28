"""With `commit_waits` a commit index travels with appends, or with the next tick."""

from mako.raft import Role, Settings
from mako.raft.message import AppendRequest, Message
from tests.raft.cluster import Cluster, voters
from tests.raft.solo import Solo, accept, heartbeat, only

WAITS = Settings(commit_waits=True)


def appends(messages: list[Message]) -> list[tuple[int, int, int]]:
    """Target, number of entries and commit index."""
    return [(m.target, len(m.entries), m.commit) for m in only(messages, AppendRequest)]


def leader() -> Solo:
    """It leads, its first entry is committed, and both followers know that."""
    solo = Solo(1, settings=WAITS)
    solo.lead()
    assert solo.node.commit_index == 1
    return solo


def committed(solo: Solo) -> list[Message]:
    """What leaves when one more entry is committed."""
    solo.node.propose([b"x"])
    solo.drain()
    last = solo.node.last_index
    sent = solo.receive(accept(2, 1, term=1, index=last))
    assert solo.node.commit_index == last
    return sent


def test_a_commit_alone_is_not_sent() -> None:
    assert appends(committed(leader())) == []


def test_it_leaves_with_the_next_append() -> None:
    solo = leader()
    committed(solo)
    solo.node.propose([b"y"])
    assert appends(solo.drain()) == [(2, 1, 2), (3, 1, 2)]
    assert appends(solo.tick()) == []


def test_it_leaves_with_the_next_tick_and_only_once() -> None:
    solo = leader()
    committed(solo)
    assert appends(solo.tick()) == [(2, 0, 2), (3, 0, 2)]
    assert appends(solo.tick()) == []


def test_without_the_setting_it_leaves_at_once() -> None:
    solo = Solo(1)
    solo.lead()
    assert appends(committed(solo)) == [(2, 0, 2), (3, 0, 2)]


def test_what_opens_a_term_leaves_at_once() -> None:
    solo = Solo(1, settings=WAITS)
    solo.lead(replicated=False)
    sent = solo.receive(accept(2, 1, term=1, index=1))
    assert solo.node.commit_index == 1
    assert (2, 0, 1) in appends(sent)


def test_what_changes_the_members_leaves_at_once() -> None:
    solo = leader()
    solo.node.propose_configuration(voters(1, 2, 3, learners=(4,)))
    solo.drain()
    sent = solo.receive(accept(2, 1, term=1, index=2))
    assert solo.node.commit_index == 2
    assert (2, 0, 2) in appends(sent)


def test_it_is_forgotten_with_the_leadership() -> None:
    solo = leader()
    committed(solo)
    solo.receive(heartbeat(2, 1, term=9))
    assert solo.node.role is Role.FOLLOWER
    assert appends(solo.tick()) == []


def test_a_follower_that_reads_gets_it_at_once() -> None:
    cluster = Cluster(3, settings=WAITS)
    cluster.elect(1)
    cluster.settle()
    cluster.propose("x")
    cluster.settle()
    follower = cluster[2]
    assert follower.commit_index < cluster[1].commit_index
    follower.read_index(7)
    cluster.settle()
    assert follower.commit_index == cluster[1].commit_index
