"""Frames: what a connection between two processes consists of (docs/wire.md).

    +------------+--------+---------+--------------+- - - - - - - - - - -+
    | length u32 | kind u8| flags u8| reserved u16 |        body         |
    +------------+--------+---------+--------------+- - - - - - - - - - -+
                 |<--------------------- length bytes ------------------>|

Little-endian. The length is judged as soon as its four bytes are here, before anything behind
them is kept, so that a reader never holds more than its limit and what one receive brought.

A frame that lies in one piece of what was received is a view of that piece; one that came in many
is joined once it is whole. Memory grows with what arrives, never with what was announced.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from mako.wire.errors import WireError

Buffer = bytes | bytearray | memoryview

#: length, kind, flags, reserved
HEADER: Final = struct.Struct("<IBBH")
HEADER_BYTES: Final = 8
LENGTH_BYTES: Final = 4
#: Bytes that the length counts besides the body.
LENGTH_MIN: Final = HEADER_BYTES - LENGTH_BYTES

#: Bodies of hello frames, before anything is known of the other side.
HELLO_BODY_MAX: Final = 16 << 10
#: Bodies between processes of a cluster: two Raft appends of 4 MiB, or eight chunks of a snapshot.
PEER_BODY_MAX: Final = (8 << 20) + (64 << 10)
#: Pieces of a frame that are kept as they came; smaller ones are gathered in a buffer.
PIECE_BYTES_MIN: Final = 4 << 10
#: Text of a goodbye, in bytes.
REASON_BYTES_MAX: Final = 1024

assert HEADER.size == HEADER_BYTES


class FrameKind(IntEnum):
    """What a body is. Numbers are never used for something else; 32 to 63 belong to clients."""

    HELLO = 1  #: who I am; the first frame of who connects
    HELLO_REPLY = 2  #: who I am; the first frame of who was connected to
    GOODBYE = 3  #: I close this connection, and why: UTF-8 text
    PEER = 16  #: a batch of messages between processes: mako.wire.peer
    DATA = 17  #: reserved for messages between partitions


class Frame(NamedTuple):
    """One frame. The body may be kept: nothing overwrites it."""

    kind: int
    flags: int
    body: memoryview


def frame_parts(kind: int, parts: Iterable[Buffer], flags: int = 0) -> list[Buffer]:
    """The frame whose body is all `parts`, as buffers to be sent in this order; none is copied."""
    body = list(parts)
    length = LENGTH_MIN + sum(map(len, body))
    return [HEADER.pack(length, kind, flags, 0), *body]


def goodbye_parts(reason: str) -> list[Buffer]:
    """The frame that closes a connection, with the reason in one line."""
    text = " ".join(reason.split()).encode()[:REASON_BYTES_MAX]
    return frame_parts(FrameKind.GOODBYE, [text])


#: How a reason ends that holds for now only: whoever is told so comes back.
LATER: Final = "try again later"


def goodbye_reason(body: Buffer) -> str:
    """The reason in a goodbye, as one printable line, whatever the other side wrote."""
    text = bytes(body[:REASON_BYTES_MAX]).decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text) or "no reason given"


class FrameReader:
    """Cuts a stream into frames. `limit` bounds a body in bytes and may be changed in between."""

    __slots__ = ("_error", "_have", "_offset", "_pieces", "_size", "_tail", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Bytes of the stream before the frame that is being read.
        self._offset = 0
        # The frame that is being read, as far as it is here: large pieces as they came, and
        # behind them small ones in one buffer, because each object has a price of its own.
        self._pieces: list[Buffer] = []
        self._tail = bytearray()
        self._have = 0
        # Bytes of the whole frame; 0 as long as its header is not here.
        self._size = 0
        self._error: WireError | None = None

    @property
    def partial_bytes(self) -> int:
        """Bytes of an unfinished frame. More than 0 for long: the other side is stuck."""
        return self._have

    def feed(self, data: Buffer) -> list[Frame]:
        """Add what was received, and return every frame that is now complete.

        `data` must not change afterwards. Raises WireError if the other side does not speak this
        protocol or announces more than the limit; then the stream is over. Frames that were
        complete before the fault are lost with it.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._feed(memoryview(data))
        except WireError as error:
            self._error = error
            self._clear()
            raise

    def _feed(self, view: memoryview) -> list[Frame]:
        frames: list[Frame] = []
        start, end = 0, len(view)
        if self._have:
            start = self._go_on(view, frames)
        while end - start >= HEADER_BYTES:
            size = self._size_of(view[start:])
            if end - start < size:
                self._size = size
                break
            frames.append(self._frame(view[start : start + size]))
            start += size
        if start < end:
            self._check_start(view[start:])
            self._keep(view[start:])
        return frames

    def _go_on(self, view: memoryview, frames: list[Frame]) -> int:
        """Go on with the unfinished frame; return how much of `view` it took."""
        start = 0
        if not self._size:
            start = min(HEADER_BYTES - self._have, len(view))
            self._keep(view[:start])
            self._check_start(self._tail)
            if self._have < HEADER_BYTES:
                return start
            self._size = self._size_of(self._tail)
        end = min(start + self._size - self._have, len(view))
        self._keep(view[start:end])
        if self._have == self._size:
            whole = b"".join([*self._pieces, self._tail])
            self._clear()
            frames.append(self._frame(memoryview(whole)))
        return end

    def _keep(self, piece: memoryview) -> None:
        self._have += len(piece)
        if len(piece) < PIECE_BYTES_MIN:
            self._tail += piece
            return
        if self._tail:
            self._pieces.append(self._tail)
            self._tail = bytearray()
        self._pieces.append(piece)

    def _clear(self) -> None:
        self._pieces = []
        self._tail = bytearray()
        self._have = self._size = 0

    def _check_start(self, start: Buffer) -> None:
        if len(start) >= LENGTH_BYTES:
            self._check_length(int.from_bytes(start[:LENGTH_BYTES], "little"))

    def _check_length(self, length: int) -> None:
        if not LENGTH_MIN <= length <= self.limit + LENGTH_MIN:
            raise WireError(
                f"a frame of {length} bytes at byte {self._offset}; {LENGTH_MIN} to"
                f" {self.limit + LENGTH_MIN} are allowed here, so this is no mako process or"
                " another version",
                self._offset,
            )

    def _size_of(self, header: Buffer) -> int:
        """Bytes of the frame with this header."""
        length, kind, _, reserved = HEADER.unpack_from(header)
        self._check_length(length)
        if reserved:
            raise WireError(
                f"reserved bytes of a frame of kind {kind} are {reserved:#06x}, not 0, at byte"
                f" {self._offset + 6}",
                self._offset + 6,
            )
        return LENGTH_BYTES + int(length)

    def _frame(self, view: memoryview) -> Frame:
        self._offset += len(view)
        return Frame(view[4], view[5], view[HEADER_BYTES:].toreadonly())
