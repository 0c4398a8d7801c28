"""Every exception a caller of mako may meet, and what to do about each.

    Error
    ├── SchemaError              a table, row, key or value does not fit its declaration: correct it
    ├── ConfigError              an option or setting is wrong; the message names it
    ├── Aborted                  nothing was installed; `reason` says why
    │   ├── Conflict             another transaction was faster: run it again (the only retryable)
    │   ├── NotFound             the key is not there: use `find`, or insert first
    │   ├── Exists               the key is there: use `put` or `write`
    │   ├── RolledBack           the transaction asked for it
    │   ├── ProcedureError       the procedure raised: correct the procedure or its arguments
    │   ├── TransactionTooLarge  split the transaction
    │   ├── ProcedureTimeout     the procedure did not end: bound its loops, or split it
    │   ├── TransactionTooOld    it stayed open for too long: read and write within seconds
    │   ├── OutOfMemory          delete rows, close snapshots, or open with more memory
    │   ├── LogFull              nobody takes the log: let its reader catch up
    │   ├── KeyTooLarge          shorten the key
    │   ├── ValueTooLarge        split the value
    │   ├── ReadOnly             snapshots only read: write in a transaction
    │   ├── Unavailable          a partition it depends on is stalled: try again later
    │   └── Elsewhere            a key belongs to another partition: run it where workers reach all
    ├── RemoteError              a server could not do it; `retryable` says if another try may help
    │   ├── NotLeader            no server was found to lead: try again once there is a leader
    │   ├── Busy                 the server has no room now: try again later, or send less at once
    │   ├── Discarded            it was committed, and a failover undid it: run it again
    │   ├── Unknown              it may have committed or not: look, or ask for it with once=True
    │   ├── ConnectionLost       nothing has committed, and no server can be reached: try again
    │   ├── TooStale             the replica is further behind than was asked for: ask the leader
    │   └── Rejected             the server refuses what was asked: correct it
    ├── FileError                a file cannot be used: name another one (an OSError, too)
    ├── LogCorrupt               the log is damaged: take it from another copy
    ├── DatabaseFailed           its disk failed under it: close it, check the disk, open it again
    └── Closed                   the database was closed: open it again

Every message is one line. `Aborted` is expected in normal operation, the others are not.

A broken invariant is an AssertionError, deliberately outside this tree: nothing catches it.
"""

from enum import StrEnum
from typing import ClassVar, Final

from mako.ids import Outcome


class AbortReason(StrEnum):
    """Why a transaction was aborted, in the words of reports and messages."""

    LOCK = "lock"
    CHANGED = "changed"
    PHANTOM = "phantom"
    NOT_FOUND = "not-found"
    EXISTS = "exists"
    ROLLED_BACK = "rolled-back"
    RAISED = "raised"
    OUT_OF_MEMORY = "out-of-memory"
    TOO_LARGE = "too-large"
    TIMEOUT = "timeout"
    LOG_FULL = "log-full"
    KEY_TOO_LARGE = "key-too-large"
    VALUE_TOO_LARGE = "value-too-large"
    READ_ONLY = "read-only"
    TOO_OLD = "too-old"
    UNAVAILABLE = "unavailable"
    ELSEWHERE = "elsewhere"
    REMOTE = "remote"

    @property
    def retryable(self) -> bool:
        """Whether the same transaction may well succeed when it is run again at once."""
        return self in (AbortReason.LOCK, AbortReason.CHANGED, AbortReason.PHANTOM)


class Error(Exception):
    """Base of all errors that mako raises on purpose. Try again where `retryable` is set."""

    @property
    def retryable(self) -> bool:
        """Whether the same thing may well succeed when it is done again: a Conflict at once, a
        RemoteError after a while."""
        return False


class SchemaError(Error):
    """A declaration is not valid, or a key or row does not fit it. Correct what it names."""


class ConfigError(Error):
    """An option or a setting has a value that cannot be used. The message names both."""


class Closed(Error):
    """The database, transaction or snapshot was used after its end. Open a new one."""


class FileError(Error, OSError):
    """A file that was named cannot be opened, read or written; `errno` and `filename` say more."""

    @classmethod
    def of(cls, what: str, error: OSError | ValueError) -> "FileError":
        """The error for `error`; `what` says what was tried with which file."""
        reason = getattr(error, "strerror", None) or str(error)
        made = cls(f"{what}: {reason}; name another file")
        made.errno = getattr(error, "errno", None)
        return made


