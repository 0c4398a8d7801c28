"""Majorities, of one configuration and of two at once (Raft §5.2, §6). Arithmetic only."""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Final

from mako.entry import Configuration, NodeId

#: What a group without voters agrees on: everything, so that it never limits the other half.
INDEX_ALL: Final = 1 << 62


class Outcome(Enum):
    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(count: int) -> int:
    """The least number of voters out of `count` of which any two sets meet."""
    return count // 2 + 1


def majority_index(voters: Collection[NodeId], index_of: Callable[[NodeId], int]) -> int:
    """The greatest index that a majority of `voters` has reached. O(n log n)."""
    if not voters:
        return INDEX_ALL
    # Ascending: the one with a majority at or after it.
    return sorted(map(index_of, voters))[(len(voters) - 1) // 2]


def joint_index(
    configuration: Configuration,
    index_of: Callable[[NodeId], int],
    planted: frozenset[str] = frozenset(),
) -> int:
    """The greatest index that is committed: in a joint configuration by both majorities."""
    index = majority_index(configuration.voters, index_of)
    if configuration.outgoing and "joint_counts_one_majority" not in planted:
        index = min(index, majority_index(configuration.outgoing, index_of))
    return index


def has_quorum(
    configuration: Configuration,
    yes: Collection[NodeId],
    planted: frozenset[str] = frozenset(),
) -> bool:
    """Whether the nodes in `yes` are a majority, in a joint configuration of both halves."""
    votes = dict.fromkeys(yes, True)
    return vote_outcome(configuration, votes, planted) is Outcome.WON


def vote_outcome(
    configuration: Configuration,
    votes: Mapping[NodeId, bool],
    planted: frozenset[str] = frozenset(),
) -> Outcome:
    """What the votes say so far. Votes of others than voters do not count."""
    outcome = _outcome_of(configuration.voters, votes)
    if not configuration.outgoing or "joint_counts_one_majority" in planted:
        return outcome
    other = _outcome_of(configuration.outgoing, votes)
    if Outcome.LOST in (outcome, other):
        return Outcome.LOST
    return Outcome.WON if outcome is other is Outcome.WON else Outcome.PENDING


def _outcome_of(voters: Collection[NodeId], votes: Mapping[NodeId, bool]) -> Outcome:
    yes = no = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is not None:
            yes += vote
            no += not vote
    needed = majority(len(voters))
    if yes >= needed:
        return Outcome.WON
    return Outcome.LOST if no > len(voters) - needed else Outcome.PENDING
