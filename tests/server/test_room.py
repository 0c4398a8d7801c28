"""What of the answers to requests may wait, and where their size has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from mako.call_format import GET, PUT
from mako.ids import Status
from mako.server import clients
from mako.server.asking import GET_BYTES_MAX, Asking
from mako.server.clients import (
    ANSWERS_MAX,
    PENDING_MAX,
    TURN_WORK,
    ClientConnection,
)
from mako.server.pending import PENDING_EACH, PENDING_SECONDS
from mako.wire.frame import FrameReader
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    LATEST,
    ClientKind,
    Operation,
    frame,
    pack_batch,
    pack_key_call,
    pack_requests,
    read_results,
    unpack_replies,
)
from tests.server.test_deposed import OK, TABLE, World

MIB: Final = 1 << 20
#: What one more answer may add to those that wait.
ONE_MORE: Final = GET_BYTES_MAX + (1 << 10)
BUSY: Final = int(Status.BUSY)


# --- A connection ---------------------------------------------------------------------------------


class Client:
    """A client that takes what the test says, in a world whose gate is a number."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reader = FrameReader(16 << 20)
        self.written: list[bytes] = []
        self.jobs = 0
        self.rooms = 0
        self.connection = ClientConnection(
            world.backend, self.written.append, world.now, self.untaken
        )
        hello = Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "test")
        self.connection.receive(b"".join(hello_parts(hello)), world.now)
        self.written.clear()
        world.connections.add(self)

    def untaken(self) -> int:
        return sum(map(len, self.written))

    def finish(self, reason: str) -> None:
        raise AssertionError(reason)

    def unblocked(self) -> None:
        self.rooms += 1

    def begin_jobs(self) -> None:
        for number, job in self.connection.take_jobs():
            self.jobs += 1
            job.run()
            self.connection.job_done(number, job)

    def send(self, *frames: bytes) -> None:
        self.connection.receive(b"".join(frames), self._world.now)

    def ask(self, *requests: list[Any]) -> None:
        self.send(frame(ClientKind.REQUEST, pack_requests(requests)))

    def get(self, number: int, session: object, *keys: bytes) -> list[Any]:
        return [number, int(Operation.GET), session, TABLE, list(keys)]

    def take(self) -> list[tuple[int, int]]:
        """Take what was written: ids and statuses. The server hears that there is room."""
        found = self.taken()
        self._world.connections.go_on(self, self._world.now)
        return found

    def taken(self) -> list[tuple[int, int]]:
        """The same, of which the server does not hear yet."""
        found: list[tuple[int, int]] = []
        for kind, _, body in self._reader.feed(b"".join(self.written)):
            if kind == ClientKind.RESULT:
                found += [(one[0], one[1]) for one in read_results(bytes(body))]
            elif kind == ClientKind.REPLY:
                found += [(one.id, one.status) for one in unpack_replies(bytes(body))]
        self.written.clear()
        return found

    def take_all(self) -> list[int]:
        """The ids of all that is answered, each without an error."""
        found: list[tuple[int, int]] = []
        while self.written or self.connection.stuck:
            assert self.untaken() <= ANSWERS_MAX + ONE_MORE
            more = self.take()
            assert more, "it goes on"
            found += more
        assert [status for _, status in found] == [OK] * len(found)
        return [number for number, _ in found]

    def put(self, key: bytes, size: int) -> None:
        """Write a value. No frame of a client has room for a large one."""
        writes = [["put", TABLE, key, bytes(size)]]
        Asking(self._world.backend).do(Operation.WRITE, [writes, 0, 0, 0], 0.0)

    def fill(self) -> None:
        """Ask for so much that nothing has room behind it, and do not take it."""
        self.put(b"large", 3 * MIB)
        self.ask(self.get(1 << 41, LATEST, b"large"))
        assert self.untaken() >= ANSWERS_MAX


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


FILLED: Final = (1 << 41, OK)


