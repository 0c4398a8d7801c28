"""Every planted bug is found: by a scenario made for it, and most by random schedules too.

A scenario asserts what a right node does. It passes without the bug and fails with it; so the
guarded line of each bug was seen to matter.
"""

from collections.abc import Callable
from typing import Final

import pytest

from mako.entry import Configuration
from mako.errors import ConfigError
from mako.raft import Settings, planted
from mako.raft.message import AppendReply, Heartbeat, VoteReply
from tests.raft.cluster import Cluster, nodes, voters
from tests.raft.schedule import Schedule
from tests.raft.solo import (
    Solo,
    accept,
    append,
    heartbeat_reply,
    one,
    only,
    snapshot,
    vote_request,
)

Scenario = Callable[[Settings], None]


def append_acknowledged_before_sync(settings: Settings) -> None:
    solo = Solo(2, settings=settings)
    solo.node.step(append(1, 2, term=1, entries=(1,)))
    ready = solo.node.ready()
    assert not only(ready.messages, AppendReply), "acknowledged before the entry is on disk"
    assert only(ready.messages_after_sync, AppendReply)


def append_truncates_without_comparing(settings: Settings) -> None:
    solo = Solo(2, log=(1, 1, 1), term=1, settings=settings)
    solo.receive(append(1, 2, term=1, previous=(1, 1), entries=(1,)))
    assert solo.terms == [1, 1, 1], "an old append took acknowledged entries away"


def commit_index_beyond_match(settings: Settings) -> None:
    solo = Solo(2, log=(1, 1), term=2, settings=settings)
    solo.receive(append(1, 2, term=2, previous=(1, 1), commit=2))
    assert solo.node.commit_index == 1, "entry 2 may not be the leader's"


def configuration_applied_on_restart_lost(settings: Settings) -> None:
    cluster = Cluster(3, settings=settings)
    leader = cluster.elect(1)
    cluster.add(4)
    assert leader.propose_configuration(voters(1, 2, 3, learners=(4,)))
    cluster.settle()
    cluster.crash(2)
    cluster.restart(2)
    assert cluster[2].configuration == voters(1, 2, 3, learners=(4,))


def joint_counts_one_majority(settings: Settings) -> None:
    joint = Configuration(nodes(1, 4, 5), outgoing=nodes(1, 2, 3))
    solo = Solo(1, members=joint, settings=settings)
    solo.lead(replicated=False)
    solo.receive(accept(4, 1, term=1, index=1), accept(5, 1, term=1, index=1))
    assert solo.node.commit_index == 0, "the old majority has not got it"


def older_term_committed_by_counting(settings: Settings) -> None:
    solo = Solo(1, log=(1, 2), term=3, members=5, settings=settings)
    solo.lead(replicated=False)
    solo.receive(accept(2, 1, term=4, index=2), accept(3, 1, term=4, index=2))
    assert solo.node.commit_index == 0, "a node with a later term may still replace it"


def read_index_before_own_term_commit(settings: Settings) -> None:
    solo = Solo(1, log=(1, 1), term=1, settings=settings)
    solo.lead(replicated=False)
    solo.node.read_index(5)
    for beat in only(solo.drain(), Heartbeat):
        solo.receive(heartbeat_reply(beat.target, 1, term=2, read=beat.read))
    assert not solo.reads, "the leader does not know yet how much is committed"


def read_index_reused(settings: Settings) -> None:
    solo = Solo(1, settings=settings)
    solo.lead()
    solo.node.read_index(1)
    first = only(solo.drain(), Heartbeat)[0].read
    solo.receive(heartbeat_reply(2, 1, term=1, read=first))
    assert len(solo.reads) == 1
    solo.node.read_index(2)
    solo.drain()
    # It was on its way since the first read.
    solo.receive(heartbeat_reply(3, 1, term=1, read=first))
    assert len(solo.reads) == 1, "an old answer proved a new read"


def snapshot_over_uncommitted_prefix(settings: Settings) -> None:
    solo = Solo(2, log=(1, 1, 1, 1), term=1, commit=1, settings=settings)
    solo.receive(snapshot(1, 2, term=1, last=(1, 3), members=voters(1, 2, 3)))
    assert solo.node.last_index == 4, "what follows the snapshot was acknowledged"
    assert solo.node.commit_index == 3


def vote_granted_twice(settings: Settings) -> None:
    solo = Solo(3, settings=settings)
    assert one(solo.receive(vote_request(1, 3, term=1)), VoteReply).granted
    assert not one(solo.receive(vote_request(2, 3, term=1)), VoteReply).granted


def vote_not_persisted(settings: Settings) -> None:
    solo = Solo(3, settings=settings)
    assert one(solo.receive(vote_request(1, 3, term=1)), VoteReply).granted
    solo.restart()
    assert not one(solo.receive(vote_request(2, 3, term=1)), VoteReply).granted


def vote_without_log_check(settings: Settings) -> None:
    solo = Solo(3, log=(1, 1), term=1, settings=settings)
    sent = solo.receive(vote_request(1, 3, term=2, last=(1, 1)))
    assert not one(sent, VoteReply).granted


def wiped_node_votes(settings: Settings) -> None:
    solo = Solo(3, settings=settings, returning=True)
    assert not only(solo.receive(vote_request(1, 3, term=1)), VoteReply)
    assert not solo.tick(40)


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        append_acknowledged_before_sync,
        append_truncates_without_comparing,
        commit_index_beyond_match,
        configuration_applied_on_restart_lost,
        joint_counts_one_majority,
        older_term_committed_by_counting,
        read_index_before_own_term_commit,
        read_index_reused,
        snapshot_over_uncommitted_prefix,
        vote_granted_twice,
        vote_not_persisted,
        vote_without_log_check,
        wiped_node_votes,
    )
}


def test_every_bug_has_a_scenario() -> None:
    assert set(SCENARIOS) == planted.NAMES


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_right_node_passes_and_one_with_the_bug_does_not(name: str) -> None:
    SCENARIOS[name](Settings())
    with pytest.raises(AssertionError):
        SCENARIOS[name](Settings(planted=frozenset({name})))


# The others need a rare order of events: the scenarios stand for them.
FOUND_BY_SCHEDULES: Final = (
    "append_acknowledged_before_sync",
    "append_truncates_without_comparing",
    "commit_index_beyond_match",
    "read_index_before_own_term_commit",
    "read_index_reused",
    "snapshot_over_uncommitted_prefix",
    "vote_granted_twice",
    "vote_not_persisted",
    "vote_without_log_check",
    "wiped_node_votes",
)
SCHEDULES_MAX: Final = 500


@pytest.mark.parametrize("name", FOUND_BY_SCHEDULES)
def test_random_schedules_find_it(name: str) -> None:
    for number in range(SCHEDULES_MAX):
        schedule = Schedule(number, planted=name)
        try:
            schedule.run(4000)
        except AssertionError:
            return
    pytest.fail(f"{SCHEDULES_MAX} schedules are clean in spite of {name}")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown names: vote_twise"):
        Settings(planted=frozenset({"vote_twise"}))
