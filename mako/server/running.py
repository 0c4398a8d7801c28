"""A server process on trio: listeners, links, signals, and everything else in one nursery."""

import errno
import gc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Final

import trio

from mako.errors import ConfigError, OutOfMemory, SchemaError
from mako.net.connection import Connection
from mako.net.links import PeerLinks
from mako.net.listening import open_listeners, serve_connections
from mako.replication.driver import ProcessMustEnd
from mako.server.deploy import Deployed
from mako.server.elsewhere import Elsewhere, serve_elsewhere
from mako.server.events import EventLog
from mako.server.http import serve_http
from mako.server.neighbours import own_memory
from mako.server.observing import Observer
from mako.server.placed import fingerprint_of
from mako.server.plan import ServerPlan
from mako.server.process import ServerProcess
from mako.server.starting import stays_until
from mako.server.turns import cause_of
from mako.storage.errors import DiskFailed, StorageError
from mako.wire.hello import Hello, Role, hello_parts

#: A disk that fails so as a process starts may be well again later.
_BROKEN: Final = errno.EIO, errno.EROFS
#: New objects, less those that are gone, between two collections of cycles.
_COLLECT_AFTER: Final = 20_000
SOFTWARE: Final = f"mako {version('mako-db')}"


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def run(plan: ServerPlan, log: EventLog) -> None:
    """`serve`, in an event loop of its own."""
    trio.run(partial(serve, plan, log, on_loaded=_spare_collector))


def _spare_collector() -> None:
    """The engine's modules are there for good, and what a turn makes is seldom in a cycle: so the
    collector of cycles passes over the one and looks at the other less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


async def serve(
    plan: ServerPlan,
    log: EventLog,
    *,
    now_ms: Callable[[], int] = wall_ms,
    on_loaded: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[ServerProcess] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the process until it is told to end by SIGTERM or SIGINT, or its disk fails.

    `on_loaded` is called once the engine and the procedures are in memory.

    Raises ConfigError for what has to be corrected first, ProcessMustEnd for a failed disk.
    """
    boot = int.from_bytes(os.urandom(8), "little") >> 1

    def identity() -> Hello:
        return Hello(
            plan.cluster_id,
            Role.PEER,
            plan.process,
            plan.name,
            boot,
            SOFTWARE,
            has_history=server.history,
            memory=memory,
            shards=shards,
        )

    _load_engine(log)
    memory = own_memory(plan.addresses[plan.process][0])
    shards = fingerprint_of(plan.shards)
    try:
        server = ServerProcess(plan, log, now_ms, hello=identity)
    except DiskFailed as error:
        if getattr(error.__cause__, "errno", None) in _BROKEN:  # It may be well again later.
            raise ProcessMustEnd(str(error)) from error
        raise
    try:
        _load_procedures(server.procedures, log)
        on_loaded()
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, server, identity, log, nursery.cancel_scope)
            task_status.started(server)
    except BaseExceptionGroup as errors:
        # Not `except*`: what is raised there is in a group again, in some versions of Python 3.11.
        for kind in (ProcessMustEnd, ConfigError):
            found = errors.subgroup(kind)
            if found is not None:
                raise kind(str(cause_of(found))) from errors
        if errors.subgroup(OutOfMemory) is not None:
            line = (
                "the memory of a partition is too small for its rows, or for what snapshots keep at"
                " this replica; give it more `memory`, and close snapshots sooner"
            )
            raise (ProcessMustEnd if server.formed.is_set() else ConfigError)(line) from errors
        lost = errors.subgroup(StorageError)  # Such as a folder that somebody has removed.
        if lost is not None:
            raise ProcessMustEnd(f"the process ends: {cause_of(lost)}") from errors
        raise
    finally:
        server.close()


def _load_engine(log: EventLog) -> None:
    """Before anybody counts on this process: later it would miss its heartbeats meanwhile."""
    from mako.engine.warmup import warmup

    started = time.monotonic()
    warmup(lambda unit, done, total: None)
    log("has loaded the engine", seconds=round(time.monotonic() - started, 1))


def _load_procedures(procedures: Mapping[str, Deployed], log: EventLog) -> None:
    """For the same reason: the first time, some of a benchmark's take a minute to compile."""
    from mako.engine.warmup import load

    started = time.monotonic()
    wanted = [one.procedure for one in procedures.values() if not one.at_snapshot]
    try:
        load(wanted)
    except SchemaError as error:
        raise ConfigError(f"procedures: {error}") from error
    if wanted:
        seconds = round(time.monotonic() - started, 1)
        log("has loaded its procedures", count=len(wanted), seconds=seconds)


async def _serve(
    server: ServerProcess,
    identity: Callable[[], Hello],
    log: EventLog,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    plan = server.plan
    listeners = [
        listener
        for host, port in plan.listen
        for listener in await open_listeners(host, port, plan.name)
    ]
    links = PeerLinks(
        identity,
        plan.addresses,
        deliver=server.deliver,
        unreachable=server.on_unreachable,
        greeted=lambda hello: server.on_greeted(hello.process, has_history=hello.has_history),
        log=log,
        names=plan.names,
    )

    async def on_client(connection: Connection, hello: Hello) -> None:
        if not await stays_until(server.formed, connection.stream):
            return
        hub = await server.hub_of(hello.partition)
        if hub is None:
            elsewhere = Elsewhere(plan, server.procedures, identity(), hello.partition)
            await serve_elsewhere(connection, hello, elsewhere)
            return
        assert isinstance(connection.stream, trio.SocketStream)
        await hub.serve(connection.stream, b"".join(hello_parts(hello)))

    server.on_meet = links.meet
    server.hello_of = links.hello_of
    observer = Observer(server, links, plan.cluster)
    async with trio.open_nursery() as nursery:
        if plan.http is not None:
            seen = await open_listeners(*plan.http, f"{plan.name} (HTTP)")
            nursery.start_soon(serve_http, seen, observer)
        nursery.start_soon(_watch_signals, server, scope, log)
        await nursery.start(links.run)

        async def receive(task_status: trio.TaskStatus[None]) -> None:
            await serve_connections(
                listeners,
                identity,
                on_peer=links.accept,
                on_client=on_client,
                processes=plan.names,
                log=log,
                task_status=task_status,
            )

        await nursery.start(receive)
        log("listens", addresses=_addresses(plan.listen))
        task_status.started()
        await server.run(links)


def _addresses(addresses: Sequence[tuple[str, int]]) -> str:
    return ",".join(f"{host}:{port}" for host, port in addresses)


async def _watch_signals(server: ServerProcess, scope: trio.CancelScope, log: EventLog) -> None:
    awaited = signal.SIGTERM, signal.SIGINT
    for each in awaited:
        # In force when the receiver is gone: a second one is not to end it while the log is closed.
        signal.signal(each, signal.SIG_IGN)
    with trio.open_signal_receiver(*awaited) as signals:
        async for number in signals:
            if server.ending:
                break
            log("is told to end", signal=signal.Signals(number).name)
            await server.hand_over()
            break
    log("ends")
    scope.cancel()
