"""A snapshot that is moved on: when, how far, and what stays readable meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mako.engine.closing import advance_watermark
from mako.engine.engine import Engine
from mako.engine.layout import C_MASK
from mako.engine.watermarks import set_watermark
from mako.ids import MILLISECOND_SHIFT, Outcome, Status
from mako.schema import BytesTable
from mako.server.backend import LoneBackend
from mako.server.clients import ClientConnection
from mako.server.connections import Connections
from mako.server.moving import MOVES_MAX
from mako.server.sessions import SESSIONS_MAX, ServedTransaction
from mako.server.workers import Crew
from mako.wire.frame import FrameReader
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_requests,
    unpack_replies,
)

TABLE = 50
MILLISECOND = 1 << MILLISECOND_SHIFT
MOVE = Operation.MOVE_SNAPSHOT


class World:
    """A replica that does not lead, whose time comes as the test says, and one client."""

    def __init__(self, *, empty: bool = False) -> None:
        """`empty`: nothing is stable, as when a process begins, before it has read its log."""
        now_ms = 0 if empty else None
        self.engine = Engine(32 << 20, contexts=8, now_ms=now_ms, replicated=empty)
        self.handle = self.engine.create_table(BytesTable("table", id=TABLE))
        self.crew = Crew(self.engine, 5.0)
        # Without workers, for whose log a thread would close timestamps whenever it likes.
        self.backend = LoneBackend(self.crew, {}, workers=0)
        self.backend.leads = False
        self.connections = Connections(self.backend)
        self._sent: list[bytes] = []
        self._reader = FrameReader(1 << 20)
        self.connection = ClientConnection(self.backend, self._sent.append, 100.0)
        self.connections.add(self)
        hello = Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "t")
        self.connection.receive(b"".join(hello_parts(hello)), 100.0)
        # An hour ahead, so that the time of the machine moves nothing.
        self.now_ms = self.engine.now_ns() // 1_000_000 + 3_600_000
        self.pass_time(1)

    def finish(self, reason: str) -> None:
        raise AssertionError(reason)

    def begin_jobs(self) -> None:
        raise AssertionError("nobody asks for one")

    def unblocked(self) -> None:
        raise AssertionError("nothing is blocked here")

    def pass_time(self, milliseconds: int) -> int:
        """Some time passes, and whoever waits is looked at; a timestamp that is stable now."""
        self.now_ms += milliseconds
        self.engine.tick(self.now_ms)
        self.connections.hand_out(100.0)
        return self.engine.settle()

    def write(self, value: bytes) -> int:
        """Commit a value of the one key; the timestamp."""
        transaction = ServedTransaction(self.engine, 100.0)
        transaction.put(self.handle, b"key", value, replace=True)
        return transaction.commit()

    def ask(self, number: int, operation: Operation, *arguments: Any) -> list[Reply]:
        request = pack_requests([[number, int(operation), *arguments]])
        self.connection.receive(frame(ClientKind.REQUEST, request), 100.0)
        return self.answers()

    def answers(self) -> list[Reply]:
        """Those that have come since."""
        found: list[Reply] = []
        data = b"".join(self._sent)
        self._sent.clear()
        for kind, _, body in self._reader.feed(data):
            if kind == ClientKind.REPLY:
                found += unpack_replies(bytes(body))
        return found

    def open(self) -> tuple[int, int]:
        """A new snapshot: its number and timestamp."""
        (reply,) = self.ask(1, Operation.SNAPSHOT, -1)
        return reply.value[0], reply.timestamp

    def read(self, session: int) -> bytes | None:
        (reply,) = self.ask(2, Operation.GET, session, TABLE, [b"key"])
        assert reply.status == 0, reply.text
        value: bytes | None = reply.value[0]
        return value

    def close(self) -> None:
        self.connection.close()
        self.backend.close()
        self.crew.close()
        self.engine.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_replica_that_has_nothing_to_show_is_asked_again() -> None:
    world = World(empty=True)
    for oldest in (-1, 120_000):
        (reply,) = world.ask(1, Operation.SNAPSHOT, oldest)
        assert (reply.status, len(world.connection.sessions)) == (Status.BUSY, 0)
        assert "nothing to show" in reply.text
    advance_watermark(world.engine.base, 7 * MILLISECOND)
    assert world.open()[1] == 7 * MILLISECOND
    world.close()


def test_a_snapshot_that_is_older_than_was_allowed_is_refused_and_not_kept() -> None:
    """Else there would be no room for one that is newer, after some of them."""
    world = World(empty=True)
    advance_watermark(world.engine.base, 7 * MILLISECOND)
    (reply,) = world.ask(1, Operation.SNAPSHOT, -1)
    age = reply.value[1]
    assert age > 120_000
    world.ask(2, Operation.CLOSE, reply.value[0])
    for _ in range(SESSIONS_MAX + 1):
        (reply,) = world.ask(1, Operation.SNAPSHOT, 120_000)
        assert reply.status == Status.STALE
        assert reply.text.endswith("ms behind and 120000 ms were asked for")
    assert (len(world.connection.sessions), world.engine.sessions) == (0, 0)
    (reply,) = world.ask(1, Operation.SNAPSHOT, 2 * age)
    assert (reply.status, reply.timestamp) == (0, 7 * MILLISECOND)
    world.close()


def test_it_reads_at_the_later_timestamp_and_no_later(world: World) -> None:
    world.write(b"1")
    session, opened = world.open()
    wanted = world.write(b"2")
    world.write(b"3")
    assert opened < wanted
    assert world.read(session) == b"1"
    (reply,) = world.ask(3, MOVE, session, wanted)
    assert reply[:3] == (3, 0, wanted)
    assert reply.value >= 0
    assert world.read(session) == b"2"
    (reply,) = world.ask(4, MOVE, session, wanted)
    assert (reply.status, world.read(session)) == (0, b"2"), "there it is already"


def test_what_is_not_stable_yet_is_waited_for(world: World) -> None:
    world.write(b"1")
    session, opened = world.open()
    wanted = opened + 5 * MILLISECOND
    assert world.ask(3, MOVE, session, wanted) == []
    world.write(b"2")
    world.pass_time(3)
    assert world.answers() == []
    assert world.read(session) == b"1", "it is where it was"
    world.pass_time(3)
    world.write(b"3")
    (reply,) = world.answers()
    assert reply[:3] == (3, 0, wanted)
    assert not world.connection.waiting
    assert world.read(session) == b"2"


def test_what_it_may_read_is_kept_meanwhile(world: World) -> None:
    world.write(b"1")
    session, opened = world.open()
    wanted = opened + 5 * MILLISECOND
    assert world.ask(3, MOVE, session, wanted) == []
    for value in range(4):
        world.write(b"%d" % value)
        world.pass_time(1)
    assert world.engine.horizon <= opened
    world.pass_time(20)
    assert [reply.status for reply in world.answers()] == [0]
    for value in range(4):
        world.write(b"again %d" % value)
        world.pass_time(20)
    assert opened < world.engine.horizon <= wanted, "what lies before is not kept any longer"
    assert world.read(session) == b"3"


def test_several_are_moved_in_the_order_of_their_timestamps(world: World) -> None:
    first, opened = world.open()
    second, _ = world.open()
    assert world.ask(3, MOVE, first, opened + 9 * MILLISECOND) == []
    assert world.ask(4, MOVE, second, opened + 4 * MILLISECOND) == []
    world.pass_time(6)
    assert [reply.id for reply in world.answers()] == [4]
    world.pass_time(6)
    assert [reply.id for reply in world.answers()] == [3]


@pytest.mark.parametrize(("wanted", "text"), [(0, "moved on, not back"), ("x", "no timestamp")])
def test_what_makes_no_sense_is_refused(world: World, wanted: Any, text: str) -> None:
    session, _ = world.open()
    (reply,) = world.ask(3, MOVE, session, wanted)
    assert reply.status == Status.REFUSED
    assert text in reply.text


def test_only_a_snapshot_is_moved(world: World) -> None:
    world.backend.leads = True
    (begun,) = world.ask(1, Operation.BEGIN)
    (reply,) = world.ask(2, MOVE, begun.value, world.engine.clock + MILLISECOND)
    assert (reply.status, reply.text) == (Status.REFUSED, "only a snapshot is moved")
    (reply,) = world.ask(3, MOVE, 99, world.engine.clock)
    assert reply.status == Status.NO_SESSION


def test_one_that_ends_meanwhile_is_not_moved(world: World) -> None:
    session, opened = world.open()
    assert world.ask(3, MOVE, session, opened + MILLISECOND) == []
    assert [reply.status for reply in world.ask(4, Operation.CLOSE, session)] == [0]
    world.pass_time(5)
    assert [reply[:2] for reply in world.answers()] == [(3, Status.NO_SESSION)]


def test_it_is_cancelled(world: World) -> None:
    session, opened = world.open()
    assert world.ask(3, MOVE, session, opened + MILLISECOND) == []
    cancelled, said = world.ask(4, Operation.CANCEL, 3)
    assert (cancelled.id, cancelled.status) == (3, Status.TIMED_OUT)
    assert (said.id, said.value) == (4, True)
    world.pass_time(5)
    assert world.answers() == []
    assert world.ask(5, MOVE, session, opened)[0].status == 0, "it is still where it was"


def test_it_does_not_depend_on_who_leads(world: World) -> None:
    world.backend.leads = True
    session, _ = world.open()
    wanted = world.engine.clock + 60_000 * MILLISECOND
    assert world.ask(3, MOVE, session, wanted) == []
    world.backend.leads = False
    world.connections.deposed()
    assert not world.connections.holds, "no failover undoes what it waits for"
    world.now_ms += 60_000
    world.pass_time(1_000)
    assert [reply[:2] for reply in world.answers() if reply.id] == [(3, 0)]


# --- Of some partitions ---------------------------------------------------------------------------


class Divided(World):
    """A replica of partition 0, of two. What is stable in both stands still, and snapshots without
    the other one may read up to `here`."""

    OTHER = 0b10

    def __init__(self) -> None:
        super().__init__(empty=True)
        self.here = self.stable = 0
        self.backend.readable = self._readable  # type: ignore[method-assign]

    def _readable(self, over: int) -> int:
        return max(self.engine.stable, 0 if over & self.OTHER else self.here)

    def write(self, value: bytes, mask: int = 0) -> int:
        transaction = ServedTransaction(self.engine, 100.0)
        transaction.put(self.handle, b"key", value, replace=True)
        self.engine.set_word(transaction._context + C_MASK, mask)
        self.here = transaction.commit()
        return self.here

    def move(self, session: int, timestamp: int) -> list[Reply]:
        told = self.ask(3, MOVE, session, timestamp)
        self.connections.hand_out(100.0)
        return told + self.answers()


@pytest.fixture
def divided() -> Iterator[Divided]:
    made = Divided()
    advance_watermark(made.engine.base, made.write(b"old"))
    yield made
    made.close()


def opened(world: World, *over: int) -> tuple[int, int]:
    (reply,) = world.ask(1, Operation.SNAPSHOT, -1, *over)
    assert reply.status == 0, reply.text
    return reply.value[0], reply.timestamp


def test_a_snapshot_of_one_partition_does_not_wait_for_the_others(divided: Divided) -> None:
    old = divided.here
    new = divided.write(b"new")
    session, timestamp = opened(divided, 0b01)
    assert (timestamp, divided.read(session)) == (new, b"new")
    for over in ((), (0b11,), (0b10,)):
        session, timestamp = opened(divided, *over)
        assert (timestamp, divided.read(session)) == (old, b"old")


def test_what_waits_for_a_partition_that_is_left_out_is_not_shown(divided: Divided) -> None:
    """Neither is what it wrote over, which may not come back."""
    written = divided.write(b"new", mask=Divided.OTHER)
    session, _ = opened(divided, 0b01)
    (reply,) = divided.ask(2, Operation.GET, session, TABLE, [b"key"])
    assert reply.status == Outcome.UNAVAILABLE
    (reply,) = divided.ask(2, Operation.SCAN, session, TABLE, b"a", b"z", 10, 0)
    assert reply.status == Outcome.UNAVAILABLE
    (reply,) = divided.ask(2, Operation.GET, session, TABLE, [b"another"])
    assert reply.value == [None], "the snapshot goes on"
    set_watermark(divided.engine.base, 1, written)
    assert divided.read(session) == b"new", "it is durable now"


def test_who_is_left_out_holds_up_no_move_of_the_others(divided: Divided) -> None:
    here, both = opened(divided, 0b01)[0], opened(divided)[0]
    later = divided.write(b"new")
    assert divided.move(both, later) == []
    (reply,) = divided.move(here, later)
    assert (reply.status, divided.read(here), divided.read(both)) == (0, b"new", b"old")
    advance_watermark(divided.engine.base, later)
    divided.connections.hand_out(100.0)
    assert [reply.status for reply in divided.answers()] == [0]
    assert divided.read(both) == b"new"


@pytest.mark.parametrize("over", [0, -1, 1.5, "x", None])
def test_a_snapshot_of_nothing_is_refused(world: World, over: object) -> None:
    (reply,) = world.ask(1, Operation.SNAPSHOT, -1, over)
    assert (reply.status, reply.text) == (Status.REFUSED, "that names no partitions")
    assert len(world.connection.sessions) == 0


def test_no_more_wait_than_a_client_has_use_for(world: World) -> None:
    """Those of snapshots that were closed wait on."""
    for _ in range(MOVES_MAX):
        number, timestamp = world.open()
        assert world.ask(9, MOVE, number, timestamp + MILLISECOND) == []
        world.ask(8, Operation.CLOSE, number)
    number, timestamp = world.open()
    (reply,) = world.ask(7, MOVE, number, timestamp + MILLISECOND)
    assert (reply.status, reply.id) == (Status.LIMIT, 7)
