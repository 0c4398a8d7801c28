"""What went wrong: in the best-known Python Raft (PySyncObj), and in ours in the simulator."""

from collections.abc import Callable

import pytest

from mako import raft
from mako.entry import (
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.raft import Refusal, Refused, Role, Settings
from mako.raft.configuration import encode
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    Message,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    SnapshotReply,
    VoteReply,
)
from mako.storage import errors
from tests.raft.cluster import GROUP, Cluster, log_of, nodes, terms_of, voters
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat,
    heartbeat_reply,
    one,
    only,
    vote_request,
)
from tests.raft.watch import Violation


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


# --- What the simulator found ------------------------------------------------------------------


def test_raft_and_storage_raise_the_same_error_for_what_is_compacted() -> None:
    """Two classes of one name: the first follower behind the cut killed its leader."""
    assert raft.Compacted is errors.Compacted


def _joint_log(joint: Configuration) -> list[Entry]:
    return [*log_of(1), Entry(Term(1), Index(2), EntryKind.CONFIGURATION, encode(joint))]


def test_a_new_leader_ends_a_joint_configuration_that_was_committed_before_it() -> None:
    """The old leader died between the commit of the joint entry and its end."""
    cluster = Cluster(voters(1, 2, 3, learners=(4,)))
    joint = Configuration(nodes(1, 2, 4), outgoing=nodes(1, 2, 3))
    for number in (1, 2, 3, 4):
        cluster.restore(number, _joint_log(joint), term=1, commit=2)
    leader = cluster.elect(2)
    assert leader.configuration == voters(1, 2, 4)


def test_a_leader_without_a_vote_of_its_own_leaves_after_the_first_commit() -> None:
    """It was elected by the old half; the end of the joint configuration does not have it."""
    cluster = Cluster(voters(1, 2, 3, learners=(4,)))
    joint = Configuration(nodes(1, 2, 4), outgoing=nodes(1, 2, 3))
    for number in (1, 2, 3, 4):
        cluster.restore(number, _joint_log(joint), term=1, commit=2)
    cluster[3].campaign()
    cluster.run(30)
    leader = cluster.leader()
    assert leader is not None
    assert leader.id != 3
    assert leader.configuration == voters(1, 2, 4)


@pytest.mark.parametrize("committed", [False, True])
def test_a_node_campaigns_without_a_vote_while_it_alone_may_know_so(*, committed: bool) -> None:
    """Thesis §4.2.2: its log may be the newest, and nobody else can be elected (simulator, seed
    20126)."""
    joint = Configuration(nodes(1, 2), outgoing=nodes(2, 3), learners_next=nodes(3))
    after = Configuration(nodes(1, 2), learners=nodes(3))
    log = [*_joint_log(joint), Entry(Term(1), Index(3), EntryKind.CONFIGURATION, encode(after))]
    solo = Solo(3, members=voters(2, 3), entries=log, term=1, commit=3 if committed else 2)
    asked = only(solo.tick(25), PreVoteRequest)
    assert {request.target for request in asked} == (set() if committed else {1, 2})


def _change_members(cluster: Cluster, target: Configuration) -> None:
    leader = cluster.leader()
    assert leader is not None
    assert leader.propose_configuration(target)
    cluster.run(5)


def test_changes_of_members_from_before_the_loss_do_not_bring_a_node_back() -> None:
    """R11: replaying the old log it saw itself taken out and made a voter, and believed it."""
    cluster = Cluster(3)
    cluster.elect(1)
    _change_members(cluster, voters(1, 2, learners=(3,)))
    _change_members(cluster, voters(1, 2, 3))
    cluster.propose("x")
    cluster.wipe(3)
    cluster.crash(2)  # So nobody can confirm the leader.
    cluster.restart(3)
    cluster.run(8)
    assert cluster[3].commit_index == cluster[1].commit_index
    assert cluster[3].returning, "nothing that it has is newer than its loss"
    cluster.restart(2)
    cluster.run(30)
    assert not cluster[3].returning


@pytest.mark.parametrize("returning", [False, True])
def test_who_is_returning_keeps_no_leader_in_office(*, returning: bool) -> None:
    """R11: it says that it is returning in every answer, so that its answers count for nothing."""
    solo = Solo(1)
    solo.lead()
    for _ in range(6):
        solo.tick(5)
        solo.receive(heartbeat_reply(3, 1, term=1, returning=returning))
    assert (solo.node.role is Role.LEADER) != returning


