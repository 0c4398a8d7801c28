"""What waits for another partition does not hold up those behind it in their ring."""

from collections.abc import Iterator

import pytest

from mako.call_format import IS_EARLY, IS_NOTICE
from mako.engine.layout import (
    C_FLOOR,
    COMPLETION_RING_BYTES,
    D_BYTES,
    K_COMPLETION_HEAD,
    K_COMPLETION_SEEN,
    K_COMPLETION_TAIL,
    NONE,
    PEERS,
)
from mako.ids import TIMESTAMP_MASK, Outcome, Status
from mako.wire.requests import Operation
from tests.server.test_deposed import LOST, OK, TABLE, World, write


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


@pytest.fixture
def lagging(world: World) -> World:
    """Call 1 has written something that depends on partition 1 as well, which is slow, and call 2
    has not."""
    world.engine.set_word(world.engine.base + PEERS, 0b11)
    client = world.first = world.client()
    client.put(1, b"a")
    world.work()
    world.backend.serving.set_masks(0b11)
    client.put(2, b"b")
    world.limit = world.work()
    return world


def test_what_depends_on_less_does_not_wait_for_a_partition_that_lags(lagging: World) -> None:
    """As every other one does that is far away: it does not stand still."""
    client, serving = lagging.first, lagging.backend.serving
    assert lagging.look(), "somebody waits"
    assert client.answers() == [(2, OK, 0)]
    number = client.connection._number
    assert number is not None
    assert (serving.count_aside(1), serving.flying(number)) == (0, 2)
    client.put(3, b"c", early=True)
    client.put(4, b"d")
    lagging.limit = lagging.work()
    lagging.look()
    assert client.answers() == [(3, OK, IS_EARLY), (3, OK, IS_NOTICE), (4, OK, 0)]
    assert lagging.look()
    assert client.answers() == [], "nobody is told twice"
    lagging.move_on()
    assert not lagging.look()
    assert client.answers() == [(1, OK, 0)]
    assert serving.flying(number) == 0


@pytest.mark.parametrize("peers", [0, 0b11])
def test_nobody_is_told_before_the_own_partition_is_durable(world: World, peers: int) -> None:
    engine, client = world.engine, world.client()
    engine.set_word(engine.base + PEERS, peers)
    committing = engine.take_context()
    engine.set_word(committing + C_FLOOR, engine.clock)  # Nothing above it is closed.
    client.put(1, b"a")
    world.limit = world.work()
    assert world.look()
    assert client.answers() == []
    engine.set_word(committing + C_FLOOR, NONE)
    engine.give_context(committing)
    world.look()
    assert client.answers() == [(1, OK, 0)]


@pytest.mark.parametrize("left", [1, 2])
def test_a_ring_that_begins_again_has_nobody_told_twice(world: World, left: int) -> None:
    """`left` results fit behind what is there."""
    world.engine.set_word(world.engine.base + PEERS, 0b11)
    client, serving = world.client(), world.backend.serving
    context = serving._workers[0].context
    for word in (K_COMPLETION_HEAD, K_COMPLETION_SEEN, K_COMPLETION_TAIL):
        world.engine.set_word(context + word, COMPLETION_RING_BYTES - left * D_BYTES - 8)
    world.crew.workers[0].seen = COMPLETION_RING_BYTES - left * D_BYTES - 8
    client.put(1, b"a")
    world.work()
    serving.set_masks(0b11)
    client.put(2, b"b")
    client.put(3, b"c")
    world.limit = world.work()
    for expected in ([(2, OK, 0), (3, OK, 0)], []):
        assert world.look()
        assert client.answers() == expected
    world.move_on()
    world.look()
    assert client.answers() == [(1, OK, 0)]
    number = client.connection._number
    assert number is not None
    assert serving.flying(number) == 0


@pytest.mark.parametrize("how", ["depose", "lost", "set aside"])
def test_who_was_told_out_of_turn_is_told_once(lagging: World, how: str) -> None:
    client, serving = lagging.first, lagging.backend.serving
    lagging.look()
    client.answers()
    if how == "depose":
        lagging.depose()
        lagging.connections.judge(0, Status.DISCARDED)
        assert client.answers() == [(1, LOST, 0)]
    elif how == "lost":
        lagging.connections.lost(1, 0)
        lagging.move_on()  # In its next epoch.
        lagging.look()
        assert client.answers() == [(1, LOST, 0)]
    else:
        lagging.stand_still()
        lagging.look()
        assert client.answers() == []
        assert serving.count_aside(1) == 1
        lagging.move_on()
        lagging.look()
        assert client.answers() == [(1, OK, 0)]
    number = client.connection._number
    assert number is not None
    assert serving.flying(number) == 0


def test_a_failure_that_depends_on_this_partition_alone_waits_for_nobody_else(world: World) -> None:
    world.stand_still()
    client = world.client()
    world.limit = TIMESTAMP_MASK
    write(world, client, 1, 0)
    client.answers()
    client.ask(2, Operation.WRITE, [["insert", TABLE, b"1", b"v"]], 0, 0, 0)
    world.look()
    assert client.answers() == [(2, int(Outcome.EXISTS), None)]
