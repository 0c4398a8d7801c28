"""The folders of processes, made from a backup: all of them, or none counts.

    lock and mark all ─▶ fill one after the other ─▶ take the marks away

A marked folder is no process's: none starts on it (Folder.load), and the next restore empties it
and begins anew. The mark survives a power cut before anything else is written, and is taken away
once everything else does. So one that was killed leaves nothing that looks whole and is not.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from mako.config import ClusterConfig
from mako.entry import Configuration, NodeId
from mako.errors import ConfigError
from mako.server.folder import RESTORING, Folder, FolderState
from mako.server.placed import check_placed
from mako.server.plan import ServerPlan
from mako.storage.backup import Backup
from mako.storage.disk import Disk, joined
from mako.storage.errors import StorageError
from mako.storage.os_disk import OsDisk, make_root
from mako.storage.wal import Identity

#: What the folder of a process consists of; the root is the last.
_FOLDERS: Final = "wal", "snapshots", ""


def check_partitions(backup: Backup, config: ClusterConfig) -> None:
    """ConfigError if the configuration has fewer partitions than the backup, or more.

    Each process looks for its own partitions only: one that nobody has would be left out.
    """
    there, here = len(backup.manifest.parts), len(config.partitions)
    if there != here:
        raise ConfigError(
            f"the number of partitions is {there} in the backup and {here} in the configuration;"
            " restore with a configuration that has those of the backup"
        )


def check_tables(backup: Backup, config: ClusterConfig) -> None:
    """ConfigError if the configuration looks for rows of the backup where they are not."""
    remedy = "restore with the rules of the backup, and keep them"
    check_placed(backup.manifest.placed, config.shards, "the backup", remedy)


def restore_processes(
    backup: Backup, config: ClusterConfig, plans: Sequence[ServerPlan]
) -> list[Path]:
    """Make the folders of the plans, and return them. WrongFiles, Damaged, DiskFull, DiskBusy.

    ConfigError if one of them has something in it that no restore has left. After an error there
    is nothing in any of them; where that cannot be done, the mark stays.
    """
    folders = [_folder_of(plan) for plan in plans]
    for folder in folders:
        _need_ours(folder)
    with ExitStack() as opened:
        disks = []
        for folder in folders:
            make_root(folder)
            disk = OsDisk(folder, lock=True)
            opened.callback(disk.close)
            _need_ours(folder)  # Before the lock was ours, another restore may have ended.
            disks.append(disk)
        try:
            for disk in disks:
                mark(disk)
            for disk, plan in zip(disks, plans, strict=True):
                fill(disk, backup, config, plan)
        except BaseException:
            for disk, folder in zip(disks, folders, strict=True):
                with suppress(StorageError):
                    undo(disk)
                    _remove(folder)
            raise
        for disk in disks:
            unmark(disk)
    return folders


def _folder_of(plan: ServerPlan) -> Path:
    if plan.folder is None:
        raise ConfigError("log: memory: nothing can be restored to it; use log: disk")
    return plan.folder


def _need_ours(folder: Path) -> None:
    if not folder.exists() or (folder / RESTORING).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty; move it away, or name the other processes with --process"
        )


def mark(disk: Disk) -> None:
    """From now on it is being restored, and has nothing of an earlier restore."""
    disk.open(RESTORING, create=True).close()
    disk.sync_folder("")
    _empty(disk)


def _empty(disk: Disk) -> None:
    """Remove everything but the mark."""
    for folder in _FOLDERS:
        if folder and not disk.exists(folder):
            continue
        for name in disk.list(folder):
            if name != RESTORING:
                disk.remove(joined(folder, name))
        disk.sync_folder(folder)


def unmark(disk: Disk) -> None:
    """What is there is whole, or nothing is there."""
    disk.remove(RESTORING)
    disk.sync_folder("")


def undo(disk: Disk) -> None:
    """As if nobody had begun to restore it."""
    if disk.exists(RESTORING):
        _empty(disk)
        unmark(disk)


def _remove(folder: Path) -> None:
    for name in _FOLDERS:
        with suppress(OSError):  # Somebody else's file, or the root of a file system.
            (folder / name).rmdir()


def fill(disk: Disk, backup: Backup, config: ClusterConfig, plan: ServerPlan) -> None:
    """Write everything but the mark; it survives a power cut then.

    The members of each group are those of the configuration now, not those it began with.
    """
    members = {replica.group: _members(config, replica.partition) for replica in plan.replicas}
    backup.restore(disk, Identity(plan.cluster_id, plan.process), members, plan.wal)
    state = FolderState(
        plan.cluster_id,
        plan.process,
        nodes={str(replica.group): int(replica.node) for replica in plan.replicas},
        formed=True,
        partitions=plan.shards.partitions,
        placed={rule: list(names) for rule, names in backup.manifest.placed.items()},
    )
    Folder(disk, str(plan.folder)).write(state)


def _members(config: ClusterConfig, partition: int) -> Configuration:
    sites = config.partitions[partition]
    return Configuration(
        frozenset(NodeId(site.node) for site in sites if not site.is_learner),
        learners=frozenset(NodeId(site.node) for site in sites if site.is_learner),
    )