@pytest.mark.parametrize("returning", [False, True])
@pytest.mark.parametrize("by_snapshot", [False, True])
def test_nothing_is_committed_by_who_is_returning(*, by_snapshot: bool, returning: bool) -> None:
    """R11, with the first answer that a new leader gets of it."""
    solo = Solo(1, log=(1, 1), term=1)
    solo.lead(replicated=False)
    answer: Message = accept(3, 1, term=2, index=3, returning=returning)
    if by_snapshot:
        answer = SnapshotReply(GROUP, NodeId(3), NodeId(1), 2, 3, returning)
    solo.receive(answer)
    assert solo.node.commit_index == (0 if returning else 3)


def test_what_was_said_between_two_losses_of_a_disk_does_not_count() -> None:
    """R11: it was true when it was said, and arrives behind the news of the second loss."""
    solo = Solo(1)
    solo.lead()
    solo.receive(heartbeat_reply(3, 1, term=1, returning=True))
    solo.node.propose([b"x"])
    solo.drain()
    solo.receive(accept(3, 1, term=1, index=2, returning=True))
    hint = EntryId(Term(0), Index(0))
    lost = AppendReply(
        GROUP, NodeId(3), NodeId(1), 1, accepted=False, index=1, hint=hint, returning=True
    )
    solo.receive(lost, accept(3, 1, term=1, index=2))
    solo.node.propose([b"y"])
    solo.drain()
    assert solo.node.commit_index == 1
    solo.receive(accept(3, 1, term=1, index=3))
    assert solo.node.commit_index == 3, "nothing before the loss was about that one"


def test_a_change_that_needs_who_is_returning_is_refused() -> None:
    """R11: it would be a majority of those that count, and does not count."""
    solo = Solo(1)
    solo.lead()
    solo.receive(heartbeat_reply(3, 1, term=1, returning=True))
    refused = solo.node.propose_configuration(voters(1, 3))
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.NOT_ALLOWED
    assert "of 2 voters only 1 answer, 2 are needed; repair or replace 3" in refused.message
    assert solo.node.propose_configuration(voters(1, 2))


def test_an_idle_group_takes_a_returning_node_back() -> None:
    """Nobody proposes anything, so the leader adds what is above the floor itself."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.wipe(3)
    cluster.restart(3)
    cluster.run(30)
    assert not cluster[3].returning
    assert leader.last_index == 2, "once, not at every question"


def test_a_returning_node_that_learns_by_snapshot_that_it_is_a_learner_comes_back() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    _change_members(cluster, voters(1, 2, learners=(3,)))
    cluster.wipe(3)
    cluster.snapshot(1)
    cluster.restart(3)
    cluster.run(30)
    assert cluster[3].storage.first_index() > 1, "it was given a snapshot"
    _change_members(cluster, voters(1, 2, 3))
    cluster.propose("x")
    cluster.run(5)
    assert not cluster[3].returning
    cluster.crash(2)
    cluster.propose("y")
    assert leader.commit_index == leader.last_index, "it counts"


def test_a_promotion_that_a_snapshot_hides_brings_a_node_back_too() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.wipe(3)
    cluster.restart(3)
    cluster.run(20)
    _change_members(cluster, voters(1, 2, learners=(3,)))
    cluster.members[NodeId(3)].hung = True
    _change_members(cluster, voters(1, 2, 3))
    cluster.propose("x")
    cluster.crash(3)
    cluster.snapshot(1)
    cluster.restart(3)
    cluster.run(30)
    cluster.propose("y")
    cluster.run(5)
    assert not cluster[3].returning


def test_a_restart_between_promotion_and_return_does_not_leave_a_node_out_for_ever() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.wipe(3)
    cluster.restart(3)
    cluster.run(20)
    _change_members(cluster, voters(1, 2, learners=(3,)))
    cluster.isolate(3)
    _change_members(cluster, voters(1, 2, 3))
    cluster.crash(3)
    cluster.heal()
    cluster.restart(3)
    cluster.run(20)
    cluster.propose("x")
    cluster.run(5)
    assert not cluster[3].returning


def test_a_leader_that_no_majority_confirms_gives_no_floor() -> None:
    """R11: a deposed leader knows neither what was committed nor what was promised since."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose("x")
    cluster.wipe(3)
    cluster.isolate(2)
    cluster.restart(3)
    cluster.run(5)
    assert cluster[3].leader == 1
    assert cluster[3].state.floor == 0


