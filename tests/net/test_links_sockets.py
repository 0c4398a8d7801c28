"""Links over sockets of the loopback: large messages, full sockets, addresses that are no good."""

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from mako.errors import ConfigError
from mako.net.connection import Connection
from mako.net.limits import Limits
from mako.net.links import PeerLinks
from mako.net.listening import open_listeners, serve_connections
from mako.replication.outbox import PeerMessage
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from tests.net.test_links import NAMES, append, beat, hello

#: Nothing here is about time: who waits for a processor is not cut.
PATIENT = Limits(hello_s=600, write_stall_s=600, partial_frame_s=600, silence_s=600, dial_s=600)


@asynccontextmanager
async def over_sockets(got: list[PeerMessage]) -> AsyncIterator[PeerLinks]:
    """The links of process 1, connected with process 2, which notes what it gets."""
    listeners = await open_listeners("127.0.0.1", 0, "p2")
    port = listeners[0].socket.getsockname()[1]
    addresses = {1: ("127.0.0.1", 1), 2: ("127.0.0.1", port)}

    def deliver(process: int, messages: list[PeerMessage]) -> None:
        assert process == 1
        got.extend(messages)

    async def no_client(connection: Connection, theirs: Hello) -> None:
        raise AssertionError("no client here")

    up = trio.Event()
    one = PeerLinks(
        lambda: hello(1),
        addresses,
        deliver=lambda *_: None,
        log=lambda line: up.set(),
        names=NAMES,
        limits=PATIENT,
    )
    two = PeerLinks(lambda: hello(2), addresses, deliver=deliver, names=NAMES, limits=PATIENT)
    async with trio.open_nursery() as inner:

        async def serve(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await serve_connections(
                listeners,
                lambda: hello(2),
                on_peer=two.accept,
                on_client=no_client,
                processes=NAMES,
                limits=PATIENT,
                task_status=task_status,
            )

        await inner.start(serve)
        inner.start_soon(one.run)
        await up.wait()
        yield one
        inner.cancel_scope.cancel()


async def test_over_sockets_with_large_messages() -> None:
    got: list[PeerMessage] = []
    batch: list[PeerMessage] = [append(3 << 20), beat(1), append(5000), append(1 << 20)]
    async with over_sockets(got) as one:
        for _ in range(3):
            one.send(2, batch)
        with trio.fail_after(120):
            # It has arrived before who sent it counts it.
            while len(got) < 12 or one.counters[2].bytes_out <= 12 << 20:
                await trio.lowlevel.checkpoint()
    assert got == batch * 3


@pytest.mark.parametrize("drawn", range(4))
async def test_what_goes_at_once_does_not_overtake_what_waits(drawn: int) -> None:
    """N1, with a socket that is full now and then: sizes and moments are drawn."""
    draw = random.Random(drawn)
    sent: list[PeerMessage] = []
    got: list[PeerMessage] = []
    async with over_sockets(got) as one:
        for i in range(300):
            size = draw.choice((10, 1000, 100_000, 2 << 20))
            sent.append(append(size, i + 1))
            one.send(2, sent[-1:])
            for _ in range(draw.choice((0, 0, 1, 3, 20))):
                await trio.lowlevel.checkpoint()
            while one.queued_bytes(2) > 30 << 20:
                await trio.lowlevel.checkpoint()
        while len(got) < len(sent):
            assert one.connected == {2}, f"the link broke, drawn {drawn}"
            await trio.lowlevel.checkpoint()
        assert one.counters[2].drops == 0
    assert got == sent


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of p1 is in use; "):
            await open_listeners("127.0.0.1", port, "p1")


async def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError, match=r"p1 cannot listen at 192\.0\.2\.1 port 7001"):
        await open_listeners("192.0.2.1", 7001, "p1")


def test_limits_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="queue_bytes_max must be above 0"):
        Limits(queue_bytes_max=0)
    with pytest.raises(ConfigError, match=r"silence_s .* must be above keepalive_s"):
        Limits(silence_s=2)


async def test_the_host_of_a_client_that_rests_is_asked_whether_it_is_there() -> None:
    listeners = await open_listeners("127.0.0.1", 0, "p2")
    found: list[int] = []
    done = trio.Event()

    async def look(connection: Connection, theirs: Hello) -> None:
        assert isinstance(connection.stream, trio.SocketStream)
        get = connection.stream.getsockopt
        assert get(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            value = get(socket.IPPROTO_TCP, option)
            assert isinstance(value, int)
            found.append(value)
        done.set()

    async def no_peer(connection: Connection, theirs: Hello) -> None:
        raise AssertionError("no peer here")

    async with trio.open_nursery() as inner:
        serve = partial(
            serve_connections,
            listeners,
            lambda: hello(2),
            on_peer=no_peer,
            on_client=look,
            limits=Limits(keepalive_idle_s=61, keepalive_again_s=11, keepalive_count=4),
        )
        await inner.start(serve)
        client = await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2])
        async with client:
            mine = Hello(0, Role.CLIENT, PROCESS_NONE, "c", 1, "test")
            await client.send_all(b"".join(hello_parts(mine)))
            await done.wait()
        inner.cancel_scope.cancel()
    assert found == [61, 11, 4]
