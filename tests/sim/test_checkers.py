"""Each rule of the simulator fails on a history that breaks it, made by hand."""

import pytest

from mako.entry import (
    NODE_NONE,
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    HardState,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from mako.raft import RaftNode, Ready, Role, Settings, SoftState
from mako.raft.following import NO_HINT
from mako.raft.message import AppendReply, Message, VoteReply
from mako.sim.checkers import Checks, GroupChecks, Violation
from mako.sim.coverage import Coverage
from mako.sim.history import History
from mako.sim.model import ModelMachine

GROUP = GroupId(0)
VOTERS = Configuration(frozenset(map(NodeId, (1, 2, 3))))


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(Term(term), Index(index), EntryKind.NORMAL, data)


def node(number: int, *entries: Entry, term: int = 1, commit: int = 0) -> RaftNode:
    return RaftNode.restore(
        Settings(),
        node=NodeId(number),
        configuration=VOTERS,
        entries=entries,
        term=term,
        commit=commit,
    )


def leader(number: int, *entries: Entry, term: int) -> RaftNode:
    """A node that takes itself for the leader of `term`."""
    found = node(number, *entries, term=term)
    found.state.role = Role.LEADER
    found.state.leader = NodeId(number)
    return found


def ready(
    *,
    entries: tuple[Entry, ...] = (),
    hard_state: HardState | None = None,
    messages: list[Message] | None = None,
    after: list[Message] | None = None,
    role: SoftState | None = None,
    number: int = 1,
    snapshot: SnapshotMeta | None = None,
) -> Ready:
    must_sync = bool(entries or hard_state or snapshot)
    return Ready(
        number, hard_state, entries, snapshot, must_sync, messages or [], after or [], (), [], role
    )


@pytest.fixture
def checks() -> GroupChecks:
    return Checks([GROUP], Coverage()).groups[GROUP]


def leads(number: int) -> SoftState:
    return SoftState(NodeId(number), Role.LEADER)


def hard(term: int, vote: int = NODE_NONE, commit: int = 0) -> HardState:
    return HardState(Term(term), NodeId(vote), Index(commit))


# --- Raft --------------------------------------------------------------------------------------


def test_two_leaders_of_a_term_break_election_safety(checks: GroupChecks) -> None:
    checks.on_ready(leader(1, term=2), ready(role=leads(1)))
    with pytest.raises(Violation, match="election safety"):
        checks.on_ready(leader(2, term=2), ready(role=leads(2)))


def test_leaders_of_two_terms_break_nothing(checks: GroupChecks) -> None:
    checks.on_ready(leader(1, term=2), ready(role=leads(1)))
    checks.on_ready(leader(2, term=3), ready(role=leads(2)))
    assert checks.coverage["leader_changed"] == 1


def test_a_leader_that_replaces_an_entry_is_not_append_only(checks: GroupChecks) -> None:
    old = leader(1, entry(1, 1), entry(2, 1), term=2)
    checks.on_started(old)
    checks.on_ready(old, ready(role=leads(1)))
    with pytest.raises(Violation, match="leader append-only"):
        checks.on_ready(old, ready(entries=(entry(2, 2),)))


def test_two_entries_with_one_id_break_log_matching(checks: GroupChecks) -> None:
    checks.on_started(node(1, entry(1, 1, b"a")))
    with pytest.raises(Violation, match="log matching"):
        checks.on_started(node(2, entry(1, 1, b"b")))


def test_an_entry_behind_another_one_breaks_log_matching(checks: GroupChecks) -> None:
    checks.on_started(node(1, entry(1, 1), entry(2, 3)))
    with pytest.raises(Violation, match="log matching"):
        checks.on_started(node(2, entry(1, 2), entry(2, 3)))


def test_a_leader_without_what_was_applied_is_not_complete(checks: GroupChecks) -> None:
    follower = node(1, entry(1, 1, b"x"), commit=1)
    checks.on_started(follower)
    checks.on_applied(follower, ModelMachine(), ())
    machine = ModelMachine()
    machine.apply([entry(1, 1)])
    checks.on_applied(follower, machine, [entry(1, 1)])
    with pytest.raises(Violation, match="leader completeness"):
        checks.on_ready(leader(2, term=2), ready(role=leads(2)))


def test_other_entries_at_an_index_break_state_machine_safety(checks: GroupChecks) -> None:
    checks.on_applied(node(1), ModelMachine(), [entry(1, 1)])
    with pytest.raises(Violation, match="state machine safety"):
        checks.on_applied(node(2), ModelMachine(), [entry(1, 2)])


def test_a_gap_in_what_is_applied_breaks_state_machine_safety(checks: GroupChecks) -> None:
    with pytest.raises(Violation, match="applies 2 after 0"):
        checks.on_applied(node(1), ModelMachine(), [entry(2, 1)])


def test_a_snapshot_of_what_was_never_applied_breaks_state_machine_safety(
    checks: GroupChecks,
) -> None:
    with pytest.raises(Violation, match="was never applied"):
        checks.on_restored(node(1), ModelMachine(), SnapshotMeta(Index(4), Term(1), VOTERS))


def test_a_snapshot_of_another_entry_than_was_applied_breaks_state_machine_safety(
    checks: GroupChecks,
) -> None:
    checks.on_applied(node(1), ModelMachine(), [entry(1, 1)])
    with pytest.raises(Violation, match="a snapshot at 1@2 was never applied"):
        checks.on_restored(node(2), ModelMachine(), SnapshotMeta(Index(1), Term(2), VOTERS))


def test_who_was_restored_goes_on_behind_the_snapshot(checks: GroupChecks) -> None:
    entries, machine = [entry(1, 1), entry(2, 1)], ModelMachine()
    machine.apply(entries[:1])
    checks.on_applied(node(1), machine, entries[:1])
    checks.on_restored(node(2), machine, SnapshotMeta(Index(1), Term(1), VOTERS))
    with pytest.raises(Violation, match="applies 1 after 1"):
        checks.on_applied(node(2), machine, entries)
    machine.apply(entries[1:])
    checks.on_applied(node(2), machine, entries[1:])
    assert checks.applied == entries


def test_who_is_ahead_of_all_that_was_applied_breaks_state_machine_safety(
    checks: GroupChecks,
) -> None:
    checks.on_applied(node(1), ModelMachine(), [entry(1, 1)])
    checks._of(NodeId(2)).applied = 2
    with pytest.raises(Violation, match="invents entry 3"):
        checks.on_applied(node(2), ModelMachine(), [entry(3, 1)])


def test_other_states_at_a_position_are_not_equal(checks: GroupChecks) -> None:
    same, other = ModelMachine(), ModelMachine()
    other.open_term(1, [])
    other.execute(bytes([1]) + bytes(13))
    (data,) = other.drain()
    same.apply([entry(1, 1)])
    other.apply([entry(1, 1, data)])
    checks.on_applied(node(1), same, [entry(1, 1)])
    with pytest.raises(Violation, match="equal states"):
        checks.on_applied(node(2), other, [entry(1, 1)])


# --- The disk and what leaves before it --------------------------------------------------------


def test_a_node_that_changes_its_vote_breaks_one_vote(checks: GroupChecks) -> None:
    checks.on_ready(node(1), ready(hard_state=hard(2, 2)))
    with pytest.raises(Violation, match="one vote"):
        checks.on_ready(node(1), ready(hard_state=hard(2, 3)))


def test_two_granted_votes_break_one_vote(checks: GroupChecks) -> None:
    for candidate in (2, 3):
        vote = VoteReply(GROUP, NodeId(1), NodeId(candidate), 2, granted=True)
        after = ready(hard_state=hard(2, candidate), after=[vote])
        if candidate == 2:
            checks.on_durable(node(1), after)
            continue
        with pytest.raises(Violation, match="one vote"):
            checks.on_durable(node(1), after)


def test_who_votes_for_itself_votes_for_nobody_else(checks: GroupChecks) -> None:
    """No message says so: the candidate counts itself when its vote is on disk."""
    checks.on_durable(node(3), ready(hard_state=hard(2, 3)))
    vote = VoteReply(GROUP, NodeId(3), NodeId(2), 2, granted=True)
    with pytest.raises(Violation, match="n3 voted twice in term 2"):
        checks.on_durable(node(3), ready(after=[vote]))


def test_a_term_that_falls_is_noticed(checks: GroupChecks) -> None:
    checks.on_ready(node(1), ready(hard_state=hard(3)))
    with pytest.raises(Violation, match="terms rise"):
        checks.on_ready(node(1), ready(hard_state=hard(2)))


def test_a_vote_that_is_not_on_disk_is_not_honest(checks: GroupChecks) -> None:
    vote = VoteReply(GROUP, NodeId(1), NodeId(2), 2, granted=True)
    with pytest.raises(Violation, match="honest messages"):
        checks.on_durable(node(1), ready(hard_state=hard(2), after=[vote]))


@pytest.mark.parametrize("target", [2, 4])
def test_a_vote_for_another_one_than_is_on_disk_is_not_honest(
    checks: GroupChecks, target: int
) -> None:
    checks.on_durable(node(1), ready(hard_state=hard(2, 3)))
    vote = VoteReply(GROUP, NodeId(1), NodeId(target), 2, granted=True)
    with pytest.raises(Violation, match="honest messages"):
        checks.on_durable(node(1), ready(after=[vote]))


def test_a_vote_that_leaves_at_once_is_not_honest(checks: GroupChecks) -> None:
    vote = VoteReply(GROUP, NodeId(1), NodeId(2), 2, granted=True)
    with pytest.raises(Violation, match="honest messages"):
        checks.on_ready(node(1), ready(messages=[vote]))


@pytest.mark.parametrize("on_disk", [0, 1])
def test_an_acknowledgement_that_leaves_before_the_disk_is_not_honest(
    checks: GroupChecks, on_disk: int
) -> None:
    def acknowledged(index: int) -> Ready:
        reply = AppendReply(GROUP, NodeId(1), NodeId(2), 1, True, index, NO_HINT)  # noqa: FBT003
        return ready(messages=[reply])

    here = node(1, *[entry(index + 1, 1) for index in range(on_disk)])
    if on_disk:
        checks.on_durable(here, ready(entries=(entry(1, 1),)))
        checks.on_ready(here, acknowledged(1))
    with pytest.raises(Violation, match=f"acknowledges {on_disk + 1}, has {on_disk}"):
        checks.on_ready(here, acknowledged(on_disk + 1))


def test_a_disk_that_forgets_a_snapshot_is_not_honest(checks: GroupChecks) -> None:
    meta = SnapshotMeta(Index(2), Term(1), VOTERS)
    checks.on_durable(node(1, entry(1, 1), entry(2, 1)), ready(snapshot=meta))
    with pytest.raises(Violation, match="had entry 2@1 on disk"):
        checks.on_started(node(1, entry(1, 1)))


def test_a_disk_that_forgets_an_entry_is_not_honest(checks: GroupChecks) -> None:
    before = node(1, entry(1, 1))
    checks.on_durable(before, ready(entries=(entry(1, 1),)))
    checks.on_started(before)
    with pytest.raises(Violation, match="honest disk"):
        checks.on_started(node(1))


@pytest.mark.parametrize(
    "found", [hard(1, 2, 1), hard(2, 0, 1), hard(2, 3, 1), hard(2, 2, 0), hard(3, 0, 0)]
)
def test_a_disk_that_forgets_the_hard_state_is_not_honest(
    checks: GroupChecks, found: HardState
) -> None:
    checks.on_durable(node(1), ready(hard_state=hard(2, 2, 1)))
    again = RaftNode.restore(
        Settings(),
        node=NodeId(1),
        configuration=VOTERS,
        entries=[entry(1, 1)],
        term=found.term,
        vote=found.vote,
        commit=found.commit,
    )
    with pytest.raises(Violation, match="honest disk"):
        checks.on_started(again)


def test_an_entry_that_was_being_replaced_may_be_gone(checks: GroupChecks) -> None:
    before = node(1, entry(1, 1), entry(2, 1))
    checks.on_durable(before, ready(entries=(entry(1, 1), entry(2, 1)), number=1))
    checks.on_ready(before, ready(entries=(entry(2, 2),), number=2))
    checks.on_started(node(1, entry(1, 1), entry(2, 2)))


def test_a_wiped_node_owes_nothing(checks: GroupChecks) -> None:
    checks.on_durable(node(1, entry(1, 1)), ready(entries=(entry(1, 1),)))
    checks.on_wiped(NodeId(1))
    checks.on_started(node(1))


# --- What clients see --------------------------------------------------------------------------


@pytest.fixture
def history() -> History:
    found = History()
    for value in (10, 11, 12, 13):
        found.asked(1, value)
    found.asked(2, 20)
    found.appended(1, 10, 1, 0)
    found.appended(1, 11, 2, 1)
    return found


def test_a_read_that_misses_an_acknowledged_value_is_not_linearizable(history: History) -> None:
    with pytest.raises(Violation, match="linearizability"):
        history.read(1, [10], floor=2)


def test_a_read_that_overlaps_an_append_may_miss_it(history: History) -> None:
    history.read(1, [10], floor=1)


def test_reads_that_contradict_each_other_are_not_linearizable(history: History) -> None:
    history.read(1, [10, 11], 2)
    with pytest.raises(Violation, match="contradict"):
        history.read(1, [10, 12, 13], 2)


def test_an_append_before_what_was_known_is_not_linearizable(history: History) -> None:
    with pytest.raises(Violation, match="linearizability"):
        history.appended(1, 12, 2, 2)


def test_two_values_at_a_position_are_not_linearizable(history: History) -> None:
    with pytest.raises(Violation, match="two values"):
        history.appended(1, 12, 2, 1)


def test_a_read_that_has_another_value_than_was_acknowledged_is_noticed(history: History) -> None:
    with pytest.raises(Violation, match="was put at 2"):
        history.read(1, [10, 12], 2)


@pytest.mark.parametrize("values", [[10], [11, 10], [10, 12]])
def test_an_acknowledged_value_that_is_gone_is_lost(history: History, values: list[int]) -> None:
    with pytest.raises(Violation, match="nothing lost"):
        history.check_end(1, values)


def test_what_a_read_saw_and_is_gone_is_lost(history: History) -> None:
    history.read(1, [10, 11, 12], 2)
    with pytest.raises(Violation, match="nothing lost"):
        history.check_end(1, [10, 11])


def test_a_value_that_is_there_twice_is_noticed(history: History) -> None:
    with pytest.raises(Violation, match="twice"):
        history.check_end(1, [10, 11, 10])


def test_a_value_that_was_refused_and_is_there_is_noticed(history: History) -> None:
    history.refused(12)
    with pytest.raises(Violation, match="refused"):
        history.check_end(1, [10, 11, 12])


@pytest.mark.parametrize("value", [14, 20])
def test_a_value_that_nobody_put_there_is_noticed(history: History, value: int) -> None:
    with pytest.raises(Violation, match=f"{value}, which nobody put there"):
        history.check_end(1, [10, 11, value])


def test_a_value_whose_fate_is_unknown_may_be_there_or_not(history: History) -> None:
    history.check_end(1, [10, 11, 13])
    history.check_end(1, [10, 11])