@pytest.mark.parametrize("in_one_frame", [True, False])
def test_requests_wait_while_the_client_takes_nothing(
    client: Client, *, in_one_frame: bool
) -> None:
    client.put(b"key", MIB // 3)
    requests = [client.get(i, LATEST, b"key") for i in range(1, 41)]
    for some in [requests] if in_one_frame else [[one] for one in requests]:
        client.ask(*some)
    assert client.untaken() <= ANSWERS_MAX + ONE_MORE
    assert client.connection.pending > 30
    assert not client.connection.blocked, "it may still ask"
    client.ask([50, int(Operation.STATUS)], [51, int(Operation.PING)])
    seen = [number for number, _ in client.taken()]
    assert seen[-1] == 51, "who asks whether the server is there is told so"
    client.connection.resume(0.0)
    seen.remove(51)
    seen += client.take_all()
    assert seen == [*range(1, 41), 50], "in their order"


def test_with_enough_that_waits_nothing_more_is_read(client: Client, world: World) -> None:
    client.fill()
    asked = 0
    while not client.connection.blocked:
        asked += 1
        client.ask(client.get(asked, LATEST, *[b"%d" % asked * 500] * 30))
        assert asked < PENDING_MAX // 15_000
    assert client.rooms == 0
    assert client.take_all() == [1 << 41, *range(1, asked + 1)]
    assert client.rooms == 1
    assert client.connection._pending.size == 0


def test_many_small_requests_with_large_answers_wait_too(client: Client, world: World) -> None:
    for i in range(200):
        world.backend.open_table(f"a table with a rather long name {i}")
    client.ask(*([i, int(Operation.DESCRIBE)] for i in range(4000)))
    assert client.untaken() <= ANSWERS_MAX + MIB
    assert client.connection.blocked, "each costs something, however short it is"
    assert client.connection._pending.size >= 3000 * PENDING_EACH


def test_what_waits_is_kept_as_short_as_it_was_sent(client: Client) -> None:
    """Each of the empty lists would cost sixty bytes."""
    client.fill()
    client.ask([1, int(Operation.CHANGE_MEMBERS), [[]] * 100_000, []])
    (kept,) = client.connection._pending._requests.values()
    assert len(kept.packed) < 100_100
    assert client.connection._pending.size == len(kept.packed) + PENDING_EACH
    assert client.take() == [FILLED]
    assert client.taken() == [(1, int(Status.REFUSED))]


def test_a_number_that_is_pending_already_is_refused(client: Client) -> None:
    """The answers could not be told apart, and a CANCEL would be about one of them."""
    client.fill()
    status, cancel = int(Operation.STATUS), int(Operation.CANCEL)
    client.ask([8, status], [8, status], [9, cancel, 8], [9, cancel, 8])
    refused = int(Status.REFUSED)
    assert client.taken() == [FILLED, (8, int(Status.TIMED_OUT)), (8, refused), (9, refused)]
    assert client.take() == []
    assert client.taken() == [(9, OK)]


@pytest.mark.parametrize("depth", [200, 900, 1015])
def test_what_is_nested_deeply_waits_or_is_refused(client: Client, depth: int) -> None:
    client.fill()
    nested = b"\x91" * depth + b"\x90"
    client.send(frame(ClientKind.REQUEST, b"\x91\x93\x07" + bytes([Operation.PUT]) + nested))
    client.ask([8, int(Operation.PING)])
    answered = [*client.take(), *client.taken()]
    assert sorted(answered) == [(7, int(Status.REFUSED)), (8, OK), FILLED]
    assert client.connection.pending == 0


def test_packed_calls_wait_while_the_client_takes_nothing(client: Client, world: World) -> None:
    world.limit = 1 << 62
    client.put(b"key", 60_000)
    gets = [pack_key_call(GET, TABLE, i, 0, b"key") for i in range(1, 41)]
    batches = [frame(ClientKind.CALL, pack_batch(1, 0, [get])) for get in gets]
    seen, sent = [], 0
    while sent < len(batches):
        if client.connection.blocked:
            assert client.untaken() <= ANSWERS_MAX + 2 * 60_100
            assert client.rooms == 0
            seen += client.take()
            client.rooms = 0
        client.send(batches[sent])
        sent += 1
        world.work()
        world.look()
    assert seen, "it was blocked"
    while len(seen) < len(batches):
        seen += client.take()
        world.work()
        world.look()
    assert seen == [(i, OK) for i in range(1, 41)]


def test_frames_behind_one_that_is_stuck_wait_as_they_came(client: Client, world: World) -> None:
    client.fill()
    world.limit = 1 << 62
    calls = [
        frame(ClientKind.CALL, pack_batch(client_id, 0, [pack_key_call(PUT, TABLE, i, 0, b"k")]))
        for i, client_id in enumerate((1, 2, 3), start=10)
    ]
    client.send(*calls, frame(ClientKind.REQUEST, pack_requests([[5, int(Operation.PING)]])))
    assert client.connection.blocked
    assert len(client.connection._backlog) == 3
    assert client.take() == [FILLED]
    assert client.rooms == 1
    assert client.taken() == [(5, OK)]
    world.work()
    world.look()
    assert client.take() == [(10, OK), (11, OK), (12, OK)]


def test_a_frame_behind_one_that_is_still_stuck_stays(client: Client, world: World) -> None:
    client.fill()
    call = frame(ClientKind.CALL, pack_batch(1, 0, [pack_key_call(PUT, TABLE, 3, 0, b"k")]))
    client.send(call, frame(ClientKind.REQUEST, pack_requests([[5, int(Operation.PING)]])))
    client.connection.resume(world.now)
    world.look()
    assert client.connection.blocked
    assert client.taken() == [FILLED]


def test_what_waits_for_too_long_is_busy(client: Client, world: World) -> None:
    client.fill()
    begun = world.now
    client.ask([1, int(Operation.STATUS)])
    world.now += PENDING_SECONDS / 2
    client.ask([2, int(Operation.STATUS)], [3, int(Operation.CANCEL), 4])
    world.connections.tick(begun + PENDING_SECONDS)
    assert client.connection.pending == 3
    world.connections.tick(begun + PENDING_SECONDS + 0.1)
    assert client.taken() == [FILLED, (1, BUSY)]
    world.connections.tick(world.now + PENDING_SECONDS + 0.1)
    assert client.taken() == [(2, BUSY), (3, OK)]
    assert client.connection._pending.size == 0


def test_who_takes_something_all_the_time_is_not_told_to_come_back(
    client: Client, world: World
) -> None:
    client.fill()
    client.ask([1, int(Operation.STATUS)])
    for _ in range(10):
        world.now += PENDING_SECONDS - 0.1
        world.connections.tick(world.now)
        client.connection.took(world.now)
    assert client.connection.pending == 1
    world.connections.tick(world.now + PENDING_SECONDS + 0.1)
    assert client.taken() == [FILLED, (1, BUSY)]


def test_what_ends_a_session_ends_it_however_late(client: Client, world: World) -> None:
    """Nobody asks for that again, and a session holds much."""
    world.limit = 1 << 62
    client.ask(*([n, int(Operation.SNAPSHOT), -1] for n in (1, 2)), [3, int(Operation.BEGIN)])
    client.ask([4, int(Operation.BEGIN)])
    assert client.taken() == [(1, OK), (2, OK), (3, OK), (4, OK)]
    before = world.engine.sessions
    client.fill()
    client.ask(
        [5, int(Operation.CLOSE), 1],
        [6, int(Operation.COMMIT), 3, 0],
        [7, int(Operation.ABORT), 4],
    )
    assert world.engine.sessions == before
    world.connections.tick(world.now + PENDING_SECONDS + 0.1)
    assert world.engine.sessions == before - 3
    assert client.taken() == [FILLED, (5, OK), (6, BUSY), (7, OK)]


def test_that_values_are_too_long_is_told_once_they_last(client: Client, world: World) -> None:
    client.put(b"one", 3 * MIB)
    client.put(b"two", 3 * MIB)
    client.ask(client.get(1, 0, b"one", b"two"))
    assert client.taken() == []
    world.limit = world.engine.clock
    world.look()
    assert client.taken() == [(1, int(Status.TOO_LONG))]


def test_who_was_blocked_by_what_is_busy_now_takes_bytes_again(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PENDING_MAX", 1)
    client.fill()
    client.ask([1, int(Operation.STATUS)])
    assert client.connection.blocked
    world.connections.tick(world.now + PENDING_SECONDS + 0.1)
    assert not client.connection.blocked
    world.look()
    assert client.rooms == 1


def test_what_is_pending_can_be_cancelled(client: Client) -> None:
    client.fill()
    timed_out = int(Status.TIMED_OUT)
    client.ask([1, int(Operation.STATUS)], [2, int(Operation.STATUS)], [3, int(Operation.PING)])
    client.ask([4, int(Operation.CANCEL), 2], [5, int(Operation.CANCEL), 2])
    assert client.taken() == [FILLED, (3, OK), (2, timed_out)]
    assert client.take() == []
    assert client.taken() == [(1, OK), (4, OK), (5, OK)], "in its turn"


def test_a_cancel_that_waits_to_be_answered_is_not_cancelled(client: Client) -> None:
    client.fill()
    cancel = int(Operation.CANCEL)
    client.ask([1, int(Operation.STATUS)], [2, cancel, 99], [3, cancel, 2])
    client.take()
    assert client.taken() == [(1, OK), (2, OK), (3, OK)]


def test_what_only_a_leader_does_is_refused_when_it_is_deposed(
    client: Client, world: World
) -> None:
    world.limit = 1 << 62
    client.ask([1, int(Operation.SNAPSHOT), -1])
    assert client.taken() == [(1, OK)]
    client.fill()
    client.ask(
        [2, int(Operation.WRITE), [["put", TABLE, b"k", b"v"]], 0, 0, 0],
        [3, int(Operation.STATUS)],
        client.get(4, 1, b"k"),
        client.get(5, 0, b"k"),
        client.get(6, LATEST, b"k"),
        [7, int(Operation.CANCEL), 99],
        [8, 99],
        [9, int(Operation.WAIT_WATERMARK), 5],
    )
    world.depose()
    elsewhere = int(Status.NOT_LEADER)
    # Of another leader the watermark passes any timestamp: that says nothing of the own ones.
    unknown = [(9, int(Status.UNKNOWN))]
    assert client.taken() == [FILLED, *unknown, *((i, elsewhere) for i in (2, 5, 6, 8))]
    assert client.take() == []
    assert client.taken() == [(3, OK), (4, OK), (7, OK)]


def test_a_connection_that_ends_drops_what_is_pending(client: Client, world: World) -> None:
    client.fill()
    client.ask([1, int(Operation.WRITE), [["put", TABLE, b"k", b"v"]], 0, 0, 0])
    call = frame(ClientKind.CALL, pack_batch(1, 0, [pack_key_call(PUT, TABLE, 3, 0, b"k")]))
    client.send(call, call)
    assert client.connection.blocked
    world.connections.remove(client)
    client.written.clear()
    client.connection.resume(world.now)
    client.connection.tick(world.now + 10)
    world.work()
    world.limit = 1 << 62
    world.look()
    assert client.written == []
    assert not client.connection.stuck
    assert client.connection._pending.size == 0


def test_what_takes_long_is_begun_when_there_is_room(client: Client, world: World) -> None:
    client.ask([1, int(Operation.SNAPSHOT), -1])
    assert client.taken() == [(1, OK)]
    client.fill()
    client.ask([2, int(Operation.STATE_HASH), 1])
    assert client.take() == [FILLED]
    assert client.jobs == 1
    assert client.taken() == [(2, OK)]


def test_what_takes_long_and_was_not_begun_gives_back_its_session(
    client: Client, world: World
) -> None:
    """A broken frame behind it ends the connection."""
    before = world.engine.sessions
    client.ask([1, int(Operation.SNAPSHOT), -1], [2, int(Operation.STATE_HASH), 1])
    assert client.connection.has_jobs
    world.connections.remove(client)
    assert world.engine.sessions == before
    assert not client.connection.has_jobs


# --- Turns ----------------------------------------------------------------------------------------


@pytest.fixture
def wakes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each time that somebody asked to be looked at soon."""
    found: list[int] = []
    monkeypatch.setattr(world.backend.serving, "wake", lambda: found.append(1))
    return found


def test_many_requests_are_done_in_turns(client: Client, world: World, wakes: list[int]) -> None:
    """Between which others have theirs."""
    status = int(Operation.STATUS)
    client.ask(*([i, status] for i in range(TURN_WORK + 10)))
    assert client.connection.pending == 10
    assert wakes == [1]
    world.look()
    assert client.connection.pending == 0
    assert wakes == [1]
    assert client.taken() == [(i, OK) for i in range(TURN_WORK + 10)]


def test_requests_with_many_keys_take_as_many_turns(
    client: Client, world: World, wakes: list[int]
) -> None:
    client.ask(*(client.get(i, LATEST, *[b"key"] * TURN_WORK) for i in range(4)))
    for turn in range(1, 5):
        assert len(client.taken()) == 1
        assert client.connection.pending == 4 - turn
        assert len(wakes) == min(turn, 3)
        world.look()


@pytest.mark.parametrize("behind", [0, 1])
def test_a_cancel_counts_for_all_that_it_looks_at(
    client: Client, world: World, wakes: list[int], behind: int
) -> None:
    for number in range(160):
        write = [["put", TABLE, b"k", b"v"]]
        client.ask([number, int(Operation.WRITE), write, 0, 0, 0])
    many = [[i, int(Operation.STATUS)] for i in range(TURN_WORK * behind)]
    client.ask(*many, *([i, int(Operation.CANCEL), i] for i in range(2000, 2100)))
    kept = [one for one in client.connection._pending._requests.values() if one.packed]
    assert 40 < len(kept) <= 100
    assert len(wakes) == 1
    for _ in range(5):
        world.look()
    assert len(client.taken()) == len(many) + 100


def test_frames_take_as_many_turns_as_they_have_requests(
    client: Client, world: World, wakes: list[int]
) -> None:
    """Also of those that overtake what waits."""
    pings = frame(
        ClientKind.REQUEST, pack_requests([[i, int(Operation.PING)] for i in range(TURN_WORK)])
    )
    client.send(pings, pings, pings)
    for turn in range(1, 4):
        assert len(client.taken()) == TURN_WORK
        assert client.connection.blocked == (turn < 3)
        assert client.rooms == (turn == 3)
        assert len(wakes) == min(turn, 2)
        world.look()


# --- The gate -------------------------------------------------------------------------------------


def test_no_more_answers_wait_than_may_though_a_frame_has_more(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "WAITING_MAX", 3)
    write = int(Operation.WRITE)
    client.ask(*([i, write, [["put", TABLE, b"k", b"v"]], 0, 0, 0] for i in range(1, 9)))
    assert client.connection._waiting_count == 3
    assert client.connection.pending == 5
    answered = []
    for _ in range(3):
        world.limit = world.engine.clock
        world.look()
        assert client.connection._waiting_count <= 3
        answered += client.taken()
    assert answered == [(i, OK) for i in range(1, 9)]
    assert client.rooms == 1


def test_what_comes_behind_a_cancel_does_not_overtake_what_is_pending(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "WAITING_MAX", 1)
    writes = [[i, int(Operation.WRITE), [["put", TABLE, b"k", b"v"]], 0, 0, 0] for i in range(1, 4)]
    client.ask(*writes[:2], [9, int(Operation.CANCEL), 1], writes[2])
    assert [one.item.id for one in client.connection._waiting.waiting] == [2]
    assert client.taken() == [(1, int(Status.TIMED_OUT))]
    assert client.connection.pending == 2


def test_a_read_behind_a_cancel_does_not_overtake_others(client: Client) -> None:
    client.put(b"big", 2 * MIB)
    gets = [client.get(i, 0, b"big") for i in range(1, 4)]
    client.ask(*gets[:2], [9, int(Operation.CANCEL), 1], gets[2])
    assert [one.item.id for one in client.connection._waiting.waiting] == [2]
    assert client.taken() == [(1, int(Status.TIMED_OUT)), (9, OK)]
    assert client.connection.pending == 1
