"""All connections of clients to one replica, without I/O.

    hand_out   results that have passed the gate, answers that waited, room for who was blocked
    deposed    the workers stop, and whoever waits is told
    drop_all   the engine goes: every connection ends

Whoever owns the streams (`mako.server.hub`) adds what it serves, and calls.
"""

from __future__ import annotations

from typing import Protocol

from mako.ids import Status
from mako.server.backend import Backend
from mako.server.clients import ClientConnection
from mako.wire.errors import WireError


class Served(Protocol):
    """A connection and its stream."""

    @property
    def connection(self) -> ClientConnection: ...

    def finish(self, reason: str) -> None:
        """End it: at once, or, if there is a reason to give, when that has been sent."""
        ...

    def unblocked(self) -> None:
        """The connection takes bytes again."""
        ...


class Connections:
    """See the module. They are told in the order in which they came."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._served: dict[Served, None] = {}

    def __len__(self) -> int:
        return len(self._served)

    def add(self, served: Served) -> None:
        self._served[served] = None

    def remove(self, served: Served) -> None:
        """Its stream has ended. Twice is harmless."""
        self._served.pop(served, None)
        served.connection.close()

    def hand_out(self, now: float) -> bool:
        """Hand out what has passed the gate; whether something waits for it. `now` is monotonic,
        in seconds."""
        waits = self._backend.serving.collect()
        for served in list(self._served):
            self._go_on(served, now)
            waits = waits or served.connection.waiting
        if waits:
            self._backend.on_waiting()
        return waits

    def _go_on(self, served: Served, now: float) -> None:
        """Results have been handed out: there may be room, and answers may be ready."""
        connection = served.connection
        connection.settle()
        if connection.blocked:
            try:
                connection.resume(now)
            except WireError as error:
                served.finish(str(error))
            if not connection.blocked:
                served.unblocked()

    def tick(self, now: float) -> None:
        """Some time has passed: who left something open is cut off."""
        for served in list(self._served):
            try:
                served.connection.tick(now)
            except WireError as error:
                served.finish(str(error))

    def drop_all(self, reason: str) -> None:
        """End every connection: the engine that it looks at goes."""
        for served in list(self._served):
            # Who has not been greeted would take the reason for one that lasts.
            served.finish(reason if served.connection.greeted else "")
            served.connection.close()  # Now, while what it has to give back is there.

    def deposed(self, final: int | None = None) -> None:
        """This process does not lead any more: its workers stop, and whoever waits is told.

        `final` is the final watermark of its epoch, if it is known: then nothing is unknown.
        """
        self._backend.serving.stop(Status.NOT_LEADER, final=final)
        for served in list(self._served):
            served.connection.redirect()
            served.connection.give_up(final)
