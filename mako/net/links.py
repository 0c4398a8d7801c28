"""The links of a process to all others of its cluster: one connection for each pair.

    send(process, messages) ─▶ encoded ──▶ the socket, as much as it takes at once
                                      └─▶ queue, bounded ─▶ one writer ─▶ socket
    deliver(process, messages) ◀─ decoded ◀────────────── one reader ◀─ socket

The process with the lower number dials, the other accepts; so two that start at once do not end
up with two connections or none. A new connection from a process takes the place of the one
before: it was restarted, or the old one is dead and only this side does not know yet.

Messages may be lost, and Raft says again what matters. So what cannot be sent at once is dropped
and counted, rather than kept until it is stale: everything while there is no connection, and what
is over the bound of the queue. `unreachable(process)` is called then, and when a link breaks.

Invariants:
    N1  Messages of one connection arrive in the order of sending, each once, or not at all.
    N2  `send` never waits, and no peer can make this process hold more than the queue's bound.
    N3  Nothing that one peer does or says disturbs the link to another.
"""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from mako.net.connection import Connection
from mako.net.errors import ConnectionLost, Refused
from mako.net.limits import DEFAULT_LIMITS, Limits
from mako.net.once import OncePerMinute
from mako.replication.outbox import PeerMessage
from mako.wire.errors import WireError
from mako.wire.frame import (
    HEADER_BYTES,
    Buffer,
    Frame,
    FrameKind,
    frame_parts,
    goodbye_reason,
)
from mako.wire.hello import Hello, check_hello
from mako.wire.peer import batch_frames, decode_batch

Address = tuple[str, int]
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_KEEPALIVE: Final = frame_parts(FrameKind.PEER, [])