def test_the_floor_is_the_end_of_the_leaders_log_not_its_commit_index() -> None:
    """R11: what is not committed yet may have been acknowledged before the loss."""
    solo = Solo(1)
    solo.lead()
    solo.node.propose([b"x", b"y"])
    assert (solo.node.commit_index, solo.node.last_index) == (1, 3)
    request = ReadIndexRequest(GROUP, NodeId(3), NodeId(1), 1, 77, returning=True)
    beats = only(solo.receive(request), Heartbeat)
    sent = solo.receive(heartbeat_reply(2, 1, term=1, read=max(beat.read for beat in beats)))
    reply = one(sent, ReadIndexReply)
    assert (reply.context, reply.index) == (77, 3)


def _returning_with_floor(floor: int) -> Solo:
    solo = Solo(3, returning=True)
    solo.receive(heartbeat(1, 3, term=1))
    asked = one(solo.tick(12), ReadIndexRequest)
    assert asked.returning
    solo.receive(ReadIndexReply(GROUP, NodeId(1), NodeId(3), 1, asked.context, floor))
    return solo


def test_a_returning_node_is_back_when_what_is_above_its_floor_is_on_disk() -> None:
    """R11: a driver that notes the return at once must not lose by a crash what it rests on."""
    solo = _returning_with_floor(2)
    solo.receive(append(1, 3, term=1, entries=(1, 1), commit=2))
    assert solo.node.returning, "nothing above the floor is committed"
    solo.node.step(append(1, 3, term=1, previous=(1, 2), entries=(1,), commit=3))
    assert solo.node.returning, "the entry is not on disk"
    solo.drain()
    assert not solo.node.returning


def test_a_returning_node_is_back_when_its_term_is_on_disk() -> None:
    """R11: the vote that it forgot may be of any term before."""
    solo = _returning_with_floor(2)
    solo.receive(append(1, 3, term=1, entries=(1, 1, 1), commit=2))
    solo.node.step(append(2, 3, term=4, previous=(1, 3), commit=3))
    assert solo.node.returning, "term 4 is not on disk"
    solo.drain()
    assert not solo.node.returning


def test_a_returning_node_takes_no_commit_index_from_a_heartbeat() -> None:
    """The leader means what the node had before; it has entries of another leader now."""
    solo = Solo(3, returning=True)
    solo.receive(append(1, 3, term=1, entries=(1, 1)))
    solo.receive(heartbeat(2, 3, term=2, commit=2))
    assert solo.node.commit_index == 0


def test_an_answer_to_an_earlier_life_is_no_floor() -> None:
    solo = Solo(3, returning=True)
    solo.receive(heartbeat(1, 3, term=1))
    asked = one(solo.tick(12), ReadIndexRequest)
    solo.receive(ReadIndexReply(GROUP, NodeId(1), NodeId(3), 1, asked.context + 1, 1))
    assert solo.node.state.floor == 0


