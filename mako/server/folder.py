"""The folder of a process: whose it is, and what must not be forgotten over restarts.

    data/p1/
        state.json    cluster, process, its nodes, whether they are returning, and where rows are
        wal/          the log of all replicas (docs/wal-format.md)
        snapshots/    their snapshots (docs/snapshot-format.md)
        restoring     while it is made from a backup (mako.server.restoring)

A folder is used by one process at a time, and never by another one than it was made for. That of
an embedded database (mako.server.embedded) looks the same: it belongs to no process, which is
number 0, and has drawn the number of its cluster itself.
"""

import json
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Final

import msgspec

from mako.entry import GroupId, NodeId
from mako.errors import ConfigError
from mako.storage.disk import Disk
from mako.storage.errors import FileMissing

#: The number of the process in the folder of an embedded database; those of clusters count from 1.
EMBEDDED: Final = 0
#: A file that is there as long as not everything else is.
RESTORING: Final = "restoring"
_NAME: Final = "state.json"
_FORMAT: Final = 1
#: Some 32 thousand tables may have long names.
_BYTES_MAX: Final = 64 << 20


@dataclass(slots=True)
class FolderState:
    """What `state.json` holds. Partitions are keys as JSON has them: strings."""

    cluster_id: int
    process: int
    #: Partition -> the node of its replica here.
    nodes: dict[str, int] = field(default_factory=dict)
    #: Partitions whose replica lost its disk and is not trusted yet (Raft, R11).
    returning: list[str] = field(default_factory=list)
    #: Whether it was decided if this is the first start (mako.server.forming).
    formed: bool = False
    #: How many the cluster has, 0: not known; rule -> tables that it places (mako.server.placed).
    partitions: int = 0
    placed: dict[str, list[str]] = field(default_factory=dict)

    def node(self, group: GroupId) -> NodeId | None:
        known = self.nodes.get(str(group))
        return None if known is None else NodeId(known)

    def is_returning(self, group: GroupId) -> bool:
        return str(group) in self.returning


_FIELDS: Final = frozenset(each.name for each in dataclass_fields(FolderState))
_LATER: Final = "partitions", "placed"


class Folder:
    """Reads and writes the state of the folder `where`; `remedy` says what to do if it is lost."""

    def __init__(self, disk: Disk, where: str, remedy: str = "move the folder away") -> None:
        self._disk = disk
        self._where = where
        self._remedy = remedy

    def load(self) -> FolderState | None:
        """The state, whosever it is, or None if there is none.

        ConfigError if it is damaged, or if a restore was killed: the rest may look whole then.
        """
        if self._disk.exists(RESTORING):
            raise ConfigError(
                f"the restore into {self._where} did not end; run it again, or move the folder away"
            )
        try:
            file = self._disk.open(_NAME)
        except FileMissing:
            return None
        try:
            data = file.read(0, _BYTES_MAX)
        finally:
            file.close()
        try:
            fields = json.loads(data)
            if fields.pop("format") != _FORMAT:
                raise ValueError("another format")
            newer = fields.keys() - _FIELDS
            if newer:
                raise ConfigError(
                    f"{self._where}/{_NAME} has {min(newer)!r}, which this version of mako does not"
                    " know; start the version that wrote it"
                )
            return msgspec.convert(fields, FolderState)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            msgspec.ValidationError,
        ) as error:
            raise ConfigError(
                f"{self._where}/{_NAME} cannot be read ({error}); {self._remedy}"
            ) from None

    def read(self, cluster_id: int, process: int) -> FolderState:
        """The state, a new one if there is none. ConfigError if the folder is another's."""
        state = self.load()
        if state is None:
            return FolderState(cluster_id, process)
        if state.process == EMBEDDED:
            raise ConfigError(
                f"{self._where} is an embedded database and no process of a cluster; open it with"
                " mako.open, and give this process another folder"
            )
        if (state.cluster_id, state.process) != (cluster_id, process):
            raise ConfigError(
                f"{self._where} belongs to process {state.process} of cluster"
                f" {state.cluster_id}, and this is process {process} of cluster {cluster_id};"
                " give each its own folder"
            )
        return state

    def write(self, state: FolderState) -> None:
        """Replace it, so that a crash leaves the old one or the new one."""
        fields = asdict(state)
        for name in _LATER:  # Who has nothing of it can be read by versions that do not know it.
            if not fields[name]:
                del fields[name]
        text = json.dumps({"format": _FORMAT, **fields}, indent=1) + "\n"
        file = self._disk.open(_NAME + ".tmp", create=True)
        try:
            data = text.encode()
            file.write(0, data)
            file.truncate(len(data))
            file.sync()
        finally:
            file.close()
        self._disk.rename(_NAME + ".tmp", _NAME)
        self._disk.sync_folder("")
