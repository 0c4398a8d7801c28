"""The listener of a process, which peers and clients share.

    accept ─▶ hello within 5 s and 16 KiB ─▶ role ─┬─ peer   ─▶ on_peer(connection, hello)
                                                   └─ others ─▶ on_client(connection, hello)

The role decides what a connection counts as: clients, however many come, shut no peer out, which a
process may need before it can serve them.

Both handlers run in the task of the connection, have it to themselves, and end with it. Nobody
is heard before the hello was found good, and strangers are few: they cannot take what others use.
Nothing that somebody sends can end the listener; each fault is one line in the log.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from errno import EADDRINUSE
from functools import partial

import trio

from mako.errors import ConfigError
from mako.net.connection import Connection
from mako.net.errors import ConnectionLost
from mako.net.limits import DEFAULT_LIMITS, Limits
from mako.net.once import OncePerMinute
from mako.wire.errors import WireError
from mako.wire.frame import HELLO_BODY_MAX, LATER
from mako.wire.hello import Hello, Role, check_hello

Handler = Callable[[Connection, Hello], Awaitable[None]]


async def open_listeners(host: str, port: int, name: str) -> list[trio.SocketListener]:
    """Listen at host and port, 0 for any; `name` is the process's, for messages.

    Raises ConfigError if that is not possible here.
    """
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == EADDRINUSE or EADDRINUSE in _errnos(error.__cause__):
            raise ConfigError(
                f"port {port} of {name} is in use; end the process that listens there, or give"
                f" {name} another port in the configuration"
            ) from error
        raise ConfigError(
            f"{name} cannot listen at {host} port {port}: {error.strerror or error}; correct its"
            " host and port in the configuration"
        ) from error


def _errnos(error: BaseException | None) -> set[int | None]:
    if isinstance(error, BaseExceptionGroup):
        return {getattr(one, "errno", None) for one in error.exceptions}
    return {getattr(error, "errno", None)}


def keep_alive(stream: trio.abc.Stream, limits: Limits) -> None:
    """Have the end of a host noticed that says nothing before it, nor has anything to say."""
    if not isinstance(stream, trio.SocketStream):
        return
    with suppress(OSError):  # It has ended already, as whoever reads it finds.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, limits.keepalive_idle_s),
            (socket.TCP_KEEPINTVL, limits.keepalive_again_s),
            (socket.TCP_KEEPCNT, limits.keepalive_count),
        ):
            stream.setsockopt(socket.IPPROTO_TCP, option, value)


class Reception:
    """Greets connections and passes them on. `processes` are the names of the cluster's."""

    def __init__(
        self,
        identity: Callable[[], Hello],
        *,
        on_peer: Handler,
        on_client: Handler,
        processes: Mapping[int, str] | None = None,
        log: Callable[[str], None] = lambda line: None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._say_who = identity
        self._identity = identity()
        self._on_peer = on_peer
        self._on_client = on_client
        self._processes = processes
        self._limits = limits
        self._log = OncePerMinute(log, trio.current_time)
        #: Open connections of clients, and those without a hello.
        self.clients = 0
        self.strangers = 0

    async def handle(self, stream: trio.abc.Stream) -> None:
        """See a new connection through to its end."""
        keep_alive(stream, self._limits)
        connection = Connection(stream, HELLO_BODY_MAX, self._limits)
        try:
            await self._handle(connection)
        except (ConnectionLost, WireError) as error:
            self._say(connection, str(error))
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _handle(self, connection: Connection) -> None:
        limits = self._limits
        if self.strangers >= limits.strangers_max:
            await self._turn_away(connection, f"{self.strangers} connections without a hello")
            return
        self.strangers += 1
        try:
            theirs = await self._greet(connection)
        finally:
            self.strangers -= 1
        if theirs is None:
            return
        if theirs.role is Role.PEER:
            connection.reader.limit = limits.peer_body_max
            await self._on_peer(connection, theirs)
            return
        if self.clients >= limits.connections_max:
            await self._turn_away(connection, f"{self.clients} connections of clients")
            return
        self.clients += 1
        try:
            await self._on_client(connection, theirs)
        finally:
            self.clients -= 1

    async def _turn_away(self, connection: Connection, many: str) -> None:
        reason = f"{self._identity.name} has {many}, which is the most it takes; {LATER}"
        self._log(f"full of {many}", reason)
        await connection.aclose(reason)

    async def _greet(self, connection: Connection) -> Hello | None:
        try:
            theirs = await connection.greeting()
        except WireError as error:
            await connection.aclose(str(error))
            raise
        if theirs.role is not Role.PEER:
            return theirs
        refusal = check_hello(self._identity, theirs, self._processes)
        if refusal is not None:
            self._say(connection, f"refused {theirs.name or 'a client'}: {refusal}")
            await connection.aclose(refusal)
            return None
        await connection.greet(self._say_who(), reply=True)
        return theirs

    def _say(self, connection: Connection, line: str) -> None:
        host = connection.address.rpartition(":")[0]
        reason = line.replace(connection.address, "")
        self._log(f"{host} {reason}", f"connection from {connection.address}: {line}")


async def serve_connections(
    listeners: Sequence[trio.SocketListener],
    identity: Callable[[], Hello],
    *,
    on_peer: Handler,
    on_client: Handler,
    processes: Mapping[int, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
    limits: Limits = DEFAULT_LIMITS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections until cancelled; `on_peer` is usually `PeerLinks.accept`.

    A peer has had its hello answered; that of a client is left to `on_client`, which sets
    `connection.reader.limit` to what its frames may have, before it receives. It may let
    ConnectionLost and WireError out; anything else ends the process.
    """
    reception = Reception(
        identity,
        on_peer=on_peer,
        on_client=on_client,
        processes=processes,
        log=log,
        limits=limits,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, reception.handle, list(listeners)))
        task_status.started()
