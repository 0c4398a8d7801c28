"""Reads without a session, and values set aside: how much of them may wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mako.call_format import GET
from mako.ids import Status
from mako.server import serving
from mako.server.clients import (
    PENDING_MAX,
    READS_MAX,
)
from mako.server.held import ASIDE_BYTES_MAX
from mako.server.pending import PENDING_SECONDS
from mako.wire.requests import (
    LATEST,
    ClientKind,
    Operation,
    frame,
    pack_batch,
    pack_key_call,
)
from tests.server.test_deposed import LOST, OK, TABLE, World
from tests.server.test_room import BUSY, MIB, ONE_MORE, Client


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


@pytest.fixture
def client(world: World) -> Client:
    return Client(world)


def test_reads_that_wait_for_the_gate_hold_up_reads_alone(client: Client, world: World) -> None:
    """As when a partition on which they depend stands still."""
    client.put(b"big", 700 << 10)
    for number in range(2, 20):
        client.ask(client.get(number, [0, False, 0.0][number % 3], b"big"))
        assert client.connection._read <= READS_MAX + ONE_MORE
    assert len(client.connection._reads) == 16
    client.ask(client.get(30, LATEST, b"big"), [31, int(Operation.BEGIN)])
    client.ask([32, int(Operation.WRITE), [["put", TABLE, b"k", b"v"]], 0, 0, 0])
    assert client.taken() == [(30, OK), (31, OK)]
    assert client.connection._waiting_count == 3, "the write is done, and waits as they do"
    answered = []
    for _ in range(18):
        world.limit = world.engine.clock
        world.look()
        answered += client.taken()
    assert [number for number, _ in answered if number != 32] == list(range(2, 20))
    assert all(status == OK for _, status in answered)
    assert client.connection._read == 0


def test_with_enough_reads_that_wait_the_others_are_busy(client: Client, world: World) -> None:
    client.put(b"big", 2 * MIB)
    absent = [b"x" * 1000] * 100
    client.ask(client.get(1, 0, b"big"), *(client.get(i, 0, *absent) for i in range(2, 7)))
    assert client.taken() == [(i, BUSY) for i in range(5, 7)]
    assert client.connection._reads.size <= PENDING_MAX + 101_000
    assert not client.connection.blocked
    client.ask([9, int(Operation.CANCEL), 2])
    assert client.taken() == [(2, int(Status.TIMED_OUT)), (9, OK)]
    world.connections.tick(world.now + PENDING_SECONDS + 0.1)
    assert client.taken() == [(3, BUSY), (4, BUSY)]


def test_many_values_that_are_not_there_count_too(client: Client, world: World) -> None:
    for number in range(1, 6):
        client.ask(client.get(number, 0, *[b""] * 10_000))
    assert client.connection._waiting_count == 3
    assert client.connection.pending == 2


@pytest.mark.parametrize("how", ["discarded", "cancelled", "lost", "deposed", "durable"])
def test_what_does_not_wait_any_more_makes_room(client: Client, world: World, how: str) -> None:
    client.put(b"big", 2 * MIB)
    client.ask(client.get(2, 0, b"big"), client.get(3, 0, b"big"))
    assert client.connection.pending == 1
    if how == "cancelled":
        client.ask([4, int(Operation.CANCEL), 2])
        assert client.taken() == [(2, int(Status.TIMED_OUT)), (4, OK)]
        assert client.connection.pending == 0, "the other one is begun"
        return
    if how == "lost":
        world.connections.lost(0, 0)
        assert client.taken() == [(2, LOST)]
        assert client.connection._read == 0
        world.look()
        assert client.connection.pending == 0
        return
    world.depose()
    assert client.taken() == [(3, int(Status.NOT_LEADER))]
    assert client.connection._read > 2 * MIB
    client.ask(client.get(4, 0, b"big"))
    assert client.taken() == [(4, int(Status.NOT_LEADER))], "it does not wait for room"
    if how != "deposed":
        final = 0 if how == "discarded" else world.engine.clock
        world.connections.judge(final, Status.DISCARDED)
        world.limit = final
        world.look()
        assert client.taken() == [(2, LOST if how == "discarded" else OK)]
        assert client.connection._read == 0


def test_values_that_wait_for_who_stands_still_have_a_bound(client: Client, world: World) -> None:
    """They are kept beside the rings, so that those behind them need not wait, too."""
    other = Client(world)
    client.put(b"big", 60_000)
    world.stand_still()
    gets = [pack_key_call(GET, TABLE, i, 0, b"big") for i in range(1, 41)]
    answered = []
    for at in range(0, 40, 10):
        client.send(frame(ClientKind.CALL, pack_batch(1, 0, gets[at : at + 10])))
        world.work()
        world.backend.serving.set_masks(0b11)
        world.limit = world.engine.clock
        world.look()
        answered += client.taken()
    kept = ASIDE_BYTES_MAX // 60_000
    assert answered == [(i, BUSY) for i in range(kept + 1, 41)]
    other.send(frame(ClientKind.CALL, pack_batch(1, 0, [gets[0]])))
    world.work()
    world.backend.serving.set_masks(0b11)
    world.limit = world.engine.clock
    world.look()
    assert other.taken() == [], "it has a bound of its own"
    world.move_on()
    world.look()
    assert client.taken() == [(i, OK) for i in range(1, kept + 1)]
    assert other.taken() == [(1, OK)]
    assert not world.backend.serving._held._aside_bytes


def test_rows_of_requests_that_are_to_be_deleted_do_not_pile_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "DEFERRED_MAX", 3)
    for worker in world.backend.serving._workers:
        monkeypatch.setattr(worker, "post", lambda entry, words: False)
    for i in range(10):
        world.backend.serving.forget(i, 0, 1024)
    assert len(world.backend.serving._deferred) == 3
