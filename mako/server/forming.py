"""Is this the first start of a process, or has it lost its disk? Its peers know.

An empty folder looks the same either way, and the difference is that between a new group and the
loss of what was acknowledged: a node that has forgotten its votes must not vote (R11). So a
process that finds no log asks all other processes that have voters of its groups:

    all of them answered, and none has ever taken part in an election     it is a new cluster
    one of them has                                                       this disk was lost

A group whose processes have all just started forms; a node whose disk was lost goes on as
returning. Whoever cannot reach all others waits, and says for whom.

Why that is safe. Whatever this node acknowledged before a loss was voted for or committed with
another voter, one of the first or one that came later, which had a term on disk before its message
left; that one answers that it has taken part, or does not answer. Nothing is asked of learners,
which have no part in a majority, unless there is no other voter: then the loss of this disk is that
of a majority, but who has followed it must not find another group in its place.

A later member without a log is new, or has lost its disk: it cannot tell, and nobody else could for
sure, so it always begins as returning. One that is new takes part nowhere before it has entries.

Of a folder that was formed before nothing is asked. A first voter that it has never had was in
another process until its site moved here under the same id: its log is there, or lost. It goes on
as returning. It cannot be of a new group, as the number of partitions of a cluster is for ever.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from mako.server.folder import FolderState
from mako.server.plan import ReplicaPlan


class Verdict(Enum):
    """What a process with an empty folder is."""

    #: Not everybody has answered.
    WAITING = "waiting"
    NEW = "new"
    RETURNING = "returning"


@dataclass(slots=True)
class Forming:
    """Collects the answers of the `others`: numbers of the processes with voters."""

    others: frozenset[int]
    _answers: dict[int, bool] = field(default_factory=dict)

    def on_answer(self, process: int, *, has_history: bool) -> None:
        """A process said whether it has ever had a term above zero in one of the groups."""
        if process in self.others:
            self._answers[process] = has_history

    @property
    def missing(self) -> Iterable[int]:
        """Who has not answered."""
        return sorted(self.others - self._answers.keys())

    @property
    def verdict(self) -> Verdict:
        if any(self._answers.values()):
            return Verdict.RETURNING
        return Verdict.WAITING if self.others - self._answers.keys() else Verdict.NEW


def later_members(replicas: Iterable[ReplicaPlan], stored: Collection[int]) -> list[ReplicaPlan]:
    """Those that joined their groups, or replaced somebody, and have no log."""
    return [
        replica for replica in replicas if not replica.is_founder and replica.group not in stored
    ]


def moved_in(
    replicas: Iterable[ReplicaPlan], state: FolderState, stored: Collection[int]
) -> list[ReplicaPlan]:
    """First voters of which a folder that was formed before has never had anything. What it has
    once noted and is not `stored` began here and had not yet reached the disk: nobody has heard
    of it."""
    return [
        replica
        for replica in replicas
        if replica.is_founder and state.node(replica.group) is None and replica.group not in stored
    ]
