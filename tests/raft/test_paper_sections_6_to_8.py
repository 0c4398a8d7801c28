"""Raft paper, sections 6 to 8: one test per sentence that demands something, in order."""

import pytest

from mako.entry import Configuration, EntryId, EntryKind, Index, NodeId, SnapshotMeta, Term
from mako.raft import MemoryLogStorage, Refusal, Refused, Role
from mako.raft.configuration import decode
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    SnapshotReply,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
)
from tests.raft.cluster import Cluster, nodes, voters
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat,
    heartbeat_reply,
    one,
    only,
    reject,
    snapshot,
    snapshot_reply,
    timeout_now,
    vote_request,
)

JOINT = Configuration(nodes(1, 4, 5), outgoing=nodes(1, 2, 3))


def grown(learners: int = 1, size: int = 3) -> Cluster:
    """A group with node 1 as leader, and learners that have caught up."""
    cluster = Cluster(size)
    leader = cluster.elect(1)
    names = range(size + 1, size + learners + 1)
    for name in names:
        cluster.add(name)
    assert leader.propose_configuration(voters(*range(1, size + 1), learners=names))
    cluster.run(3)
    return cluster


# --- 6 -----------------------------------------------------------------------------------------


def test_in_a_joint_configuration_entries_go_to_all_of_both() -> None:
    """§6: log entries are replicated to all servers in both configurations."""
    solo = Solo(1, members=JOINT)
    sent = only(solo.lead(replicated=False), AppendRequest)
    assert {message.target for message in sent} == {2, 3, 4, 5}


@pytest.mark.parametrize("number", [2, 4])
def test_a_node_of_either_configuration_may_lead(number: int) -> None:
    """§6: any server from either configuration."""
    solo = Solo(number, members=JOINT)
    solo.lead()
    assert solo.node.commit_index >= 1
    assert not solo.node.configuration.joint, "and ends what it found begun"


@pytest.mark.parametrize(
    ("acknowledged", "committed"),
    [((4, 5), False), ((2, 3), False), ((2, 4), True), ((3, 5), True), ((2, 3, 4), True)],
)
def test_a_joint_commit_needs_both_majorities(
    acknowledged: tuple[int, ...], *, committed: bool
) -> None:
    """§6: agreement requires separate majorities."""
    solo = Solo(1, members=JOINT)
    solo.lead(replicated=False)
    solo.receive(*[accept(n, 1, term=1, index=1) for n in acknowledged])
    assert (solo.node.commit_index == 1) == committed


def test_a_change_of_voters_begins_with_a_joint_entry() -> None:
    """§6: the leader stores the joint configuration as a log entry."""
    cluster = grown()
    leader = cluster[1]
    where = leader.propose_configuration(voters(1, 2, 4))
    assert isinstance(where, EntryId)
    ready = leader.ready()
    assert [entry.kind for entry in ready.entries] == [EntryKind.CONFIGURATION]
    assert decode(ready.entries[0].data) == Configuration(nodes(1, 2, 4), outgoing=nodes(1, 2, 3))


def test_a_configuration_is_used_from_the_moment_it_is_in_the_log() -> None:
    """§6: the latest one in the log, committed or not."""
    cluster = grown()
    cluster[1].propose_configuration(voters(1, 2, 4))
    assert cluster[1].configuration.joint
    assert cluster[1].commit_index < cluster[1].last_index
    cluster.settle(keep=lambda message: message.target == 2)
    assert cluster[2].configuration.joint


def test_the_new_configuration_follows_once_the_joint_one_is_committed() -> None:
    """§6: the leader creates it then, by itself."""
    cluster = grown()
    cluster[1].propose_configuration(voters(1, 2, 4))
    cluster.run(2)
    for node in (1, 2, 4):
        assert cluster[node].configuration == voters(1, 2, 4)
    steps = [decode(e.data) for e in cluster.watch.committed if e.kind is EntryKind.CONFIGURATION]
    assert [step.joint for step in steps] == [False, True, False]


def test_a_crash_in_the_middle_leaves_a_group_that_can_finish() -> None:
    """§6: a leader of either half takes over the change."""
    cluster = grown()
    cluster[1].propose_configuration(voters(1, 2, 4))
    cluster.settle(keep=lambda message: not isinstance(message, AppendReply))
    cluster.crash(1)
    cluster.run(60)
    leader = cluster.leader()
    assert leader is not None
    assert leader.configuration == voters(1, 2, 4)


