"""Contexts that are looked at: what was read, or written over, is waited for, and is the newest."""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine import lane as lanes
from mako.engine import layout
from mako.ids import Outcome
from mako.sim.checkers import Violation
from mako.sim.shards.contexts import Contexts
from tests.engine.partitioned import ACCOUNT, Cluster, change, delete, put

pytestmark = pytest.mark.interpreted

PLACES = 2


@mako.procedure
def look(tx: Any, place: int, number: int) -> int:
    found, row = tx.find(ACCOUNT, (place, number))
    return int(row.v) if found else -1


@mako.procedure
def watch(tx: Any, value: int) -> int:
    """A row of partition 1 is only read, another one is written; so is one of partition 0."""
    seen = tx.read(ACCOUNT, (1, 1)).v
    tx.put(ACCOUNT, (1, 2)).v = value
    tx.put(ACCOUNT, (0, 1)).v = value
    return int(seen)


class World:
    """Two partitions, and what looks at their contexts after each step."""

    def __init__(self) -> None:
        self.contexts = Contexts()
        self.cluster = Cluster([ACCOUNT], partitions=PLACES)
        for place in range(PLACES):
            self.cluster.run(place, put, place, 1, 70)

    def serve(self, place: int, procedure: Any, *arguments: int) -> None:
        self.cluster.post(place, procedure, *arguments)
        assert self.cluster.serve(place)

    def ran(self, place: int) -> None:
        self.contexts.ran(self.cluster.engines[place], self.cluster.homes[place])

    def turned(self, place: int) -> None:
        engine = self.cluster.engines[place]
        self.contexts.turned(engine, self.cluster.mesh.lanes_of(engine))

    def turn(self, *places: int) -> None:
        for place in places:
            self.cluster.pass_time(1_000)
            self.cluster.turn(place)

    def lane(self, place: int, *states: int) -> int:
        engine = self.cluster.engines[place]
        (found,) = [
            lane
            for lane in self.cluster.mesh.lanes_of(engine)
            if engine.word(lane + lanes.L_STATE) in states
        ]
        return found

    def held(self) -> int:
        """`watch` is prepared at partition 1, which has said yes: its lane there."""
        self.serve(0, watch, 5)
        self.turn(1, 0, 1)
        return self.lane(1, lanes.VOTING, lanes.HOLDING)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.close()


HOW = [(put, 9), (delete,), (change,), (look,)]


@pytest.mark.parametrize("how", HOW, ids=["put", "delete", "change", "look"])
def test_who_does_not_wait_for_what_it_met_is_found(world: World, how: tuple[Any, ...]) -> None:
    procedure, *more = how
    world.held()
    world.turn(0, 1)  # Decided and installed: nobody has told a watermark since.
    world.serve(1, procedure, 1, 2, *more)
    world.ran(1)
    (done,) = [one for one in world.cluster.done() if one.outcome is Outcome.COMMITTED][-1:]
    assert done.mask == 0b11
    world.cluster.engines[1].set_word(world.cluster.homes[1] + layout.C_MASK, 0)
    with pytest.raises(Violation, match="which waits for partition 0, and does not wait for it"):
        world.ran(1)


@pytest.mark.parametrize("how", [delete, change], ids=["delete", "change"])
def test_who_does_not_wait_for_a_tombstone_is_found(world: World, how: Any) -> None:
    world.held()
    world.turn(0, 1)
    world.serve(1, delete, 1, 2)
    world.serve(1, how, 1, 2)
    assert world.cluster.done()[-1].outcome is Outcome.NOT_FOUND
    world.ran(1)
    world.cluster.engines[1].set_word(world.cluster.homes[1] + layout.C_MASK, 0)
    with pytest.raises(Violation, match=r"I3.*a transaction read"):
        world.ran(1)


def test_what_is_durable_is_not_waited_for(world: World) -> None:
    world.held()
    world.cluster.settle()
    world.serve(1, change, 1, 2)
    world.ran(1)
    assert world.cluster.done()[-1].mask == 0b10


def test_who_says_yes_and_does_not_say_what_it_waits_for_is_found(world: World) -> None:
    world.held()
    world.turn(0, 1)
    world.serve(0, watch, 6)
    world.turn(1, 0, 1)
    world.turned(1)
    lane = world.lane(1, lanes.VOTING, lanes.HOLDING)
    bits = world.cluster.engines[1].word(lane + lanes.L_BITS)
    assert bits == 0b11
    world.cluster.engines[1].set_word(lane + lanes.L_BITS, 0b10)
    world.contexts = Contexts()
    with pytest.raises(Violation, match="who said yes wrote over"):
        world.turned(1)


def test_what_is_written_above_a_yes_is_in_nobodys_way(world: World) -> None:
    world.held()
    world.turned(1)
    world.serve(1, change, 1, 1)  # What `watch` has read.
    world.turned(1)
    assert (world.contexts.looked_at, world.contexts.said_twice) == (1, 0)
    world.serve(0, look, 0, 2)
    world.turned(0)
    assert world.contexts.looked_at == 2, "the coordinator is a participant, too"


@pytest.mark.parametrize("first", [True, False])
def test_a_yes_for_a_timestamp_below_which_a_newer_version_stands_is_found(
    world: World,
    first: bool,  # noqa: FBT001
) -> None:
    lane = world.held()
    if first:
        world.turned(1)
    world.serve(1, change, 1, 1)
    (done,) = world.cluster.done()
    # As if it had said yes again, and had not looked.
    world.cluster.engines[1].set_word(lane + lanes.L_TIMESTAMP, done.timestamp + 1)
    with pytest.raises(Violation, match=rf"X2.*{done.timestamp} is there"):
        world.turned(1)
    assert world.contexts.said_twice == first
