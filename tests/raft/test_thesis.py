"""Raft thesis, sections 3.10, 4, 6.2, 6.4, 9.6: one test per demand, in order."""

import itertools

import pytest

from mako.entry import NodeId
from mako.raft import Refusal, Refused, Role, Settings, SnapshotStatus
from mako.raft.message import (
    AppendRequest,
    Heartbeat,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from mako.raft.progress import Flow
from tests.raft.cluster import GROUP, Cluster, nodes, terms_of, voters
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat,
    heartbeat_reply,
    one,
    only,
    pre_vote_reply,
    pre_vote_request,
    timeout_now,
    vote_request,
)

# --- 3.10 Leadership transfer ------------------------------------------------------------------


def test_a_leader_that_hands_over_takes_no_proposals() -> None:
    """§3.10 step 1."""
    solo = Solo(1)
    solo.lead()
    assert solo.node.transfer_leadership(NodeId(2)) is None
    refused = solo.node.propose([b"x"])
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.TRANSFERRING


def test_it_brings_the_target_up_to_date_first() -> None:
    """§3.10 step 2."""
    solo = Solo(1)
    solo.lead()
    solo.node.propose([b"x"])
    solo.drain()
    solo.node.transfer_leadership(NodeId(2))
    assert only(solo.drain(), TimeoutNow) == []
    sent = solo.receive(accept(2, 1, term=1, index=2))
    assert one(sent, TimeoutNow).target == 2


def test_the_target_campaigns_at_once_in_the_next_term() -> None:
    """§3.10 step 3: as if its timer had fired."""
    solo = Solo(2, log=(1,), term=1)
    solo.receive(heartbeat(1, 2, term=1))
    sent = solo.receive(timeout_now(1, 2, term=1))
    assert {(m.target, m.term, m.transfer) for m in only(sent, VoteRequest)} == {
        (1, 2, True),
        (3, 2, True),
    }


def test_its_vote_requests_are_heard_in_spite_of_the_leader() -> None:
    """§4.2.3: a special flag says that the leader allows it."""
    solo = Solo(3)
    solo.receive(heartbeat(1, 3, term=1))
    sent = solo.receive(vote_request(2, 3, term=2, transfer=True))
    assert one(sent, VoteReply).granted


def test_a_transfer_works() -> None:
    """§3.10: and needs no timeout."""
    cluster = Cluster(3)
    cluster.elect(1).transfer_leadership(NodeId(3))
    cluster.settle()
    assert cluster[3].role is Role.LEADER
    assert cluster[1].role is Role.FOLLOWER


def test_a_transfer_that_fails_is_given_up_after_an_election_timeout() -> None:
    """§3.10: the leader goes on as before."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.crash(3)
    leader.transfer_leadership(NodeId(3))
    cluster.run(9)
    assert not leader.propose([b"x"])
    cluster.run(1)
    assert leader.propose([b"x"])


@pytest.mark.parametrize("target", [1, 4, 9])
def test_only_another_voter_can_be_the_target(target: int) -> None:
    """§3.10: not itself, a learner, or a stranger."""
    solo = Solo(1, members=voters(1, 2, 3, learners=(4,)))
    solo.lead()
    refused = solo.node.transfer_leadership(NodeId(target))
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_ALLOWED


# --- 4 Membership ------------------------------------------------------------------------------


def test_a_node_falls_back_when_a_configuration_is_taken_away() -> None:
    """§4.1: to the previous one in its log."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.add(4)
    leader.propose_configuration(voters(1, 2, 3, learners=(4,)))
    cluster.settle(keep=lambda message: False)
    assert leader.configuration.learners == nodes(4)
    cluster.isolate(1)
    cluster.elect(2)
    cluster.heal()
    cluster.run(5)
    assert cluster[1].configuration == voters(1, 2, 3)


