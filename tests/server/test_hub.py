"""What a server does with clients that do not behave, over real sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Self

import msgpack
import pytest

import mako
from mako.call_format import BATCH_BYTES, PUT
from mako.ids import Status
from mako.server import hub
from mako.server.clients import ANSWERS_MAX
from mako.wire.frame import FrameKind, FrameReader, goodbye_reason
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_batch,
    pack_key_call,
    pack_procedure,
    pack_requests,
    read_results,
    unpack_replies,
)
from tests.server import procedures as p
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

#: Rows of a test of its own. Calls with a few wrong bytes write into those with small numbers.
COUNTED = 0x7777_7777_7777
CALLED_ONCE = 0x6666_6666_6666


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(["tests.server.procedures"]) as made:
        yield made


class Raw:
    """A client that says what it is told to."""

    def __init__(self, server: Loopback, *, cluster: int = 0, hello: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._reader = FrameReader(16 << 20)
        self._frames: list[tuple[int, bytes]] = []
        if hello:
            self.send(
                b"".join(hello_parts(Hello(cluster, Role.CLIENT, PROCESS_NONE, "raw", 1, "t")))
            )

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame, or None at the end."""
        while not self._frames:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._frames += [(kind, bytes(body)) for kind, _, body in self._reader.feed(data)]
        return self._frames.pop(0)

    def ask(self, *request: object) -> Reply:
        self.send(frame(ClientKind.REQUEST, pack_requests([[1, *request]])))
        while True:
            found = self.frame()
            assert found is not None
            if found[0] == ClientKind.REPLY:
                return unpack_replies(found[1])[0]

    def goodbye(self) -> str:
        """The reason with which the server ends the connection."""
        reason = ""
        while (found := self.frame()) is not None:
            if found[0] == FrameKind.GOODBYE:
                reason = goodbye_reason(found[1])
        return reason

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def still_serves(server: Loopback) -> None:
    with mako.connect(server.address, timeout=PATIENCE) as db:
        db.put(b"alive", b"yes")
        assert db.get(b"alive") == b"yes"


def call(number: int = 1) -> bytes:
    return pack_procedure(0, number, 0, [1, 2])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        frame(ClientKind.CALL, pack_batch(1, 0, [call()])),  # No hello.
    ],
)
def test_strangers_are_told_goodbye(server: Loopback, data: bytes) -> None:
    with Raw(server, hello=False) as raw:
        raw.send(data)
        assert raw.goodbye()
    still_serves(server)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(ClientKind.CALL, b"short"), "too short"),
        (frame(ClientKind.CALL, bytes(8) + b"\xff" * 8), "63 bits"),
        (frame(ClientKind.CALL, bytes(16) + b"\xff" * 24), "malformed at byte 0"),
        (frame(ClientKind.CALL, bytes(16) + call() + b"\x07" * 24), "malformed at byte 40"),
        (frame(ClientKind.CALL, bytes(16) + call()[:-8]), "malformed"),
        (frame(ClientKind.REQUEST, b"\xc1"), "msgpack"),
        (frame(ClientKind.REQUEST, msgpack.packb(3)), "no list"),
        (frame(ClientKind.REQUEST, msgpack.packb([[1]])), "no list of id"),
        (frame(ClientKind.REQUEST, msgpack.packb([["a", 1]])), "no list of id"),
        (frame(ClientKind.RESULT, b""), "no frame of kind 33"),
        (frame(63, b""), "no frame of kind 63"),
        (struct.pack("<IBBH", 2 << 20, 32, 0, 0), "allowed here"),
    ],
)
def test_broken_frames_end_the_connection_with_a_reason(
    server: Loopback, data: bytes, reason: str
) -> None:
    with Raw(server) as raw:
        raw.send(data)
        assert reason in raw.goodbye()
    still_serves(server)


def test_random_garbage_harms_nobody(server: Loopback, seed: int) -> None:
    chance = random.Random(seed)
    good = frame(ClientKind.CALL, pack_batch(1, 0, [call(i) for i in range(5)])) + frame(
        ClientKind.REQUEST, pack_requests([[9, 4, 0, 1000, [b"k"]], [8, 15]])
    )
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with Raw(server) as raw, contextlib.suppress(ConnectionError):
            raw.send(bytes(data))
            raw.socket.shutdown(socket.SHUT_WR)
            raw.goodbye()
    still_serves(server)


