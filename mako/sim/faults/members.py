"""Orders at the wrong time: leaderships handed over, members changed, amid everything else.

These are no faults of a machine. What an operator may ask for must do no harm whenever it comes.
"""

from mako.sim.clock import MS
from mako.sim.faults.attack import Part
from mako.sim.process import SimProcess


class MemberFaults(Part):
    """A kind of order each; whether it was given, for it may not be the time."""

    def transfer(self, process: SimProcess) -> bool:
        cluster = self._cluster
        group = self._chance.choice(cluster.groups)
        leader = cluster.operator.leader_of(group)
        if leader is None or leader is process:
            return False
        target = process.members[group].node
        before = len(cluster.checks.groups[group].leaders)
        if leader.transfer(group, target) is not None:
            return False
        self._loop.after(100 * MS, self._transferred, process, group, before)
        return True

    def _transferred(self, process: SimProcess, group: int, before: int) -> None:
        checks = self._cluster.checks.groups
        for number, one in checks.items():
            if number == group and process.leads(number) and len(one.leaders) == before + 1:
                self._cluster.coverage["transfer_done"] += 1

    def demote(self, process: SimProcess) -> bool:
        operator = self._cluster.operator
        if not operator.settled:
            return False
        operator.demoted.add(process.number)
        operator.disturb()
        self._loop.after(100 * MS + self._attack.length(), operator.demoted.discard, process.number)
        return True

    def reshape(self, process: SimProcess) -> bool:
        """Other voters, as many as are needed; often with a cut between old and new ones."""
        cluster = self._cluster
        operator = cluster.operator
        if not operator.settled:
            return False
        numbers = [one.number for one in cluster.processes]
        first = self._some_of(numbers)
        operator.demoted.update(first)
        operator.disturb()
        self._loop.after(150 * MS + self._attack.length(), self._reshape_again, first)
        return True

    def _some_of(self, numbers: list[int]) -> set[int]:
        """Less than half of them."""
        size = self._chance.randint(1, (len(numbers) - 1) // 2)
        return set(self._chance.sample(numbers, size))

    def _reshape_again(self, first: set[int]) -> None:
        """The other way round: those come back, others go."""
        if self._attack.stopped:
            return
        cluster = self._cluster
        operator = cluster.operator
        numbers = [one.number for one in cluster.processes if one.number not in first]
        then = set(self._chance.sample(numbers, min(len(first), len(numbers) - 1)))
        operator.demoted.difference_update(first)
        operator.demoted.update(then)
        operator.disturb()
        if self._chance.random() < 0.7:
            # A cut while the configuration is joint: each half may have its own majority.
            self._cut_between(sorted(then), sorted(first))
        self._loop.after(150 * MS + self._attack.length(), operator.demoted.difference_update, then)

    def _cut_between(self, some: list[int], others: list[int]) -> None:
        cluster = self._cluster
        leader = cluster.operator.leader_of(self._chance.choice(cluster.groups))
        if leader is not None and leader.number not in some:
            others = sorted({*others, leader.number})
        rest = [
            one.number
            for one in cluster.processes
            if one.number not in some and one.number not in others
        ]
        self._chance.shuffle(rest)
        size = self._chance.randint(0, len(rest))
        cut = cluster.network.split([*some, *rest[:size]], [*others, *rest[size:]])
        # Long enough for both sides to elect, and to be believed.
        self._loop.after(300 * MS + self._attack.length(), cluster.network.mend, cut)

    def replace(self, process: SimProcess) -> bool:
        cluster = self._cluster
        if not cluster.operator.settled:
            return False
        group = self._chance.choice(cluster.groups)
        cluster.operator.replaced[group] = process.members[group].node
        cluster.operator.disturb()
        return True
