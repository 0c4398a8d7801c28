"""A core on an anyio stream, for tasks of one event loop, asyncio's or trio's.

As in `mako.client.remote.link` nobody reads in the background: of the tasks that wait, one drives
and the others sleep until something has become of their call. A driver that is cancelled hands
over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.abc

from mako.client.remote.addresses import host_and_port
from mako.client.remote.calls import Call
from mako.client.remote.core import PATIENCE, Core
from mako.errors import Closed
from mako.forks import LEFT_CONNECTED, lead_nowhere, leave_in_child
from mako.wire.errors import WireError

RECEIVE_BYTES: Final = 256 << 10
DIAL_SECONDS: Final = 2.0
SLEEP_MAX: Final = 1.0
#: Bytes that a server has `PATIENCE` for; one that takes none for so long is stuck, or gone.
SEND_BYTES: Final = 64 << 10
#: Seconds that what has come takes from the loop to whoever reads, at most.
PEEK_SECONDS: Final = 0.01


class AsyncLink:
    """The core of a database and its stream."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._stream: anyio.abc.SocketStream | None = None
        # The socket of the last stream, which may be closed.
        self._socket: Any = None
        self._driving = False
        self._sending = False
        self._waiters: dict[anyio.Event, None] = {}
        # Of them by call: several may wait for one.
        self._sleepers: dict[int, list[anyio.Event]] = {}
        self._open = True
        leave_in_child(self, AsyncLink._leave)

    async def send(self) -> None:
        """Send what can be sent. Of several tasks one does it, for all."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._stream is not None:
                data = self.core.take(time.monotonic())
                if not data:
                    return
                stream = self._stream
                try:
                    trouble = await _send(stream, data)
                except BaseException:
                    # asyncio's own cancellation goes through every shield. Nobody knows how much
                    # of it has gone, so nothing may follow on this connection.
                    if stream is self._stream:
                        self._stream = None
                        self.core.lost(time.monotonic(), "whoever sent to the server was cancelled")
                        with anyio.CancelScope(shield=True):
                            await anyio.aclose_forcefully(stream)
                    raise
                if trouble and stream is self._stream:
                    await self._lose(trouble)
        finally:
            self._sending = False

    async def wait(self, call: Call, over: Callable[[], bool]) -> None:
        """Drive, or let others drive, until `over()`."""
        if self._open:  # Otherwise there may be no loop: it was left.
            await anyio.lowlevel.checkpoint()  # Others may have calls for the same batch.
            await self.send()
        try:
            while not over():
                if not self._open:
                    raise Closed(str(self.core.closed))
                if self._driving:
                    await self._sleep(call)
                else:
                    await self._drive(over)
        finally:
            # Whoever was to go on may have had its own answer by then, or be cancelled.
            if not self._driving:
                self._wake_one()

    async def _sleep(self, call: Call) -> None:
        """Until something became of a call, or a driver handed over."""
        woken = anyio.Event()
        self._waiters[woken] = None
        sleepers = self._sleepers.setdefault(call.id, [])
        sleepers.append(woken)

        def changed() -> None:
            for each in sleepers:
                each.set()

        call.on_change = changed
        try:
            await woken.wait()
        finally:
            self._waiters.pop(woken, None)
            sleepers.remove(woken)
            if not sleepers:
                self._sleepers.pop(call.id, None)
                call.on_change = None

    def _wake_one(self) -> None:
        if self._waiters:
            next(iter(self._waiters)).set()

    async def _drive(self, over: Callable[[], bool]) -> None:
        self._driving = True
        try:
            while self._open and not over():
                await self._turn()
        finally:
            self._driving = False
            self._wake_one()  # It goes on.

    async def _turn(self) -> None:
        core = self.core
        now = time.monotonic()
        when = core.next_time()
        if when is not None and when <= now:
            await self._take_what_is_there()
        if core.expire(now):
            return
        await self._leave_if_told()
        address = core.dial(now)
        if address is not None:
            await self._dial(address)
            await self.send()
            return
        when = core.next_time()
        limit = SLEEP_MAX if when is None else min(max(when - time.monotonic(), 0), SLEEP_MAX)
        stream = self._stream
        if stream is None:
            await anyio.sleep(limit)
            return
        data = b""
        began = time.monotonic()
        with anyio.move_on_after(limit):
            try:
                data = await stream.receive(RECEIVE_BYTES)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                if stream is self._stream:
                    await self._lose("the server closed the connection")
                return
        if stream is not self._stream:
            return
        if data:
            await self._take(data)
        else:
            # This process may have been stopped itself: then it did not listen for longer.
            core.quiet(min(time.monotonic() - began, limit))
        await self.send()

    async def _take_what_is_there(self) -> None:
        """Before a call is over for its time: nobody may have read, though its answer came."""
        while (stream := self._stream) is not None:
            data = b""
            with anyio.move_on_after(PEEK_SECONDS):
                try:
                    data = await stream.receive(RECEIVE_BYTES)
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    if stream is self._stream:
                        await self._lose("the server closed the connection")
                    return
            if not data or stream is not self._stream:
                return
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        try:
            self.core.feed(data, time.monotonic())
        except WireError as error:
            await self._lose(str(error))
            return
        await self._leave_if_told()

    async def _leave_if_told(self) -> None:
        now = time.monotonic()
        if self.core.leaves(now):
            self.core.left(now)
            await self._close_stream()

    async def _dial(self, address: str) -> None:
        host, port = host_and_port(address)
        trouble = ""
        try:
            with anyio.fail_after(DIAL_SECONDS):
                made = await anyio.connect_tcp(host, port)
        except (OSError, TimeoutError) as error:
            trouble = f"{address}: {error}"
        if trouble:
            self.core.lost(time.monotonic(), trouble)
        elif not self._open:
            await anyio.aclose_forcefully(made)
        else:
            self._stream = made
            self._socket = made.extra(anyio.abc.SocketAttribute.raw_socket)
            self.core.connected(time.monotonic())

    async def _lose(self, trouble: str) -> None:
        self.core.lost(time.monotonic(), trouble)
        await self._close_stream()

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self.core.close()
            for woken in list(self._waiters):
                woken.set()
            await self._close_stream()

    def _leave(self) -> None:
        """See `mako.forks`. Who waits does so in a loop of the parent's, whose set of descriptors
        (epoll) is shared: to close the stream would take the parent's out of it. So it is only let
        go of, and whatever the loop's copy still does with its number does nothing."""
        self._open = False
        self.core.closed = Closed(LEFT_CONNECTED)
        self._stream = None
        self._waiters, self._sleepers = {}, {}
        if self._socket is not None and self._socket.fileno() >= 0:
            lead_nowhere(self._socket.fileno())


async def _send(stream: anyio.abc.SocketStream, data: bytes) -> str:
    """Send all of it; why that could not be done, if so. No frame is cut by whoever sends it, and
    nobody waits for longer than a server may take: no deadline is kept meanwhile."""
    try:
        for at in range(0, len(data), SEND_BYTES):
            with anyio.move_on_after(PATIENCE, shield=True) as scope:
                await stream.send(data[at : at + SEND_BYTES])
            if scope.cancelled_caught:
                return f"the server takes nothing of what it is sent for {PATIENCE:g} s"
    except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        return str(error) or "the connection is broken"
    return ""