def test_frames_in_single_bytes(server: Loopback) -> None:
    with Raw(server, hello=False) as raw:
        hello = b"".join(hello_parts(Hello(0, Role.CLIENT, PROCESS_NONE, "raw", 1, "t")))
        for byte in hello + frame(ClientKind.REQUEST, pack_requests([[5, int(Operation.PING)]])):
            raw.send(bytes([byte]))
        frames = [raw.frame(), raw.frame()]
        assert [each[0] for each in frames if each] == [FrameKind.HELLO_REPLY, ClientKind.REPLY]


def test_another_cluster_is_refused(server: Loopback) -> None:
    with Raw(server, cluster=77) as raw:
        assert "cluster" in raw.goodbye()
    with pytest.raises(mako.Rejected, match="cluster"):
        mako.connect(server.address, cluster=77, timeout=PATIENCE)


def test_wrong_requests_are_answered_and_the_connection_goes_on(server: Loopback) -> None:
    with Raw(server) as raw:
        table = raw.ask(Operation.OPEN_TABLE, "raw").value[0]
        wrong: list[tuple[object, ...]] = [
            (99,),
            (Operation.OPEN_TABLE,),
            (Operation.OPEN_TABLE, 3),
            (Operation.OPEN_TABLE, "\n"),
            (Operation.CREATE_TABLE, -1, 3, 0, "x"),
            (Operation.CREATE_TABLE, 50, 9, 0, "x"),
            (Operation.CREATE_TABLE, 0, 3, 0, "x"),
            (Operation.GET, 0, table, 3),
            (Operation.GET, 0, table, [3]),
            (Operation.GET, 0, 32767, [b"k"]),
            (Operation.GET, 0, "x", [b"k"]),
            (Operation.GET, 99, table, [b"k"]),
            (Operation.GET, 0, table, [b"k" * 5000]),
            (Operation.SCAN, 0, table, b"", b"z", 10, False),
            (Operation.PUT, 1, table, b"k", b"v", True),
            (Operation.COMMIT, 1, False),
            (Operation.WRITE, 3, 0, 0, 0),
            (Operation.WRITE, [["put", table, b"k", 3]], 0, 0, 0),
            (Operation.WRITE, [["shout", table, b"k", b"v"]], 0, 0, 0),
            (Operation.WRITE, [["put", table, b"k", b"v"]], 0, 1 << 63, 1 << 62, 9),
            (Operation.WRITE, [["put", table, b"k", b"v"]], 0, -1, 1),
            (Operation.WAIT_WATERMARK, "x"),
            (Operation.SNAPSHOT, "x"),
            (Operation.RUN_AT, 1, 0, []),
            (Operation.CANCEL,),
        ]
        for request in wrong:
            assert raw.ask(*request).status != 0 or request[0] == Operation.CANCEL, request
        assert raw.ask(Operation.PING).status == 0
    still_serves(server)


@pytest.mark.parametrize("depth", [200, 900, 1000, 1015])
def test_what_is_nested_too_deeply_to_be_shown_is_refused(server: Loopback, depth: int) -> None:
    """`pack_requests` does not nest as deeply as `unpack_requests` follows."""
    nested = b"\x91" * depth + b"\x90"
    with Raw(server) as raw:
        for operation in (Operation.GET, Operation.OPEN_TABLE, Operation.DRIVE, Operation.CANCEL):
            asked = [b"\x00", nested, b"\x90"]
            if operation in (Operation.OPEN_TABLE, Operation.CANCEL):
                asked = [nested]
            elif operation is Operation.DRIVE:
                asked = [nested, b"\x90", b"\x00", b"\x00"]
            head = bytes([0x91, 0x90 + 2 + len(asked), 1, operation])
            raw.send(frame(ClientKind.REQUEST, head + b"".join(asked)))
            found = raw.frame()
            while found is not None and found[0] == FrameKind.HELLO_REPLY:
                found = raw.frame()
            assert found is not None
            (answer,) = unpack_replies(found[1])
            assert answer.status != 0 or operation is Operation.CANCEL
        assert raw.ask(Operation.PING).status == 0
    still_serves(server)


