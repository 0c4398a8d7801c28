"""Links between processes, over memory under virtual time."""

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
import trio.testing

from mako.entry import Entry, EntryId, EntryKind, GroupId, Index, NodeId, Term
from mako.net.connection import Connection
from mako.net.limits import DEFAULT_LIMITS, Limits
from mako.net.links import PeerLinks
from mako.net.listening import Reception
from mako.net.once import OncePerMinute
from mako.raft.message import AppendRequest, Heartbeat
from mako.replication.outbox import PeerMessage
from mako.wire.frame import Frame, FrameKind, FrameReader, frame_parts, goodbye_reason
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.peer import batch_frames

MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]

NAMES = {1: "p1", 2: "p2", 3: "p3"}
ADDRESSES = {process: ("net", process) for process in NAMES}


def hello(process: int, cluster: int = 7, boot: int = 1) -> Hello:
    return Hello(cluster, Role.PEER, process, NAMES.get(process, "p?"), boot, "mako test")


def beat(number: int) -> Heartbeat:
    return Heartbeat(GroupId(1), NodeId(1), NodeId(2), number, 0, 0)


def append(size: int, index: int = 8) -> AppendRequest:
    entry = Entry(Term(1), Index(index), EntryKind.NORMAL, bytes(size))
    previous = EntryId(Term(1), Index(index - 1))
    return AppendRequest(GroupId(1), NodeId(1), NodeId(2), 3, previous, [entry], 7)


