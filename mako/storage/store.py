"""One interface for the stores of a process: the write-ahead log, and memory for benchmarks.

A turn of the driver, for all groups that have something to write:

    store.append(group, …)       in the loop: what is readable changes at once
    store.seal()                 in the loop: the turn is complete
    store.write()                in a thread if need be: one write
    store.sync()                 the same: one sync; everything sealed before is durable now

Between `seal` and the return of `write` the loop may read and append, but not seal again.
A store's `storage(group)` is what Raft reads (`LogStorage` of mako.raft).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mako.entry import Configuration, Entry, HardState, Index, SnapshotMeta, Term


class ReadLog(Protocol):
    """The read side, which equals the `LogStorage` of mako.raft."""

    def initial_state(self) -> tuple[HardState, Configuration]: ...

    def first_index(self) -> int: ...

    def last_index(self) -> int: ...

    def term(self, index: int) -> int: ...

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]: ...

    def snapshot_meta(self) -> SnapshotMeta: ...


@dataclass(frozen=True, slots=True)
class Cut:
    """What a cut did."""

    #: Segments that go as soon as the cut is durable.
    segments: tuple[int, ...] = ()
    bytes: int = 0
    #: Groups whose next snapshot would let more go: take one of each.
    blocked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """The torn tail that was cut off the last segment: nothing of it was ever acknowledged."""

    file: str
    offset: int
    #: Bytes cut off.
    bytes: int
    #: The file that has them now; "" if there was no room for it.
    kept: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` found."""

    groups: tuple[int, ...] = ()
    #: There was no log at all. A process that should have one must not vote: it was wiped.
    fresh: bool = True
    repair: Repair | None = None
    #: Bytes of the segments that were read.
    bytes: int = 0
    segments: tuple[int, ...] = field(default=())


class LogStore(Protocol):
    """What a driver needs of a store. Errors: DiskFull, DiskFailed, Damaged, WrongFiles."""

    def recover(self) -> Recovered:
        """Read everything. To be called once, before anything else."""
        ...

    def storage(self, group: int) -> ReadLog:
        """The log of a group that exists."""
        ...

    def groups(self) -> list[int]: ...

    def append(
        self,
        group: int,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: SnapshotMeta | None = None,
        *,
        essential: bool = False,
    ) -> None:
        """Add to the turn; entries replace what the group has from the first one's index on."""
        ...

    def before_write(self, call: Callable[[], None]) -> None:
        """Have `call` made before each write, the last one of `close` too, in the same thread: what
        marks are of must survive before they are written. If it fails, the store has failed."""
        ...

    def remove_group(self, group: int) -> None: ...

    def release(self, group: int, index: int) -> None:
        """Allow cuts to let go of the entries up to `index`, which a snapshot covers."""
        ...

    def surplus(self, group: int, limit: int) -> int:
        """Index of the last entry of a group that has to go for all logs together to have at most
        `limit` bytes: the oldest go first. Below its first one if none has to."""
        ...

    def cut(self, now_ms: int) -> Cut: ...

    def seal(self) -> bool:
        """End the turn. False if there is nothing in it."""
        ...

    def write(self, now_ms: int = 0) -> None: ...

    def sync(self) -> None: ...

    def clean(self) -> None:
        """Remove the files that durable cuts let go."""
        ...

    @property
    def total_bytes(self) -> int:
        """Bytes that the logs of all groups take up."""
        ...

    @property
    def full(self) -> bool:
        """Whether growth is to be refused. It clears itself."""
        ...

    def close(self) -> None: ...


def id_of(meta: SnapshotMeta) -> tuple[Term, Index]:
    return meta.term, meta.index
