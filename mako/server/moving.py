"""Snapshots of one connection that are to be moved on to a later timestamp.

    MOVE_SNAPSHOT ──add──▶ waits ──due: what snapshots read has reached it──▶ moved, and answered

A client that reads several partitions at one timestamp opens a snapshot at each and moves those
that are behind to the timestamp of the furthest (`mako.client.remote.moments`). Until it is moved a
snapshot stays where it is, and so keeps what lies behind it from being reclaimed. Who leads makes
no difference: whatever is stable at one replica is stable at all, only later.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mako.ids import Status
from mako.server.backend import Backend
from mako.server.sessions import SESSIONS_MAX, Refused, ServedSnapshot, Sessions, age_ms
from mako.wire.requests import Reply

#: Moves of a connection that wait. Each is looked at whenever somebody looks for results.
MOVES_MAX: Final = 4 * SESSIONS_MAX


class Move(NamedTuple):
    """A snapshot that is to be moved: its number, and where to. `asked` is monotonic, in
    seconds; `over` are the partitions that it is of."""

    session: int
    timestamp: int
    asked: float
    over: int


class Moves:
    """See the module."""

    def __init__(self, backend: Backend, sessions: Sessions) -> None:
        self._backend = backend
        self._sessions = sessions
        self._waiting: list[tuple[int, int, Move]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, number: int, move: Move) -> Reply | None:
        """A client has asked for it, with the request `number`. `due` has the answer, unless so
        many wait that it is refused; they do though their snapshots are closed."""
        if len(self._waiting) >= MOVES_MAX:
            text = f"{MOVES_MAX} snapshots of this connection wait to be moved; cancel some first"
            return Reply(number, Status.LIMIT, text=text)
        self._waiting.append((move.timestamp, number, move))
        self._backend.on_waiting(move.timestamp)
        return None

    def due(self) -> list[Reply]:
        """Move those whose time has come; the answers."""
        if not self._waiting:
            return []
        engine = self._backend.engine
        if self._backend.leads:
            engine.tick()  # An idle leader's clock stands still.
        engine.settle()
        # By the partitions that a snapshot is of: what it may read at now.
        readable = {
            over: self._backend.readable(over) for over in {m.over for *_, m in self._waiting}
        }
        due = sorted(each for each in self._waiting if each[0] <= readable[each[2].over])
        if due:
            self._waiting = [each for each in self._waiting if each not in due]
        return [self._moved(number, move) for _, number, move in due]

    def _moved(self, number: int, move: Move) -> Reply:
        engine, timestamp = self._backend.engine, move.timestamp
        try:
            found = self._sessions.find(move.session, move.asked)
            assert isinstance(found, ServedSnapshot), "whoever asked has looked"
            found.move_to(timestamp)
            return Reply(number, 0, timestamp, age_ms(engine, timestamp))
        except Refused as error:
            return Reply(number, error.status, text=str(error))

    def cancel(self, number: int) -> bool:
        """Whether the request with this number waited; it does no longer."""
        left = [each for each in self._waiting if each[1] != number]
        found = len(left) < len(self._waiting)
        self._waiting = left
        return found

    def clear(self) -> None:
        """Nobody is answered any more."""
        self._waiting.clear()


def check_move(found: object, session: int, timestamp: object, now: float) -> Move:
    """The move of a session, if it can be. Refused otherwise."""
    if not isinstance(found, ServedSnapshot):
        raise Refused(Status.REFUSED, "only a snapshot is moved")
    if type(timestamp) is not int or not 0 <= timestamp < 1 << 63:
        raise Refused(Status.REFUSED, "that is no timestamp")
    if timestamp < found.timestamp:
        raise Refused(
            Status.REFUSED, "a snapshot is moved on, not back: what lies there may be gone"
        )
    return Move(session, timestamp, now, found.over)
