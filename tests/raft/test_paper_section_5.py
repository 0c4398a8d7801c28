"""Raft paper, sections 5.1 and 5.2: one test per sentence that demands something, in order.

The title of the section is in the docstring; the name of the test is the claim.
"""

import pytest

from mako.entry import NodeId
from mako.raft import RaftNode, Role, Settings
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from tests.raft.cluster import Cluster, voters
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat,
    one,
    only,
    pre_vote_reply,
    vote_reply,
    vote_request,
)


def candidate(**situation: object) -> Solo:
    """Node 1 of three, asking for votes in the next term."""
    solo = Solo(1, **situation)  # type: ignore[arg-type]
    solo.node.campaign()
    term = solo.node.term + 1
    solo.receive(*[pre_vote_reply(n, 1, term=term, granted=True) for n in (2, 3)])
    assert solo.node.role is Role.CANDIDATE
    return solo


def leader(**situation: object) -> Solo:
    """Node 1 of three, leading, with its first entry committed."""
    solo = Solo(1, **situation)  # type: ignore[arg-type]
    solo.lead()
    return solo


def drawing(draws: list[int]) -> RaftNode:
    """A node whose timeouts are drawn from this list; the last one repeats."""

    def draw(count: int) -> int:
        if count != Settings().election_ticks:
            return 0
        return draws.pop(0) if len(draws) > 1 else draws[0]

    return RaftNode.restore(
        Settings(), node=NodeId(1), configuration=voters(1, 2, 3), randrange=draw
    )


# --- 5.1 ---------------------------------------------------------------------------------------


def test_there_is_one_leader_and_all_others_are_followers() -> None:
    """§5.1: the normal case."""
    cluster = Cluster(5)
    cluster.run(40)
    roles = [member.node.role for member in cluster.members.values()]
    assert sorted(role.value for role in roles) == ["follower"] * 4 + ["leader"]


def test_followers_only_answer() -> None:
    """§5.1: followers are passive."""
    solo = Solo(2)
    assert solo.receive() == []
    assert solo.tick(9) == []


