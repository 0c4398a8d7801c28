"""A replica that is alone in its group, on the disk of an embedded database.

The folder has the format of a server's (mako.server.folder), and is recovered as one. Its owner is
no process of a cluster, and a number that it draws when it is made stands for the cluster: so the
files of two databases are not taken for one another's.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.entry import Configuration, GroupId, NodeId
from mako.errors import ConfigError
from mako.raft import LogLost, Settings
from mako.replication.contract import DriverSettings
from mako.replication.driver import Driver
from mako.server.folder import EMBEDDED, Folder, FolderState
from mako.server.plan import ENTRY_BYTES, RING_BYTES
from mako.server.recovering import Fenced, Recovery
from mako.storage.disk import Disk
from mako.storage.errors import Damaged, StorageError
from mako.storage.wal import Identity, Wal, WalSettings

if TYPE_CHECKING:
    from mako.replication.partition import Partition

GROUP: Final = GroupId(1)
NODE: Final = NodeId(1)
#: Ticks, and milliseconds: never. A lone voter has nobody to lose its lead to, however slow its
#: disk is, and nobody reads the timestamps that an idle server closes.
_NEVER: Final = 1 << 40
_REMEDY: Final = (
    "put a copy of the folder in its place, or move it away, and an empty database begins"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """Sizes of an embedded database."""

    memory_bytes: int = 1 << 30
    #: Transactions, snapshots and workers at a time.
    sessions: int = 24
    #: A snapshot is taken when the log has grown by so many bytes, and then the log is cut.
    snapshot_bytes: int = 256 << 20
    #: Of the log, which takes the room for one more ahead.
    segment_bytes: int = 16 << 20

    def wal(self) -> WalSettings:
        return WalSettings(
            segment_bytes=self.segment_bytes,
            keep_bytes=self.snapshot_bytes,
            keep_ms=_NEVER,
            entries_sealed=True,
        )

    def driver(self, cluster_id: int) -> DriverSettings:
        return DriverSettings(cluster_id=cluster_id, snapshot_bytes=self.snapshot_bytes)


class Alone(NamedTuple):
    """What was found on the disk, ready for turns. It leads after the first of them."""

    driver: Driver
    partition: Partition
    store: Wal


def begin_alone(
    disk: Disk,
    where: str,
    settings: EmbeddedSettings,
    now_ms: Callable[[], int],
    on_rest: Callable[[], None],
    made: ExitStack,
) -> Alone:
    """Recover the folder `where`, which is the root of `disk`, or make it.

    What has to be closed again goes into `made`. ConfigError: it is not ours, or damaged.
    """
    from mako.replication.partition import Partition
    from mako.replication.settings import PartitionSettings

    folder = Folder(disk, where, _REMEDY)
    state = _state(disk, folder, where)
    recovery = Recovery(disk, where, Identity(state.cluster_id, EMBEDDED), _REMEDY, _say_nothing)
    store = recovery.log(settings.wal(), formed=state.formed)
    made.callback(_close_log, store)
    driver = Driver(
        EMBEDDED,
        store,
        recovery.snapshots(store, frozenset()),
        settings.driver(state.cluster_id),
        process_of=lambda group, node: EMBEDDED,
    )
    made.callback(driver.close)
    sizes = PartitionSettings(
        memory_bytes=settings.memory_bytes,
        contexts=settings.sessions,
        ring_bytes=RING_BYTES,
        entry_bytes=ENTRY_BYTES,
        idle_ms=_NEVER,
    )
    partition = Partition(sizes, [], now_ms, on_rest=on_rest)
    made.callback(partition.close)
    _join(driver, partition, recovery)
    if not state.formed:
        state.nodes[str(GROUP)] = NODE
        state.formed = True
        folder.write(state)
    return Alone(driver, partition, store)


def _state(disk: Disk, folder: Folder, where: str) -> FolderState:
    """Whose folder it is: it was made for a database like this one, or it is new."""
    state = folder.load()
    if state is None:
        if disk.list("wal") or disk.list("snapshots"):
            raise Fenced(f"{where} has files of a database and no state.json; {_REMEDY}")
        # The log is made with this number, so it must last first.
        state = FolderState(int.from_bytes(os.urandom(8), "little") >> 1 or 1, EMBEDDED)
        folder.write(state)
    elif state.process != EMBEDDED:
        raise ConfigError(
            f"{where} belongs to process {state.process} of cluster {state.cluster_id}; start that"
            " with `mako server` and connect to it, or name another folder"
        )
    return state


def _join(driver: Driver, partition: Partition, recovery: Recovery) -> None:
    """Go on with the group, or begin it, and ask for the first and only election at once."""
    try:
        node = driver.add(
            GROUP,
            partition,
            Settings(election_ticks=_NEVER),
            node=NODE,
            first=Configuration(frozenset({NODE})),
            randrange=random.Random().randrange,
        )
    except (Damaged, LogLost) as error:
        raise recovery.fenced(error) from error
    node.campaign()
    driver.host.touch(GROUP)


def _say_nothing(event: str, **facts: object) -> None:
    """A library writes to no terminal."""


def _close_log(log: Wal) -> None:
    with suppress(StorageError):  # Whatever was acknowledged has been synced before.
        log.close()
