"""Raft paper, sections 5.3 to 5.6 and figure 2: one test per demand, in order.

The title of the section is in the docstring; the name of the test is the claim.
"""

import pytest

from mako.entry import EntryId, Index, Term
from mako.errors import ConfigError
from mako.raft import Role, Settings
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    Message,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from tests.raft.cluster import Cluster, log_of, terms_of
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat,
    heartbeat_reply,
    one,
    only,
    pre_vote_reply,
    reject,
    vote_request,
)


def leader(**situation: object) -> Solo:
    """Node 1 of three, leading, with its first entry committed."""
    solo = Solo(1, **situation)  # type: ignore[arg-type]
    solo.lead()
    return solo


def never_to_3(message: Message) -> bool:
    return message.target != 3


def always(message: Message) -> bool:
    return message is not None


# --- 5.3 ---------------------------------------------------------------------------------------


def test_a_leader_appends_a_proposal_and_sends_it_to_all() -> None:
    """§5.3: in parallel."""
    solo = leader()
    where = solo.node.propose([b"x"])
    assert where == EntryId(Term(1), Index(2))
    sent = only(solo.drain(), AppendRequest)
    assert [(m.target, [e.data for e in m.entries]) for m in sent] == [(2, [b"x"]), (3, [b"x"])]


def test_an_entry_is_applied_once_it_is_safely_replicated() -> None:
    """§5.3: and not before."""
    solo = leader()
    solo.node.propose([b"x"])
    solo.drain()
    assert [entry.data for entry in solo.applied] == [b""]
    solo.receive(accept(2, 1, term=1, index=2))
    assert [entry.data for entry in solo.applied] == [b"", b"x"]