def test_a_new_voter_must_have_been_a_learner() -> None:
    """§6: new servers join as non-voting members first."""
    cluster = Cluster(3)
    refused = cluster.elect(1).propose_configuration(voters(1, 2, 3, 4))
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_ALLOWED
    assert "add node 4 as a learner first" in refused.message


def test_a_learner_is_sent_everything_and_counts_for_nothing() -> None:
    """§6: replicated to, but not considered for majorities."""
    cluster = grown(learners=2)
    cluster.crash(2)
    cluster.crash(3)
    before = cluster[1].commit_index
    cluster[1].propose([b"x"])
    cluster.settle()
    assert cluster[4].last_index == cluster[1].last_index
    assert cluster[1].commit_index == before


def test_a_learner_does_not_campaign() -> None:
    """§6: it has no vote of its own."""
    solo = Solo(4, members=voters(1, 2, 3, learners=(4,)))
    assert solo.tick(50) == []


def test_a_leader_that_is_not_in_the_new_configuration_steps_down_after_its_commit() -> None:
    """§6: it returns to follower state then, not before."""
    cluster = grown()
    leader = cluster[1]
    leader.propose_configuration(voters(2, 3, 4))
    assert cluster.leader() is leader
    cluster.settle()
    assert cluster[1].role is Role.FOLLOWER
    assert leader.configuration == voters(2, 3, 4)
    assert leader.commit_index >= 4
    cluster.run(30)
    assert cluster[1].role is Role.FOLLOWER
    successor = cluster.leader()
    assert successor is not None
    assert successor.id in (2, 3, 4)


def test_it_does_not_step_down_when_something_before_that_is_committed() -> None:
    """§6: the configuration without it is in force, and may be taken back yet."""
    solo = Solo(1)
    solo.lead()
    solo.node.propose([b"x"])
    assert solo.node.propose_configuration(voters(2, 3))
    solo.drain()
    solo.receive(accept(2, 1, term=1, index=2), accept(3, 1, term=1, index=2))
    assert (solo.node.commit_index, solo.node.last_index) == (2, 3)
    assert solo.node.role is Role.LEADER


def test_it_does_not_count_itself_while_it_manages_a_group_without_itself() -> None:
    """§6: it replicates entries but does not count itself in majorities."""
    solo = Solo(1, members=Configuration(nodes(2, 3), outgoing=nodes(1, 2, 3)))
    solo.lead(replicated=False)
    solo.receive(accept(2, 1, term=1, index=1))
    assert solo.node.commit_index == 0
    solo.receive(accept(3, 1, term=1, index=1))
    assert solo.node.commit_index == 1


def test_a_removed_node_learns_that_it_is_out() -> None:
    """§6: so that it need not disturb the others."""
    cluster = Cluster(3)
    cluster.elect(1).propose_configuration(voters(1, 2))
    cluster.settle()
    assert cluster[3].configuration == voters(1, 2)
    assert cluster.members[NodeId(3)].node.tick() is False
    before = cluster[1].term
    cluster.run(60)
    assert cluster[1].term == before