@dataclass(slots=True)
class LinkCounters:
    """What went over the link to one process since the start, all connections together."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    #: Messages that were not sent: no connection, a full queue, too large for a frame.
    drops: int = 0
    #: Connections after the first one.
    reconnects: int = 0


@dataclass(slots=True)
class _Line:
    """One connection, and what waits for it: that goes when the connection goes."""

    connection: Connection
    #: Cancelled when another connection takes the place of this one.
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    #: Frames that wait for the writer, and bytes of them and of what it is sending.
    queue: list[Buffer] = field(default_factory=list)
    queued_bytes: int = 0
    wake: trio.Event = field(default_factory=trio.Event)
    #: Why it ended, the first reason first.
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Peer:
    process: int
    counters: LinkCounters = field(default_factory=LinkCounters)
    line: _Line | None = None
    connected_before: bool = False
    #: The last one; None before the first.
    hello: Hello | None = None


class PeerLinks:
    """Links to the processes at `addresses`, which may contain this one.

    `deliver` and `unreachable` are plain functions, called between two awaits; they must be quick
    and must not raise. `identity` is asked whenever a hello is said, `greeted` is told of every
    good one that was heard. `unreachable` may be called from within `send`. `chance` gives numbers
    from 0 to 1, `connect` opens a stream; both are arguments for the sake of tests. Everything
    happens in the thread of trio.
    """

    def __init__(
        self,
        identity: Callable[[], Hello],
        addresses: Mapping[int, Address],
        *,
        deliver: Callable[[int, list[PeerMessage]], None],
        unreachable: Callable[[int], None] = lambda process: None,
        greeted: Callable[[Hello], None] = lambda hello: None,
        log: Callable[[str], None] = lambda line: None,
        names: Mapping[int, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        chance: Callable[[], float] = random.random,
        connect: Connect | None = None,
    ) -> None:
        self._say_who = identity
        self._identity = identity()
        self._greeted = greeted
        self._addresses = dict(addresses)
        self._deliver = deliver
        self._unreachable = unreachable
        self._log = log
        self._complain = OncePerMinute(log, trio.current_time)
        # Shared with who met the others: it may grow.
        self._names = names
        self._limits = limits
        self._chance = chance
        self._connect = connect or _connect
        self._peers = {
            process: _Peer(process) for process in addresses if process != self._identity.process
        }
        self._dialling: trio.Nursery | None = None

    @property
    def connected(self) -> set[int]:
        """The processes to which there is a connection with a good hello."""
        return {process for process, peer in self._peers.items() if peer.line is not None}

    @property
    def counters(self) -> dict[int, LinkCounters]:
        """By process; live, for the metrics."""
        return {process: peer.counters for process, peer in self._peers.items()}

    def queued_bytes(self, process: int) -> int:
        """Bytes that wait or are being sent."""
        line = self._peers[process].line
        return line.queued_bytes if line is not None else 0

    def hello_of(self, process: int) -> Hello | None:
        """The last hello of the process, None before the first."""
        peer = self._peers.get(process)
        return None if peer is None else peer.hello

    def meet(self, process: int, name: str, address: Address) -> None:
        """Link to a process that is new, or has moved to another address."""
        self._addresses[process] = address
        peer = self._peers.get(process)
        if peer is None:
            peer = self._peers[process] = _Peer(process)
            if self._dialling is not None and process > self._identity.process:
                self._dialling.start_soon(self._keep_dialling, peer)
        elif peer.line is not None:
            peer.line.reasons.append(f"{name} has moved to {address[0]}:{address[1]}")
            peer.line.scope.cancel()

    def send(self, process: int, messages: Sequence[PeerMessage]) -> None:
        """Send now, or drop and count. Never waits."""
        peer = self._peers.get(process)
        if peer is None:
            self._complain(
                f"unknown {process}",
                "a member lives in a process that the configuration does not have: give this"
                " process the configuration that the others have",
            )
            return
        line = peer.line
        if line is None:
            self._drop(peer, len(messages))
            return
        parts, refused = batch_frames(messages, self._limits.peer_body_max)
        size = sum(map(len, parts))
        if line.queued_bytes + size > self._limits.queue_bytes_max:
            self._drop(peer, len(messages))
            return
        if refused:
            self._complain(
                f"large {process}",
                f"peer {self._name(process)}: a message has more than"
                f" {self._limits.peer_body_max} bytes and was dropped; make entries smaller",
            )
            self._drop(peer, refused)
        peer.counters.messages_out += len(messages) - refused
        if not line.queued_bytes:  # The writer rests (N1).
            parts = line.connection.send_now(parts)
            left = sum(map(len, parts))
            peer.counters.bytes_out += size - left
            size = left
        if parts:
            line.queue += parts
            line.queued_bytes += size
            line.wake.set()

    def _drop(self, peer: _Peer, count: int) -> None:
        if count:
            peer.counters.drops += count
            self._unreachable(peer.process)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dial all that this process has to dial, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._dialling = nursery
            for process, peer in self._peers.items():
                if process > self._identity.process:
                    nursery.start_soon(self._keep_dialling, peer)
            task_status.started()
            await trio.sleep_forever()

    async def accept(self, connection: Connection, theirs: Hello) -> None:
        """A process has dialled and its hello was found good: to be `on_peer` of the listener."""
        peer = self._peers.get(theirs.process)
        if peer is None or theirs.process > self._identity.process:
            reason = (
                f"{theirs.name} is not to dial {self._identity.name}, the process with the lower"
                " number dials; give both the same configuration"
            )
            self._complain(reason, f"refused {theirs.name} at {connection.address}: {reason}")
            await connection.aclose(reason)
            return
        await self._session(peer, connection, theirs)

    # --- Dialling ------------------------------------------------------------------------------

    async def _keep_dialling(self, peer: _Peer) -> None:
        limits = self._limits
        wait_s = limits.dial_first_s
        while True:
            try:
                connection, theirs = await self._dial(peer)
            except (ConnectionLost, WireError) as error:
                self._complain(
                    f"dial {peer.process} {error}", f"peer {self._name(peer.process)}: {error}"
                )
                self._unreachable(peer.process)
                if isinstance(error, Refused):
                    wait_s = limits.dial_last_s
            else:
                begin = trio.current_time()
                await self._session(peer, connection, theirs)
                # One that breaks at once, again and again, is not dialled as fast as it breaks.
                if trio.current_time() - begin >= limits.dial_last_s:
                    wait_s = limits.dial_first_s
            # Half of it is chance, so that processes do not dial in step.
            await trio.sleep(wait_s * (0.5 + 0.5 * self._chance()))
            wait_s = min(2 * wait_s, limits.dial_last_s)

    async def _dial(self, peer: _Peer) -> tuple[Connection, Hello]:
        """A connection with a good hello. Raises ConnectionLost or WireError."""
        host, port = self._addresses[peer.process]
        stream: trio.abc.Stream | None = None
        try:
            with trio.move_on_after(self._limits.dial_s):
                stream = await self._connect(host, port)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            # Some names of hosts are no names: what resolves them raises a UnicodeError.
            raise ConnectionLost(f"no connection to {host} port {port}: {error}") from error
        if stream is None:
            raise ConnectionLost(
                f"no connection to {host} port {port} within {self._limits.dial_s:g} s"
            )
        # Who is dialled may send a batch right behind its hello.
        connection = Connection(stream, self._limits.peer_body_max, self._limits)
        try:
            await connection.greet(self._say_who())
            theirs = await connection.greeting(reply=True)
            refusal = check_hello(self._identity, theirs, self._names)
            if refusal is None and theirs.process != peer.process:
                refusal = (
                    f"{host} port {port} is process {theirs.process} ({theirs.name}), not"
                    f" {self._name(peer.process)}; correct the address in the configuration"
                )
            if refusal is not None:
                await connection.aclose(refusal)
                raise Refused(refusal)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return connection, theirs

    # --- A connection --------------------------------------------------------------------------

    async def _session(self, peer: _Peer, connection: Connection, theirs: Hello) -> None:
        """Read and write until the connection ends, or another takes its place."""
        line = self._begin(peer, connection, theirs)
        try:
            with line.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_it_ends, self._write, peer, line)
                    nursery.start_soon(self._until_it_ends, self._read, peer, line)
                    nursery.start_soon(self._until_it_ends, self._watch, peer, line)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(connection.stream)
            if peer.line is line:
                peer.line = None
                self._unreachable(peer.process)
        name = self._name(peer.process)
        reason = line.reasons[0] if line.reasons else "another connection took its place"
        key = reason.replace(connection.address, "")  # Its port is new each time.
        self._complain(f"end {name} {key}", f"peer {name}: disconnected: {reason}")

    def _begin(self, peer: _Peer, connection: Connection, theirs: Hello) -> _Line:
        if peer.line is not None:
            peer.line.scope.cancel()
        connection.silence_s = self._limits.silence_s
        line = peer.line = _Line(connection)
        peer.counters.reconnects += peer.connected_before
        peer.connected_before = True
        before, peer.hello = peer.hello, theirs
        restarted = "" if before is None or before.boot == theirs.boot else " after a restart"
        self._greeted(theirs)
        name = self._name(peer.process)
        self._log(f"peer {name}: connected{restarted}, {connection.address}, {theirs.software}")
        return line

    async def _until_it_ends(
        self, task: Callable[[_Peer, _Line], Awaitable[str]], peer: _Peer, line: _Line
    ) -> None:
        try:
            line.reasons.append(await task(peer, line))
        except (ConnectionLost, WireError) as error:
            line.reasons.append(str(error))
        line.scope.cancel()

    async def _write(self, peer: _Peer, line: _Line) -> str:
        while True:
            if not line.queue:
                line.wake = trio.Event()
                with trio.move_on_after(self._limits.keepalive_s):
                    await line.wake.wait()
            if not line.queue:
                line.queue = list(_KEEPALIVE)
                line.queued_bytes = HEADER_BYTES
            # Everything that waits goes out together.
            parts, line.queue = line.queue, []
            size = line.queued_bytes
            await line.connection.send(parts)
            line.queued_bytes -= size
            peer.counters.bytes_out += size

    async def _read(self, peer: _Peer, line: _Line) -> str:
        counters = peer.counters
        while frames := await line.connection.receive():
            for frame in frames:
                counters.bytes_in += HEADER_BYTES + len(frame.body)
                messages = self._messages_of(frame)
                if messages:
                    counters.messages_in += len(messages)
                    self._deliver(peer.process, messages)
        return "it closed the connection"

    async def _watch(self, peer: _Peer, line: _Line) -> str:
        del peer
        return await line.connection.watch()

    def _messages_of(self, frame: Frame) -> list[PeerMessage]:
        if frame.kind == FrameKind.PEER and frame.flags == 0:
            return decode_batch(frame.body)
        if frame.kind == FrameKind.GOODBYE:
            raise ConnectionLost(f"it says goodbye: {goodbye_reason(frame.body)}")
        raise WireError(f"a frame of kind {frame.kind}, flags {frame.flags} between processes")

    def _name(self, process: int) -> str:
        return self._names.get(process, str(process)) if self._names is not None else str(process)


async def _connect(host: str, port: int) -> trio.abc.Stream:
    # trio sets TCP_NODELAY: a heartbeat does not wait for an acknowledgement.
    return await trio.open_tcp_stream(host, port)
