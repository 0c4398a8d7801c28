"""What a deposed leader tells its clients, with workers in steps and time as a number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mako.call_format import CALL_EARLY, IS_EARLY, IS_NOTICE, PUT
from mako.engine.engine import Engine
from mako.engine.layout import C_MASK, D_OUTCOME, PEERS, WATERMARKS
from mako.ids import TIMESTAMP_MASK, Outcome, Status
from mako.schema import BytesTable
from mako.server import clients
from mako.server.backend import LoneBackend
from mako.server.clients import ClientConnection
from mako.server.connections import Connections
from mako.server.sessions import ServedTransaction
from mako.sim.workers import SimCrew
from mako.wire.frame import FrameReader
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    ClientKind,
    Operation,
    frame,
    pack_batch,
    pack_key_call,
    pack_requests,
    read_results,
    unpack_replies,
)

TABLE = 50
HELLO = b"".join(hello_parts(Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "t")))
PATIENCE = 1.5

#: Id of a call, what it was answered, and the flags or None if it is the reply to a request.
Answer = tuple[int, int, int | None]


class Served:
    """A client whose stream is a list."""

    def __init__(self, world: World) -> None:
        self._reader = FrameReader(1 << 20)
        self._world = world
        self.frames: list[bytes] = []
        self.rooms = 0
        self.connection = ClientConnection(world.backend, self.frames.append, world.now)
        self.connection.receive(HELLO, world.now)

    def finish(self, reason: str) -> None:
        raise AssertionError(reason)

    def begin_jobs(self) -> None:
        raise AssertionError("nobody asks for one")

    def unblocked(self) -> None:
        self.rooms += 1

    def put(self, number: int, key: bytes, *, early: bool = False) -> None:
        call = pack_key_call(PUT, TABLE, number, CALL_EARLY if early else 0, key, b"value")
        batch = frame(ClientKind.CALL, pack_batch(1, 0, [call]))
        self.connection.receive(batch, self._world.now)

    def ask(self, number: int, operation: Operation, *arguments: Any) -> None:
        request = pack_requests([[number, int(operation), *arguments]])
        self.connection.receive(frame(ClientKind.REQUEST, request), self._world.now)

    def answers(self) -> list[Answer]:
        """Those that have come since."""
        found: list[Answer] = []
        data = b"".join(self.frames)
        self.frames.clear()
        for kind, _, body in self._reader.feed(data):
            if kind == ClientKind.RESULT:
                found += [(one[0], one[1], one[2]) for one in read_results(bytes(body))]
            elif kind == ClientKind.REPLY:
                found += [(one.id, one.status, None) for one in unpack_replies(bytes(body))]
        return found


class World:
    """A partition whose gate is a number, and the connections to it."""

    def __init__(self) -> None:
        self.engine = Engine(32 << 20, contexts=16)
        self.engine.create_table(BytesTable("table", id=TABLE))
        self.crew = SimCrew(self.engine, time.time_ns)
        self.backend = Backend(self.crew, {})  # type: ignore[arg-type]
        self.connections = Connections(self.backend, judged_seconds=PATIENCE)
        self.now = 100.0
        self.limit = 0
        self.backend.world = self
        self.backend.wanted = []
        self.backend.serving.limit = lambda: self.limit
        #: Mask of the partitions whose watermarks stand still at 0.
        self.standing = 0
        self.first: Served

    def stand_still(self) -> None:
        """There is a partition 1, which makes nothing durable."""
        self.standing = 0b10
        self.engine.set_word(self.engine.base + PEERS, 0b11)
        self.backend.serving._stalled = lambda: self.standing

    def move_on(self) -> None:
        """It has made everything durable."""
        self.standing = 0
        self.engine.set_word(self.engine.base + WATERMARKS + 8, TIMESTAMP_MASK)

    def client(self) -> Served:
        made = Served(self)
        self.connections.add(made)
        return made

    def work(self) -> int:
        """The workers do what there is; the timestamp that they have come to."""
        for worker in self.crew.workers:
            while self.crew.has_work(worker):
                self.crew.begin(worker)
                self.crew.go_on(worker)
        return self.engine.clock

    def look(self, seconds: float = 0.0) -> bool:
        """Whether somebody has to look again soon."""
        self.now += seconds
        return self.connections.hand_out(self.now)

    def depose(self) -> None:
        self.backend.leads = False
        self.connections.deposed()


class Backend(LoneBackend):
    world: World
    #: What the watermark was asked to pass.
    wanted: list[int]

    def on_waiting(self, timestamp: int) -> None:
        self.wanted.append(timestamp)

    def gate(self) -> int:
        return self.world.limit

    def passed(self, timestamp: int, mask: int) -> bool:
        return timestamp <= self.world.limit and not mask & self.world.standing


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


OK, LOST = 0, int(Status.DISCARDED)


def test_results_are_waited_for_from_when_they_are_first_seen(world: World) -> None:
    """A turn that finds nothing new asks for no more entries."""
    client, wanted = world.client(), world.backend.wanted
    client.put(1, b"a")
    done = world.work()
    assert world.look()
    assert wanted.pop() >= done
    assert world.look()
    assert wanted.pop() == 0
    client.put(2, b"b")
    assert world.work() > done
    assert world.look()
    assert wanted.pop() > done


def test_what_is_above_the_final_watermark_is_discarded_and_the_rest_lasts(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    client.put(2, b"b", early=True)
    client.ask(3, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    final = world.work()
    client.ask(4, Operation.WAIT_WATERMARK, final)
    client.put(5, b"d")
    client.put(6, b"e", early=True)
    world.work()
    client.ask(7, Operation.WRITE, [["put", TABLE, b"f", b"v"]], 0, 0, 0)
    world.look()
    assert client.answers() == [(2, OK, IS_EARLY), (6, OK, IS_EARLY)]
    world.depose()
    world.look()
    assert client.answers() == []
    world.connections.judge(final, Status.DISCARDED)
    # At once, whatever the time is; what lasts waits until its time has passed.
    assert client.answers() == [(5, LOST, 0), (6, LOST, IS_NOTICE), (7, LOST, None)]
    assert world.look(10 * PATIENCE)
    assert client.answers() == []
    world.limit = final
    assert not world.look()
    assert client.answers() == [(1, OK, 0), (2, OK, IS_NOTICE), (3, OK, None), (4, OK, None)]
    assert dict(world.connections.judged) == {"durable": 4, "discarded": 3}


def test_what_is_held_waits_for_all_partitions_on_which_it_depends_though_this_one_leads_again(
    world: World,
) -> None:
    """At or below its own final watermark it may still go with another partition's epoch."""
    client, serving = world.client(), world.backend.serving
    client.put(1, b"a")
    client.put(2, b"b")
    final = world.work()
    stable = 0
    serving.gate = lambda: min(stable, world.limit)
    world.limit = final
    world.look()
    world.depose()
    assert client.answers() == [(1, OK, 0), (2, OK, 0)]  # Who led has looked at their masks.
    world.backend.leads = True
    serving.start(1)
    client.put(3, b"c")
    world.limit = 0
    world.work()
    serving.set_masks(0b11)
    client.put(4, b"d")
    final = world.work()
    world.depose()
    world.connections.judge(final, Status.DISCARDED)
    world.limit = final
    world.backend.leads = True
    serving.start(1)
    assert world.look()
    assert client.answers() == [(4, OK, 0)]  # It depends on nobody else.
    stable = final
    world.look()
    assert client.answers() == [(3, OK, 0)]


