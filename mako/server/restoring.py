"""The folder of a process, made from a backup."""

from mako.config import ClusterConfig
from mako.entry import Configuration, NodeId
from mako.errors import ConfigError
from mako.server.folder import Folder, FolderState
from mako.server.plan import ServerPlan
from mako.storage.backup import Backup
from mako.storage.os_disk import OsDisk
from mako.storage.wal import Identity


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


def restore_process(backup: Backup, config: ClusterConfig, plan: ServerPlan) -> None:
    """Fill the folder of the plan, which is empty. WrongFiles, Damaged, DiskFull.

    The members of each group are those of the configuration now, not those it began with.
    """
    assert plan.folder is not None, "a log in memory is not restored"
    disk = OsDisk(plan.folder, lock=True)
    try:
        members = {replica.group: _members(config, replica.partition) for replica in plan.replicas}
        backup.restore(disk, Identity(plan.cluster_id, plan.process), members, plan.wal)
        state = FolderState(
            plan.cluster_id,
            plan.process,
            nodes={str(replica.group): int(replica.node) for replica in plan.replicas},
            formed=True,
        )
        Folder(disk, str(plan.folder)).write(state)
    finally:
        disk.close()


def _members(config: ClusterConfig, partition: int) -> Configuration:
    sites = config.partitions[partition]
    return Configuration(
        frozenset(NodeId(site.node) for site in sites if not site.is_learner),
        learners=frozenset(NodeId(site.node) for site in sites if site.is_learner),
    )
