"""Two leaders in two processes, and what they tell each other, without a network."""

from collections.abc import Sequence
from typing import Any, cast

from mako.entry import GroupId, NodeId
from mako.recovery.gossip import Gossip, Led
from mako.recovery.history import EpochStart, History
from mako.server.gossiping import Gossiping
from mako.server.plan import group_of


class Replica:
    """What the module sees of a hosted replica."""

    def __init__(self, partition: int, *, leads: bool) -> None:
        self.replica = self
        self.partition = partition
        self.leads = leads
        self.watermark = 10
        self.history = History([EpochStart(partition, 1, 0)])
        self.heard: list[tuple[int, int, bool]] = []
        self.told = 0

    def tell_watermarks(self) -> None:
        self.told += 1

    @property
    def led(self) -> Led | None:
        return Led(self.partition, 1, self.watermark, self.history) if self.leads else None

    def hear(self, message: Gossip) -> None:
        self.heard.append((message.partition, message.watermark, message.history is not None))


class Process:
    def __init__(self, number: int, *replicas: Replica, partitions: int = 2) -> None:
        self.sent: list[tuple[int, Gossip]] = []
        places = {
            (group_of(partition), NodeId(node)): node
            for partition in range(partitions)
            for node in (1, 2)
        }
        hosted = {group_of(one.partition): one for one in replicas}
        self.said: list[str] = []
        self.led: list[int] = []
        self.gossiping = Gossiping(
            number,
            places,
            cast(Any, hosted),
            self._send,
            lambda: 5.0,
            lambda message: self.led.append(message.partition),
            self.said.append,
        )

    def _send(self, process: int, messages: Sequence[Gossip]) -> None:
        self.sent += [(process, message) for message in messages]


def test_leaders_tell_other_processes_and_their_neighbours() -> None:
    zero, one = Replica(0, leads=True), Replica(1, leads=False)
    process = Process(1, zero, one)
    process.gossiping.turn([])
    (sent,) = process.sent
    assert (sent[0], sent[1].partition, sent[1].watermark) == (2, 0, 10)
    assert sent[1].history == zero.history
    assert (zero.heard, one.heard) == ([], [(0, 10, True)])
    process.gossiping.turn([])
    assert len(process.sent) == len(one.heard) == 1, "nothing is news"
    zero.watermark = 11
    process.gossiping.turn([])
    assert process.sent[1][1].history is None
    assert one.heard[1:] == [(0, 11, False)]


def test_what_is_heard_is_for_the_replicas_of_other_partitions() -> None:
    zero, one = Replica(0, leads=False), Replica(1, leads=False)
    process = Process(1, zero, one)
    process.gossiping.turn([Gossip(2, 1, 0, 1, 77, 9)])
    assert (zero.heard, one.heard) == ([], [(0, 77, False)])


def test_watermarks_are_taken_in_without_a_turn() -> None:
    one = Replica(1, leads=False)
    process = Process(1, one)
    assert process.gossiping.take_in([Gossip(2, 1, 0, 1, 77, 9), Gossip(2, 1, 0, 1, 78, 9)], [])
    assert one.heard == [(0, 77, False), (0, 78, False)]
    assert one.told == 1


def test_what_a_turn_has_to_see_waits_for_it_and_what_comes_later_too() -> None:
    one = Replica(1, leads=False)
    process = Process(1, one)
    watermark = Gossip(2, 1, 0, 2, 77, 9)
    history = Gossip(2, 1, 0, 2, 76, 9, History([EpochStart(0, 2, 5)]))
    assert not process.gossiping.take_in([history, watermark], [])
    assert not process.gossiping.take_in([watermark, "an append"], [])
    assert not process.gossiping.take_in([watermark], [history])
    assert one.heard == []


def test_who_was_away_is_told_everything_again() -> None:
    process = Process(1, Replica(0, leads=True))
    process.gossiping.turn([])
    process.gossiping.met(2)
    process.gossiping.turn([])
    assert [message.history is None for _, message in process.sent] == [False, False]


def test_a_lone_partition_says_nothing() -> None:
    process = Process(1, Replica(0, leads=True), partitions=1)
    process.gossiping.turn([])
    assert process.sent == []
    assert GroupId(1) == group_of(0)


def test_partitions_that_the_configuration_lacks_are_ignored_and_said_once() -> None:
    """Its log would name them, and no replica could read it."""
    zero = Replica(0, leads=True)
    process = Process(1, zero)
    names_it = History([EpochStart(1, 1, 0), EpochStart(7, 1, 0)])
    for _ in range(2):
        process.gossiping.hear([Gossip(2, 1, 7, 1, 30, 0)])
        process.gossiping.hear([Gossip(2, 1, 1, 1, 30, names_it.hash, names_it)])
    assert (zero.heard, process.led) == ([], [])
    (said,) = process.said
    assert said.startswith("ignores what process 2 says of partitions [7]")
    process.gossiping.hear([Gossip(2, 1, 1, 1, 30, 0)])
    assert (zero.heard, process.led) == ([(1, 30, False)], [1])