def test_what_was_not_begun_is_refused_at_once(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    world.work()
    client.put(2, b"b")
    world.depose()
    assert client.answers() == [(2, int(Status.NOT_LEADER), 0)]
    client.put(3, b"c")
    client.ask(4, Operation.BEGIN)
    refused = int(Status.NOT_LEADER)
    assert client.answers() == [(3, refused, 0), (4, refused, None)]


def test_what_nobody_can_tell_in_time_is_unknown(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    known = world.work()
    client.put(2, b"b")
    world.work()
    client.ask(3, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    world.depose()
    world.look()
    world.limit = known
    world.look(0.9 * PATIENCE)
    assert client.answers() == []
    world.look(0.2 * PATIENCE)
    lost = int(Status.UNKNOWN)
    assert sorted(client.answers()) == [(1, OK, 0), (2, lost, 0), (3, lost, None)]
    world.connections.judge(1 << 62, Status.DISCARDED)  # Too late.
    world.look()
    assert client.answers() == []
    assert dict(world.connections.judged) == {"durable": 1, "unknown": 2}


def test_a_connection_that_leaves_meanwhile_is_free_again(world: World) -> None:
    serving = world.backend.serving
    first, second = world.client(), world.client()
    for client in (first, second):
        client.put(1, b"a%d" % id(client))
        client.put(2, b"b%d" % id(client))
    final = world.work()
    world.depose()
    number = first.connection._number
    assert number is not None
    assert serving.flying(number) == 2
    world.connections.remove(first)
    assert serving.flying(number) == 0
    assert serving.open(first.frames.append) == number
    world.connections.judge(final, Status.DISCARDED)
    kept = second.connection._number
    assert kept is not None
    world.connections.remove(second)  # It waits for the time alone.
    world.limit = final
    world.look()
    assert serving.flying(kept) == 0
    assert first.answers() == second.answers() == []


def test_who_left_before_is_free_when_the_workers_stop(world: World) -> None:
    serving, client = world.backend.serving, world.client()
    client.put(1, b"a")
    world.work()
    number = client.connection._number
    world.connections.remove(client)
    assert serving.open(client.frames.append) != number
    world.depose()
    world.look()
    assert not world.connections.holds
    assert serving.open(client.frames.append) == number


def test_it_leads_again_before_the_time_of_what_lasts_has_come(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    final = world.work()
    world.depose()
    world.connections.judge(final, Status.DISCARDED)
    world.backend.leads = True
    world.backend.serving.start(1)
    client.put(2, b"b")
    world.work()
    world.depose()
    world.connections.judge(final, Status.DISCARDED)
    assert client.answers() == [(2, LOST, 0)]
    assert world.look()
    world.limit = final
    world.look()
    assert client.answers() == [(1, OK, 0)]


def test_a_wait_of_the_next_epoch_is_not_judged_by_the_last_one(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    final = world.work()
    world.depose()
    client.ask(2, Operation.WAIT_WATERMARK, final + 100)
    world.connections.judge(final, Status.DISCARDED)
    assert client.answers() == []
    world.limit = final + 100
    world.look()
    assert client.answers() == [(1, OK, 0), (2, OK, None)]


def test_what_is_held_can_be_cancelled(world: World) -> None:
    client = world.client()
    client.ask(1, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    world.depose()
    client.ask(2, Operation.CANCEL, 1)
    assert client.answers() == [(1, int(Status.TIMED_OUT), None), (2, OK, None)]
    world.connections.judge(0, Status.DISCARDED)
    assert client.answers() == []


def test_answers_that_are_held_count_as_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "WAITING_MAX", 2)
    client = world.client()
    for number in (1, 2):
        client.ask(number, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    world.depose()
    world.look()
    assert client.connection.blocked
    assert client.rooms == 0
    world.connections.judge(0, Status.DISCARDED)
    assert not client.connection.blocked
    world.look()
    assert client.rooms == 1


def test_who_was_blocked_by_the_gate_takes_bytes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "WAITING_MAX", 1)
    client = world.client()
    client.ask(1, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    assert client.connection.blocked
    world.limit = world.engine.clock
    world.look()
    assert client.rooms == 1


def test_who_was_blocked_until_the_leadership_ended_takes_bytes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate has passed some of what waits, and nobody has looked since."""
    monkeypatch.setattr(clients, "WAITING_MAX", 2)
    client = world.client()
    client.ask(1, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    passed = world.engine.clock
    client.ask(2, Operation.WRITE, [["put", TABLE, b"c", b"v"]], 0, 0, 0)
    assert client.connection.blocked
    world.limit = passed
    world.depose()
    assert client.answers() == [(1, OK, None)]
    assert not client.connection.blocked
    assert client.rooms == 0
    world.look()
    assert client.rooms == 1
    world.look()
    assert client.rooms == 1


def test_what_is_held_when_the_process_stops_is_unknown(world: World) -> None:
    client = world.client()
    client.put(1, b"a")
    world.work()
    world.depose()
    world.connections.give_up()
    assert client.answers() == [(1, int(Status.UNKNOWN), 0)]


# --- A partition that stands still ---------------------------------------------------------------


@pytest.fixture
def stalled(world: World) -> World:
    """Call 1 has written something that depends on partition 1 as well, call 2 has not."""
    world.stand_still()
    client = world.first = world.client()
    client.put(1, b"a")
    world.work()
    world.backend.serving.set_masks(0b11)
    client.put(2, b"b")
    world.limit = world.work()
    return world


def test_what_depends_on_who_stands_still_holds_nobody_else_up(stalled: World) -> None:
    client, serving = stalled.first, stalled.backend.serving
    stalled.look()
    assert client.answers() == [(2, OK, 0)]
    number = client.connection._number
    assert number is not None
    assert (serving.count_aside(1), serving.flying(number)) == (1, 1)
    stalled.look()
    assert client.answers() == []
    stalled.move_on()
    stalled.look()
    assert client.answers() == [(1, OK, 0)]
    assert (serving.count_aside(1), serving.flying(number)) == (0, 0)


def test_what_was_set_aside_is_discarded_with_the_partition_it_depends_on(stalled: World) -> None:
    client = stalled.first
    stalled.look()
    client.answers()
    stalled.connections.lost(1, 0)
    assert client.answers() == [(1, LOST, 0)]
    assert stalled.connections.judged["discarded"] == 1


def test_what_was_set_aside_is_judged_with_the_epoch(stalled: World) -> None:
    client = stalled.first
    stalled.look()
    client.answers()
    stalled.depose()
    stalled.connections.judge(0, Status.DISCARDED)
    assert client.answers() == [(1, LOST, 0)]


def test_a_connection_that_leaves_takes_what_was_set_aside_along(stalled: World) -> None:
    client, serving = stalled.first, stalled.backend.serving
    stalled.look()
    number = client.connection._number
    assert number is not None
    stalled.connections.remove(client)
    assert (serving.count_aside(1), serving.flying(number)) == (0, 0)
    stalled.move_on()
    stalled.look()


def test_what_says_nothing_of_the_data_is_told_at_once(world: World) -> None:
    """That it would have to wait for a partition is no reason to wait for it."""
    world.stand_still()
    client = world.client()
    client.put(1, b"a")
    world.limit = world.work()
    serving = world.backend.serving
    serving.set_masks(0b11)
    worker = serving._workers[0]
    for place, _, _ in worker._places():
        outcome = int(Outcome.UNAVAILABLE)
        world.engine.set_word(worker._completions + place + D_OUTCOME, outcome)
    world.look()  # It is seen.
    world.look()
    assert client.answers() == [(1, outcome, 0)]


def write(world: World, client: Served, number: int, mask: int) -> None:
    """A client writes a row in a request, and has read what depends on the partitions of a mask."""
    commit = ServedTransaction.commit

    def committed(transaction: ServedTransaction) -> int:
        engine = world.engine
        context = transaction._context
        engine.set_word(context + C_MASK, engine.word(context + C_MASK) | mask)
        return commit(transaction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServedTransaction, "commit", committed)
        client.ask(number, Operation.WRITE, [["put", TABLE, b"%d" % number, b"v"]], 0, 0, 0)


def test_requests_wait_for_the_partitions_on_which_they_depend(world: World) -> None:
    world.stand_still()
    client = world.client()
    world.limit = TIMESTAMP_MASK
    write(world, client, 1, 0b10)
    write(world, client, 2, 0)
    client.ask(3, Operation.WAIT_WATERMARK, 5)  # Of all.
    world.look()
    assert client.answers() == [(2, OK, None)]
    world.move_on()
    world.look()
    assert client.answers() == [(3, OK, None), (1, OK, None)]


def test_a_request_is_discarded_with_the_partition_it_depends_on(world: World) -> None:
    """It is not acknowledged when that one moves on."""
    world.stand_still()
    client = world.client()
    world.limit = TIMESTAMP_MASK
    write(world, client, 1, 0b10)
    written = world.engine.clock
    world.connections.lost(1, written)  # All of it stands.
    assert client.answers() == []
    world.connections.lost(2, 0)  # Another one.
    assert client.answers() == []
    world.connections.lost(1, 0)
    assert client.answers() == [(1, LOST, None)]
    world.move_on()
    world.look()
    assert client.answers() == []


def test_a_request_is_discarded_though_it_was_judged_before(world: World) -> None:
    world.stand_still()
    client = world.client()
    world.limit = TIMESTAMP_MASK
    write(world, client, 1, 0b10)
    write(world, client, 2, 0b10)
    world.depose()
    world.connections.judge(world.engine.clock, Status.DISCARDED)
    assert client.answers() == []
    world.connections.lost(1, 0)
    assert sorted(client.answers()) == [(1, LOST, None), (2, LOST, None)]


def test_what_depends_on_a_forgotten_epoch_is_unknown(world: World) -> None:
    """As a snapshot tells it, which brings up a leader that was deposed: the others first. What
    does not depend on that partition is judged as ever."""
    world.stand_still()
    client = world.client()
    client.put(1, b"a")
    world.work()
    world.backend.serving.set_masks(0b11)
    client.put(2, b"b")
    world.work()
    write(world, client, 3, 0b10)
    write(world, client, 4, 0)
    world.depose()
    world.limit = TIMESTAMP_MASK
    world.connections.lost(1, None)
    unknown = int(Status.UNKNOWN)
    assert client.answers() == [(1, unknown, 0), (3, unknown, None)]
    world.connections.judge(world.engine.clock, Status.DISCARDED)
    assert client.answers() == [(2, OK, 0), (4, OK, None)]
    assert world.connections.judged["durable"] == world.connections.judged["unknown"] == 2


@pytest.mark.parametrize("when", ["it leads", "it is deposed", "it is judged"])
def test_a_failure_is_no_fact_if_what_it_met_may_be_lost(world: World, when: str) -> None:
    """A row that was not there, for all that lasts, is said to exist."""
    world.stand_still()
    client = world.client()
    write(world, client, 1, 0b10)
    write(world, client, 2, 0)
    stands = world.engine.clock
    again = [["insert", TABLE, b"1", b"v"]]
    client.ask(3, Operation.WRITE, again, 0, 0, 0)
    failed = world.engine.clock
    client.ask(4, Operation.WAIT_WATERMARK, failed)
    assert client.answers() == []
    if when != "it leads":
        world.depose()
    if when == "it is judged":
        world.connections.judge(failed, Status.DISCARDED)
    world.connections.lost(1, failed)
    assert client.answers() == []
    world.connections.lost(1, stands - 1)
    assert client.answers() == [(3, LOST, None)]
    if when == "it is deposed":
        world.connections.judge(failed, Status.DISCARDED)
    world.move_on()
    world.limit = TIMESTAMP_MASK
    world.look()
    assert sorted(client.answers()) == [(1, OK, None), (2, OK, None), (4, OK, None)]
