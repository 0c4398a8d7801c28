"""One thing asked of a server, from being asked to its last answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final

from mako.call_format import CALL_EARLY, CALL_FLAGS
from mako.errors import (
    Busy,
    Conflict,
    ConnectionLost,
    Discarded,
    Error,
    LogFull,
    NotLeader,
    Rejected,
    SchemaError,
    TooStale,
    TransactionTooOld,
    Unavailable,
    Unknown,
    ValueTooLarge,
    error_of,
)
from mako.ids import (
    REFUSED_CHANGED,
    REFUSED_NO_COUNTER,
    REFUSED_OVERFLOW,
    REFUSED_PLACE,
    Outcome,
    Status,
)
from mako.wire.requests import REQUEST_BYTES_MAX, Operation, pack_request


class State(IntEnum):
    """How far a call is."""

    QUEUED = 0  #: it waits to be sent, or to be sent again
    SENT = 1
    EARLY = 2  #: committed, not durable
    ENDED = 3


class Call:
    """A call, and what has become of it. The core changes it, drivers wait for it."""

    __slots__ = (
        "bound",
        "connection",
        "data",
        "deadline",
        "detail",
        "due",
        "early",
        "error",
        "id",
        "lost",
        "name",
        "on_change",
        "once",
        "packed",
        "pause",
        "request",
        "safe",
        "said",
        "size",
        "source",
        "state",
        "timestamp",
        "tries",
        "value",
        "why",
    )

    def __init__(
        self,
        name: str,
        *,
        deadline: float,
        packed: bytes = b"",
        request: Sequence[Any] = (),
        source: tuple[str, tuple[int, ...]] | None = None,
        early: bool = False,
        once: bool = False,
        safe: bool = False,
        bound: int = 0,
    ) -> None:
        self.name: Final = name
        self.id = 0
        #: Monotonic seconds after which it fails.
        self.deadline: Final = deadline
        #: The packed call, or the request without its id.
        self.packed = packed
        self.request: Final = request
        #: Bytes of either, once it was sent.
        self.size = 0
        #: Name and arguments of a procedure, for a server that numbers it otherwise.
        self.source: Final = source
        #: Whether the server is to answer before it is durable, too; see `ask_again`.
        self.early = early
        self.once: Final = once
        #: Whether it may be sent again after it was sent and not answered.
        self.safe: Final = safe or once
        #: The connection that it belongs to; 0: any.
        self.bound: Final = bound
        #: The connection that answered it; 0: none yet.
        self.connection = 0
        self.state = State.QUEUED
        self.timestamp = 0
        self.value: Any = 0
        self.detail = 0
        self.data: bytes | None = None
        self.error: Exception | None = None
        #: Called, with nothing, whenever something has become of it.
        self.on_change: Callable[[], None] | None = None
        #: It was sent, and how that ended is not known: it is asked again.
        self.lost = False
        #: How often it was queued again.
        self.tries = 0
        self.pause = 0.0
        self.due = 0.0
        #: Why it is not done yet, as the error that says so at the deadline.
        self.why: type[Error] | None = None
        #: What a server that was busy has said of that; empty: nothing.
        self.said = ""

    def ask_again(self) -> None:
        """It was sent, and no answer tells how that ended. From now on only what is durable counts:
        whoever finds the row of the first run may be discarded, and the first run last."""
        self.lost = True
        if self.early:
            self.early = False
            flags = self.packed[CALL_FLAGS] & ~CALL_EARLY
            self.packed = self.packed[:CALL_FLAGS] + bytes([flags]) + self.packed[CALL_FLAGS + 1 :]

    @property
    def committed(self) -> bool:
        """Whether there is an answer, early or not."""
        return self.state >= State.EARLY

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED

    @property
    def may_have_committed(self) -> bool:
        """Whether it may have had an effect, as far as nobody has said that it had none."""
        if self.safe and not self.once:
            return False
        return self.lost or self.state in (State.SENT, State.EARLY)

    def changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def end(self, error: Exception | None = None) -> None:
        self.state = State.ENDED
        self.error = error
        self.changed()


_LATE: Final[dict[type[Error], str]] = {
    NotLeader: "no server leads, or none says who does; look with `mako status` and try again",
    Busy: "the server had no room in time; try again later, or send less at once",
    ConnectionLost: "no server could be reached in time; look whether they run, and try again",
    Unavailable: (
        "a partition that it needs, or on which depends what it reads or writes, does not answer or"
        " makes nothing durable; look with `mako status`"
    ),
    Conflict: "other transactions were faster every time; run it again, or wait longer",
    LogFull: "the log of the partition has no room; try again later",
    Discarded: "a failover undid it, and it could not be run again in time; run it again",
}


#: How a packed call ends whose worker was stopped between two tries; else the worker tries again.
STOPPED: Final[dict[int, type[Error]]] = {
    Outcome.LOCKED: Conflict,
    Outcome.CHANGED: Conflict,
    Outcome.PHANTOM: Conflict,
    Outcome.LOG_FULL: LogFull,
}


def late(call: Call) -> Exception:
    """The error of a call at its deadline."""
    if may_last(call):
        return Unknown(
            f"{call.name}: no answer came in time; it may have committed or not, so look before"
            " running it again"
        )
    if call.why is Busy and call.said:
        return Busy(f"{call.name}: {call.said}")
    if call.why is not None:
        return call.why(f"{call.name}: {_LATE[call.why]}")
    return TimeoutError(f"{call.name} has not ended in time; wait longer")


_MESSAGES: Final[dict[int, tuple[type[Error], str]]] = {
    Status.NO_PROCEDURE: (
        Rejected,
        "the server has no such procedure; deploy its module in the server's configuration",
    ),
    Status.WRONG_ARGUMENTS: (Rejected, "the procedure takes another number of arguments"),
    Status.NO_TABLE: (SchemaError, "the server has no such table; create it first"),
    Status.BAD_KEY: (SchemaError, "the key does not fit the table of the server"),
    Status.BAD_ROW: (SchemaError, "the value does not fit the table of the server"),
    Status.DISCARDED: (Discarded, "it was committed, and a failover undid it; run it again"),
    Status.UNKNOWN: (
        Unknown,
        "the server lost its lead before it was durable; it may last or not, so look",
    ),
    Status.TOO_LONG: (ValueTooLarge, "it is too long for this message"),
    Status.NO_SESSION: (
        TransactionTooOld,
        "the transaction or snapshot has ended at the server; start it again",
    ),
    Status.STALE: (TooStale, "the replica is further behind than allowed"),
    Status.LIMIT: (Busy, "the connection has too much open"),
    Status.REFUSED: (Rejected, "the server refuses it"),
    Status.TIMED_OUT: (Busy, "it was cancelled"),
    Status.BUSY: (Busy, "the server has no room now; try again later"),
    Status.NOT_LEADER: (NotLeader, "the server does not lead"),
}


_ABOUT_TABLES: Final = (Operation.OPEN_TABLE, Operation.CREATE_TABLE)
_OF_DRIVES: Final = (Operation.DRIVE_SAMPLE, Operation.DRIVE_RESET, Operation.DRIVE_STOP)


def failure(call: Call, status: int, detail: int, text: str = "") -> Exception:
    """The exception for an answer whose status is not 0."""
    if status == Outcome.ROLLED_BACK and call.source is None:
        if detail == REFUSED_NO_COUNTER:
            return SchemaError(
                f"{call.name}: the value has not the 8 bytes of a counter; read it with get()"
            )
        if detail == REFUSED_OVERFLOW:
            return SchemaError(f"{call.name}: adding to the counter would leave its 64 bits")
        if detail == REFUSED_CHANGED:
            return error_of(Outcome.CHANGED, call.name)
        if detail == REFUSED_PLACE:
            return Rejected(
                f"{call.name}: the server does not run transactions over these partitions; keep"
                " together what changes together (docs/sharding.md)"
            )
    if status == Status.REFUSED and call.request and call.request[0] in _ABOUT_TABLES:
        return SchemaError(f"{call.name}: {text}")
    if status == Status.NO_SESSION and is_of_drive(call):
        return ConnectionLost(f"{call.name}: {text}; what it has committed stays, start it again")
    if status in _MESSAGES:
        kind, message = _MESSAGES[status]
        return kind(f"{call.name}: {text or message}")
    try:
        outcome = Outcome(status)
    except ValueError:
        return Rejected(
            f"{call.name}: the server answers {status}, which this client is too old for"
        )
    made = error_of(outcome, call.name)
    return type(made)(text, made.reason) if text else made


def nobody_knows(call: Call) -> Exception:
    """It was sent, and no answer comes any more."""
    if call.state is State.EARLY:
        return Unknown(
            f"{call.name}: the connection was lost before it was durable; it may last or not, so"
            " look before running it again"
        )
    return Unknown(
        f"{call.name}: the connection was lost before the answer came; it may have committed or"
        " not, so look before running it again"
    )


def may_last(call: Call) -> bool:
    """Whether it may have had an effect, if no answer comes any more."""
    if call.bound:
        return is_commit(call) and call.state is State.SENT
    return call.may_have_committed


def refused(call: Call, error: Exception) -> Exception:
    """It had no effect this time, which says nothing about a time before (C4)."""
    if not (call.once and call.lost):
        return error
    return Unknown(
        f"{call.name}: the connection was lost before the answer came, and now it fails"
        f" ({str(error).removeprefix(f'{call.name}: ')}); it may have committed or not, so look"
    )


def is_commit(call: Call) -> bool:
    """Whether it is the end of a transaction."""
    return bool(call.request) and call.request[0] == Operation.COMMIT


def is_wait(call: Call) -> bool:
    """Whether it only waits for the watermark."""
    return bool(call.request) and call.request[0] == Operation.WAIT_WATERMARK


def request_of(call: Call) -> bytes | Exception:
    """The bytes of a call that is not packed, or why it cannot be sent."""
    try:
        request = pack_request([call.id, *call.request])
    except (TypeError, ValueError, OverflowError) as error:
        return SchemaError(f"{call.name}: an argument cannot be sent ({error}); correct it")
    if len(request) <= REQUEST_BYTES_MAX:
        return request
    return ValueTooLarge(
        f"{call.name}: {len(request)} bytes, and a request to a server takes {REQUEST_BYTES_MAX};"
        " split the value or the batch"
    )


def is_of_drive(call: Call) -> bool:
    """Whether it is about a drive that has been started."""
    return bool(call.request) and call.request[0] in _OF_DRIVES


def ended_with_its_connection(call: Call) -> Exception:
    """It was bound to a connection that is lost."""
    if is_commit(call) and call.state is State.SENT:
        return nobody_knows(call)
    return lost_with_its_connection(call)


def lost_with_its_connection(call: Call) -> Exception:
    """It was not executed."""
    if is_of_drive(call):
        return ConnectionLost(
            f"{call.name}: the connection or the leader was lost, and the drive has ended with it;"
            " what it has committed stays, start it again"
        )
    return ConnectionLost(
        f"{call.name}: the connection was lost, and the transaction or snapshot with it; start it"
        " again"
    )
