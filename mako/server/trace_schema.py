"""What a process says at /trace and /trace/TXN, as values and as JSON.

    ProcessWaits ── PartitionWaits ─┬─ Mark          each watermark as it counts there
                                    ├─ Waiting       the oldest that wait
                                    ├─ Count         how many wait for whom
                                    └─ Recovered     what was taken back for which epoch
    ProcessTrace ── PartitionTrace ── Found ─┬─ Lag      each partition of the mask
                                             ├─ Through  how it depends on those it waits for
                                             └─ RowTrace what it wrote, and over which versions

Timestamps are those of `mako.ids`. A reader refuses what is missing or of another type and
ignores keys that it does not know. This module imports neither trio nor the engine.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

Shown = TypeVar("Shown", "ProcessWaits", "ProcessTrace")


class Asker(Struct, frozen=True, kw_only=True):
    """Who waits for a result: a connection of a client."""

    connection: int
    #: The number of the call on that connection; 0: it was done call by call, in a session.
    request: int
    #: A procedure, or what else was asked for; empty if that is not known any more.
    name: str
    #: The client has the result already, and waits to be told that it is durable.
    early: bool = False


class Lag(Struct, frozen=True, kw_only=True):
    """A partition of the mask of a transaction, as it counts where that was asked."""

    partition: int
    watermark: int
    passed: bool
    #: The transaction less the watermark, in ms; 0 if it has passed.
    behind_ms: float


class Waiting(Struct, frozen=True, kw_only=True):
    """A transaction that is not durable, or a result that was not told."""

    timestamp: int
    #: The present less its timestamp.
    age_ms: int
    #: waiting, or discarded: who waits for it was not told yet.
    state: str
    #: The partitions that it depends on; empty for a session that waits for all.
    mask: list[int]
    #: Those that have not passed it. If there are none: the clock has not, or its client is told
    #: after others.
    waits_for: list[Lag]
    #: Rows that it wrote here.
    writes: int
    asked_by: Asker | None


class Count(Struct, frozen=True, kw_only=True):
    """So many transactions wait for a partition."""

    partition: int
    transactions: int


class Mark(Struct, frozen=True, kw_only=True):
    """A watermark as it counts here, and the epoch it is of."""

    partition: int
    epoch: int
    watermark: int
    #: The present less the watermark.
    lag_ms: int


class Recovered(Struct, frozen=True, kw_only=True):
    """Versions that were taken back because a partition began an epoch."""

    partition: int
    epoch: int
    final: int
    versions: int


class PartitionWaits(Struct, frozen=True, kw_only=True):
    """A replica. If it does not lead, nothing waits here."""

    partition: int
    node: int
    role: str
    epoch: int
    stable: int
    watermarks: list[Mark]
    waiting: int
    waiting_for: list[Count]
    oldest: list[Waiting]
    #: Of those that wait: not in `oldest`.
    left_out: int
    #: Bytes of the log that were not looked at, so that more may wait than was counted.
    bytes_left_out: int
    recoveries: list[Recovered]


class ProcessWaits(Struct, frozen=True, kw_only=True):
    """The answer to /trace."""

    process: str
    cluster: str
    partitions: list[PartitionWaits]


class Before(Struct, frozen=True, kw_only=True):
    """A version that a transaction wrote over."""

    timestamp: int
    mask: list[int]
    #: Of the partitions that the transaction waits for, those that this version waits for, too.
    carries: list[int]
    #: Those of the mask that have made this version durable, perhaps after it was written over.
    passed: list[int]


class RowTrace(Struct, frozen=True, kw_only=True):
    """A row that the transaction wrote, and where its dependencies came from."""

    table: str
    key: str
    deleted: bool
    #: The version before it; None: there was none, or the chain was not read.
    before: Before | None
    #: The oldest version that carries on the same partitions without a gap, if it is another one.
    first: Before | None
    #: Versions from `before` to `first`, both included.
    versions: int
    #: Why the chain says nothing; empty if it does.
    note: str


class Through(Struct, frozen=True, kw_only=True):
    """How a transaction came to depend on a partition that it waits for.

    `here`: it is where this was asked. `overwrote`: through versions in `rows`. `perhaps`: the
    same, but they are durable there by now, and may have been when it wrote over them. `unseen`:
    not all rows that it wrote here could be looked at. `unrecorded`: not through a row here. Then
    it took part there, which that leader can tell if it wrote, or it read.
    """

    partition: int
    how: str


class Found(Struct, frozen=True, kw_only=True):
    """A transaction with that timestamp."""

    #: durable, waiting or discarded.
    state: str
    why: str
    age_ms: int
    mask: list[int]
    partitions: list[Lag]
    through: list[Through]
    writes: int
    rows: list[RowTrace]
    rows_left_out: int
    asked_by: Asker | None


class PartitionTrace(Struct, frozen=True, kw_only=True):
    """What the leader of a partition knows of a timestamp."""

    partition: int
    node: int
    epoch: int
    found: list[Found]
    #: If nothing was found. past: what ran is durable. before: it is older than this leader is.
    #: lost: nothing of it has survived here. none: it is not here. future: nothing has it yet.
    verdict: str
    why: str


class ProcessTrace(Struct, frozen=True, kw_only=True):
    """The answer to /trace/TXN: of the partitions that the process leads."""

    process: str
    cluster: str
    timestamp: int
    partitions: list[PartitionTrace]


def to_json(shown: Struct) -> dict[str, Any]:
    """Plain values, for `json.dumps`."""
    plain: dict[str, Any] = msgspec.to_builtins(shown)
    return plain


def of_json(kind: type[Shown], found: object) -> Shown:
    """What a server sent. ValueError: it is none."""
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