def test_a_leader_repeats_itself_until_all_followers_have_everything() -> None:
    """§5.3: indefinitely, also after it has answered the client."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.settle(keep=never_to_3)
    for _ in range(5):
        cluster.propose("x")
        cluster.network.clear()
    for number in range(40):
        cluster.tick(1)
        lossy = number % 3 != 0
        cluster.settle(keep=never_to_3 if lossy else always)
    assert terms_of(cluster[3]) == terms_of(cluster[1])


def test_an_entry_has_a_term_an_index_and_a_command() -> None:
    """§5.3: figure 6."""
    solo = leader(log=(1, 1), term=1)
    solo.node.propose([b"x"])
    ready = solo.node.ready()
    assert [(e.term, e.index, e.data) for e in ready.entries] == [(2, 4, b"x")]


@pytest.mark.parametrize(
    ("members", "acknowledged", "committed"),
    [(3, (), False), (3, (2,), True), (5, (2,), False), (5, (2, 3), True), (4, (2,), False)],
)
def test_an_entry_is_committed_by_a_majority(
    members: int, acknowledged: tuple[int, ...], *, committed: bool
) -> None:
    """§5.3: counted with the leader."""
    solo = leader(members=members)
    solo.node.propose([b"x"])
    solo.drain()
    solo.receive(*[accept(n, 1, term=1, index=2) for n in acknowledged])
    assert (solo.node.commit_index == 2) == committed


def test_a_commit_brings_all_entries_before_it() -> None:
    """§5.3: those of earlier leaders too."""
    solo = Solo(1, log=(1, 2, 2), term=2)
    solo.lead(replicated=False)
    assert solo.node.commit_index == 0
    solo.receive(accept(2, 1, term=3, index=4))
    assert [entry.term for entry in solo.applied] == [1, 2, 2, 3]


def test_appends_and_heartbeats_carry_the_commit_index() -> None:
    """§5.3: so that the others find out."""
    solo = leader()
    solo.node.propose([b"x"])
    assert {m.commit for m in only(solo.drain(), AppendRequest)} == {1}
    solo.receive(accept(2, 1, term=1, index=2))
    beats = only(solo.tick(1), Heartbeat)
    # Never more than the receiver has.
    assert [(beat.target, beat.commit) for beat in beats] == [(2, 2), (3, 1)]


def test_a_follower_applies_what_is_committed_in_order() -> None:
    """§5.3: once it learns of it."""
    solo = Solo(2)
    solo.receive(append(1, 2, term=1, entries=(1, 1, 1), commit=0))
    assert solo.applied == []
    solo.receive(append(1, 2, term=1, previous=(1, 3), commit=2))
    assert [entry.index for entry in solo.applied] == [1, 2]
    solo.receive(heartbeat(1, 2, term=1, commit=3))
    assert [entry.index for entry in solo.applied] == [1, 2, 3]


def test_a_leader_makes_one_entry_per_index_and_term() -> None:
    """§5.3: and entries never change their position."""
    solo = leader()
    first = solo.node.propose([b"a"])
    second = solo.node.propose([b"b"])
    assert first == EntryId(Term(1), Index(2))
    assert second == EntryId(Term(1), Index(3))


def test_an_append_names_the_entry_before_it() -> None:
    """§5.3: by index and term."""
    solo = leader(log=(1, 2), term=4)
    solo.node.propose([b"x"])
    assert {m.previous for m in only(solo.drain(), AppendRequest)} == {EntryId(Term(5), Index(3))}


@pytest.mark.parametrize("previous", [(1, 3), (2, 2), (3, 1)])
def test_a_follower_refuses_an_append_behind_an_entry_it_has_not(
    previous: tuple[int, int],
) -> None:
    """§5.3: the consistency check."""
    solo = Solo(2, log=(1, 1), term=3)
    sent = solo.receive(append(1, 2, term=3, previous=previous, entries=(3,)))
    reply = one(sent, AppendReply)
    assert not reply.accepted
    assert reply.index == previous[1]
    assert solo.terms == [1, 1]


@pytest.mark.parametrize(
    "terms",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
)
def test_a_leader_brings_each_follower_of_figure_7_into_line(terms: tuple[int, ...]) -> None:
    """§5.3: conflicting entries are overwritten, missing ones sent."""
    cluster = Cluster(3)
    cluster.restore(1, log_of(1, 1, 1, 4, 4, 5, 5, 6, 6, 6), term=7)
    cluster.restore(2, log_of(*terms), term=7)
    cluster.restore(3, [], term=7)
    cluster.elect(1)
    cluster.run(3)
    assert terms_of(cluster[2]) == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]
    assert terms_of(cluster[3]) == terms_of(cluster[2])


def test_a_new_leader_begins_behind_its_last_entry() -> None:
    """§5.3: next index."""
    solo = Solo(1, log=(1, 1, 2), term=2)
    sent = only(solo.lead(replicated=False), AppendRequest)
    assert {message.previous for message in sent} == {EntryId(Term(2), Index(3))}


def test_a_refused_append_is_tried_again_further_back() -> None:
    """§5.3: until the logs match."""
    solo = Solo(1, log=(1, 1, 2), term=2)
    solo.lead(replicated=False)
    sent = solo.receive(reject(2, 1, term=3, index=3, hint=(1, 2)))
    again = one(sent, AppendRequest)
    assert again.previous == EntryId(Term(1), Index(2))
    assert [entry.term for entry in again.entries] == [2, 3]


def test_a_term_of_conflicts_costs_one_refusal() -> None:
    """§5.3: the optimisation by conflict term."""
    cluster = Cluster(3)
    cluster.restore(1, log_of(1, *[3] * 40), term=4)
    cluster.restore(2, log_of(1, *[2] * 60), term=4)
    cluster.restore(3, log_of(1, *[3] * 40), term=4)
    cluster.elect(1)
    cluster.run(2)
    refused = [m for m in cluster.sent if isinstance(m, AppendReply) and not m.accepted]
    assert len(refused) <= 2
    assert terms_of(cluster[2]) == terms_of(cluster[1])


def test_a_leader_never_changes_its_own_log() -> None:
    """§5.3: the leader append-only property."""
    solo = leader(log=(1, 2, 2), term=2)
    before = solo.terms
    for previous in ((0, 0), (1, 1), (2, 3)):
        solo.receive(append(2, 1, term=1, previous=previous, entries=(1, 1)))
    solo.receive(reject(2, 1, term=3, index=3, hint=(0, 0)))
    assert solo.terms == before


def test_a_slow_follower_does_not_hold_up_the_others() -> None:
    """§5.3: one round to a majority commits."""
    cluster = Cluster(3)
    leader_node = cluster.elect(1)
    cluster.isolate(3)
    cluster.propose("x")
    assert leader_node.commit_index == 2


# --- 5.4 ---------------------------------------------------------------------------------------


def test_a_vote_request_tells_of_the_candidates_log() -> None:
    """§5.4.1: the voter can compare."""
    solo = Solo(1, log=(1, 2), term=2)
    solo.node.campaign()
    solo.drain()
    sent = solo.receive(pre_vote_reply(2, 1, term=3, granted=True))
    assert {m.last for m in only(sent, VoteRequest)} == {EntryId(Term(2), Index(2))}


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        ((1, 1), False),
        ((1, 9), False),  # Longer, but of an earlier term.
        ((2, 2), False),  # The same term, but shorter.
        ((2, 3), True),
        ((2, 4), True),
        ((3, 1), True),  # Shorter, but of a later term.
    ],
)
def test_a_voter_denies_its_vote_to_a_log_behind_its_own(
    last: tuple[int, int], *, granted: bool
) -> None:
    """§5.4.1: the later last term is more up-to-date, then the longer log."""
    solo = Solo(2, log=(1, 1, 2), term=2)
    reply = one(solo.receive(vote_request(1, 2, term=3, last=last)), VoteReply)
    assert reply.granted == granted


def test_entries_of_an_older_term_are_not_committed_by_counting() -> None:
    """§5.4.2 and figure 8: a majority may hold them and still lose them."""
    solo = Solo(1, log=(1, 2), term=3, members=5)
    solo.lead(replicated=False)
    solo.receive(*[accept(n, 1, term=4, index=2) for n in (2, 3, 4, 5)])
    assert solo.node.commit_index == 0
    solo.receive(accept(2, 1, term=4, index=3), accept(3, 1, term=4, index=3))
    assert solo.node.commit_index == 3


def test_figure_8_ends_with_one_truth() -> None:
    """§5.4.2: (a) to (d), with all five nodes."""
    cluster = Cluster(5)
    cluster.restore(1, log_of(1, 2), term=4)
    cluster.restore(2, log_of(1, 2), term=2)
    cluster.restore(3, log_of(1), term=4)
    cluster.restore(4, log_of(1), term=3)
    cluster.restore(5, log_of(1, 3), term=3)
    # (c): 1 leads again and brings entry 2 to a majority, while 5 with its other one is away.
    cluster.isolate(5)
    node = cluster.elect(1)
    assert terms_of(node)[:2] == [1, 2]
    cluster.run(2)
    # An entry of its own term is behind it, so now 5 cannot win, though nobody hears a leader.
    cluster.crash(1)
    cluster.heal()
    for _ in range(2):  # The first time it learns of the term.
        for number in (2, 3, 4):
            cluster[number].state.election_elapsed = cluster.settings.election_ticks
        cluster[5].campaign()
        cluster.settle()
    asked = [m.term for m in cluster.sent if isinstance(m, PreVoteRequest) and m.source == 5]
    assert asked[-1] == node.term + 1
    assert cluster[5].role is not Role.LEADER
    cluster.run(60)
    assert all(terms_of(cluster[n])[:2] == [1, 2] for n in (2, 3, 4, 5))


def test_entries_keep_their_terms_when_a_new_leader_sends_them() -> None:
    """§5.4.2: it is easier to reason about them."""
    solo = Solo(1, log=(1, 2), term=5)
    solo.lead(replicated=False)
    again = one(solo.receive(reject(2, 1, term=6, index=2, hint=(0, 0))), AppendRequest)
    assert [entry.term for entry in again.entries] == [1, 2, 6]


# --- 5.5, 5.6, figure 2 ------------------------------------------------------------------------


def test_a_repeated_append_changes_nothing() -> None:
    """§5.5: requests are idempotent."""
    solo = Solo(2)
    request = append(1, 2, term=1, entries=(1, 1), commit=1)
    first = one(solo.receive(request), AppendReply)
    again = one(solo.receive(request), AppendReply)
    assert first == again
    assert solo.terms == [1, 1]


def test_an_old_append_does_not_take_later_entries_away() -> None:
    """§5.3 step 3 of figure 2: only a conflict deletes."""
    solo = Solo(2, log=(1, 1, 1), term=1)
    solo.receive(append(1, 2, term=1, previous=(1, 1), entries=(1,)))
    assert solo.terms == [1, 1, 1]


def test_an_old_append_is_answered_with_what_is_committed() -> None:
    """§5.5: a leader that asks far back goes on from there, and not at every entry between."""
    solo = Solo(2, log=(1, 1, 1), term=1, commit=3)
    reply = one(solo.receive(append(1, 2, term=2, previous=(1, 1))), AppendReply)
    assert (reply.accepted, reply.index) == (True, 3)


def test_a_conflicting_entry_goes_with_all_that_follow() -> None:
    """Figure 2, AppendEntries, step 3."""
    solo = Solo(2, log=(1, 2, 2, 2), term=2)
    solo.receive(append(1, 2, term=3, previous=(1, 1), entries=(3,)))
    assert solo.terms == [1, 3]


def test_a_follower_commits_no_more_than_the_append_matched() -> None:
    """Figure 2, AppendEntries, step 5: the minimum of both."""
    solo = Solo(2, log=(1, 1, 1), term=1)
    solo.receive(append(1, 2, term=2, previous=(1, 1), entries=(1,), commit=3))
    assert solo.node.commit_index == 2


def test_a_crashed_follower_is_asked_again() -> None:
    """§5.5: indefinitely."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster.propose("x")
    cluster.run(25)
    cluster.restart(3)
    cluster.run(5)
    assert cluster[3].commit_index == 2