class LogCorrupt(Error):
    """A log entry is damaged or unknown; nothing of it was applied.

    Take the log from another copy. `check` is the number of the check that failed, by
    docs/log-format.md (0: it does not fit the tables), `offset` the byte of the entry where.
    """

    def __init__(self, message: str, offset: int = 0, check: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
        self.check = check

    def __reduce__(self) -> tuple[type["LogCorrupt"], tuple[str, int, int]]:
        return type(self), (str(self), self.offset, self.check)


class DatabaseFailed(Error):
    """The disk failed under an embedded database, or something in mako did. It has ended.

    Close it, check the disk and open it again: whatever was acknowledged is there. What was
    waiting to be acknowledged when this was raised may be there or not, so look.
    """


class Aborted(Error):
    """The transaction had no effect. Run it again if `retryable`, else see the subclass."""

    default_reason: ClassVar[AbortReason]
    default_message: ClassVar[str]

    #: Where it was found out: bits of the partitions whose failover may undo what it saw; None:
    #: that is not known.
    depends_on: int | None = None

    def __init__(self, message: str = "", reason: AbortReason | None = None) -> None:
        self.reason: AbortReason = self.default_reason if reason is None else reason
        super().__init__(message or self.default_message)

    @property
    def retryable(self) -> bool:
        """Whether the same transaction may well succeed when it is run again at once."""
        return self.reason.retryable

    def __reduce__(self) -> tuple[type["Aborted"], tuple[str, AbortReason]]:
        # An exception pickles its `args` only, which would lose the reason.
        return type(self), (str(self), self.reason)


class Conflict(Aborted):
    """Another transaction changed or locked what this one used. Run it again.

    `@mako.transactional` and `db.run` do so by themselves.
    """

    default_reason = AbortReason.CHANGED
    default_message = "another transaction was faster; run this one again"


class NotFound(Aborted):
    """A key that must exist is absent. Use `find` where it may be, or insert it first."""

    default_reason = AbortReason.NOT_FOUND
    default_message = "no row has this key; use find() where it may be missing"


class Exists(Aborted):
    """A key that must be absent is there. Use `put` to replace it, or `write` to change it."""

    default_reason = AbortReason.EXISTS
    default_message = "a row has this key already; use put() to replace it"


class RolledBack(Aborted):
    """The transaction called `rollback()`. Nothing to do: it was meant."""

    default_reason = AbortReason.ROLLED_BACK
    default_message = "rolled back by the transaction itself"


class ProcedureError(Aborted):
    """The procedure raised an exception. Correct the procedure or the arguments it was given."""

    default_reason = AbortReason.RAISED
    default_message = "the procedure raised an exception; correct it or its arguments"


class TransactionTooLarge(Aborted):
    """The transaction reads, scans or writes more than one may. Split it into several."""

    default_reason = AbortReason.TOO_LARGE
    default_message = "too many reads, writes or scanned rows; split the transaction"


class ProcedureTimeout(Aborted):
    """The watchdog ended a procedure that ran for too long. Bound its loops, or split it."""

    default_reason = AbortReason.TIMEOUT
    default_message = "the procedure did not end in time; bound its loops or split it"


class TransactionTooOld(Aborted):
    """The transaction was open for too long and its reads were let go. Start it again, shorter."""

    default_reason = AbortReason.TOO_OLD
    default_message = "the transaction was open for too long; start it again and end it sooner"


class OutOfMemory(Aborted):
    """The memory given to the database is full; what is stored is unharmed.

    Delete rows, close old snapshots, or open the database with more memory.
    """

    default_reason = AbortReason.OUT_OF_MEMORY
    default_message = "memory is full; delete rows, close snapshots, or open with a larger memory="


class LogFull(Aborted):
    """The log has no room because nobody takes it. Let its reader catch up, then run again."""

    default_reason = AbortReason.LOG_FULL
    default_message = "the log has no room; let its reader catch up and run again"


class KeyTooLarge(Aborted):
    """The key is longer than 4096 bytes. Shorten it, or store a hash of it."""

    default_reason = AbortReason.KEY_TOO_LARGE
    default_message = "the key is longer than 4096 bytes; shorten it"


class ValueTooLarge(Aborted):
    """The value is longer than 4 MiB, or than a request to a server takes; or values that a server
    is to read at once are longer than that together. Split it over several keys, or read fewer."""

    default_reason = AbortReason.VALUE_TOO_LARGE
    default_message = "the value is longer than 4 MiB; split it over several keys"


class ReadOnly(Aborted):
    """A write was tried at a snapshot. Do it in `db.transaction()` or a procedure run by `db`."""

    default_reason = AbortReason.READ_ONLY
    default_message = "a snapshot cannot be written; use a transaction"


class Unavailable(Aborted):
    """A partition that the transaction depends on does not move. Try again later."""

    default_reason = AbortReason.UNAVAILABLE
    default_message = "a partition it depends on is stalled; try again later"


class Elsewhere(Aborted):
    """A key belongs to another partition, and there is no way to it from here."""

    default_reason = AbortReason.ELSEWHERE
    default_message = (
        "a key belongs to another partition, and this one has no way to it; run the transaction"
        " where workers serve all partitions"
    )


class RemoteError(Error):
    """A server could not do what was asked. Try again if `retryable`, else see the subclass."""

    #: Whether the same thing may well succeed later. What was asked has had no effect.
    retryable: ClassVar[bool] = False
    #: Whether it may have been done all the same.
    maybe_committed: ClassVar[bool] = False


class NotLeader(RemoteError):
    """No server that answered leads, and none said who does, until the time was over.

    Nothing was executed. Try again once the cluster has a leader (`mako status`).
    """

    retryable = True


class Busy(RemoteError):
    """The server had no room for it until the time was over. Try again later, or send less."""

    retryable = True


class Discarded(RemoteError):
    """It was committed but not durable yet, and a failover undid it. Run it again."""

    retryable = True


class Unknown(RemoteError):
    """The connection ended, or the time, before the answer came: it may have committed or not.

    Or its server was deposed and did not learn in time what the next leader has in its log.
    Read what it would have changed before running it again. What is `once=True` may simply be
    sent again, which the client does by itself as long as it has time.
    """

    maybe_committed = True


class ConnectionLost(RemoteError):
    """No server could be reached, or a transaction lost its server before its commit was sent.

    Nothing of it has committed. Try again; if it stays so, look whether the servers run. Or a
    drive has ended, with its connection or its leader: what its workers have committed stays.
    """

    retryable = True


class TooStale(RemoteError):
    """The snapshot would be older than `max_staleness`. Allow more, or ask the leader."""

    retryable = True


class Rejected(RemoteError):
    """The server refuses it: an unknown procedure, wrong arguments, a protocol that it does not
    speak. The message says what to correct."""


_ABORTED: Final[dict[Outcome, tuple[type[Aborted], AbortReason]]] = {
    Outcome.LOCKED: (Conflict, AbortReason.LOCK),
    Outcome.CHANGED: (Conflict, AbortReason.CHANGED),
    Outcome.PHANTOM: (Conflict, AbortReason.PHANTOM),
    Outcome.NOT_FOUND: (NotFound, AbortReason.NOT_FOUND),
    Outcome.EXISTS: (Exists, AbortReason.EXISTS),
    Outcome.ROLLED_BACK: (RolledBack, AbortReason.ROLLED_BACK),
    Outcome.RAISED: (ProcedureError, AbortReason.RAISED),
    Outcome.OUT_OF_MEMORY: (OutOfMemory, AbortReason.OUT_OF_MEMORY),
    Outcome.TOO_LARGE: (TransactionTooLarge, AbortReason.TOO_LARGE),
    Outcome.TIMED_OUT: (ProcedureTimeout, AbortReason.TIMEOUT),
    Outcome.LOG_FULL: (LogFull, AbortReason.LOG_FULL),
    Outcome.KEY_TOO_LARGE: (KeyTooLarge, AbortReason.KEY_TOO_LARGE),
    Outcome.VALUE_TOO_LARGE: (ValueTooLarge, AbortReason.VALUE_TOO_LARGE),
    Outcome.READ_ONLY: (ReadOnly, AbortReason.READ_ONLY),
    Outcome.TOO_OLD: (TransactionTooOld, AbortReason.TOO_OLD),
    Outcome.UNAVAILABLE: (Unavailable, AbortReason.UNAVAILABLE),
    Outcome.ELSEWHERE: (Elsewhere, AbortReason.ELSEWHERE),
    # Never seen outside: the run is ended, and begun again when the rows have come.
    Outcome.REMOTE: (Elsewhere, AbortReason.REMOTE),
}
# Compiled code may report any of them; none may be without an exception.
assert set(_ABORTED) == set(Outcome) - {Outcome.COMMITTED}


_OUTCOMES: Final = {reason: outcome for outcome, (_, reason) in _ABORTED.items()}


def outcome_of(error: Aborted) -> Outcome:
    """The outcome that `error` stands for."""
    return _OUTCOMES[error.reason]


def reason_of(outcome: int) -> AbortReason:
    """The word for `outcome`, which must not be COMMITTED."""
    return _ABORTED[Outcome(outcome)][1]


def error_of(outcome: int, detail: str = "") -> Aborted:
    """The exception for `outcome`, to be raised by the caller.

    `detail` says what it was about ("table orders, key (1, 2)") and comes first in the message;
    what to do follows it. `outcome` must not be COMMITTED.
    """
    kind, reason = _ABORTED[Outcome(outcome)]
    message = f"{_one_line(detail)}: {kind.default_message}" if detail else kind.default_message
    if kind is Conflict:
        message += f" ({reason})"
    return kind(message, reason)


def _one_line(text: str) -> str:
    """`text` with every run of white space, line ends included, as one space."""
    return " ".join(text.split())