def test_no_change_before_the_leader_has_committed_in_its_term() -> None:
    """§4.1: the correction of the single-server rule."""
    solo = Solo(1)
    solo.lead(replicated=False)
    refused = solo.node.propose_configuration(voters(1, 2, 3, learners=(4,)))
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.BUSY


def test_appends_are_taken_from_a_leader_outside_the_configuration() -> None:
    """§4.1: or a new server could never be added."""
    solo = Solo(4, members=voters(1, 2, 3))
    solo.receive(append(9, 4, term=1, entries=(1,)))
    assert solo.terms == [1]


def test_votes_are_given_to_a_candidate_outside_the_configuration() -> None:
    """§4.1: the vote may be needed to keep the group available."""
    solo = Solo(2, members=voters(1, 2, 3))
    assert one(solo.receive(vote_request(9, 2, term=1)), VoteReply).granted


def test_a_new_server_that_does_not_answer_does_not_hold_up_the_group() -> None:
    """§4.2.1: it is refused as a voter, and the leader goes on."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.propose_configuration(voters(1, 2, 3, learners=(4,)))
    cluster.run(25)
    refused = leader.propose_configuration(voters(1, 2, 3, 4))
    assert isinstance(refused, Refused)
    cluster.propose("x")
    assert leader.commit_index == leader.last_index


def test_a_removed_node_cannot_disturb_the_others() -> None:
    """§4.2.3: even if it never heard of its removal."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose_configuration(voters(1, 2))
    cluster.settle()
    term = leader.term
    cluster.heal()
    cluster.run(80)
    assert leader.role is Role.LEADER
    assert leader.term == term


# --- 6.2, 6.4 Stale leaders and reads ----------------------------------------------------------


def test_a_leader_without_a_majority_steps_down() -> None:
    """§6.2: when an election timeout passes without answers of a majority."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.run(5)
    cluster.isolate(1)
    cluster.run(20)
    assert leader.role is not Role.LEADER
    assert leader.term == 1


def test_a_read_waits_for_the_first_commit_of_the_term() -> None:
    """§6.4 step 1."""
    solo = Solo(1, log=(1, 1), term=1)
    solo.lead(replicated=False)
    solo.node.read_index(5)
    assert only(solo.drain(), Heartbeat) == []
    sent = solo.receive(accept(2, 1, term=2, index=3))
    beat = only(sent, Heartbeat)[0]
    solo.receive(heartbeat_reply(2, 1, term=2, read=beat.read))
    assert [(read.context, read.index) for read in solo.reads] == [(5, 3)]


def test_the_read_index_is_the_commit_index_when_the_read_came() -> None:
    """§6.4 step 2: later commits do not delay it."""
    solo = Solo(1)
    solo.lead()
    solo.node.read_index(5)
    read = only(solo.drain(), Heartbeat)[0].read
    solo.node.propose([b"x"])
    solo.drain()
    solo.receive(accept(2, 1, term=1, index=2), heartbeat_reply(2, 1, term=1, read=read))
    assert [read.index for read in solo.reads] == [1]


def test_heartbeats_of_before_the_read_prove_nothing() -> None:
    """§6.4 step 3: a new round."""
    solo = Solo(1)
    solo.lead()
    old = only(solo.tick(1), Heartbeat)[0].read
    solo.node.read_index(5)
    solo.drain()
    solo.receive(heartbeat_reply(2, 1, term=1, read=old))
    assert solo.reads == []


def test_one_round_serves_all_reads_that_came_before_it() -> None:
    """§6.4: the cost is shared."""
    solo = Solo(1)
    solo.lead()
    for context in range(5):
        solo.node.read_index(context)
    beats = only(solo.drain(), Heartbeat)
    assert len(beats) == 2
    solo.receive(heartbeat_reply(2, 1, term=1, read=beats[0].read))
    assert [read.context for read in solo.reads] == [0, 1, 2, 3, 4]


def test_a_follower_asks_the_leader_for_a_read_index() -> None:
    """§6.4: and serves the read itself."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose("x")
    assert cluster[2].read_index(9) is None
    cluster.settle()
    assert [(r.context, r.index) for r in cluster.members[NodeId(2)].reads] == [(9, 2)]