def test_the_election_timeout_is_well_above_the_heartbeat() -> None:
    """§5.6: the timing requirement."""
    with pytest.raises(ConfigError, match="more than twice"):
        Settings(election_ticks=4, heartbeat_ticks=2)


def test_term_vote_and_entries_are_on_disk_before_the_answer() -> None:
    """Figure 2: persistent state is updated before responding."""
    solo = Solo(2)
    solo.node.step(vote_request(1, 2, term=1))
    ready = solo.node.ready()
    assert ready.messages == []
    assert ready.must_sync
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (1, 1)
    assert one(ready.messages_after_sync, VoteReply).granted
    solo.save(ready)
    solo.node.step(append(1, 2, term=1, entries=(1,)))
    ready = solo.node.ready()
    assert ready.must_sync
    assert len(ready.entries) == 1
    assert only(ready.messages, AppendReply) == []
    assert one(ready.messages_after_sync, AppendReply).accepted


def test_a_heartbeat_answer_makes_a_leader_look_for_lost_appends() -> None:
    """§5.3: what was lost is sent again, however it was lost."""
    solo = leader()
    solo.node.propose([b"x"])
    solo.drain()
    sent = solo.receive(heartbeat_reply(2, 1, term=1))
    assert one(sent, AppendRequest).previous == EntryId(Term(1), Index(2))