class Net:
    """Memory streams between the processes of a test. `down` are those nobody reaches."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.handlers: dict[int, Callable[[trio.abc.Stream], Awaitable[None]]] = {}
        self.streams: list[tuple[MemoryStream, MemoryStream]] = []
        self.dialled: list[tuple[int, float]] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((port, trio.current_time()))
        handler = self.handlers.get(port)
        if handler is None:
            raise ConnectionRefusedError("nobody is there")
        near, far = trio.testing.memory_stream_pair()
        self.streams.append((near, far))
        self.nursery.start_soon(handler, far)
        return near


class Process:
    """One process of a test, with what it was told."""

    def __init__(self, net: Net, identity: Hello, limits: Limits = DEFAULT_LIMITS) -> None:
        self.got: dict[int, list[PeerMessage]] = defaultdict(list)
        self.unreachable: list[int] = []
        self.lines: list[str] = []
        self.clients: list[Hello] = []
        self.net = net
        self.identity = identity
        self.names = dict(NAMES)
        self.links = PeerLinks(
            lambda: identity,
            ADDRESSES | {identity.process: ("net", identity.process)},
            deliver=lambda process, messages: self.got[process].extend(messages),
            unreachable=self.unreachable.append,
            log=self.lines.append,
            names=self.names,
            limits=limits,
            chance=lambda: 1.0,
            connect=net.connect,
        )
        self.reception = Reception(
            lambda: identity,
            on_peer=self.links.accept,
            on_client=self._client,
            processes=self.names,
            log=self.lines.append,
            limits=limits,
        )
        self.scope = trio.CancelScope()

    async def _client(self, connection: Connection, theirs: Hello) -> None:
        self.clients.append(theirs)
        await connection.receive()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                self.net.handlers[self.identity.process] = self._handler(nursery)
                await nursery.start(self.links.run)
                task_status.started()

    def _handler(self, nursery: trio.Nursery) -> Callable[[trio.abc.Stream], Awaitable[None]]:
        async def handle(stream: trio.abc.Stream) -> None:
            nursery.start_soon(self.reception.handle, stream)
            await trio.lowlevel.checkpoint()

        return handle

    def stop(self) -> None:
        del self.net.handlers[self.identity.process]
        self.scope.cancel()


async def start(nursery: trio.Nursery, *processes: Process) -> None:
    for process in processes:
        await nursery.start(process.run)
    await trio.sleep(0.2)


async def pair(
    nursery: trio.Nursery, limits: Limits = DEFAULT_LIMITS
) -> tuple[Net, Process, Process]:
    net = Net(nursery)
    one, two = Process(net, hello(1), limits), Process(net, hello(2), limits)
    await start(nursery, two, one)
    assert one.links.connected == {2}
    assert two.links.connected == {1}
    return net, one, two


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


# --- Messages ----------------------------------------------------------------------------------


async def test_messages_arrive_in_order_both_ways(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    _, one, two = await pair(nursery)
    for i in range(10):
        one.links.send(2, [beat(2 * i), beat(2 * i + 1)])
        two.links.send(1, [beat(100 + i)])
    await settle()
    assert two.got[1] == [beat(i) for i in range(20)]
    assert one.got[2] == [beat(100 + i) for i in range(10)]
    counters = one.links.counters[2]
    assert (counters.messages_out, counters.messages_in, counters.drops) == (20, 10, 0)
    assert counters.bytes_out == two.links.counters[1].bytes_in > 0
    assert one.links.queued_bytes(2) == 0


async def test_only_the_lower_number_dials(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, _, _ = await pair(nursery)
    assert {port for port, _ in net.dialled} == {2, 3}


async def test_a_higher_number_that_dials_is_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    one = Process(net, hello(1))
    await start(nursery, one)
    stream = await net.connect("net", 1)
    await stream.send_all(b"".join(hello_parts(hello(2))))
    _, goodbye = await frames_until_end(stream)
    assert "p2 is not to dial p1" in goodbye


async def test_messages_without_a_connection_are_dropped_and_counted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    one = Process(Net(nursery), hello(1))
    one.links.send(2, [beat(1), beat(2)])
    assert one.links.counters[2].drops == 2
    assert one.unreachable == [2]
    one.links.send(2, [])
    assert one.unreachable == [2]


async def test_a_message_too_large_for_a_frame_is_dropped_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    _, one, two = await pair(nursery, Limits(peer_body_max=1000))
    one.links.send(2, [beat(1), append(2000), beat(2)])
    await settle()
    assert two.got[1] == [beat(1), beat(2)]
    assert one.links.counters[2].drops == 1
    assert "more than 1000 bytes" in one.lines[-1]


async def test_what_comes_with_the_hello_is_delivered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    stream = await net.connect("net", 2)
    batch, _ = batch_frames([beat(1), beat(2)])
    await stream.send_all(b"".join([*hello_parts(hello(1)), *batch]))
    await settle()
    assert two.got[1] == [beat(1), beat(2)]


async def test_what_waits_goes_out_together(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, two = await pair(nursery)
    near, _ = net.streams[-1]
    pump = near.send_stream.send_all_hook
    assert pump is not None
    sends: list[float] = []
    open_again = trio.Event()

    async def slow() -> None:
        sends.append(trio.current_time())
        await open_again.wait()
        await pump()

    near.send_stream.send_all_hook = slow
    for i in range(50):
        one.links.send(2, [beat(i)])
        await settle()
    open_again.set()
    await settle()
    assert two.got[1] == [beat(i) for i in range(50)]
    assert len(sends) == 2, "the first, and all that waited for it"


# --- What breaks -------------------------------------------------------------------------------


async def test_a_restarted_peer_is_dialled_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, two = await pair(nursery)
    two.stop()
    await settle()
    assert one.links.connected == set()
    assert 2 in one.unreachable
    again = Process(net, hello(2, boot=2))
    await nursery.start(again.run)
    await trio.sleep(3)
    assert one.links.connected == {2}
    assert one.links.hello_of(2) == again.identity
    assert one.links.counters[2].reconnects == 1
    assert any("p2: connected after a restart" in line for line in one.lines)
    one.links.send(2, [beat(5)])
    await settle()
    assert again.got[1] == [beat(5)]


async def test_waits_between_dials_grow_to_a_bound(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    await nursery.start(Process(net, hello(1)).run)
    await trio.sleep(20)
    times = [at for port, at in net.dialled if port == 2]
    waits = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert waits[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_a_link_that_breaks_at_once_is_dialled_less_and_less(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    one = Process(net, hello(1))

    async def greet_and_go(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"".join(hello_parts(hello(2), reply=True)))
        if trio.current_time() < 10:
            await trio.aclose_forcefully(stream)

    net.handlers[2] = greet_and_go
    await nursery.start(one.run)
    await trio.sleep(25)
    times = [at for port, at in net.dialled if port == 2]
    waits = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert waits[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert waits[-1] == 10.05, "after ten silent seconds it begins anew"
    assert sum("disconnected: it closed" in line for line in one.lines) == 1


async def test_a_silent_network_is_noticed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, two = await pair(nursery)
    near, far = net.streams[-1]
    await trio.sleep(60)
    assert one.links.connected == {2}, "quiet links stay"
    # Half open: nothing that is sent arrives, and nobody says so.
    near.send_stream.send_all_hook = trio.sleep_forever
    far.send_stream.send_all_hook = trio.sleep_forever
    net.handlers.clear()
    await trio.sleep(25)
    assert one.links.connected == set()
    assert two.links.connected == set()
    ends = [line for line in one.lines + two.lines if "disconnected" in line]
    assert ends
    assert all("silent for 10 s" in line or "took nothing" in line for line in ends)


async def test_a_new_connection_takes_the_place_of_the_old_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    first = await net.connect("net", 2)
    await first.send_all(b"".join(hello_parts(hello(1))))
    await settle()
    second = await net.connect("net", 2)
    await second.send_all(b"".join(hello_parts(hello(1, boot=2))))
    await settle()
    assert two.links.connected == {1}
    two.links.send(1, [beat(1)])
    await settle()
    assert await frames_until_end(first) == ([FrameKind.HELLO_REPLY], "")
    reader = FrameReader(1 << 20)
    frames: list[Frame] = []
    while len(frames) < 2:
        frames += reader.feed(await second.receive_some())
    assert [frame.kind for frame in frames] == [FrameKind.HELLO_REPLY, FrameKind.PEER]


async def test_a_reader_that_stops_costs_its_messages_and_its_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net, one, _ = await pair(nursery, Limits(queue_bytes_max=5000, silence_s=30))
    near, _ = net.streams[-1]
    near.send_stream.send_all_hook = trio.sleep_forever
    one.unreachable.clear()
    for i in range(8):
        one.links.send(2, [append(1000, 8 + i)])
        await settle()
    assert one.links.counters[2].drops == 4
    assert one.unreachable == [2] * 4
    assert one.links.queued_bytes(2) <= 5000
    net.handlers.clear()
    await trio.sleep(10)
    await settle()
    assert one.links.connected == set()
    assert "took nothing of what it was sent for 10 s" in "\n".join(one.lines)
    assert one.links.queued_bytes(2) == 0


# --- Strangers ---------------------------------------------------------------------------------


async def frames_until_end(stream: trio.abc.Stream) -> tuple[list[int], str]:
    """Kinds of all frames until the other side closes, and what the last one said."""
    reader = FrameReader(1 << 20)
    frames = []
    try:
        while data := await stream.receive_some():
            frames += reader.feed(data)
    except trio.BrokenResourceError:
        pass
    text = goodbye_reason(frames[-1].body) if frames and frames[-1].kind == 3 else ""
    return [frame.kind for frame in frames], text


async def test_another_cluster_is_refused_once_on_both_sides(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    one, two, three = Process(net, hello(1, 9)), Process(net, hello(2)), Process(net, hello(3))
    await start(nursery, two, three, one)
    await trio.sleep(30)
    reason = "this is cluster 7, you are of cluster 9"
    assert sum(reason in line for line in one.lines) == 2, "once for each peer"
    assert sum(reason in line for line in two.lines) == 1
    assert two.links.connected == {3}, "the others go on"
    assert one.links.connected == set()
    times = [at for port, at in net.dialled if port == 2]
    assert {round(b - a, 3) for a, b in itertools.pairwise(times)} == {2.0}, "no hurry"


async def test_another_version_is_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    stream = await net.connect("net", 2)
    later = replace(hello(1), version_min=2, version_max=2)
    await stream.send_all(b"".join(hello_parts(later)))
    kinds, goodbye = await frames_until_end(stream)
    assert kinds == [FrameKind.GOODBYE]
    assert "p2 speaks versions 1 to 1" in goodbye


async def test_a_wrong_address_is_named(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    one, two = Process(net, hello(1)), Process(net, hello(2))
    await start(nursery, two)
    net.handlers[3] = net.handlers[2]
    await start(nursery, one)
    assert any("net port 3 is process 2 (p2), not p3" in line for line in one.lines)


GARBAGE = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a frame of 542393671 bytes at byte 0"),
    (b"".join(frame_parts(16, [b"x"])), r"the first frame has kind 16, not 1 (HELLO)"),
    (b"".join(frame_parts(1, [b""], flags=4)), "the first frame has flags 0x04, not 0"),
    (b"".join(frame_parts(1, [b"x" * 60])), "no hello of a mako process"),
]


@pytest.mark.parametrize(("data", "line"), GARBAGE)
async def test_garbage_before_the_hello(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, data: bytes, line: str
) -> None:
    net, _, two = await pair(nursery)
    for _ in range(3):
        stream = await net.connect("net", 2)
        await stream.send_all(data)
        kinds, goodbye = await frames_until_end(stream)
        assert kinds == [FrameKind.GOODBYE]
        assert line in goodbye
    assert sum(line in one_line for one_line in two.lines) == 1
    assert two.links.connected == {1}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"".join(frame_parts(16, [b"\x63" * 40])), "unknown message number 99"),
        (b"".join(frame_parts(40, [b""])), "a frame of kind 40, flags 0 between processes"),
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"".join(frame_parts(3, [b"off I go"])), "it says goodbye: off I go"),
    ],
)
async def test_garbage_behind_the_hello(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, data: bytes, line: str
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    stream = await net.connect("net", 2)
    await stream.send_all(b"".join(hello_parts(hello(1))) + b"".join(frame_parts(16, [])))
    await settle()
    await stream.send_all(data)
    await settle()
    assert two.links.connected == set()
    assert line in two.lines[-1]
    assert two.unreachable.count(1) == 1


async def test_the_end_within_a_frame_is_told_from_the_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    for data, line in ((b"\x08", "closed within a frame"), (b"", "it closed the connection")):
        stream = await net.connect("net", 2)
        await stream.send_all(b"".join(hello_parts(hello(1))) + data)
        await settle()
        await stream.aclose()
        await settle()
        assert line in two.lines[-1]


async def test_time_limits(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    begin = trio.current_time()
    silent = await net.connect("net", 2)
    await frames_until_end(silent)
    assert trio.current_time() - begin == pytest.approx(5)
    slow = await net.connect("net", 2)
    await slow.send_all(b"".join(hello_parts(hello(1))))
    begin = trio.current_time()
    with trio.move_on_after(60):
        async with trio.open_nursery() as inner:
            inner.start_soon(trickle, slow)
            await frames_until_end(slow)
            inner.cancel_scope.cancel()
    assert trio.current_time() - begin == pytest.approx(10)
    await settle()
    assert "did not complete a frame" in two.lines[-1]


async def test_a_client_may_rest_but_not_within_a_frame(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2))
    await start(nursery, two)
    stream = await net.connect("net", 2)
    client = Hello(7, Role.CLIENT, PROCESS_NONE, "", 1, "client")
    await stream.send_all(b"".join(hello_parts(client)))
    await trio.sleep(1000)
    assert two.reception.clients == 1
    begin = trio.current_time()
    await stream.send_all(b"".join(frame_parts(16, [bytes(100)]))[:50])
    with trio.move_on_after(60):
        await frames_until_end(stream)
    assert trio.current_time() - begin == pytest.approx(10)
    await settle()
    assert two.reception.clients == 0
    assert "did not complete a frame" in two.lines[-1]


async def trickle(stream: trio.abc.Stream) -> None:
    """A frame, one byte a second."""
    for byte in b"".join(frame_parts(16, [bytes(1000)])):
        await stream.send_all(bytes([byte]))
        await trio.sleep(1)


async def test_strangers_are_few(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2), Limits(strangers_max=3, connections_max=5))
    await start(nursery, two)
    strangers = [await net.connect("net", 2) for _ in range(3)]
    await settle()
    assert two.reception.strangers == 3
    assert "try again later" in (await frames_until_end(await net.connect("net", 2)))[1]
    client = Hello(7, Role.CLIENT, PROCESS_NONE, "", 1, "client")
    for stream in strangers:
        await stream.send_all(b"".join(hello_parts(client)))
    await settle()
    assert (two.reception.strangers, len(two.clients)) == (0, 3)
    for _ in range(2):
        stream = await net.connect("net", 2)
        await stream.send_all(b"".join(hello_parts(client)))
        await settle()
    refused = await net.connect("net", 2)
    await refused.send_all(b"".join(hello_parts(client)))
    assert "5 connections of clients" in (await frames_until_end(refused))[1]
    for stream in strangers:
        await stream.aclose()
    await settle()
    assert two.reception.clients == 2


async def test_clients_shut_no_peer_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    net = Net(nursery)
    two = Process(net, hello(2), Limits(connections_max=3))
    await start(nursery, two)
    client = Hello(7, Role.CLIENT, PROCESS_NONE, "", 1, "client")
    streams = [await net.connect("net", 2) for _ in range(5)]
    for stream in streams:
        await stream.send_all(b"".join(hello_parts(client)))
    await settle()
    assert two.reception.clients == 3
    one = Process(net, hello(1))
    await start(nursery, one)
    assert (one.links.connected, two.links.connected) == ({2}, {1})


async def test_the_same_line_once_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    lines: list[str] = []
    log = OncePerMinute(lines.append, trio.current_time)
    for i in range(130):
        log("same", f"at {i}")
        await trio.sleep(1)
    assert lines == ["at 0", "at 60", "at 120"]
    for i in range(1000):
        log(f"reason {i}", "flood")
    assert len(lines) < 260
    await trio.sleep(60)
    log("reason 999", "after the flood")
    assert lines[-1] == "after the flood"
