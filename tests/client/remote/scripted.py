"""A core under virtual time, and the server that the test plays."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mako.call_format import BATCH_BYTES, CALL_BYTES, PROCEDURE, RESULT_BYTES
from mako.client.remote.asking import Asking, Known
from mako.client.remote.core import Core
from mako.wire.frame import FrameKind, FrameReader, goodbye_parts
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    CLIENT_BODY_MAX,
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_replies,
    unpack_requests,
)

KV = Known([1000, 3, 0, "kv"])
SERVER = Hello(7, Role.PEER, 1, "p1", 99, "test")


def result(
    number: int,
    status: int = 0,
    *,
    flags: int = 0,
    timestamp: int = 5,
    value: int = 0,
    detail: int = 0,
    data: bytes = b"",
) -> bytes:
    """A RESULT frame with one result."""
    size = RESULT_BYTES + (len(data) + 7) // 8 * 8
    head = struct.pack("<IHHQqQqq", size, status, flags, number, timestamp, 1, value, detail)
    return frame(ClientKind.RESULT, head + data.ljust(size - RESULT_BYTES, b"\0"))


def reply(
    number: int, status: int = 0, timestamp: int = 0, value: Any = None, text: str = ""
) -> bytes:
    return frame(ClientKind.REPLY, pack_replies([Reply(number, status, timestamp, value, text)]))


def redirect(leader: str) -> bytes:
    return frame(ClientKind.REDIRECT, leader.encode())


def goodbye(reason: str) -> bytes:
    return b"".join(goodbye_parts(reason))


def about(*, leads: bool, leader: str = "") -> bytes:
    """What a server says of itself."""
    procedures = (("add", 3, ["a", "b"]),)
    value = {"procedures": procedures, "tables": [], "leads": leads, "leader": leader}
    return reply(0, value=value)


class Played:
    """The core, its clock, and the other end of its connection."""

    def __init__(
        self,
        *addresses: str,
        seed: int = 1,
        once: bool = False,
        stay: bool = False,
        **options: Any,
    ) -> None:
        self.core = Core(
            addresses or ("a:1", "b:2", "c:3"), chance=random.Random(seed), stay=stay, **options
        )
        self.asking = Asking(self.core, once=once)
        self.now = 100.0
        self._reader = FrameReader(CLIENT_BODY_MAX)
        #: Addresses that were dialled.
        self.dialled: list[str] = []
        self.hellos = 0

    def dial(self) -> str:
        """Let the core connect, as soon as it wants to."""
        address = self.core.dial(self.now)
        while address is None:
            when = self.core.next_time()
            assert when is not None, "the core wants to connect some time"
            self.wait(max(when - self.now, 1e-6))
            address = self.core.dial(self.now)
        self.dialled.append(address)
        self.core.connected(self.now)
        self._reader = FrameReader(CLIENT_BODY_MAX)
        return address

    def sent(self) -> list[tuple[int, bytes]]:
        """The frames that the core sends now."""
        return [
            (kind, bytes(body)) for kind, _, body in self._reader.feed(self.core.take(self.now))
        ]

    def calls(self) -> list[int]:
        """The ids of the calls and requests that the core sends now."""
        ids = []
        for kind, body in self.sent():
            if kind == ClientKind.CALL:
                at = BATCH_BYTES
                while at < len(body):
                    size, _, _, _, number = struct.unpack_from("<IBBHQ", body, at)
                    ids.append(number)
                    at += size
            elif kind == ClientKind.REQUEST:
                ids += [request[0] for request in unpack_requests(body)]
        return ids

    def feed(self, *data: bytes) -> None:
        self.core.feed(b"".join(data), self.now)
        self._leave_if_told()

    def serve(
        self,
        *,
        leads: bool = True,
        leader: str = "",
        procedures: Sequence[Any] = (("add", 3, ["a", "b"]),),
        **more: Any,
    ) -> str:
        """Connect, say hello and describe the server; `more` is what it says besides."""
        address = self.dial()
        ((kind, _),) = self.sent()
        assert kind == FrameKind.HELLO
        hello = replace(SERVER, partition=self.core.partition)
        self.feed(b"".join(hello_parts(hello, reply=True)))
        ((kind, body),) = self.sent()
        assert unpack_requests(body) == [[0, Operation.DESCRIBE]]
        about = {"procedures": procedures, "tables": [], "leads": leads, "leader": leader}
        self.feed(reply(0, value=about | more))
        return address

    def lose(self) -> None:
        self.core.lost(self.now, "cut")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.expire(self.now)
        self._leave_if_told()

    def listen(self, seconds: float) -> None:
        """Listen for so long, in vain: a second at a time, as links do."""
        end = self.now + seconds
        while self.now < end:
            step = min(1.0, end - self.now)
            self.core.quiet(step)
            self.wait(step)

    def _leave_if_told(self) -> None:
        if self.core.leaves(self.now):
            self.core.left(self.now)

    def run(
        self, *arguments: int, early: bool = False, once: bool | None = None, limit: float = 10
    ) -> Any:
        return self.asking.procedure(
            "add", arguments or (1, 2), self.now + limit, early=early, once=once
        )


__all__ = [
    "CALL_BYTES",
    "KV",
    "PROCEDURE",
    "PROCESS_NONE",
    "Played",
    "goodbye",
    "redirect",
    "reply",
    "result",
]