def test_a_follower_asked_by_a_client_names_the_leader() -> None:
    """§5.1: the follower redirects the client."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=1))
    assert not solo.node.propose([b"x"])
    assert solo.node.leader == 1


def test_a_term_begins_with_an_election_and_is_one_above() -> None:
    """§5.1: terms are consecutive integers."""
    assert candidate(term=4).node.term == 5


@pytest.mark.parametrize("make", [lambda: Solo(2, term=1), candidate, leader])
def test_a_smaller_term_is_raised_to_the_larger_one(make: object) -> None:
    """§5.1: terms are exchanged whenever servers communicate."""
    assert callable(make)
    solo = make()
    solo.receive(append(3, solo.node.id, term=8))
    assert solo.node.term == 8


@pytest.mark.parametrize("make", [candidate, leader])
def test_a_candidate_or_leader_with_an_old_term_becomes_a_follower(make: object) -> None:
    """§5.1: it reverts at once."""
    assert callable(make)
    solo = make()
    solo.receive(accept(2, 1, term=9, index=0))
    assert solo.node.role is Role.FOLLOWER
    assert solo.node.term == 9


def test_a_request_with_an_old_term_is_refused() -> None:
    """§5.1: stale requests are rejected."""
    solo = Solo(2, log=(1, 2), term=4)
    reply = one(solo.receive(append(1, 2, term=3, previous=(2, 2), entries=(3,))), AppendReply)
    assert not reply.accepted
    assert reply.term == 4
    assert solo.terms == [1, 2]
    assert not one(solo.receive(vote_request(1, 2, term=3, last=(9, 9))), VoteReply).granted


# --- 5.2 ---------------------------------------------------------------------------------------


def test_a_node_starts_as_a_follower() -> None:
    """§5.2: also one that led before it crashed."""
    solo = leader()
    solo.restart()
    assert solo.node.role is Role.FOLLOWER


def test_it_stays_a_follower_while_a_leader_is_heard() -> None:
    """§5.2: valid messages of a leader keep it so."""
    solo = Solo(2)
    for _ in range(50):
        solo.tick(9)
        solo.receive(heartbeat(1, 2, term=1))
    assert solo.node.role is Role.FOLLOWER
    assert solo.node.term == 1


def test_granting_a_vote_restarts_the_timeout() -> None:
    """§5.2: hearing of a valid candidate counts like a leader, though its term is no news."""
    solo = Solo(2, term=1)
    solo.tick(9)
    assert one(solo.receive(vote_request(1, 2, term=1)), VoteReply).granted
    assert solo.tick(9) == []


def test_a_leader_sends_heartbeats_to_all_in_every_period() -> None:
    """§5.2: to keep its authority."""
    solo = leader(settings=Settings(heartbeat_ticks=3))
    assert only(solo.tick(2), Heartbeat) == []
    assert [beat.target for beat in only(solo.tick(1), Heartbeat)] == [2, 3]


def test_silence_for_an_election_timeout_begins_an_election() -> None:
    """§5.2: the follower assumes that there is no leader."""
    solo = Solo(2)
    asked = only(solo.tick(10), PreVoteRequest)
    assert [request.target for request in asked] == [1, 3]


def test_a_candidate_raises_its_term_and_votes_for_itself() -> None:
    """§5.2: to begin an election."""
    solo = candidate(term=2)
    assert solo.node.term == 3
    assert solo.node.state.vote == 1
    assert solo.node.storage.initial_state()[0].vote == 1


def test_it_asks_all_others_at_once() -> None:
    """§5.2: vote requests are issued in parallel."""
    solo = Solo(1, members=5)
    solo.node.campaign()
    sent = solo.receive(*[pre_vote_reply(n, 1, term=1, granted=True) for n in (2, 3)])
    assert [request.target for request in only(sent, VoteRequest)] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("members", "yes", "wins"),
    [(1, (), True), (3, (), False), (3, (2,), True), (5, (2,), False), (5, (2, 3), True)],
)
def test_a_majority_of_all_votes_in_a_term_wins(
    members: int, yes: tuple[int, ...], *, wins: bool
) -> None:
    """§5.2: of the full group, not of those that answer."""
    solo = Solo(1, members=members)
    solo.node.campaign()
    solo.drain()
    solo.receive(*[pre_vote_reply(n, 1, term=1, granted=True) for n in range(2, members + 1)])
    solo.receive(*[vote_reply(n, 1, term=1, granted=True) for n in yes])
    assert (solo.node.role is Role.LEADER) == wins


def test_votes_of_another_term_do_not_count() -> None:
    """§5.2: for the same term."""
    solo = candidate(term=4)
    solo.receive(vote_reply(2, 1, term=4, granted=True))
    assert solo.node.role is Role.CANDIDATE


@pytest.mark.parametrize(("vote", "asks", "granted"), [(0, 1, True), (1, 1, True), (3, 1, False)])
def test_one_vote_in_a_term_first_come_first_served(vote: int, asks: int, *, granted: bool) -> None:
    """§5.2: and the same candidate may be answered twice."""
    solo = Solo(2, term=1, vote=vote)
    reply = one(solo.receive(vote_request(asks, 2, term=1)), VoteReply)
    assert reply.granted == granted


def test_a_vote_outlives_a_crash() -> None:
    """§5.2 and figure 2: the vote is persistent."""
    solo = Solo(2)
    solo.receive(vote_request(1, 2, term=1))
    solo.restart()
    assert not one(solo.receive(vote_request(3, 2, term=1)), VoteReply).granted


def test_who_knows_the_leader_of_a_term_gives_no_vote_in_it() -> None:
    """§5.2: that election is over, though this node had no part in it."""
    solo = Solo(2)
    solo.receive(heartbeat(1, 2, term=3))
    assert not one(solo.receive(vote_request(3, 2, term=3)), VoteReply).granted


def test_a_winner_tells_everyone_at_once() -> None:
    """§5.2: to establish authority and prevent new elections."""
    solo = candidate()
    sent = solo.receive(vote_reply(2, 1, term=1, granted=True))
    assert [message.target for message in only(sent, AppendRequest)] == [2, 3]


@pytest.mark.parametrize("term", [1, 2])
def test_a_candidate_follows_a_leader_of_its_term_or_a_later_one(term: int) -> None:
    """§5.2: the leader is legitimate."""
    solo = candidate()
    solo.receive(append(2, 1, term=term))
    assert solo.node.role is Role.FOLLOWER
    assert solo.node.leader == 2
    assert solo.node.term == term


def test_a_candidate_refuses_a_leader_of_an_older_term_and_goes_on() -> None:
    """§5.2: and continues as a candidate."""
    solo = candidate(term=3)
    reply = one(solo.receive(append(2, 1, term=3)), AppendReply)
    assert not reply.accepted
    assert solo.node.role is Role.CANDIDATE


def test_a_split_vote_ends_with_a_new_election_in_a_higher_term() -> None:
    """§5.2: each candidate times out and starts again."""
    solo = candidate()
    assert solo.node.term == 1
    sent = solo.tick(10)
    assert only(sent, PreVoteRequest)
    solo.receive(*[pre_vote_reply(n, 1, term=2, granted=True) for n in (2, 3)])
    assert solo.node.term == 2
    assert solo.node.role is Role.CANDIDATE


def test_timeouts_are_drawn_from_one_to_two_election_times() -> None:
    """§5.2: randomly, from a fixed interval."""
    drawn = []
    for number in range(10):
        node = drawing([number])
        count = 0
        while not node.has_ready():
            node.tick()
            count += 1
        drawn.append(count)
    assert drawn == list(range(10, 20))


def test_a_candidate_draws_a_new_timeout_for_each_election() -> None:
    """§5.2: which makes another split vote unlikely."""
    node = drawing([3, 4, 5, 6, 7])
    timeouts = [node.state.election_timeout]
    for _ in range(60):
        node.tick()
        if node.state.election_timeout != timeouts[-1]:
            timeouts.append(node.state.election_timeout)
    assert timeouts[0] == 13
    assert len(timeouts) > 2
