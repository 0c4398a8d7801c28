"""`mako backup` and `mako restore`: the data of a running cluster, copied to a folder and back."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mako.cli.machine import format_bytes
from mako.cli.options import config_files
from mako.errors import ConfigError, ConnectionLost, Error, TransactionTooOld

if TYPE_CHECKING:
    from mako.client.remote.administration import Administrator, SnapshotFile
    from mako.config import ClusterConfig, Process
    from mako.storage.backup import BackupPart, BackupWriter

#: Seconds for a replica to take its snapshot, or to apply what the leader has committed.
_SECONDS: Final = 600.0
_REQUEST_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1
#: Times that a snapshot is begun again that a newer one has taken the place of.
_TRIES: Final = 5

_FILES = config_files()
_FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@_FILES
@click.option("--process", "name", metavar="NAME", help="Copy from this one; else from a follower.")
@_FOLDER
def backup(files: tuple[str, ...], name: str | None, folder: Path) -> None:
    """Copy all data to FOLDER, which must be empty or new, while everything goes on.

    What was acknowledged before the command began is in the backup: a snapshot of each partition,
    and the log behind it.
    """
    from mako.config import load
    from mako.server.placed import placed_by
    from mako.storage.backup import BackupWriter
    from mako.storage.os_disk import OsDisk, make_root

    config = load(files)
    if name is not None:
        config.process(name)  # Says so if there is none.
    _need_empty(folder)
    make_root(folder)
    tables: set[str] = set()
    with BackupWriter(OsDisk(folder, lock=True), config.id) as writer:
        for partition in range(len(config.partitions)):
            part = _copy(config, partition, name, writer)
            click.echo(
                f"partition {partition}: a snapshot of {format_bytes(part.snapshot_bytes)} at entry"
                f" {part.snapshot_index}, the log to entry {part.index}"
            )
            with _leader(config, partition) as leader:
                tables.update(leader.tables())
                placed = placed_by(leader.shards, tables)
        writer.finish(config.document.cluster.name, time.time_ns() // 1_000_000, placed)
    click.echo(f"the backup is complete in {folder}")


def _need_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; name a new folder")


def _copy(
    config: "ClusterConfig", partition: int, name: str | None, writer: "BackupWriter"
) -> "BackupPart":
    sites = config.partitions[partition]
    processes = [config.process(site.process) for site in sites]
    with _leader(config, partition) as leader:
        now = leader.members()
        if leader.shards.partitions != len(config.partitions):
            raise ConfigError(
                f"the cluster has {leader.shards.partitions} partitions, and the configuration"
                f" {len(config.partitions)}; give that with which its processes were started"
            )
    leading = next((site.process for site in sites if site.node == now.node), "")
    wanted = [process for process in processes if process.name == name]
    if not wanted:  # Whoever was named has nothing of this partition, or nobody was.
        wanted = sorted(processes, key=lambda process: process.name == leading)
    with _first_that_answers(config, partition, wanted) as source:
        return _copy_from(source, partition, now.commit, writer)


def _leader(config: "ClusterConfig", partition: int) -> "Administrator":
    from mako.cli.membership import address_of
    from mako.client.remote.administration import Administrator

    processes = [config.process(site.process) for site in config.partitions[partition]]
    return Administrator.connect(
        ",".join(map(address_of, processes)),
        cluster=config.id,
        partition=partition,
        timeout=_REQUEST_SECONDS,
    )


def _first_that_answers(
    config: "ClusterConfig", partition: int, processes: "Sequence[Process]"
) -> "Administrator":
    from mako.cli.membership import address_of
    from mako.client.remote.administration import Administrator

    error: Error | None = None
    for process in processes:
        try:
            return Administrator.connect(
                address_of(process),
                cluster=config.id,
                partition=partition,
                timeout=_REQUEST_SECONDS,
                replica=True,
            )
        except (ConnectionLost, TimeoutError) as reason:
            error = ConnectionLost(f"{process.name}: {reason}")
    assert error is not None, "there is a process at least"
    raise error


def _copy_from(
    source: "Administrator", partition: int, commit: int, writer: "BackupWriter"
) -> "BackupPart":
    for _ in range(_TRIES):
        try:
            file = _take(source)
            _fetch(source, partition, file, writer)
            _fetch_log(source, file.index, commit, writer)
            return writer.end()
        except TransactionTooOld:
            click.echo(f"partition {partition}: a newer snapshot came meanwhile; beginning again")
    raise ConfigError(
        "the replica takes snapshots faster than they can be copied; raise snapshot.bytes and"
        " wal.keep_bytes, or copy from another process"
    )


def _take(source: "Administrator") -> "SnapshotFile":
    """A snapshot that was taken now."""
    least = source.take_snapshot()
    deadline = time.monotonic() + _SECONDS
    while (file := source.newest_snapshot()).index < least or not file.index:
        if time.monotonic() > deadline:
            raise ConnectionLost(f"the replica took no snapshot within {_SECONDS:g} s; see its log")
        time.sleep(_LOOK_SECONDS)
    return file


def _fetch(
    source: "Administrator", partition: int, file: "SnapshotFile", writer: "BackupWriter"
) -> None:
    from mako.server.plan import group_of
    from mako.storage.snapshot_stream import SnapshotName

    writer.begin(
        partition,
        SnapshotName(group_of(partition), file.index, file.term, file.size, file.digest),
    )
    at = 0
    while at < file.size:
        data = source.read_snapshot(file, at)
        writer.add_snapshot(at, data)
        at += len(data)
    writer.end_snapshot()


def _fetch_log(source: "Administrator", after: int, least: int, writer: "BackupWriter") -> None:
    """What follows, up to what was committed when the copy began.

    No further: a log that grows as fast as it is copied has no end.
    """
    from mako.entry import Entry, EntryKind, Index, Term

    deadline = time.monotonic() + _SECONDS
    while after < least:
        if time.monotonic() > deadline:
            raise ConnectionLost(
                f"the replica has no more than entry {after} of {least} after {_SECONDS:g} s; copy"
                " from another process"
            )
        entries = [
            Entry(Term(term), Index(index), EntryKind(kind), data)
            for term, index, kind, data in source.read_log(after)
        ]
        if entries:
            writer.add_log(entries)
            after = entries[-1].index
        else:
            time.sleep(_LOOK_SECONDS)


@click.command()
@_FILES
@click.option("--process", "names", multiple=True, metavar="NAME", help="Only this one; repeat.")
@click.option("--data", metavar="FOLDER", help="Where processes keep their folders.")
@_FOLDER
def restore(files: tuple[str, ...], names: tuple[str, ...], data: str | None, folder: Path) -> None:
    """Make the folders of processes from the backup in FOLDER; then start them.

    None of them may run, nor any other process of that cluster. On several hosts, run it on each
    with the processes of that host; those that are left out are brought up by the others.

    If it is interrupted, run it again: until it has ended, none of these processes starts.
    """
    from mako.config import load
    from mako.server.planning import plan_of
    from mako.server.restoring import check_partitions, check_tables, restore_processes
    from mako.storage.backup import Backup
    from mako.storage.os_disk import OsDisk

    config = load(files)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name that of a backup")
    source = Backup(OsDisk(folder, read_only=True))
    check_partitions(source, config)
    check_tables(source, config)
    wanted = names or [process.name for process in config.processes if process.sites]
    plans = [plan_of(config, name, data=data) for name in dict.fromkeys(wanted)]
    for plan, made in zip(plans, restore_processes(source, config, plans), strict=True):
        click.echo(f"{plan.name}: restored to {made}")
