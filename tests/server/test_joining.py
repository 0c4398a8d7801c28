"""How leaders of partitions reach each other: who gets mail, who is silent, who is stuck."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.engine.pumped import BadMail
from mako.entry import GroupId
from mako.recovery.gossip import Gossip
from mako.recovery.mail import Mail
from mako.server.joining import (
    AGAIN_SECONDS,
    SILENT_SECONDS,
    STILL_MS,
    STUCK_SECONDS,
    STUCK_TIMES_MAX,
    UNMET_SECONDS,
    Joining,
)


class FakePumped:
    """Of a partition in epoch 5, which knows partition 1 in epoch 7."""

    def __init__(self) -> None:
        self.pairs: dict[int, Any] = {1: SimpleNamespace(epoch=7, shared=None)}
        #: From whom nobody inherits, each time that this was told to workers.
        self.stalled: list[list[int]] = []
        self.station = SimpleNamespace(
            set_closed=lambda closed: None,
            set_stalled=self.stalled.append,
            waiting_for=dict,
            broken="",
            apart=(0, 0),
        )
        self.outgoing: list[bytes] = []
        self.incoming: list[tuple[int, bytes]] = []
        self.not_taken = False
        self.rewound = 0
        #: Whether its worker 0 runs something for long while something has come for it.
        self.is_awaited = False
        self.gave_way: list[tuple[int, bool]] = []

    def turn(self, now: int, offset: int) -> None:
        pass

    def gather(self, there: int) -> list[bytes]:
        found, self.outgoing = self.outgoing, []
        return found

    def scatter(self, there: int, pieces: bytes, wake: Callable[[int], None]) -> None:
        if pieces == b"bad":
            raise BadMail("bad")
        self.incoming.append((there, pieces))

    def waits(self, there: int) -> bool:
        return self.not_taken

    def awaited(self) -> dict[int, int]:
        return {0: 5} if self.is_awaited else {}

    def runs(self, number: int) -> tuple[int, ...]:
        return (number,)

    def give_way(self, number: int, *, final: bool) -> None:
        self.gave_way.append((number, final))

    def rewind(self, there: int) -> None:
        self.rewound += 1


class World:
    def __init__(self) -> None:
        self.now = 100.0
        #: What is shared with other processes.
        self.between = ""
        self.full = False
        self.unshared: list[int] = []
        #: Whether the other leader opens that memory.
        self.met = True
        #: Mask of the partitions that make nothing durable.
        self.still = 0
        self.sent: list[tuple[int, Mail]] = []
        self.given_up: list[int] = []
        self.said: list[str] = []
        self.pumped = FakePumped()
        self.hosted: Any = SimpleNamespace(
            pumped=self.pumped,
            closed=[1],
            stalled=[],
            given_up=0,
            gave_way=0,
            replica=SimpleNamespace(partition=0, group=GroupId(1)),
            partition=SimpleNamespace(epoch=5, across=SimpleNamespace(still=lambda ms: self.still)),
            plan=SimpleNamespace(planted=frozenset()),
            share=self.share,
            unshare=self.unshare,
            backend=SimpleNamespace(serving=SimpleNamespace(wake_worker=lambda number: None)),
        )
        self.all_hosted: dict[GroupId, Any] = {GroupId(1): self.hosted}
        self.joining = Joining(
            3,
            cast(Any, self.all_hosted),
            lambda process, mail: self.sent.extend((process, each) for each in mail),
            self.given_up.append,
            lambda: self.now,
            lambda event, **values: self.said.append(event),
            lambda process: self.between,
            jitter=lambda: 0.5,
        )

    def share(self, there: int, name: str) -> None:
        if self.full:
            raise OSError("no room")
        self.pumped.pairs[there].shared = SimpleNamespace(name=name, met=self.met)

    def unshare(self, there: int) -> None:
        self.unshared.append(there)
        self.pumped.pairs[there].shared = None

    def lead_here(self) -> Any:
        """A replica of partition 1 in this process leads it in epoch 7."""
        other = FakePumped()
        other.pairs = {0: SimpleNamespace(epoch=5, shared=None)}
        self.all_hosted[GroupId(2)] = hosted = SimpleNamespace(
            pumped=other,
            closed=[0],
            stalled=[],
            given_up=0,
            replica=SimpleNamespace(partition=1, group=GroupId(2)),
            partition=SimpleNamespace(epoch=7, across=SimpleNamespace(still=lambda ms: 0)),
            plan=SimpleNamespace(planted=frozenset()),
            share=self.share,
            backend=self.hosted.backend,
        )
        self.hear(source=3)
        return hosted

    def hear(self, epoch: int = 7, source: int = 4) -> None:
        self.joining.hear(Gossip(source, 3, 1, epoch, 10, 0))

    def take_in(self, *, epoch: int = 7, there_epoch: int = 5, pieces: bytes = b"in") -> None:
        self.joining.take_in([Mail(4, 3, 1, epoch, 0, there_epoch, pieces)])


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.joining.close()


def test_mail_goes_to_the_leader_of_the_epoch_that_both_know(world: World) -> None:
    world.hear()
    world.pumped.outgoing = [b"a", b"b"]
    world.joining.pump()
    assert world.sent == [(4, Mail(3, 4, 0, 5, 1, 7, pieces)) for pieces in (b"a", b"b")]


@pytest.mark.parametrize("epoch", [6, 8])
def test_mail_waits_while_the_leader_of_that_epoch_is_not_known(world: World, epoch: int) -> None:
    world.hear(epoch)
    world.pumped.outgoing = [b"a"]
    world.joining.pump()
    assert world.sent == []
    assert world.pumped.outgoing == [b"a"]


def test_an_older_leader_is_not_listened_to(world: World) -> None:
    world.hear(7, source=4)
    world.hear(6, source=9)
    assert world.joining.leaders[1].process == 4


def test_mail_of_other_epochs_is_dropped(world: World) -> None:
    world.take_in(epoch=6)
    world.take_in(epoch=8)
    world.take_in(there_epoch=4)
    assert world.pumped.incoming == []
    world.take_in()
    assert world.pumped.incoming == [(1, b"in")]


def test_bad_mail_is_said_and_the_rest_goes_on(world: World) -> None:
    world.take_in(pieces=b"bad")
    assert world.said == ["cannot use mail"]
    world.take_in()
    assert world.pumped.incoming == [(1, b"in")]


def test_mail_for_a_partition_that_is_not_led_here_is_dropped(world: World) -> None:
    world.hosted.pumped = None
    world.take_in()
    assert world.pumped.incoming == []


def test_a_partition_is_open_while_its_leader_says_something(world: World) -> None:
    world.joining.look()
    assert world.hosted.closed == [1]
    world.hear()
    world.joining.look()
    assert world.hosted.closed == []
    world.now += SILENT_SECONDS + 0.01
    world.joining.look()
    assert world.hosted.closed == [1]


def test_a_lane_that_breaks_the_rules_ends_the_process(world: World) -> None:
    world.pumped.station.broken = "a lane that was free was told, which cannot be"
    with pytest.raises(AssertionError, match="was told"):
        world.joining.look()


def test_a_partition_that_makes_nothing_durable_is_closed_though_it_talks(world: World) -> None:
    world.hear()
    for still, closed in ((0, []), (0b10, [1]), (0, []), (0b01, [1])):  # The last: this one.
        world.still = still
        world.joining.look()
        assert world.hosted.closed == closed
    # Nobody inherits from it, either; but if it is this one, the other one is not to blame.
    assert world.pumped.stalled == [[1], []]


def test_a_transaction_that_holds_others_up_gives_way(world: World) -> None:
    """Long before anybody takes this partition for one that makes nothing durable."""
    world.hear()
    world.pumped.is_awaited = True
    world.joining.look()
    world.now += STILL_MS / 1000
    world.joining.look()
    assert world.pumped.gave_way == [(0, False)]
    assert world.hosted.gave_way == 1
    assert "held other partitions up" in world.said[0]


def test_who_talks_is_no_reason_to_give_up(world: World) -> None:
    """What was sent there comes back; that nothing becomes durable is nothing to undo."""
    world.pumped.station.waiting_for = lambda: {1: 2}
    world.still = 0b10
    for _ in range(100):
        world.hear()
        world.joining.look()
        world.now += STUCK_SECONDS / 10
    assert world.given_up == []


def test_a_leader_on_this_host_is_reached_through_memory(world: World) -> None:
    world.between = "host"
    world.hear(6)
    world.joining.look()
    assert world.pumped.pairs[1].shared is None
    world.hear(7)
    world.joining.look()
    (pair,) = world.pumped.pairs.values()
    assert pair.shared.name == "host-0.5-1.7"
    assert world.hosted.closed == []


def test_nothing_is_said_by_mail_to_a_leader_with_which_memory_will_be_shared(world: World) -> None:
    """It would be left in channels that both sides give up."""
    world.between = "host"
    world.hear()
    world.pumped.outgoing = [b"a"]
    world.joining.pump()
    world.take_in()
    assert (world.sent, world.pumped.incoming) == ([], [])
    world.joining.look()
    world.take_in()
    assert world.pumped.incoming == [(1, b"in")], "which says that it has memory instead"


def test_who_has_no_room_for_memory_sends_mail_once_the_other_side_does(world: World) -> None:
    """The other one may be waiting in its memory, and would not read what is sent."""
    world.between, world.full = "host", True
    world.pumped.outgoing = [b"a"]
    for _ in range(4):
        world.hear()
        world.joining.look()
        world.joining.pump()
        world.now += 0.9 * AGAIN_SECONDS
    assert world.hosted.closed == [1]
    assert world.sent == 2 * [(4, Mail(3, 4, 0, 5, 1, 7, b""))], "again, as it may be lost"
    (said,) = world.said
    assert said.startswith("cannot share memory with the leader of partition 1")
    assert "no room" in said
    world.take_in(pieces=b"in")
    assert world.pumped.incoming == []
    world.take_in(pieces=b"")
    world.full = False
    world.joining.look()
    assert world.hosted.closed == []
    assert world.pumped.pairs[1].shared is None, "it has said that it opens none"
    world.joining.pump()
    world.take_in(pieces=b"in")
    assert [mail.pieces for _, mail in world.sent if mail.pieces] == [b"a"]
    assert world.pumped.incoming == [(1, b"in")]


@pytest.mark.parametrize("opened", [False, True])
def test_who_hears_that_the_other_side_has_no_memory_gives_its_own_up(
    world: World, *, opened: bool
) -> None:
    world.between, world.met = "host", False
    world.hear()
    if opened:
        world.joining.look()
        assert world.pumped.pairs[1].shared is not None
    world.take_in(pieces=b"")
    world.take_in(pieces=b"in")
    assert world.pumped.incoming == ([] if opened else [(1, b"in")]), "memory is left in `look`"
    world.joining.look()
    assert world.unshared == ([1] if opened else [])
    assert world.pumped.pairs[1].shared is None
    assert world.hosted.closed == []
    assert world.sent == [(4, Mail(3, 4, 0, 5, 1, 7, b""))], "the other side waits for that"
    world.take_in(pieces=b"more")
    assert world.pumped.incoming[-1] == (1, b"more")


def test_leaders_of_another_epoch_try_memory_again(world: World) -> None:
    world.between, world.full = "host", True
    world.hear()
    world.joining.look()
    world.take_in(pieces=b"")
    world.full = False
    world.pumped.pairs[1].epoch = 8
    world.hear(8)
    world.joining.look()
    assert world.pumped.pairs[1].shared.name == "host-0.5-1.8"
    assert world.hosted.closed == []


def test_mail_of_another_epoch_gives_no_memory_up(world: World) -> None:
    world.between, world.met = "host", False
    world.hear()
    world.joining.look()
    world.take_in(epoch=6, pieces=b"")
    world.take_in(there_epoch=4, pieces=b"")
    world.pumped.pairs[1].shared.met = True
    world.take_in(pieces=b"")  # Whoever has come never says it.
    world.joining.look()
    assert (world.unshared, world.sent, world.hosted.closed) == ([], [], [])


def test_two_leaders_of_one_process_without_memory_send_mail(world: World) -> None:
    there = world.lead_here()
    there.pumped.pairs[0].shared = None
    world.between, world.full = "here", True
    world.pumped.outgoing, there.pumped.outgoing = [b"a"], [b"b"]
    world.joining.hear(Gossip(3, 3, 0, 5, 10, 0))
    for _ in range(3):
        world.joining.look()
    world.joining.pump()
    assert (world.hosted.closed, there.closed) == ([], [])
    assert (world.pumped.incoming, there.pumped.incoming) == ([(1, b"b")], [(0, b"a")])


def test_memory_that_only_one_side_has_opened_reaches_nobody(world: World) -> None:
    """What is written there is read by nobody: the other one may have no room for it."""
    world.between, world.met = "host", False
    world.joining.look()
    world.now += 10 * UNMET_SECONDS  # It has not been there, which is another matter.
    for _ in range(2):
        world.hear()
        world.joining.look()
        assert world.hosted.closed == [1]
        assert world.said == []
        world.now += UNMET_SECONDS / 2 + 0.01
    assert world.pumped.pairs[1].shared is not None
    for _ in range(3):
        world.hear()
        world.joining.look()
        world.now += UNMET_SECONDS
    (said,) = world.said
    assert said.startswith("the leader of partition 1 does not open the memory")
    world.pumped.pairs[1].shared.met = True
    world.hear()
    world.joining.look()
    assert world.hosted.closed == []


def test_a_leader_that_has_gone_is_not_blamed_for_memory(world: World) -> None:
    world.between, world.met = "host", False
    world.hear()
    world.joining.look()
    world.now += 10 * UNMET_SECONDS
    world.joining.look()
    assert world.said == []


def test_mail_of_a_partition_that_the_configuration_lacks_is_said_once(world: World) -> None:
    for _ in range(3):
        world.joining.take_in([Mail(4, 3, 9, 7, 0, 5, b"in")])
    assert world.pumped.incoming == []
    (said,) = world.said
    assert said.startswith("ignores mail of partition 9")


def test_a_leader_in_this_process_need_not_be_heard(world: World) -> None:
    world.lead_here()
    world.now += 10 * SILENT_SECONDS
    world.joining.look()
    assert world.hosted.closed == []


def test_a_leader_in_this_process_that_steps_down_is_silent_like_any_other(world: World) -> None:
    """Nobody follows it, so nobody else is heard of in its place."""
    there = world.lead_here()
    world.pumped.station.waiting_for = lambda: {1: 1}
    world.now += 10 * SILENT_SECONDS
    world.joining.look()
    there.pumped = None
    world.joining.look()
    assert world.hosted.closed == [1]
    world.now += STUCK_SECONDS + 0.01
    world.joining.look()
    assert world.given_up == [1]


def test_a_leader_in_this_process_is_reached_in_the_epoch_that_it_leads(world: World) -> None:
    there = world.lead_here()
    world.now += 10 * SILENT_SECONDS
    there.partition.epoch = 8  # It leads again, and that is not known yet.
    world.joining.look()
    assert world.hosted.closed == [1]


def test_what_is_not_taken_is_sent_again(world: World) -> None:
    world.hear()
    world.pumped.not_taken = True
    world.joining.look()
    world.now += AGAIN_SECONDS - 0.01
    world.joining.look()
    assert world.pumped.rewound == 0
    world.now += 0.02
    world.joining.look()
    assert world.pumped.rewound == 1


def test_what_is_not_taken_is_sent_again_though_something_comes(world: World) -> None:
    """What comes may be about something else: if it put it off, what is lost would stay lost."""
    world.hear()
    world.pumped.not_taken = True
    world.joining.look()
    for _ in range(4):
        world.now += AGAIN_SECONDS / 2
        world.take_in()
        world.joining.look()
    assert world.pumped.rewound > 0


def gives_up_once_patience_is_over(world: World) -> None:
    """Patience that begins now."""
    world.now += STUCK_SECONDS - 0.01
    world.joining.look()
    assert world.given_up == []
    world.now += 0.02
    world.joining.look()
    assert world.given_up == [1]


def test_who_holds_something_for_a_silent_partition_gives_its_epoch_up(world: World) -> None:
    world.pumped.station.waiting_for = lambda: {1: 2}
    world.joining.look()
    gives_up_once_patience_is_over(world)
    assert world.hosted.given_up == 1


def moments(world: World, seconds: float) -> list[float]:
    """When it gives up within so many seconds, from now."""
    began, found = world.now, []
    while world.now < began + seconds:
        world.now += 0.1
        before = len(world.given_up)
        world.joining.look()
        if len(world.given_up) > before:
            found.append(world.now - began)
    return found


def test_each_time_it_waits_for_longer_until_the_other_one_is_back(world: World) -> None:
    world.pumped.station.waiting_for = lambda: {1: 1}
    world.joining.look()
    waits = [after - before for before, after in pairwise([0.0, *moments(world, 400)])]
    # Doubled, and the jitter of half a half.
    assert waits[:3] == pytest.approx([3.0, 7.5, 18.75], abs=0.2)
    assert waits[-1] == pytest.approx(1.25 * STUCK_TIMES_MAX * STUCK_SECONDS, abs=0.2)
    world.hear()
    world.joining.look()
    world.now += SILENT_SECONDS
    assert moments(world, 5)[0] == pytest.approx(STUCK_SECONDS, abs=0.3)


def test_who_holds_nothing_stays(world: World) -> None:
    world.joining.look()
    world.now += 10 * STUCK_SECONDS
    world.joining.look()
    assert world.given_up == []


def lead_again(world: World, *, after: float) -> None:
    """The leader of partition 0 was deposed, and leads again after so many seconds."""
    world.hosted.pumped = None
    world.now += after / 2
    world.joining.look()
    world.now += after / 2
    world.hosted.pumped, world.hosted.partition.epoch = world.pumped, 8


def test_a_new_leadership_counts_silence_from_its_own_beginning(world: World) -> None:
    """What the last one found, hours ago, is no reason to give up at once."""
    world.pumped.station.waiting_for = lambda: {1: 2}
    world.joining.look()
    lead_again(world, after=3600)
    world.joining.look()
    gives_up_once_patience_is_over(world)


def test_a_new_leadership_sends_nothing_again_at_once(world: World) -> None:
    world.hear()
    world.pumped.not_taken = True
    world.joining.look()
    lead_again(world, after=3600)
    world.hear()
    world.joining.look()
    assert world.pumped.rewound == 0


def test_a_new_leadership_gives_others_time_to_open_memory(world: World) -> None:
    world.between, world.met = "host", False
    world.hear()
    world.joining.look()
    lead_again(world, after=3600)
    world.hear()
    world.joining.look()
    assert world.said == []


def test_whose_clock_is_ahead_is_told_once_a_minute(world: World) -> None:
    world.joining.look()
    assert world.said == []
    world.pumped.station.apart = (1, 3_600_000)
    for _ in range(3):
        world.joining.look()
    world.pumped.station.apart = (1, 3_600_001)
    world.joining.look()
    line = (
        "partition 0 refuses transactions with partition 1, whose clock is 3600000 ms ahead;"
        " set the clocks of their hosts"
    )
    assert world.said == [line]
    world.now += 61
    world.joining.look()
    assert len(world.said) == 1, "nothing was refused since"
    world.pumped.station.apart = (1, 7)
    world.joining.look()
    assert len(world.said) == 2


def test_a_new_leadership_knows_of_no_clock_that_is_ahead(world: World) -> None:
    world.pumped.station.apart = (1, 500)
    world.joining.look()
    world.pumped.station.apart = (0, 0)
    world.now += 61
    world.joining.look()
    assert len(world.said) == 1
    world.pumped.station.apart = (1, 500)
    world.joining.look()
    assert len(world.said) == 2