def test_a_leader_alone_answers_at_once() -> None:
    """§6.4: it is the majority."""
    solo = Solo(1, members=1)
    solo.lead()
    solo.node.read_index(5)
    solo.drain()
    assert [(read.context, read.index) for read in solo.reads] == [(5, 1)]


def test_an_attempt_is_void_when_the_term_ends() -> None:
    """§6.4 and etcd's stale read of 2025: nothing of it counts in the next term."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=1))
    solo.node.read_index(5)
    number = one(solo.drain(), ReadIndexRequest).context
    solo.receive(heartbeat(3, 2, term=2))
    assert [(read.context, read.index) for read in solo.reads] == [(5, None)]
    solo.node.read_index(5)
    assert one(solo.drain(), ReadIndexRequest).context != number
    late = ReadIndexReply(GROUP, NodeId(1), NodeId(2), 2, number, 7)
    solo.receive(late)
    assert len(solo.reads) == 1


def test_a_read_without_an_answer_is_void_after_an_election_timeout() -> None:
    """Ours: nobody waits for ever."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=1))
    solo.node.read_index(5)
    for _ in range(10):
        solo.tick(1)
        solo.receive(heartbeat(1, 2, term=1))
    assert [(read.context, read.index) for read in solo.reads] == [(5, None)]


def test_reads_are_refused_without_a_leader_and_beyond_the_limit() -> None:
    """Ours: as values, with what to do."""
    solo = Solo(1, settings=Settings(reads_max=2))
    refused = solo.node.read_index(1)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_LEADER
    solo.lead()
    assert solo.node.read_index(1) is None
    assert solo.node.read_index(2) is None
    refused = solo.node.read_index(3)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.BUSY


# --- 9.6 Pre-vote ------------------------------------------------------------------------------


def test_a_term_is_raised_only_after_a_majority_would_vote() -> None:
    """§9.6."""
    solo = Solo(1, members=5, term=3)
    sent = solo.tick(10)
    assert {(m.target, m.term) for m in only(sent, PreVoteRequest)} == {
        (2, 4),
        (3, 4),
        (4, 4),
        (5, 4),
    }
    assert solo.node.term == 3
    # To a question of before.
    solo.receive(*[pre_vote_reply(n, 1, term=3, granted=True) for n in (2, 3, 4, 5)])
    assert solo.node.term == 3
    solo.receive(pre_vote_reply(2, 1, term=4, granted=True))
    assert solo.node.term == 3
    sent = solo.receive(pre_vote_reply(3, 1, term=4, granted=True))
    assert solo.node.term == 4
    assert only(sent, VoteRequest)


@pytest.mark.parametrize(("last", "granted"), [((1, 9), False), ((2, 2), True), ((3, 1), True)])
def test_a_pre_vote_compares_the_logs(last: tuple[int, int], *, granted: bool) -> None:
    """§9.6: the same rule as for votes."""
    solo = Solo(2, log=(1, 2), term=2)
    sent = solo.receive(pre_vote_request(1, 2, term=3, last=last))
    assert one(sent, PreVoteReply).granted == granted


def test_a_pre_vote_is_denied_while_a_leader_is_heard() -> None:
    """§9.6: a baseline election timeout must have passed."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=1))
    solo.tick(9)
    assert solo.receive(pre_vote_request(3, 2, term=2)) == []


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:
    """§9.6: and two may be given."""
    solo = Solo(2)
    for source in (1, 3):
        assert one(solo.receive(pre_vote_request(source, 2, term=1)), PreVoteReply).granted
    assert (solo.node.term, solo.node.state.vote) == (0, 0)


def test_a_node_that_was_cut_off_comes_back_without_an_election() -> None:
    """§9.6: it could not raise its term meanwhile."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.run(200)
    assert cluster[3].term == 1
    cluster.heal()
    cluster.run(20)
    assert leader.role is Role.LEADER
    assert leader.term == 1


