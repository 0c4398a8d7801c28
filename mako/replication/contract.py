"""What a driver is told, what it tells those who look on, and how it ends."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol

from mako.entry import Entry, SnapshotMeta
from mako.errors import Error
from mako.raft import RaftNode, Ready
from mako.replication.replica import Machine
from mako.storage.errors import Damaged, DiskFailed
from mako.storage.snapshot_stream import StreamSettings

#: Contexts that a replica needs for itself: replayer, pin, executing, two snapshots.
REPLICA_CONTEXTS: Final = 5


class ProcessMustEnd(Error):
    """The disk failed, or what it holds is damaged. End the process; recovery decides the rest."""


class Watch(Protocol):
    """Looks on. The simulator's checks are one; a server has none."""

    def on_ready(self, node: RaftNode, ready: Ready) -> None: ...

    def on_durable(self, node: RaftNode, ready: Ready) -> None: ...

    def on_applied(self, node: RaftNode, machine: Machine, entries: Iterable[Entry]) -> None: ...

    def on_restored(self, node: RaftNode, machine: Machine, meta: SnapshotMeta) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """How a process runs its replicas."""

    cluster_id: int
    #: A snapshot is taken when so many entries, or bytes of them, were applied since the last.
    snapshot_entries: int = 1_000_000
    snapshot_bytes: int = 128 << 20
    #: Blocks of a snapshot that are written per tick.
    snapshot_blocks_per_tick: int = 4
    #: Bytes of a snapshot, made or received, that are written before they are synced.
    snapshot_sync_bytes: int = 8 << 20
    #: Ticks for which the disk is full before the process hands over what it leads: others may have
    #: room. Doubled each time it is full still, so that a cluster without any room comes to rest.
    full_ticks: int = 100
    #: Ticks between looks at what the log can let go.
    cut_ticks: int = 100
    #: Bytes to which the log may grow so that members which trail are brought up to date from it.
    #: Beyond it, or on a full disk, they are left behind and need a snapshot. It should hold what
    #: is written while a snapshot is sent, or a member is left behind again each time.
    catch_up_bytes: int = 4 << 30
    stream: StreamSettings = field(default_factory=StreamSettings)
    #: Bytes per second of all snapshots that are sent, together.
    stream_rate: int = 64 << 20
    #: See mako.replication.planted.
    planted: frozenset[str] = frozenset()


#: D8: the errors after which nothing can go on here.
ENDS: Final = (DiskFailed, Damaged)


def must_end(error: Exception) -> ProcessMustEnd:
    """What to raise instead of one of ENDS."""
    return ProcessMustEnd(f"the process ends: {error}")


class _Ending:
    """The same for a block. Where it would be entered for every message, `try` costs less."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, ENDS):
            raise must_end(error) from error


ENDING: Final = _Ending()