def test_wrong_arguments_of_what_runs_in_a_thread_are_refused(server: Loopback) -> None:
    with Raw(server) as raw:
        about = raw.ask(Operation.DESCRIBE).value
        number = {name: number for name, number, *_ in about["procedures"]}["value_of"]
        session = raw.ask(Operation.SNAPSHOT, -1).value[0]
        for arguments, layout in (
            (None, None),
            (7, None),
            ([None], None),
            (["x"], None),
            ([1 << 63], None),
            ([1.5], None),
            ([], 7),
            ([1], {"x": 7}),
            ([1], {"x": "nonsense"}),
            ([1], [["x", "i8"]]),
            ([1], {"x": "i8"}),
            ([], {"x": "i8"}),
            ([1, 2], None),
        ):
            asked = Operation.RUN_AT, session, number, arguments, layout
            status = raw.ask(*asked).status
            assert status in (Status.WRONG_ARGUMENTS, Status.REFUSED), asked
            assert layout is not None or status == Status.WRONG_ARGUMENTS, asked
        assert raw.ask(Operation.GET, session, "x", []).status == Status.NO_TABLE
        assert raw.ask(Operation.CLOSE, session).status == 0
    still_serves(server)


def ask_for_much(raw: Raw) -> int:
    """Ask for 1000 answers with 600 KiB each, and read none of them; how many were asked for."""
    table = raw.ask(Operation.OPEN_TABLE, "big").value[0]
    value = bytes(30_000)
    raw.send(
        frame(ClientKind.CALL, pack_batch(1, 0, [pack_key_call(PUT, table, 1, 0, b"k", value)]))
    )
    raw.frame()
    sent = 0
    with contextlib.suppress(ConnectionError):
        for number in range(2, 1002):  # Two of one number are refused while one is pending.
            get = [number, Operation.GET, 0, table, [b"k"] * 20]
            raw.send(frame(ClientKind.REQUEST, pack_requests([get])))
            sent += 1
    return sent


def answers_in(raw: Raw, most: int) -> int:
    """Read so many answers, or as many as come before the end."""
    answers = 0
    while answers < most and (found := raw.frame()) is not None:
        if found[0] == ClientKind.REPLY:
            answers += len(unpack_replies(found[1]))
    return answers


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that waited for a client whenever something was written."""
    found: list[int] = []
    write = hub._Served._write

    def write_and_note(served: Any, data: bytes) -> None:
        write(served, data)
        found.append(served._size)

    monkeypatch.setattr(hub._Served, "_write", write_and_note)
    return found


def test_a_client_that_does_not_read_is_cut(
    server: Loopback, peaks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for more than it takes; the server's memory for it is bounded."""
    monkeypatch.setattr(hub, "OUTPUT_SECONDS_MAX", 0.2)
    before = set(server.hub.connections._served)
    with Raw(server) as raw:
        assert raw.ask(Operation.PING).status == 0
        # Others may still be leaving.
        (mine,) = set(server.hub.connections._served) - before
        ask_for_much(raw)
        deadline = time.monotonic() + PATIENCE
        while mine in server.hub.connections._served and time.monotonic() < deadline:
            still_serves(server)
        assert mine not in server.hub.connections._served
        assert answers_in(raw, 1000) < 100  # Of 1000 with 600 KiB each.
    assert max(peaks) < ANSWERS_MAX + (1 << 20)
    still_serves(server)