def test_a_partial_partition_does_not_move_the_leadership_back_and_forth() -> None:
    """§4.2.3 with §9.6: node 3 hears only node 2, and both rules keep it quiet."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.cut = {(NodeId(1), NodeId(3)), (NodeId(3), NodeId(1))}
    cluster.run(200)
    assert leader.role is Role.LEADER
    assert leader.term == 1


# --- Beyond the thesis: disks, limits, preferences ---------------------------------------------


def test_a_leader_whose_disk_hangs_resigns_and_hands_over() -> None:
    """A write that takes longer than an election timeout costs the leadership."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.run(3)
    cluster.members[NodeId(1)].hung = True
    leader.propose([b"x"])
    cluster.run(9)
    assert leader.role is Role.LEADER
    cluster.run(6)
    successor = cluster.leader()
    assert successor is not None
    assert successor.id != 1
    # And it does not campaign while the disk hangs.
    cluster.run(40)
    assert cluster[1].role is Role.FOLLOWER


def test_a_wiped_node_counts_again_only_when_the_others_have_confirmed_what_it_has() -> None:
    """R11: silent and not counted, until it has what was created after its loss."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.propose("x")
    cluster.wipe(3)
    cluster.crash(2)
    cluster.restart(3)
    before = leader.commit_index
    leader.propose([b"y"])
    cluster.run(8)
    assert cluster[3].last_index == leader.last_index, "it is sent everything"
    assert cluster[3].returning
    assert leader.commit_index == before, "it does not count"
    cluster.restart(2)
    cluster.run(30)
    assert not cluster[3].returning
    leader = cluster.elect(1)
    cluster.crash(2)
    cluster.propose("z")
    assert leader.commit_index == leader.last_index, "it counts again"


def test_a_wiped_node_that_says_nothing_of_it_is_stopped() -> None:
    """R5: the leader speaks of an entry that the node has acknowledged and lacks."""
    solo = Solo(2)
    with pytest.raises(AssertionError, match="disk was lost or replaced"):
        solo.receive(heartbeat(1, 2, term=1, commit=4))


def test_proposals_beyond_the_uncommitted_limit_are_refused_as_busy() -> None:
    """A leader without a majority does not fill its memory; commits make room."""
    solo = Solo(1, settings=Settings(uncommitted_bytes_max=10))
    solo.lead()
    assert solo.node.propose([b"123456"])
    refused = solo.node.propose([b"12345"])
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.BUSY
    assert solo.node.propose([b"1234"])
    solo.drain()
    solo.receive(accept(2, 1, term=1, index=3))
    assert solo.node.propose([b"1" * 30]), "one proposal is always taken"
    assert not solo.node.propose([b"1"])


def test_an_entry_over_the_limit_is_refused() -> None:
    """Nothing of the proposal is appended."""
    solo = Solo(1, settings=Settings(entry_bytes_max=4))
    solo.lead()
    refused = solo.node.propose([b"1", b"12345"])
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.TOO_LARGE
    assert solo.node.last_index == 1


@pytest.mark.parametrize(
    "settings", [Settings(inflight_messages_max=3), Settings(inflight_bytes_max=30)]
)
def test_appends_are_pipelined_within_the_window(settings: Settings) -> None:
    """§10.2.1: without waiting, up to the limit in messages or bytes."""
    solo = Solo(1, settings=settings)
    solo.lead()
    sent: list[int] = []
    for _ in range(6):
        solo.node.propose([b"x" * 10])
        sent += [m.entries[0].index for m in only(solo.drain(), AppendRequest) if m.target == 2]
    assert sent == [2, 3, 4]
    more = only(solo.receive(accept(2, 1, term=1, index=3)), AppendRequest)
    assert [[e.index for e in m.entries] for m in more if m.target == 2 and m.entries] == [
        [5, 6, 7]
    ]


def test_an_append_is_limited_in_bytes_but_has_one_entry_at_least() -> None:
    """§10.2.2: batches are bounded."""
    solo = Solo(1, settings=Settings(append_bytes_max=10))
    solo.lead()
    solo.node.propose([b"1234", b"1234", b"1234", b"x" * 50])
    sent = [m for m in only(solo.drain(), AppendRequest) if m.target == 2]
    assert [len(message.entries) for message in sent] == [2, 1, 1]


def test_the_preferred_node_gets_the_leadership_when_it_is_well() -> None:
    """Ours: after it has answered for a while."""
    settings = Settings(preferred_ticks_min=30)
    cluster = Cluster(3, settings=settings)
    leader = cluster.elect(1)
    for member in cluster.members.values():
        member.node.prefer(NodeId(2))
    cluster.run(25)
    assert leader.role is Role.LEADER
    cluster.run(15)
    assert cluster[2].role is Role.LEADER


@pytest.mark.parametrize("count", [1, 3])
def test_a_leader_leads_anew_in_another_term(count: int) -> None:
    """Ours: those who have just heard of it vote for it all the same."""
    cluster = Cluster(count)
    leader = cluster.elect(1)
    cluster.propose("a")
    term, last = leader.term, leader.last_index
    assert leader.lead_anew() is None
    assert leader.role is Role.CANDIDATE
    cluster.settle()
    assert (leader.role, leader.term) == (Role.LEADER, term + 1)
    assert terms_of(leader)[last:] == [term + 1]
    cluster.propose("b")
    assert all(member.applied[-1] == b"b" for member in cluster.members.values())


def test_who_does_not_lead_does_not_lead_anew() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    refused = cluster[2].lead_anew()
    assert refused is not None
    assert refused.reason is Refusal.NOT_LEADER
    assert cluster[2].role is Role.FOLLOWER


def test_a_sick_preferred_node_is_tried_less_and_less() -> None:
    """Ours: the wait doubles each time it loses the leadership soon."""
    settings = Settings(preferred_ticks_min=20, preferred_ticks_max=640)
    cluster = Cluster(3, settings=settings, seed=5)
    cluster.elect(1)
    for member in cluster.members.values():
        member.node.prefer(NodeId(2))
    gained = []
    for tick in range(1200):
        cluster.run(1)
        if cluster[2].role is Role.LEADER:
            gained.append(tick)
            cluster.members[NodeId(2)].hung = True
            cluster[2].propose([b"x"])
            cluster.run(25)
            cluster.members[NodeId(2)].hung = False
    waits = [after - before for before, after in itertools.pairwise(gained)]
    assert len(gained) <= 7
    assert waits[-1] > 4 * waits[0]


def test_a_silent_snapshot_transfer_is_given_up() -> None:
    """Ours: after a while without progress the leader probes the follower again."""
    cluster = Cluster(3, settings=Settings(snapshot_ticks_max=40))
    leader = cluster.elect(1)
    cluster.crash(3)
    for _ in range(3):
        cluster.propose("x")
    cluster.snapshot(1)
    cluster.restart(3)
    progress = leader.state.progress[NodeId(3)]
    for _ in range(30):
        cluster.tick()
        cluster.settle(keep=lambda message: type(message).__name__ != "SnapshotRequest")
    assert progress.flow is Flow.SNAPSHOT
    leader.report_snapshot(NodeId(3), SnapshotStatus.MOVING)
    assert progress.snapshot_ticks == 0
    cluster.run(60)
    assert cluster[3].applied_index == 4


def test_a_leader_does_not_campaign() -> None:
    """The verb campaign is for those who may lead and do not."""
    solo = Solo(1, log=(1, 1), term=1)
    solo.lead()
    solo.node.campaign()
    assert (solo.node.role, solo.node.term) == (Role.LEADER, 2)
    assert solo.drain() == []
