"""What an ended epoch has judged: it is counted once, and told when all partitions have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mako.engine.layout import D_MASK, WATERMARKS
from mako.ids import TIMESTAMP_MASK, Status
from mako.server.gated import EVERYBODY
from mako.wire.frame import FrameReader
from mako.wire.requests import ClientKind
from tests.server.test_deposed import LOST, OK, PATIENCE, Served, World, write

DISCARDED = Status.DISCARDED


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.stand_still()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


def put(world: World, client: Served, number: int, mask: int) -> int:
    """A call whose result depends on the partitions of a mask, behind those that are there; its
    timestamp."""
    before = [worker.completed() for worker in world.backend.serving._workers]
    client.put(number, b"%d" % number)
    at = world.work()
    for worker, known in zip(world.backend.serving._workers, before, strict=True):
        masks = [one.mask for one in known]
        for (place, _, _), each in zip(worker._places(), [*masks, mask], strict=False):
            world.engine.set_word(worker._completions + place + D_MASK, each)
    return at


def counted(world: World) -> dict[str, int]:
    return {fate: count for fate, count in world.connections.judged.items() if count}


def test_a_result_that_depends_on_two_that_fail_is_discarded_once(world: World) -> None:
    client = world.client()
    put(world, client, 1, 0b111)
    put(world, client, 2, 0b001)
    world.connections.lost(1, 0)
    assert counted(world) == {"discarded": 1}
    world.connections.lost(2, 0)
    world.connections.lost(1, 0)
    assert counted(world) == {"discarded": 1}


def test_what_is_set_aside_and_still_in_its_ring_is_discarded_once(world: World) -> None:
    """The one before it waits for something else, and so it cannot leave."""
    client = world.client()
    world.limit = put(world, client, 1, 0b11)
    put(world, client, 2, 0b01)  # It waits for the time.
    put(world, client, 3, 0b11)
    world.look()
    assert world.backend.serving.count_aside(1) == 2
    world.connections.lost(1, 0)
    assert counted(world) == {"discarded": 2}
    assert sorted(client.answers()) == [(1, LOST, 0), (3, LOST, 0)]


@pytest.mark.parametrize("lost", [DISCARDED, Status.UNKNOWN])
@pytest.mark.parametrize("stands", [True, False])
def test_what_was_discarded_before_the_own_epoch_ends_stays_it(
    world: World, lost: Status, *, stands: bool
) -> None:
    client = world.client()
    put(world, client, 1, 0b11)
    at = put(world, client, 2, 0b01)
    world.connections.lost(1, 0)
    world.depose()
    assert client.answers() == [(1, LOST, 0)], "there is nothing to wait for"
    world.connections.lost(1, 0)
    world.connections.judge(at if stands else 0, lost)
    world.limit = at
    world.engine.set_word(world.engine.base + WATERMARKS + 8, at)
    world.look()
    assert client.answers() == [(2, OK if stands else int(lost), 0)]
    found = {"discarded": 1}
    fate = "durable" if stands else {DISCARDED: "discarded", Status.UNKNOWN: "unknown"}[lost]
    found[fate] = found.get(fate, 0) + 1
    assert counted(world) == found


def test_an_answer_that_was_judged_waits_for_all_partitions_and_not_for_its_mask(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watermarks of those on which it depends may be of other epochs by now."""
    client, by_mask = world.client(), world.backend.passed
    stable = 0
    write(world, client, 1, 0b10)
    write(world, client, 2, 0)
    world.depose()

    def passed(timestamp: int, mask: int) -> bool:
        return timestamp <= stable if mask == EVERYBODY else by_mask(timestamp, mask)

    monkeypatch.setattr(world.backend, "passed", passed)
    world.connections.judge(world.engine.clock, DISCARDED)
    world.limit = TIMESTAMP_MASK
    world.move_on()
    assert world.look()
    assert client.answers() == [(2, OK, None)], "it depends on this one, which has judged it"
    stable = TIMESTAMP_MASK
    world.look()
    assert client.answers() == [(1, OK, None)]


def test_each_leadership_that_ends_has_its_own_time_to_be_judged(world: World) -> None:
    """What the one before had left of it, long ago, makes nothing unknown."""
    client = world.client()
    client.put(1, b"a")
    final = world.work()
    world.depose()
    world.look()
    world.connections.judge(final, DISCARDED)
    world.limit = final
    world.look(0.5 * PATIENCE)
    assert client.answers() == [(1, OK, 0)]
    world.backend.leads = True
    world.backend.serving.start(1)
    world.now += 3600
    client.put(2, b"b")
    world.work()
    world.depose()
    for seconds in (0.0, 0.9 * PATIENCE):
        world.look(seconds)
        assert client.answers() == []
    world.look(0.2 * PATIENCE)
    assert client.answers() == [(2, int(Status.UNKNOWN), 0)]


def test_where_the_leader_is_is_told_before_anything_is_refused_for_that(world: World) -> None:
    """Else the client would ask this one again, and then look for another one."""
    client = world.client()
    client.put(1, b"a")
    assert client.answers() == []
    world.backend.leader = "b:2"
    world.depose()
    told = [
        (kind, bytes(body)) for kind, _, body in FrameReader(1 << 20).feed(b"".join(client.frames))
    ]
    assert told[0] == (ClientKind.REDIRECT, b"b:2")
    assert [kind for kind, _ in told[1:]] == [ClientKind.RESULT]
    assert client.answers() == [(1, int(Status.NOT_LEADER), 0)]