@pytest.mark.parametrize("elapsed", [0, 9])
def test_a_vote_request_is_ignored_while_a_leader_is_heard(elapsed: int) -> None:
    """§6: neither the term nor the vote changes within the least election timeout."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=1))
    solo.tick(elapsed)
    assert solo.receive(vote_request(3, 2, term=9, last=(9, 9))) == []
    assert solo.node.term == 1


def test_a_vote_request_is_heard_when_the_leader_is_silent() -> None:
    """§6: normal elections are not affected."""
    solo = Solo(2, settings=None)
    solo.receive(heartbeat(1, 2, term=1))
    solo.tick(10)
    assert one(solo.receive(vote_request(3, 2, term=9)), VoteReply).granted


def test_one_change_at_a_time() -> None:
    """§6: another one waits until the first is committed."""
    cluster = grown()
    leader = cluster[1]
    assert leader.propose_configuration(voters(1, 2, 4))
    refused = leader.propose_configuration(voters(1, 2))
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.BUSY


def test_a_change_that_would_lose_the_quorum_is_refused() -> None:
    """Ours: with the numbers and what to do."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.crash(3)
    cluster.run(25)
    refused = leader.propose_configuration(voters(1, 3))
    assert isinstance(refused, Refused)
    assert refused.message.startswith("the change would lose the quorum: of 2 voters only 1")
    assert "repair or replace 3 first" in refused.message
    assert leader.propose_configuration(voters(1, 2))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (voters(), "at least one voter"),
        (voters(1, 2, 3, learners=(3,)), "cannot be a voter and a learner"),
        (voters(1, 2, 3), "nothing would change"),
        (Configuration(nodes(1), outgoing=nodes(1, 2)), "voters and learners only"),
        (voters(0, 1), "start at 1"),
    ],
)
def test_what_is_no_configuration_is_refused(target: Configuration, why: str) -> None:
    """Ours: nothing is appended."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    refused = leader.propose_configuration(target)
    assert isinstance(refused, Refused)
    assert why in refused.message
    assert leader.last_index == 1


def test_a_learner_far_behind_is_not_promoted() -> None:
    """§6: it first catches up with the rest."""
    cluster = grown()
    cluster.isolate(4)
    for _ in range(11):
        cluster[1].propose([b"x"] * 100)
        cluster.settle()
    refused = cluster[1].propose_configuration(voters(1, 2, 3, 4))
    assert isinstance(refused, Refused)
    assert "learner 4 is 1100 entries behind" in refused.message


def test_a_group_grows_from_one_and_shrinks_back() -> None:
    """§6: through any configuration, with the leader going last."""
    cluster = Cluster(1)
    cluster.elect(1)
    for number in (2, 3, 4):
        leader = cluster.leader()
        assert leader is not None
        cluster.add(number)
        now = leader.configuration.voters
        assert leader.propose_configuration(
            Configuration(now, learners=frozenset({NodeId(number)}))
        )
        cluster.run(3)
        assert leader.propose_configuration(Configuration(now | {NodeId(number)}))
        cluster.run(3)
    for number in (1, 2, 3):
        leader = cluster.leader()
        assert leader is not None
        now = leader.configuration.voters
        assert leader.propose_configuration(Configuration(now - {NodeId(number)}))
        cluster.run(40)
    assert cluster[4].role is Role.LEADER
    cluster.propose("alone")
    assert cluster[4].commit_index == cluster[4].last_index


# --- 7 -----------------------------------------------------------------------------------------


def test_only_committed_entries_go_into_a_snapshot() -> None:
    """§7: whoever has saved more is stopped before anybody is sent it."""
    solo = Solo(1)
    solo.lead()
    solo.node.propose([b"x"])
    solo.drain()
    assert (solo.node.commit_index, solo.node.last_index) == (1, 2)
    storage = solo.node.storage
    assert isinstance(storage, MemoryLogStorage)
    storage.create_snapshot(2, solo.node.configuration)
    storage.compact(2)
    with pytest.raises(AssertionError, match="only what is committed"):
        solo.receive(reject(2, 1, term=1, index=2, hint=(1, 1)))


def test_the_entry_after_a_snapshot_passes_the_consistency_check() -> None:
    """§7: the last included index and term are kept for that."""
    meta = SnapshotMeta(Index(5), Term(2), voters(1, 2, 3))
    solo = Solo(2, snapshot=meta, term=2, commit=5)
    ok = one(solo.receive(append(1, 2, term=2, previous=(2, 5), entries=(2,))), AppendReply)
    assert ok.accepted
    no = one(solo.receive(append(1, 2, term=2, previous=(1, 6), entries=(2,))), AppendReply)
    assert not no.accepted


def test_a_snapshot_brings_the_configuration() -> None:
    """§7: the latest one as of the last included index."""
    solo = Solo(4, members=Configuration(frozenset()))
    members = voters(1, 2, 3, learners=(4,))
    solo.receive(snapshot(1, 4, term=3, last=(2, 9), members=members))
    assert solo.node.configuration == members
    solo.restart()
    assert solo.node.configuration == members


def test_a_leader_sends_a_snapshot_where_the_next_entry_is_gone() -> None:
    """§7: it has discarded what the follower needs."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    for _ in range(5):
        cluster.propose("x")
    cluster.snapshot(1)
    cluster.restart(3)
    cluster.run(3)
    sent = only(cluster.sent, SnapshotRequest)
    assert [(m.target, m.meta.index) for m in sent] == [(3, 6)]
    assert cluster[3].applied_index == 6
    assert cluster.members[NodeId(3)].applied == cluster.members[NodeId(1)].applied
    cluster.propose("y")
    assert cluster[3].applied_index == 7