def test_a_returning_node_learns_the_commit_index_though_the_append_that_says_it_is_lost() -> None:
    """It takes none from heartbeats, which are as of what it had before."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.wipe(3)
    cluster.restart(3)
    cluster.run(30)
    leader.propose([b"x"])
    cluster.settle(lambda m: not (isinstance(m, AppendRequest) and m.target == 3 and not m.entries))
    cluster.run(5)
    assert cluster[3].commit_index == leader.commit_index
    assert not cluster[3].returning


def _heartbeat_over_a_stale_suffix(settings: Settings) -> None:
    cluster = Cluster(3, settings=settings)
    old = cluster.elect(1)
    cluster.isolate(1)
    old.propose([b"a", b"b", b"c"])
    cluster.settle()
    cluster.elect(2)
    cluster.propose("d")
    cluster.heal()
    for _ in range(3):
        cluster.tick()
        cluster.settle(lambda m: not (isinstance(m, AppendRequest) and m.target == 1))


def _snapshot_over_a_stale_suffix(settings: Settings) -> None:
    cluster = Cluster(3, settings=settings)
    old = cluster.elect(1)
    cluster.isolate(1)
    old.propose([b"a", b"b", b"c"])
    cluster.settle()
    cluster.elect(2)
    cluster.propose("d")
    cluster.snapshot(2)
    cluster.heal()
    cluster.run(30)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("commit_index_beyond_match", _heartbeat_over_a_stale_suffix),
        ("snapshot_over_uncommitted_prefix", _snapshot_over_a_stale_suffix),
    ],
)
def test_a_run_of_the_real_core_reaches_the_planted_bug(
    name: str, run: Callable[[Settings], None]
) -> None:
    run(Settings())
    with pytest.raises(Violation):
        run(Settings(planted=frozenset({name})))


def test_the_log_is_needed_from_where_members_that_answer_have_it() -> None:
    """Seed 102284: it was cut while a snapshot was on its way, so the next one was needed."""
    solo = Solo(1, log=(1, 1, 1, 1), term=1)
    assert solo.node.needed_after == 4, "who does not lead keeps nothing for others"
    solo.lead(replicated=False)
    solo.receive(accept(2, 1, term=2, index=5), accept(3, 1, term=2, index=3))
    assert solo.node.needed_after == 3
    solo.receive(accept(3, 1, term=2, index=5))
    assert solo.node.needed_after == 5


def test_a_member_to_which_a_snapshot_goes_needs_what_follows_that() -> None:
    solo = Solo(1, log=(1, 1, 1, 1), term=1)
    solo.lead()
    solo.node.state.progress[NodeId(3)].match = 0
    solo.node.state.progress[NodeId(3)].become_snapshot(3)
    assert solo.node.needed_after == 3


def test_nothing_is_needed_for_a_member_that_is_silent_or_that_only_a_new_snapshot_helps() -> None:
    start = SnapshotMeta(Index(2), Term(1), voters(1, 2, 3))
    entries = log_of(1, 1, 1, 1)[2:]
    solo = Solo(1, entries=entries, term=1, snapshot=start)
    solo.lead(replicated=False)
    solo.receive(accept(2, 1, term=2, index=5))
    assert solo.node.state.progress[NodeId(3)].match == 0
    assert solo.node.needed_after == 5, "its next entry is gone"
    solo.receive(accept(3, 1, term=2, index=3))
    assert solo.node.needed_after == 3
    for _ in range(4):
        solo.tick(9)
        solo.receive(heartbeat_reply(2, 1, term=2))
    assert solo.node.role is Role.LEADER
    assert solo.node.needed_after == 5, "it is silent"


def test_votes_for_a_longer_log_do_not_elect_a_node_that_lost_its_end() -> None:
    """A vote is asked for once the log that the request speaks of is on disk, and the term is.

    Otherwise: the candidate crashes, comes back with less, campaigns in the same term, and counts
    the votes that were given to what it had.
    """
    cluster = Cluster(5)
    leader = cluster.elect(1)
    cluster.isolate(5)
    cluster.members[NodeId(4)].hung = True
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit_index == 2, "1, 2 and 3 have it on disk"
    assert cluster[4].last_index == 2, "4 has it, and not on disk"
    cluster.crash(1)
    cluster.heal()
    # 4 campaigns. What it is answered is late, or comes twice.
    late: list[Message] = []

    def is_no_answer(message: Message) -> bool:
        if isinstance(message, PreVoteReply | VoteReply) and message.target == 4:
            late.append(message)
        return not isinstance(message, VoteReply)

    for number in (2, 3, 5):
        cluster[number].state.election_elapsed = cluster.settings.election_ticks
    cluster[4].campaign()
    cluster.settle(is_no_answer)
    cluster.crash(4)
    cluster.restart(4)
    assert cluster[4].last_index == 1
    cluster[4].campaign()
    for message in sorted(late, key=lambda message: isinstance(message, VoteReply)):
        cluster.collect(cluster.members[NodeId(4)])
        while cluster.members[NodeId(4)].writing:
            cluster.sync(cluster.members[NodeId(4)])
        cluster.deliver(message)
    cluster.settle(lambda message: not isinstance(message, PreVoteReply | VoteReply))
    assert cluster[4].role is not Role.LEADER
    cluster.run(60)
    new = cluster.leader()
    assert new is not None
    assert new.state.log.term(2) == 1, "what was committed is still there"
