"""What a process finds on its disk as it starts: its log and its snapshots, or why not to go on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mako.errors import ConfigError
from mako.storage.disk import Disk
from mako.storage.errors import Damaged, WrongFiles
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.store import LogStore
from mako.storage.wal import Identity, Wal, WalSettings
from mako.storage.wal_format import segment_number

_LOG: Final = "wal"
#: Told of an event, as mako.server.events.EventLog is.
Tell = Callable[..., None]


class Fenced(ConfigError):
    """What is on this disk cannot be trusted; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Opens what is in a folder, which is `where`. Fenced says what is wrong, and the `remedy`."""

    disk: Disk
    where: str
    identity: Identity
    remedy: str
    tell: Tell

    def log(self, settings: WalSettings, *, formed: bool) -> Wal:
        """The log, read and repaired. Fenced if a folder that was `formed` has none any more."""
        # Looked for before a new one is begun, which the next start would find and believe.
        segments = [name for name in self.disk.list(_LOG) if segment_number(name) is not None]
        if formed and not segments:
            raise Fenced(f"the log of {self.where} is gone, and there was one; {self.remedy}")
        wal = Wal(self.disk, _LOG, self.identity, settings)
        try:
            found = wal.recover()
        except (Damaged, WrongFiles) as error:
            raise self.fenced(error) from error
        if found.repair is not None:
            self.tell(
                "repaired the torn end of the log",
                file=found.repair.file,
                bytes=found.repair.bytes,
                kept=found.repair.kept,
            )
        self.tell("recovered the log", groups=len(found.groups), bytes=found.bytes)
        return wal

    def snapshots(self, store: LogStore, planted: frozenset[str]) -> SnapshotStore:
        """The snapshots that the log in `store` knows."""
        snapshots = SnapshotStore(self.disk, "snapshots", self.identity.cluster_id, planted)
        try:
            snapshots.recover({g: store.storage(g).snapshot_meta() for g in store.groups()})
        except (Damaged, WrongFiles) as error:
            raise self.fenced(error) from error
        return snapshots

    def fenced(self, error: Exception) -> Fenced:
        """What to raise instead of an error of the disk, or of a log that has lost its end."""
        what = str(error)
        if isinstance(error, Damaged):
            # Its own advice is for replicas; here it is known what the folder is.
            what = f"{error.file} is damaged at byte {error.offset}: {error.reason}"
        return Fenced(f"{what}; {self.remedy}")