def test_a_snapshot_with_news_replaces_the_whole_log() -> None:
    """§7: the follower discards it."""
    solo = Solo(2, log=(1, 1, 1), term=1, commit=1)
    sent = solo.receive(snapshot(1, 2, term=3, last=(2, 2), members=voters(1, 2, 3)))
    assert solo.node.last_index == 2
    assert solo.node.commit_index == 2
    assert one(sent, SnapshotReply).index == 2


def test_a_snapshot_of_a_prefix_keeps_what_follows() -> None:
    """§7: entries after the snapshot are still valid and must be retained."""
    solo = Solo(2, log=(1, 1, 1), term=1)
    solo.receive(snapshot(1, 2, term=1, last=(1, 2), members=voters(1, 2, 3)))
    assert solo.node.last_index == 3
    assert solo.node.commit_index == 2


def test_an_old_snapshot_is_answered_and_ignored() -> None:
    """§7: it has nothing new."""
    solo = Solo(2, log=(1, 1, 1), term=1, commit=3)
    sent = solo.receive(snapshot(1, 2, term=1, last=(1, 2), members=voters(1, 2)))
    assert one(sent, SnapshotReply).index == 3
    assert solo.node.configuration == voters(1, 2, 3)


def test_nothing_is_sent_while_a_snapshot_is_on_its_way() -> None:
    """§7: entries follow when it has arrived."""
    meta = SnapshotMeta(Index(4), Term(1), voters(1, 2, 3))
    solo = Solo(1, snapshot=meta, term=1, commit=4)
    solo.lead()
    solo.receive(heartbeat_reply(2, 1, term=2))
    solo.node.report_unreachable(NodeId(2))
    assert solo.node.state.progress[NodeId(2)].match == 5
    solo.receive(accept(3, 1, term=2, index=5))
    # Node 2 is a new one in the place of the old: it has nothing.
    lost = accept(2, 1, term=2, index=0, returning=True)
    sent = solo.receive(lost, heartbeat_reply(2, 1, term=2, returning=True))
    one(sent, SnapshotRequest)
    solo.node.propose([b"x"])
    assert {m.target for m in only(solo.drain(), AppendRequest)} == {3}
    sent = solo.receive(snapshot_reply(2, 1, term=2, index=4))
    assert [m.previous.index for m in only(sent, AppendRequest) if m.target == 2] == [4]


# --- 8 -----------------------------------------------------------------------------------------


def test_a_new_leader_commits_an_entry_of_its_term_first() -> None:
    """§8: to find out which entries are committed."""
    solo = Solo(1, log=(1, 1), term=1)
    solo.lead()
    assert solo.terms == [1, 1, 2]
    assert solo.node.commit_index == 3
    assert solo.applied[-1].data == b""


def test_a_leader_asks_a_majority_before_it_answers_a_read() -> None:
    """§8: it might have been deposed."""
    solo = Solo(1, members=5)
    solo.lead()
    assert solo.node.read_index(7) is None
    beats = only(solo.drain(), Heartbeat)
    assert [beat.target for beat in beats] == [2, 3, 4, 5]
    assert solo.reads == []
    solo.receive(heartbeat_reply(2, 1, term=1, read=beats[0].read))
    assert solo.reads == []
    solo.receive(heartbeat_reply(3, 1, term=1, read=beats[0].read))
    assert [(read.context, read.index) for read in solo.reads] == [(7, 1)]


def test_a_client_is_told_who_leads() -> None:
    """§8: the server rejects the request and names the most recent leader."""
    cluster = Cluster(3)
    cluster.elect(2)
    refused = cluster[1].propose([b"x"])
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_LEADER
    assert cluster[1].leader == 2


def test_a_deposed_leader_tells_a_waiting_read_that_it_is_void() -> None:
    """§8: it cannot answer it any more."""
    solo = Solo(1)
    solo.lead()
    solo.node.read_index(7)
    solo.receive(append(2, 1, term=5))
    assert [(read.context, read.index) for read in solo.reads] == [(7, None)]


def test_a_removed_leader_hands_over() -> None:
    """§6: so that nobody has to wait for a timeout."""
    cluster = grown()
    cluster[1].propose_configuration(voters(2, 3, 4))
    cluster.settle()
    assert only(cluster.sent, TimeoutNow)
    leader = cluster.leader()
    assert leader is not None
    assert leader.id != 1


def test_who_is_told_to_campaign_and_cannot_stays_a_follower() -> None:
    """§6: a learner does not become a candidate."""
    solo = Solo(4, members=voters(1, 2, 3, learners=(4,)))
    solo.receive(timeout_now(1, 4, term=1))
    assert solo.node.role is Role.FOLLOWER