def test_a_client_that_takes_its_time_gets_all_that_it_asked_for(
    server: Loopback, peaks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cut when it asked for more than it had taken."""
    monkeypatch.setattr(hub, "OUTPUT_SECONDS_MAX", PATIENCE)  # However busy this process is.
    with Raw(server) as raw:
        assert answers_in(raw, ask_for_much(raw)) == 1000
    assert max(peaks) < ANSWERS_MAX + (1 << 20)


def test_a_client_that_goes_away_with_calls_under_way(server: Loopback) -> None:
    def free() -> int:
        """Numbers for connections that nobody has: all that was asked by those has ended."""
        found: list[int] = []
        server.call(lambda: found.append(len(server.backend.serving._free)))
        return found[0]

    before, free_before = len(server.hub.connections), free()
    for _ in range(30):
        with Raw(server) as raw:
            raw.frame()
            raw.send(frame(ClientKind.CALL, pack_batch(1, 0, [call(i) for i in range(500)])))
    still_serves(server)
    deadline = time.monotonic() + PATIENCE
    while len(server.hub.connections) > before and time.monotonic() < deadline:
        still_serves(server)
    assert len(server.hub.connections) <= before
    while free() < free_before:
        assert time.monotonic() < deadline, "nothing of theirs is under way any more"


def test_more_calls_than_may_be_under_way_are_all_answered(server: Loopback) -> None:
    """20,000 calls at once: the server takes what it has room for and reads on when it has."""
    total = 20_000
    with Raw(server) as raw:
        raw.frame()
        number = dict(enumerate(sorted(server.backend.procedures)))
        add = next(i for i, name in number.items() if name == "add")
        calls = [pack_procedure(add, i, 0, [COUNTED, 1]) for i in range(1, total + 1)]
        seen: set[int] = set()
        for at in range(0, total, 2000):
            raw.send(frame(ClientKind.CALL, pack_batch(1, 0, calls[at : at + 2000])))
        while len(seen) < total:
            found = raw.frame()
            assert found is not None
            assert found[0] == ClientKind.RESULT
            for result in read_results(found[1]):
                assert result[1] == 0
                assert result[0] not in seen
                seen.add(result[0])
    with mako.connect(server.address, timeout=PATIENCE) as db:
        assert db.run(p.value_of, COUNTED) == total


def test_rows_of_requests_are_forgotten(server: Loopback) -> None:
    """Once their client says that it has the answers, they are deleted."""
    from mako.server.serving import REQUESTS_TABLE

    handle = server.engine.tables[int(REQUESTS_TABLE.id)]

    def rows() -> int:
        from mako.server.sessions import ServedSnapshot

        found: list[int] = []

        def count() -> None:
            snapshot = ServedSnapshot(server.engine, 0)
            first, more, total = b"", True, 0
            while more:
                page, more = snapshot.scan(handle, first, b"\xff" * 20, 1000, reverse=False)
                total += len(page)
                first = page[-1][0] + b"\0" if page else first
            snapshot.close()
            found.append(total)

        server.call(count)
        return found[0]

    before = rows()
    with mako.connect(server.address, once=True, timeout=PATIENCE) as db:
        for _ in range(300):
            db.run(p.add, CALLED_ONCE, 1)
        assert rows() >= before + 300
        for _ in range(4):
            submitted = [db.submit(p.add, CALLED_ONCE, 1) for _ in range(1000)]
            for each in submitted:
                each.wait_durable()
        assert db.run(p.value_of, CALLED_ONCE) == 4300
    assert rows() <= before + 2100


def test_old_rows_of_requests_are_swept(server: Loopback) -> None:
    from mako.server.sweeping import AGE_MAX_MS, sweep

    with mako.connect(server.address, once=True, timeout=PATIENCE) as db:
        for _ in range(20):
            db.run(p.add, 79, 1)
    left: list[object] = []

    def look() -> None:
        from mako.server.serving import REQUESTS_TABLE
        from mako.server.sessions import ServedSnapshot

        snapshot = ServedSnapshot(server.engine, 0)
        handle = server.engine.tables[int(REQUESTS_TABLE.id)]
        left.append(snapshot.scan(handle, b"", b"\xff" * 20, 10, reverse=False)[0])
        snapshot.close()

    now = time.time_ns() // 1_000_000
    server.call(lambda: sweep(server.engine, b"", now - AGE_MAX_MS))
    with mako.connect(server.address, timeout=PATIENCE) as db:
        before = db.status()
        assert before["role"] == "leader"
    still_serves(server)  # It writes: what is durable then is no older than what was swept.
    server.call(look)
    assert left.pop(), "they are young: their client may ask again"

    def sweep_all() -> None:
        first: bytes | None = b""
        while first is not None:
            first = sweep(server.engine, first, now + 60_000)

    server.call(sweep_all)
    still_serves(server)
    server.call(look)
    assert left == [[]]


def test_an_idle_transaction_is_ended(server: Loopback) -> None:
    with mako.connect(server.address, timeout=PATIENCE) as db:
        tx = db.begin()
        tx.put(b"idle", b"1")

        server.call(lambda: server.hub.connections.tick(time.monotonic() + 11))
        with pytest.raises(mako.TransactionTooOld):
            tx.commit()
        assert db.get(b"idle") is None


assert BATCH_BYTES == 16
