"""The preferred node is far away: it gets the leadership back all the same, while others write."""

import itertools
from collections.abc import Iterable

import pytest

from mako.entry import NodeId
from mako.raft import Role, Settings
from mako.raft.message import Message, TimeoutNow
from tests.raft.cluster import Cluster

FAR = NodeId(1)
#: An entry is proposed every so many ticks, as by an idle partition that closes timestamps.
ENTRY_TICKS = 10
SETTINGS = Settings(election_ticks=100, heartbeat_ticks=5, preferred_ticks_min=100)


class Distant(Cluster):
    """Three nodes, led by node 2. What node 1 sends and is sent takes `delay` ticks."""

    def __init__(self, delay: int, settings: Settings = SETTINGS) -> None:
        super().__init__(3, settings=settings)
        self.delay = 0
        self.now = 0
        self.under_way: list[tuple[int, Message]] = []
        self.refused = 0
        self.elect(2)
        self.delay = delay
        for member in self.members.values():
            member.node.prefer(FAR)

    def send(self, messages: Iterable[Message]) -> None:
        before = len(self.network)
        super().send(messages)
        sent, self.network[before:] = self.network[before:], []
        for message in sent:
            if self.delay and FAR in (message.source, message.target):
                self.under_way.append((self.now + self.delay, message))
            else:
                self.network.append(message)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now += 1
            self.network += [message for due, message in self.under_way if due <= self.now]
            self.under_way = [one for one in self.under_way if one[0] > self.now]
            self.tick()
            leader = self.leader()
            if self.now % ENTRY_TICKS == 0 and leader is not None:
                self.refused += not leader.propose([b"x"])
            self.settle()

    @property
    def far_leads(self) -> bool:
        return self[FAR].role is Role.LEADER


@pytest.mark.parametrize("delay", [2, 15, 30, 45])
def test_it_gets_the_leadership_over_a_long_link(delay: int) -> None:
    """300 ms are 30 ticks; the node lacks the newest entries all the time."""
    cluster = Distant(delay)
    cluster.run(SETTINGS.preferred_ticks_min + 6 * delay + ENTRY_TICKS)
    assert cluster.far_leads
    cluster.run(2 * SETTINGS.election_ticks)
    assert cluster.far_leads
    # Nothing was taken while it was handed over, for two round trips and no longer.
    assert cluster.refused <= 1 + 4 * delay // ENTRY_TICKS
    assert all(member.node.term == 2 for member in cluster.members.values())


def test_who_cannot_keep_up_is_not_tried() -> None:
    """A round trip takes longer than an election: it could not keep the leadership either."""
    cluster = Distant(SETTINGS.election_ticks)
    committed = cluster[2].commit_index
    cluster.run(1000)
    assert cluster[2].role is Role.LEADER
    assert cluster.refused == 0
    assert cluster[2].commit_index >= committed + 1000 // ENTRY_TICKS


def test_a_hand_over_that_fails_is_tried_less_and_less() -> None:
    """Each one keeps clients waiting."""
    cluster = Distant(15)
    asked = []
    for tick in range(4000):
        cluster.run(1)
        lost = [one for one in cluster.under_way if isinstance(one[1], TimeoutNow)]
        if lost:
            asked.append(tick)
            cluster.under_way = [one for one in cluster.under_way if one not in lost]
    waits = [after - before for before, after in itertools.pairwise(asked)]
    assert len(asked) in (5, 6)
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
