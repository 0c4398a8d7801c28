"""Clients of a process that does not know yet which replicas it has."""

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from mako.client.remote.core import PATIENCE
from mako.net.connection import Connection
from mako.net.listening import Handler
from mako.server import running
from mako.server.events import EventLog
from mako.server.observing import Observer
from mako.server.starting import STAY_SECONDS, stays_until
from mako.wire.frame import HELLO_BODY_MAX
from mako.wire.hello import PROCESS_NONE, Hello, Role


async def stay(
    formed: trio.Event, stream: trio.abc.ReceiveStream, ends: list[tuple[bool, float]]
) -> None:
    began = trio.current_time()
    stays = await stays_until(formed, stream)
    ends.append((stays, trio.current_time() - began))


async def test_a_client_that_leaves_is_gone_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    formed, ends = trio.Event(), list[tuple[bool, float]]()
    for close in ("aclose", "send_all"):  # It has nothing to say yet, either.
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(stay, formed, far, ends)
        await trio.sleep(1)
        await (near.aclose() if close == "aclose" else near.send_all(b"x"))
        await trio.testing.wait_all_tasks_blocked()
    assert ends == [(False, 1), (False, 1)]


async def test_a_client_that_stays_is_served_once_there_are_replicas(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    formed, ends = trio.Event(), list[tuple[bool, float]]()
    near, far = trio.testing.memory_stream_pair()
    nursery.start_soon(stay, formed, far, ends)
    await trio.sleep(1)
    formed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert ends == [(True, 1)]
    await near.send_all(b"what follows")
    assert await far.receive_some() == b"what follows"
    await stay(formed, far, ends)
    assert ends[-1] == (True, 0)


async def test_a_client_waits_for_a_while_only(autojump_clock: trio.testing.MockClock) -> None:
    assert STAY_SECONDS > PATIENCE, "ours go by themselves"
    ends = list[tuple[bool, float]]()
    near, far = trio.testing.memory_stream_pair()
    await stay(trio.Event(), far, ends)
    assert ends == [(False, STAY_SECONDS)]
    await near.aclose()


async def test_a_process_without_replicas_lets_go_of_clients_that_leave(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it hands connections on, which nothing but a running process does."""
    handlers: list[Handler] = []

    async def accept(*_: Any, on_client: Handler, task_status: Any, **__: Any) -> None:
        handlers.append(on_client)
        task_status.started()

    async def run(links: object) -> None:
        await trio.sleep_forever()

    async def hub_of(partition: int) -> None:
        await formed.wait()

    monkeypatch.setattr(running, "serve_connections", accept)
    monkeypatch.setattr(running, "Observer", lambda *_: None)
    formed = trio.Event()
    plan = SimpleNamespace(listen=[], addresses={1: ("net", 1)}, names={1: "a"}, http=None)
    plan.name, plan.cluster = "a", "waiting"
    server: Any = SimpleNamespace(
        plan=plan,
        deliver=None,
        on_unreachable=None,
        run=run,
        hub_of=hub_of,
        formed=formed,
    )
    hello = Hello(7, Role.PEER, 1, "a", 1, "mako test")
    log = EventLog("a", io.StringIO())
    await nursery.start(running._serve, server, lambda: hello, log, trio.CancelScope())
    near, far = trio.testing.memory_stream_pair()
    client = Hello(7, Role.CLIENT, PROCESS_NONE, "", 1, "client")
    await near.aclose()
    with trio.fail_after(1):
        await handlers[0](Connection(far, HELLO_BODY_MAX), client)
    nursery.cancel_scope.cancel()


async def test_a_process_that_waits_for_others_is_healthy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or who looks after it would start it again and again, and it never meets them."""
    plan = SimpleNamespace(name="p2", partitions=(0,))
    turns = SimpleNamespace(last_turn=trio.current_time())
    server = SimpleNamespace(plan=plan, hosted={}, turns=turns, store=SimpleNamespace(full=False))
    observer = Observer(cast(Any, server), cast(Any, None), "mako")
    await trio.sleep(60)
    assert observer.healthy() == (True, "starting")
    server.hosted[1] = None
    assert observer.healthy() == (False, "no turn was taken for 60.0 s")
