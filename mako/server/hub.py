"""All clients of a process, on trio: their streams, and the results that workers have ready.

    reader   one per connection: receives, unless the workers have no room for what came
    writer   one per connection: sends what has been written; a client that does not take it is cut
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
from mako.server.sweeping import sweep
from mako.wire.errors import WireError
from mako.wire.frame import goodbye_parts

#: Bytes that wait for a client to take them, and seconds it has for each piece, before it is cut.
OUTPUT_BYTES_MAX: Final = 8 << 20
OUTPUT_SECONDS_MAX: Final = 10.0
RECEIVE_BYTES: Final = 256 << 10
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
        while True:
            await trio.sleep(SWEEP_SECONDS)
            if self._backend.leads:
                first: bytes | None = b""
                while first is not None:
                    first = sweep(self._backend.engine, first, time.time_ns() // 1_000_000)
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
        served = _Served(self._backend, stream, first, self._threads)
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
        stream: trio.abc.HalfCloseableStream,
        first: bytes,
        threads: trio.CapacityLimiter,
    ) -> None:
        self._threads = threads
        self._stream = stream
        self._first = first
        self._output: list[bytes] = []
        self._size = 0  # Bytes written and not sent yet.
        self._written = trio.Event()
        self._has_room = trio.Event()
        self._ending = False
        self._scope = trio.CancelScope()
        self.connection = ClientConnection(backend, self._write, time.monotonic())

    def _write(self, data: bytes) -> None:
        self._output.append(data)
        self._size += len(data)
        if self._size > OUTPUT_BYTES_MAX:
            self.finish("")
        self._written.set()

    def finish(self, reason: str) -> None:
        """End it: at once, or, if there is a reason to give, when that has been sent."""
        if not reason:
            self._scope.cancel()
        elif not self._ending:
            self._write(b"".join(goodbye_parts(reason)))
            self._ending = True
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + GOODBYE_SECONDS)

    async def run(self, gone: Callable[[], None]) -> None:
        """`gone` is called, perhaps again, when the client is: its jobs may take a while yet."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                await self._receive(nursery)
                if not self._ending:
                    gone()
                    self._scope.cancel()
        await trio.aclose_forcefully(self._stream)

    async def _receive(self, nursery: trio.Nursery) -> None:
        data: bytes | bytearray = self._first
        while True:
            try:
                data = data or await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            try:
                self.connection.receive(bytes(data), time.monotonic())
                data = b""
            except (WireError, ConfigError) as error:
                self.finish(str(error))
                return
            for number, job in self.connection.take_jobs():
                nursery.start_soon(self._work, number, job)
            while self.connection.blocked:
                self._has_room = trio.Event()
                await self._has_room.wait()

    async def _work(self, number: int, job: Job) -> None:
        # It cannot be stopped, and its memory must stay until it has ended.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(job.run, limiter=self._threads)
        self.connection.job_done(number, job)

    async def _send(self) -> None:
        while True:
            await self._written.wait()
            self._written = trio.Event()
            data, self._output = b"".join(self._output), []
            try:
                with trio.fail_after(OUTPUT_SECONDS_MAX):
                    await self._stream.send_all(data)
                self._size -= len(data)
                if self._ending and not self._output:
                    self._scope.cancel()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self.finish("")
                return

    def unblocked(self) -> None:
        """The workers have room again."""
        self._has_room.set()
