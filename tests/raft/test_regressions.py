"""What went wrong in the best-known Python Raft (PySyncObj), each as a test of ours."""

from mako.entry import NodeId
from mako.raft import Role
from mako.raft.message import AppendReply
from tests.raft.cluster import Cluster, terms_of, voters
from tests.raft.solo import Solo, append, one, vote_request


def test_a_vote_is_on_disk_before_it_is_given() -> None:
    """Issue 84: the vote was not persisted, so a node could vote twice in a term."""
    solo = Solo(3)
    solo.node.step(vote_request(1, 3, term=1))
    ready = solo.node.ready()
    assert ready.must_sync
    assert ready.messages == []
    assert ready.hard_state is not None
    assert ready.hard_state.vote == 1


def test_an_entry_is_synced_before_it_is_acknowledged() -> None:
    """Issue 84: the log was written without a sync. A crash before it must cost nothing."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.members[NodeId(2)].hung = True
    cluster.isolate(3)
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit_index == 1
    cluster.crash(2)
    cluster.restart(2)
    assert cluster[2].last_index == 1, "it was not on disk, and nobody was told that it was"


def test_a_restart_of_all_nodes_keeps_what_was_committed() -> None:
    """Issues 201 and 202: the restart of all nodes let a short log overwrite committed entries."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    for number in range(5):
        cluster.propose(f"x{number}")
    before = list(cluster.watch.committed)
    for number in (1, 2, 3):
        cluster.crash(number)
    cluster.heal()
    for number in (3, 2, 1):
        cluster.restart(number)
    for _ in range(3):
        cluster[3].campaign()  # The short log tries first.
        cluster.settle()
    cluster.run(60)
    leader = cluster.leader()
    assert leader is not None
    assert leader.id != 3
    assert cluster.watch.committed[: len(before)] == before
    assert terms_of(cluster[3]) == terms_of(leader)


def test_the_commit_index_on_disk_is_never_ahead_of_the_log() -> None:
    """Issue 197: a commit index ahead of the journal made the start hang."""
    solo = Solo(1)
    solo.lead()
    solo.node.propose([b"x"])
    first = solo.node.ready()
    # Both followers have it before the own disk does.
    for source in (2, 3):
        reply = AppendReply(
            solo.node.group,
            NodeId(source),
            NodeId(1),
            1,
            accepted=True,
            index=2,
            hint=solo.node.state.last_id,
        )
        solo.node.step(reply)
    assert solo.node.commit_index == 2
    second = solo.node.ready()
    assert second.hard_state is None or second.hard_state.commit <= 1
    assert list(second.committed) == [], "and nothing is applied that is not on the own disk"
    solo.save(first)
    solo.save(second)
    third = solo.node.ready()
    assert third.hard_state is not None
    assert third.hard_state.commit == 2
    assert [entry.index for entry in third.committed] == [2]


def test_all_nodes_agree_on_the_members() -> None:
    """Issue 133: members came from each node's own file, and differed. They are in the log."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.add(4)
    leader.propose_configuration(voters(1, 2, 3, learners=(4,)))
    cluster.settle()
    leader.propose_configuration(voters(1, 2, 4))
    cluster.run(3)
    cluster.heal()
    for number in (1, 2, 4):
        cluster.crash(number)
        cluster.restart(number)
    cluster.run(60)
    found = {cluster[number].configuration for number in (1, 2, 4)}
    assert found == {voters(1, 2, 4)}


def test_an_append_deletes_only_what_contradicts_it() -> None:
    """Still in 0.3.17: everything behind the previous entry was deleted, terms unseen."""
    solo = Solo(2, log=(1, 1, 1, 1), term=1)
    old = append(1, 2, term=1, previous=(1, 1), entries=(1,))
    assert one(solo.receive(old), AppendReply).index == 2
    assert solo.terms == [1, 1, 1, 1]
    solo.receive(append(1, 2, term=2, previous=(1, 1), entries=(1, 2)))
    assert solo.terms == [1, 1, 2]


def test_a_leader_without_followers_does_not_stay_leader_for_long() -> None:
    """Its leaders fell back after 30 s; ours within two election timeouts."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(1)
    cluster.run(20)
    assert leader.role is not Role.LEADER
