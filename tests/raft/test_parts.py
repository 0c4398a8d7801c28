"""The parts that are arithmetic: quorums, progress, unstable entries, the log, configurations."""

import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.entry import (
    NODE_NONE,
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    GroupId,
    HardState,
    Index,
    NodeId,
    Term,
)
from mako.errors import ConfigError
from mako.raft import LogLost, MemoryLogStorage, RaftNode, Settings
from mako.raft.configuration import ConfigurationDamaged, History, decode, encode
from mako.raft.log import RaftLog
from mako.raft.message import AppendReply, AppendRequest, VoteReply, VoteRequest
from mako.raft.progress import Flow, Progress
from mako.raft.quorum import Outcome, has_quorum, joint_index, majority_index, vote_outcome
from mako.raft.storage import Compacted, limit_bytes
from mako.raft.unstable import Unstable
from tests.raft.cluster import log_of, nodes, voters

# --- Quorum ------------------------------------------------------------------------------------

sets = st.frozensets(st.integers(1, 6).map(NodeId), max_size=5)


@given(sets, st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_a_majority_index_is_what_a_majority_has_reached(
    members: frozenset[NodeId], indexes: list[int]
) -> None:
    found = majority_index(members, lambda node: indexes[node])
    reached = [sum(indexes[n] >= index for n in members) * 2 > len(members) for index in range(6)]
    expected = max((i for i in range(6) if reached[i]), default=0)
    assert not members or found == expected


@given(sets, sets, st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_a_joint_index_is_in_both_majorities(
    new: frozenset[NodeId], old: frozenset[NodeId], indexes: list[int]
) -> None:
    found = joint_index(Configuration(new, outgoing=old), lambda node: indexes[node])
    both = [majority_index(half, lambda node: indexes[node]) for half in (new, old)]
    assert found == min(both)


def test_the_outcome_of_votes_agrees_with_counting_all_ways_they_can_end() -> None:
    configuration = Configuration(nodes(1, 2, 3), outgoing=nodes(3, 4))
    for votes in product((True, False, None), repeat=4):
        given_votes = {NodeId(n): v for n, v in enumerate(votes, 1) if v is not None}
        missing = [n for n in range(1, 5) if NodeId(n) not in given_votes]
        ends = set()
        for rest in product((True, False), repeat=len(missing)):
            full = given_votes | {NodeId(n): v for n, v in zip(missing, rest, strict=True)}
            yes = {n for n, v in full.items() if v}
            ends.add(len(yes & nodes(1, 2, 3)) >= 2 and len(yes & nodes(3, 4)) >= 2)
        expected = {True: Outcome.WON, False: Outcome.LOST}[ends.pop()] if len(ends) == 1 else None
        assert vote_outcome(configuration, given_votes) is (expected or Outcome.PENDING)


def test_a_learners_vote_does_not_count() -> None:
    assert not has_quorum(voters(1, 2, 3, learners=(4,)), nodes(1, 4))


# --- Progress ----------------------------------------------------------------------------------


def test_progress_keeps_its_invariant_under_any_answers(seed: int) -> None:
    """R13, with answers old and new, in any order."""
    chance = random.Random(seed)
    progress = Progress(NodeId(2), 1)
    last = 0
    for _ in range(3000):
        action = chance.randrange(6)
        if action == 0:
            last += 1
        elif action == 1 and progress.next <= last and not progress.is_paused(3, 1000):
            progress.sent(log_of(*[1] * last)[progress.next - 1 :])
        elif action == 2:
            progress.accepted(chance.randint(0, min(progress.next - 1, last)))
        elif action == 3:
            progress.rejected(chance.randint(0, last), chance.randint(0, last + 1))
        elif action == 4:
            chance.choice((progress.become_probe, progress.become_replicate))()
        elif chance.random() < 0.1 and last > progress.match:
            progress.become_snapshot(last)
            progress.become_probe()
        progress.check()


def test_a_probe_is_one_append_at_a_time() -> None:
    progress = Progress(NodeId(2), 4)
    assert not progress.is_paused(10, 100)
    progress.sent(log_of(1, 1, 1, 1)[3:])
    assert progress.is_paused(10, 100)
    progress.accepted(4)
    assert not progress.is_paused(10, 100)


def test_an_old_rejection_does_not_move_a_follower_that_replicates() -> None:
    progress = Progress(NodeId(2), 4)
    progress.accepted(3)
    progress.become_replicate()
    assert not progress.rejected(2, 2)
    assert progress.flow is Flow.REPLICATE


# --- Unstable ----------------------------------------------------------------------------------


def entries(first: int, *terms: int) -> list[Entry]:
    return [
        Entry(Term(term), Index(first + i), EntryKind.NORMAL, b"") for i, term in enumerate(terms)
    ]


def test_entries_become_stable_with_the_ready_that_took_them() -> None:
    unstable = Unstable(2)
    unstable.append(entries(3, 1, 1))
    assert [e.index for e in unstable.take(1)] == [3, 4]
    unstable.append(entries(5, 1))
    assert [e.index for e in unstable.take(2)] == [5]
    assert unstable.written(1)
    assert (unstable.stable, unstable.offset) == (4, 5)
    assert unstable.written(2)
    assert (unstable.stable, unstable.entries) == (5, [])


def test_an_entry_that_came_back_is_not_stable_by_its_first_write() -> None:
    """U2: written in term 1, replaced, and sent again: the disk has the replacement meanwhile."""
    unstable = Unstable(0)
    unstable.append(entries(1, 1, 1))
    unstable.take(1)
    unstable.append(entries(2, 2))
    unstable.take(2)
    unstable.append(entries(2, 1))
    unstable.written(1)
    assert unstable.stable == 1
    unstable.take(3)
    unstable.written(2)
    assert unstable.stable == 1
    unstable.written(3)
    assert unstable.stable == 2


def test_a_replaced_stable_entry_is_unstable_again() -> None:
    unstable = Unstable(5)
    unstable.append(entries(4, 2))
    assert unstable.stable == 3
    assert [e.index for e in unstable.take(1)] == [4]


# --- Log ---------------------------------------------------------------------------------------


def test_the_log_reads_across_disk_and_memory_within_the_bound() -> None:
    storage = MemoryLogStorage(voters(1), log_of(1, 1, data="1234"))
    log = RaftLog(storage, commit=0, applied=0)
    log.append([Entry(Term(2), Index(3), EntryKind.NORMAL, b"1234")])
    assert [e.index for e in log.entries(1, 4, 100)] == [1, 2, 3]
    assert [e.index for e in log.entries(1, 4, 8)] == [1, 2]
    assert [e.index for e in log.entries(1, 4, 0)] == [1]
    assert [log.term(i) for i in range(5)] == [0, 1, 1, 2, 0]


def test_a_compacted_log_says_so() -> None:
    storage = MemoryLogStorage(voters(1), log_of(1, 1, 2, 2))
    storage.create_snapshot(3, voters(1))
    storage.compact(2)
    log = RaftLog(storage, commit=3, applied=3)
    assert log.term(2) == 1
    with pytest.raises(Compacted):
        log.term(1)
    with pytest.raises(Compacted):
        log.entries(2, 4, 100)
    assert log.matches(1, 1), "what is compacted was committed"


def test_a_prefix_by_bytes_has_one_entry_at_least() -> None:
    made = log_of(1, 1, 1, data="123")
    assert len(limit_bytes(made, 0)) == 1
    assert len(limit_bytes(made, 6)) == 2
    assert len(limit_bytes(made, 9)) == 3


# --- Configurations ----------------------------------------------------------------------------

configurations = st.builds(Configuration, sets, sets, sets, sets)


@given(configurations)
def test_a_configuration_survives_encoding(configuration: Configuration) -> None:
    assert decode(encode(configuration)) == configuration


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_damaged(data: bytes) -> None:
    try:
        found = decode(data)
    except ConfigurationDamaged:
        return
    assert encode(found) == data


def test_every_truncation_and_extension_is_found() -> None:
    data = encode(Configuration(nodes(1, 2), outgoing=nodes(2, 3), learners=nodes(9)))
    for length in range(len(data)):
        with pytest.raises(ConfigurationDamaged):
            decode(data[:length])
    with pytest.raises(ConfigurationDamaged):
        decode(data + b"\0")


def test_history_answers_for_any_index_and_goes_back() -> None:
    history = History(0, voters(1))
    history.append(4, voters(1, 2))
    history.append(7, voters(1, 2, 3))
    assert [len(history.at(i).voters) for i in (0, 3, 4, 6, 7, 9)] == [1, 1, 2, 2, 3, 3]
    assert history.truncate(7)
    assert history.current == voters(1, 2)
    assert not history.truncate(5)
    history.compact(4)
    assert history.at(4) == voters(1, 2)
    with pytest.raises(AssertionError, match="no configuration is known"):
        history.at(3)


# --- Settings and the start --------------------------------------------------------------------


@pytest.mark.parametrize("field", ["election_ticks", "inflight_messages_max", "append_bytes_max"])
def test_a_setting_below_one_is_refused_by_name(field: str) -> None:
    with pytest.raises(ConfigError, match=f"raft.{field} must be at least 1"):
        replace(Settings(), **{field: 0})  # type: ignore[arg-type]


def test_a_commit_index_beyond_the_log_is_refused_with_what_to_do() -> None:
    state = HardState(Term(2), NodeId(0), Index(5))
    storage = MemoryLogStorage(voters(1, 2, 3), log_of(1, 1), state)
    with pytest.raises(LogLost, match="ends at entry 2, but entry 5 was committed"):
        RaftNode(Settings(), storage, node=NodeId(1), randrange=lambda count: 0)


# --- Readys that are kept back -----------------------------------------------------------------


def test_a_vote_that_waits_behind_entries_is_joined_to_them() -> None:
    """One write and one advance stand for both, and the vote waits for it (R2)."""
    group, me, leader, other = GroupId(0), NodeId(1), NodeId(2), NodeId(3)
    node = RaftNode.restore(Settings(), node=me, configuration=voters(1, 2, 3))
    nothing = EntryId(Term(0), Index(0))
    node.step(AppendRequest(group, leader, me, 1, nothing, log_of(1, 1), 0))
    first = node.ready()
    node.step(VoteRequest(group, other, me, 2, EntryId(Term(1), Index(2)), transfer=True))
    second = node.ready()
    node.join(first, second)
    assert (first.number, first.must_sync, len(first.entries)) == (second.number, True, 2)
    assert first.hard_state == HardState(Term(2), other, Index(0))
    assert [type(message) for message in first.messages_after_sync] == [AppendReply, VoteReply]
    assert node.state.durable_vote == (0, NODE_NONE)
    node.advance(first)
    assert node.state.durable_vote == (2, other)
    assert node.state.log.unstable.stable == 2
    node.state.log.unstable.check()
    assert not node._flying
