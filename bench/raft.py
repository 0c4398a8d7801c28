"""Speed of the Raft core: messages stepped per second, and what idle groups cost.

    python -m bench.raft [--seconds N] [--groups N]

Two figures, both of one core and of nothing but the core: no sockets, no disk, a store in memory.

flow   three nodes, a leader that proposes, appends and answers; every message stepped counts,
       with its share of Readys, stores and applying.
idle   groups that do nothing, on three processes, with a tick every 10 ms. The time that the
       process that leads them all spends, as a share of one core; and one that follows in all.
"""

import argparse
import random
import time
from dataclasses import dataclass

from bench.arguments import span, whole
from mako.entry import Configuration, GroupId, NodeId
from mako.raft import Host, HostMessage, MemoryLogStorage, RaftNode, Role, Settings
from mako.raft.message import Message

TICK_MS = 10
PROCESSES = (1, 2, 3)
#: Bytes of a proposed entry, and proposals of one turn: many small turns are the worst case.
ENTRY_BYTES = 256
MEMBERS = Configuration(frozenset(map(NodeId, PROCESSES)))


@dataclass(frozen=True, slots=True)
class RaftSpeed:
    """What was measured."""

    #: Messages stepped per second by a group of three on one core, and entries committed.
    messages_per_s: float
    entries_per_s: float
    #: Share of one core of the process that leads all idle groups, and of one that follows.
    idle_leader_share: float
    idle_follower_share: float
    groups: int


class _Member:
    def __init__(self, number: int, seed: int) -> None:
        self.storage = MemoryLogStorage(MEMBERS)
        self.node = RaftNode(
            Settings(),
            self.storage,
            node=NodeId(number),
            randrange=random.Random(seed + number).randrange,
        )

    def turn(self, network: list[Message]) -> None:
        """One turn of a driver on a disk that takes no time."""
        node = self.node
        storage = self.storage
        while node.has_ready():
            ready = node.ready()
            network += ready.messages
            if ready.entries:
                storage.append(ready.entries)
            if ready.hard_state is not None:
                storage.set_hard_state(ready.hard_state)
            network += ready.messages_after_sync
            node.advance(ready)
            if ready.committed:
                last = ready.committed[-1].index
                node.applied(last)
                if last - storage.first_index() > 4096:
                    storage.create_snapshot(last - 1024, node.configuration)
                    storage.compact(last - 1024)


def measure_flow(seconds: float, seed: int) -> tuple[float, float]:
    """Messages stepped, and entries committed, per second of a group of three on one core."""
    members = {number: _Member(number, seed) for number in PROCESSES}
    network: list[Message] = []
    leader = members[1].node
    leader.campaign()
    while leader.role is not Role.LEADER or leader.commit_index < leader.last_index:
        _exchange(members, network)
    data = [bytes(ENTRY_BYTES)]
    count = 0
    first = leader.commit_index
    start = time.process_time()
    while (passed := time.process_time() - start) < seconds:
        for _ in range(100):
            leader.propose(data)
            count += _exchange(members, network)
    assert leader.commit_index > first, "nothing was committed"
    return count / passed, (leader.commit_index - first) / passed


def _exchange(members: dict[int, _Member], network: list[Message]) -> int:
    """One round: every node's turn, then every message. Return how many were stepped."""
    for member in members.values():
        member.turn(network)
    messages = network.copy()
    network.clear()
    for message in messages:
        members[message.target].node.step(message)
    return len(messages)


def measure_idle(groups: int, ticks: int, seed: int) -> tuple[float, float]:
    """Shares of one core that the leading process and a following one need for idle groups."""
    hosts = {number: Host(number) for number in PROCESSES}
    chance = random.Random(seed)
    for number, host in hosts.items():
        for group in range(1, groups + 1):
            node = RaftNode(
                Settings(),
                MemoryLogStorage(MEMBERS),
                node=NodeId(number),
                group=GroupId(group),
                randrange=chance.randrange,
            )
            host.add(node)
    for node in hosts[1]:
        node.campaign()
        hosts[1].touch(node.group)
    spent = dict.fromkeys(PROCESSES, 0.0)
    inbox: dict[int, list[HostMessage]] = {number: [] for number in PROCESSES}
    for _ in range(30):
        _pass(hosts, inbox, spent)
    assert all(node.role is Role.LEADER for node in hosts[1]), "process 1 leads all groups"
    spent = dict.fromkeys(PROCESSES, 0.0)
    for _ in range(ticks):
        _pass(hosts, inbox, spent)
    assert all(node.role is Role.LEADER for node in hosts[1]), "and did not cease to"
    lasted = ticks * TICK_MS / 1000
    return spent[1] / lasted, max(spent[2], spent[3]) / lasted


def _pass(
    hosts: dict[int, Host], inbox: dict[int, list[HostMessage]], spent: dict[int, float]
) -> None:
    """One tick of every process, and all that follows from it."""
    ticking = True
    while ticking or any(inbox.values()):
        for number, host in hosts.items():
            start = time.process_time()
            if ticking:
                host.tick()
            arrived, inbox[number] = inbox[number], []
            host.step(arrived)
            sent = _turn(host)
            spent[number] += time.process_time() - start
            for process, messages in sent:
                inbox[process] += messages
        ticking = False


def _turn(host: Host) -> list[tuple[int, list[HostMessage]]]:
    """Turns of a driver on a disk that takes no time, until there is nothing to do."""
    sent: list[tuple[int, list[HostMessage]]] = []
    while host.has_turn():
        turn = host.turn()
        sent += turn.messages.items()
        for node, ready in turn.readys:
            storage = node.storage
            assert isinstance(storage, MemoryLogStorage)
            storage.append(ready.entries)
            if ready.hard_state is not None:
                storage.set_hard_state(ready.hard_state)
        sent += turn.messages_after_sync.items()
        host.advance(turn)
        for node, ready in turn.readys:
            if ready.committed:
                node.applied(ready.committed[-1].index)
    return sent


def run(*, seconds: float = 2.0, groups: int = 1000, seed: int = 1) -> RaftSpeed:
    """Measure both figures. Takes about `seconds` for each."""
    messages_per_s, entries_per_s = measure_flow(seconds, seed)
    # A tick of a thousand groups takes about a millisecond for all three processes.
    ticks = max(20, int(seconds * 500))
    leader, follower = measure_idle(groups, ticks, seed)
    return RaftSpeed(messages_per_s, entries_per_s, leader, follower, groups)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.raft", description=__doc__)
    parser.add_argument("--seconds", type=span, default=2.0, help="time for each figure")
    parser.add_argument("--groups", type=whole(), default=1000, help="idle groups per process")
    arguments = parser.parse_args()
    speed = run(seconds=arguments.seconds, groups=arguments.groups)
    print(
        f"flow  {speed.messages_per_s:,.0f} messages/s stepped,"
        f" {speed.entries_per_s:,.0f} entries/s committed, one core"
    )
    print(
        f"idle  {speed.groups} groups, tick {TICK_MS} ms:"
        f" leading all {speed.idle_leader_share:.1%},"
        f" following in all {speed.idle_follower_share:.1%} of one core"
    )


if __name__ == "__main__":
    main()
