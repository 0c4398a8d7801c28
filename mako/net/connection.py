"""One connection: frames over a trio stream, with limits on time and size.

A socket is sent to with `sendmsg`, so that large data goes from where it is into the kernel; any
other stream (tests use trio's memory streams) with `send_all`. One task may receive and another
send at the same time; two may not do the same.

What a socket takes at once, `send_now` gives it without waking anybody; a link is sent to and
received from some thousand times a second, and each switch of tasks, like each cancel scope,
costs as much as a message. So a link has `watch` look after its silence, one task that
sleeps, instead of a scope around each receive.

Whatever the other side or the network does ends in ConnectionLost or in WireError, never in
another exception. After either only `aclose` makes sense.
"""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import trio

from mako.net.errors import ConnectionLost, Refused
from mako.net.limits import BUFFERS_MAX, DEFAULT_LIMITS, RECEIVE_BYTES, Limits
from mako.wire.errors import WireError
from mako.wire.frame import (
    Buffer,
    Frame,
    FrameKind,
    FrameReader,
    goodbye_parts,
    goodbye_reason,
)
from mako.wire.hello import Hello, expect_hello, hello_parts

#: Seconds in which a goodbye is sent or not.
_GOODBYE_S = 1.0


class Connection:
    """`limit` bounds the bodies of frames; set `silence_s` where the other side must not rest."""

    def __init__(
        self, stream: trio.abc.Stream, limit: int, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.stream = stream
        self.address = address_of(stream)
        self.reader = FrameReader(limit)
        self.limits = limits
        #: Seconds without a byte after which the other side counts as gone.
        self.silence_s = math.inf
        #: Whether `watch` runs.
        self.watched = False
        self.bytes_in = 0
        self.bytes_out = 0
        # What came together with the hello.
        self._waiting: list[Frame] = []
        # When the unfinished frame began, and when the last byte came.
        self._partial_since = 0.0
        self._heard = trio.current_time()

    async def receive(self) -> list[Frame]:
        """The next frames, at least one; none: the other side has closed between two frames."""
        if self._waiting:
            frames, self._waiting = self._waiting, []
            return frames
        while True:
            data = await self._receive_some()
            if not data:
                if self.reader.partial_bytes:
                    raise ConnectionLost(f"{self.address} closed within a frame")
                return []
            self.bytes_in += len(data)
            self._heard = trio.current_time()
            partial = self.reader.partial_bytes
            frames = self.reader.feed(data)
            if self.reader.partial_bytes and (frames or not partial):
                self._partial_since = self._heard
            if frames:
                return frames

    async def _receive_some(self) -> bytes | bytearray:
        try:
            if self.watched:
                return await self.stream.receive_some(RECEIVE_BYTES)
            with trio.move_on_at(self._deadline(trio.current_time())):
                return await self.stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise ConnectionLost(f"{self.address}: {_reason(error)}") from error
        raise self._overdue()

    def _deadline(self, heard: float) -> float:
        """When the next byte has to have come, if the last one came at `heard`."""
        deadline = heard + self.silence_s
        if self.reader.partial_bytes:
            deadline = min(deadline, self._partial_since + self.limits.partial_frame_s)
        return deadline

    def _overdue(self) -> ConnectionLost:
        partial = self.reader.partial_bytes
        if partial:
            return ConnectionLost(
                f"{self.address} did not complete a frame of which {partial} bytes came within"
                f" {self.limits.partial_frame_s:g} s"
            )
        return ConnectionLost(f"{self.address} was silent for {self.silence_s:g} s")

    async def watch(self) -> NoReturn:
        """Raise ConnectionLost when the other side is silent, or stuck in a frame, too long."""
        self.watched = True
        self._heard = now = trio.current_time()
        while now < (deadline := self._deadline(self._heard)):
            # A frame that begins while this sleeps is overdue no sooner than that.
            await trio.sleep_until(min(deadline, now + self.limits.partial_frame_s))
            now = trio.current_time()
        raise self._overdue()

    def send_now(self, parts: list[Buffer]) -> list[Buffer]:
        """Send what goes without waiting, while no other task sends. Return what is left."""
        if not isinstance(self.stream, trio.SocketStream):
            return parts
        try:
            sent = os.writev(self.stream.socket.fileno(), parts[:BUFFERS_MAX])
        except OSError:
            return parts  # The socket is full, or broken: `send` finds out.
        self.bytes_out += sent
        return _after(parts, sent)

    async def send(self, parts: Sequence[Buffer]) -> None:
        """Send all buffers. They must not change before this returns."""
        try:
            if isinstance(self.stream, trio.SocketStream):
                await self._send_gathered(self.stream.socket, list(parts))
            else:
                with trio.move_on_after(self.limits.write_stall_s) as scope:
                    await self.stream.send_all(b"".join(parts))
                if scope.cancelled_caught:
                    raise self._stalled()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise ConnectionLost(f"{self.address}: {_reason(error)}") from error
        self.bytes_out += sum(map(len, parts))

    async def _send_gathered(self, socket: trio.socket.SocketType, parts: list[Buffer]) -> None:
        while parts:
            with trio.move_on_after(self.limits.write_stall_s) as scope:
                sent = await socket.sendmsg(parts[:BUFFERS_MAX])
            if scope.cancelled_caught:
                raise self._stalled()
            parts = _after(parts, sent)

    def _stalled(self) -> ConnectionLost:
        return ConnectionLost(
            f"{self.address} took nothing of what it was sent for {self.limits.write_stall_s:g} s"
        )

    async def greet(self, mine: Hello, *, reply: bool = False) -> None:
        """Say hello."""
        await self.send(hello_parts(mine, reply=reply))

    async def greeting(self, *, reply: bool = False) -> Hello:
        """The hello of the other side, within the time for it.

        Raises Refused if it said goodbye instead.
        """
        with trio.move_on_after(self.limits.hello_s):
            frames = await self.receive()
            if not frames:
                raise ConnectionLost(f"{self.address} closed without a hello")
            first, *self._waiting = frames
            if first.kind == FrameKind.GOODBYE:
                raise Refused(f"{self.address} refuses: {goodbye_reason(first.body)}")
            if first.flags:
                raise WireError(f"the first frame has flags {first.flags:#04x}, not 0")
            return expect_hello(first.kind, first.body, reply=reply)
        raise ConnectionLost(f"{self.address} said no hello within {self.limits.hello_s:g} s")

    async def aclose(self, reason: str = "") -> None:
        """Close at once; with a reason, after a goodbye. Not while another task sends."""
        if reason:
            with trio.move_on_after(_GOODBYE_S, shield=True):
                # It may be gone, which is what is wanted.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.stream.send_all(b"".join(goodbye_parts(reason)))
        await trio.aclose_forcefully(self.stream)


def _after(parts: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of buffers of which the first `sent` bytes are gone."""
    for i, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[i + 1 :]] if sent else parts[i:]
        sent -= len(part)
    return []


def address_of(stream: trio.abc.Stream) -> str:
    """Where the other side is, for people."""
    if isinstance(stream, trio.SocketStream):
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            return "a closed connection"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "a stream"


def _reason(error: BaseException) -> str:
    """The words of the operating system, which trio hides."""
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(cause) or "the connection was closed"
