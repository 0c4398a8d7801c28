"""All clients of a process, on trio: their streams, and the results that workers have ready.

    reader   one per connection: receives, and reads ahead while there is no room for what came
    feeder   one per connection: hands over what was read ahead, as soon as there is room
    writer   one per connection: sends what has been written, and has the connection go on with what
             waited for that; a client that does not take it is cut
    results  one: woken by workers through an eventfd, hands out what has passed the gate

Nothing polls: only while a result waits for the watermark, and nobody says when it has moved,
the third one looks every millisecond.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import trio

from mako.errors import ConfigError
from mako.server.asking import Job
from mako.server.backend import Backend
from mako.server.clients import ClientConnection
from mako.server.connections import Connections
from mako.server.sweeping import Ages, sweep
from mako.wire.errors import WireError
from mako.wire.frame import goodbye_parts

#: Bytes that wait for a client to take them, before it is cut. More than all that may come of what
#: is pending and what waits for the gate: only results of calls under way reach it.
OUTPUT_BYTES_MAX: Final = 12 << 20
#: Bytes that are sent at a time, and seconds that a client has to take them.
PIECE_BYTES: Final = 256 << 10
OUTPUT_SECONDS_MAX: Final = 10.0
RECEIVE_BYTES: Final = 256 << 10
#: Bytes that are read ahead. More than a client of ours has under way (FLYING_BYTES_MAX, and one
#: request more): so it is never kept from sending, whatever it reads meanwhile.
AHEAD_BYTES_MAX: Final = 6 << 20
#: Seconds between two looks while results wait for the watermark.
LOOK_SECONDS: Final = 0.001
TICK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 60.0
GOODBYE_SECONDS: Final = 1.0
#: Threads for what clients ask for and the loop has no time for, in a partition.
JOBS_MAX: Final = 8


class Hub:
    """The connections of one process. `run` and every `serve` are tasks of one event loop."""

    def __init__(self, backend: Backend, connections: Connections | None = None) -> None:
        """`connections`, where somebody else has to tell them things, too."""
        self._backend = backend
        # Of their own: whatever clients ask for, the log's thread is not to wait for one.
        self._threads = trio.CapacityLimiter(JOBS_MAX)
        # Not `or`: one that nobody is connected to is empty, and false.
        self.connections = Connections(backend) if connections is None else connections

    async def run(self) -> None:
        """Hand out results until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._sweep)
            await self._hand_out()

    async def _sweep(self) -> None:
        """Delete old rows of requests, a few at a time."""
        backend, ages = self._backend, Ages()
        while True:
            await trio.sleep(SWEEP_SECONDS)
            if not backend.leads:
                continue
            old_ms = ages.look(backend.epoch, time.monotonic(), time.time_ns() // 1_000_000)
            first = None if old_ms is None else b""
            # What it deletes is in no log once another one leads.
            while first is not None and old_ms is not None and backend.leads:
                first = sweep(backend.engine, first, old_ms)
                await trio.sleep(0.01)

    async def _hand_out(self) -> None:
        while True:
            waits = self.connections.hand_out(time.monotonic())
            serving = self._backend.serving  # Another one after the partition was restored.
            if not serving.listen():
                await trio.lowlevel.checkpoint()
                continue
            seconds = LOOK_SECONDS if waits else TICK_SECONDS
            with trio.move_on_after(seconds), contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(serving.event)
                serving.heard()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            self.connections.tick(time.monotonic())

    async def serve(self, stream: trio.abc.HalfCloseableStream, first: bytes = b"") -> None:
        """Serve one client until either side ends it.

        `first` is what has been received already, from the hello on.
        """
        served = _Served(self._backend, self.connections, stream, first, self._threads)
        self.connections.add(served)
        try:
            await served.run(lambda: self.connections.remove(served))
        finally:
            self.connections.remove(served)


class _Served:
    """One connection and its stream."""

    def __init__(
        self,
        backend: Backend,
        connections: Connections,
        stream: trio.abc.HalfCloseableStream,
        first: bytes,
        threads: trio.CapacityLimiter,
    ) -> None:
        self._connections = connections
        self._threads = threads
        self._stream = stream
        self._first = first
        self._output: list[bytes] = []
        self._size = 0  # Bytes written and not sent yet.
        self._written = trio.Event()
        self._has_room = trio.Event()
        # What was read while there was no room for it.
        self._ahead = bytearray()
        self._fed = trio.Event()
        self._used = trio.Event()
        self._ending = False
        self._is_cut = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self.connection = ClientConnection(
            backend, self._write, time.monotonic(), lambda: self._size
        )

    def _write(self, data: bytes) -> None:
        if self._is_cut:  # Whatever was under way may still have a lot to say.
            return
        self._output.append(data)
        self._size += len(data)
        if self._size > OUTPUT_BYTES_MAX:
            self.finish("")
        self._written.set()

    def finish(self, reason: str) -> None:
        """End it: at once, or, if there is a reason to give, when that has been sent."""
        if not reason:
            self._is_cut = True
            self._output.clear()
            self._scope.cancel()
        elif not self._ending:
            self._write(b"".join(goodbye_parts(reason)))
            self._ending = True
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + GOODBYE_SECONDS)

    async def run(self, gone: Callable[[], None]) -> None:
        """`gone` is called, perhaps again, when the client is: its jobs may take a while yet."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._send)
                nursery.start_soon(self._feed)
                await self._receive()
                if not self._ending:
                    gone()
                    self._scope.cancel()
        await trio.aclose_forcefully(self._stream)

    async def _receive(self) -> None:
        data: bytes | bytearray = self._first
        while not self._ending:
            if self._ahead or self.connection.blocked:
                self._ahead += data
                self._fed.set()
                while len(self._ahead) >= AHEAD_BYTES_MAX:
                    self._used = trio.Event()
                    await self._used.wait()
            elif data:
                self._hand_over(bytes(data))
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return

    async def _feed(self) -> None:
        while True:
            await self._fed.wait()
            self._fed = trio.Event()
            while self._ahead:
                while self.connection.blocked:
                    self._has_room = trio.Event()
                    await self._has_room.wait()
                if self._ending:
                    return
                data = bytes(self._ahead[:RECEIVE_BYTES])
                del self._ahead[:RECEIVE_BYTES]
                self._hand_over(data)
                self._used.set()
                await trio.lowlevel.checkpoint()

    def _hand_over(self, data: bytes) -> None:
        try:
            self.connection.receive(data, time.monotonic())
        except (WireError, ConfigError) as error:
            self._ahead.clear()
            self.finish(str(error))
            return
        self.begin_jobs()

    def begin_jobs(self) -> None:
        """Each in a thread, unless the connection ends: then nobody is there who waits for one."""
        if self._nursery is None or self._scope.cancel_called:
            return
        for number, job in self.connection.take_jobs():
            self._nursery.start_soon(self._work, number, job)

    async def _work(self, number: int, job: Job) -> None:
        # It cannot be stopped, and its memory must stay until it has ended.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(job.run, limiter=self._threads)
        self.connection.job_done(number, job)

    async def _send(self) -> None:
        while True:
            await self._written.wait()
            self._written = trio.Event()
            try:
                await self._send_all(self._take_output())
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self.finish("")
                return
            if self._ending and not self._output:
                self._scope.cancel()

    def _take_output(self) -> bytes:
        output, self._output = self._output, []
        return b"".join(output)

    async def _send_all(self, data: bytes) -> None:
        # Of its own: nobody else holds on to the bytes, which may be many, until there are others.
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            piece = view[at : at + PIECE_BYTES]
            with trio.fail_after(OUTPUT_SECONDS_MAX):
                await self._stream.send_all(piece)
            self._size -= len(piece)
            if self.connection.stuck:
                self.connection.took(time.monotonic())
                self._connections.go_on(self, time.monotonic())

    def unblocked(self) -> None:
        """The workers have room again."""
        self._has_room.set()
