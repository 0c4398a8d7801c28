"""What goes wrong between partitions only, beside all other faults (mako.sim.faults).

moved unheard   q moves X ─▶ Y ─▶ X while Y and Z do not hear each other: Z, which leads another
                partition, learns of both epochs at once, and what the first one has lost may be
                below the final watermark of the second
echo            the first mail between two leaders is repeated as soon as one of them has a new
                epoch, and their channels are counted from zero again; in peace, too, for
                it may have been on its way for long
history lost    what a leader tells of epochs does not arrive; its watermarks do, of an epoch
                that is not known there
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from mako.entry import GroupId
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.sim.clock import MS
from mako.sim.process import SimProcess

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

#: Mail that is kept of each two epochs.
_KEPT: Final = 40
#: When it is repeated, on average.
_LATER: Final = (MS, 5 * MS, 50 * MS)
_LOOK: Final = 5 * MS
#: Until a partition has moved, and has moved back: some elections.
_LOOKS: Final = 100
#: Milliseconds for which clients ask a leader that goes.
_PRESSES: Final = 40


class ShardFaults:
    """See the module. Times are virtual, in ns."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._plan = cluster.shards_plan
        self._chance = cluster.chances.of("faults of shards")
        # By the two partitions of mail: by its epochs, what was sent first.
        self._sent: defaultdict[tuple[int, int], dict[tuple[int, int], list[Mail]]]
        self._sent = defaultdict(dict)
        if self._plan.move_distance:
            self._next()

    def _some(self, mean: int) -> int:
        return int(self._chance.expovariate(1.0 / mean)) + MS

    # --- Moved unheard -------------------------------------------------------------------------

    def _next(self) -> None:
        self._loop.after(self._some(self._plan.move_distance), self._strike)

    def _strike(self) -> None:
        if self._cluster.faults.stopped:
            return
        self._next()
        group = self._chance.choice(self._cluster.groups)
        leader = self._cluster.operator.leader_of(group)
        if leader is None or any(leader.leads(g) for g in self._cluster.groups if g != group):
            return  # What else it leads would tell the others.
        others = [one for one in self._cluster.processes if one is not leader]
        self._chance.shuffle(others)
        there, unaware = others
        if not any(unaware.leads(g) for g in self._cluster.groups):
            return
        self._cluster.workload.burst(leader, group, self._chance.choice((5, 20)))
        self._press(leader, group, _PRESSES)
        cut = self._cluster.network.split([there.number], [unaware.number])
        self._loop.after(self._chance.randrange(5 * MS), self._move, leader, there, group)
        self._cluster.faults.be_quiet(_LOOKS * _LOOK)
        self._cluster.faults.counts["moved unheard"] += 1
        self._cluster.note(leader.number, "fault", f"moved unheard by {unaware.number}")
        self._loop.after(_LOOK, self._move_back, leader, there, group, cut, _LOOKS)

    def _press(self, leader: SimProcess, group: GroupId, times: int) -> None:
        """Have clients ask for something as long as it leads: what it has done, and not logged, as
        the leadership goes is lost."""
        if times and leader.leads(group) and not self._cluster.faults.stopped:
            self._cluster.workload.burst(leader, group, 2)
            self._loop.after(MS, self._press, leader, group, times - 1)

    def _move(self, leader: SimProcess, there: SimProcess, group: GroupId) -> None:
        if leader.leads(group) and leader.node(group) is not None:
            leader.transfer(group, there.members[group].node)

    def _move_back(
        self, leader: SimProcess, there: SimProcess, group: GroupId, cut: int, looks: int
    ) -> None:
        node = there.node(group)
        if not looks or self._cluster.faults.stopped:
            self._cluster.network.mend(cut)
        elif node is not None and there.leads(group) and node.state.committed_in_term:
            # Its watermark passes what was lost.
            self._loop.after(self._some(50 * MS), self._move, there, leader, group)
            self._loop.after(_LOOK, self._hear_again, leader, group, cut, looks)
        else:
            again = self._move_back
            self._loop.after(_LOOK, again, leader, there, group, cut, looks - 1)

    def _hear_again(self, leader: SimProcess, group: GroupId, cut: int, looks: int) -> None:
        if not looks or self._cluster.faults.stopped or leader.leads(group):
            self._loop.after(self._some(20 * MS), self._cluster.network.mend, cut)
        else:
            self._loop.after(_LOOK, self._hear_again, leader, group, cut, looks - 1)

    # --- History lost --------------------------------------------------------------------------

    def loses(self, message: Gossip) -> bool:
        """Whether gossip of another process does not arrive."""
        plan = self._plan
        if message.history is None or not plan.history_loss or self._cluster.faults.stopped:
            return False
        if self._chance.random() >= plan.history_loss:
            return False
        self._cluster.reach("history_lost")
        return True

    # --- Echo ----------------------------------------------------------------------------------

    def sent(self, mail: Mail) -> None:
        """Mail leaves its process."""
        if not self._plan.echo:
            return
        known = self._sent[mail.partition, mail.there]
        epochs = mail.epoch, mail.there_epoch
        if epochs not in known:
            if known and self._chance.random() < self._plan.echo:
                self._repeat(known[max(known)])
            known.clear()
            known[epochs] = []
        if len(known[epochs]) < _KEPT:
            known[epochs].append(mail)

    def _repeat(self, sent: list[Mail]) -> None:
        """Whenever it comes, some of it may be just behind what the new channels have by then."""
        self._cluster.reach("mail_repeated")
        send = self._cluster.network.send
        send(sent[0].source, sent[0].target, sent)  # Before what is sent now.
        for mean in _LATER:
            self._loop.after(self._some(mean), send, sent[0].source, sent[0].target, sent)
