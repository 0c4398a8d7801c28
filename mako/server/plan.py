"""What one process has to do, made of the configuration of its cluster.

The group of partition p is p + 1: groups count from one, as nodes and processes do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mako.entry import NODE_NONE, Configuration, GroupId, NodeId
from mako.placement import UNDIVIDED, ShardMap
from mako.raft import Settings
from mako.replication.contract import DriverSettings
from mako.storage.wal import WalSettings

Address = tuple[str, int]

#: Log ring of a context, and the body of an entry: half a ring is the largest transaction.
RING_BYTES: Final = 7 << 20
ENTRY_BYTES: Final = 7 << 19
#: While there is work, the leader's rings are drained this often: Linux wakes no sooner than
#: after a millisecond, and a turn costs some hundred microseconds of Python.
TURN_SECONDS: Final = 0.001
#: So long after it was last seen to be active, a leader is taken for idle,
ACTIVE_SECONDS: Final = 0.05
#: and looks into its rings this often only.
IDLE_SECONDS: Final = 0.02

#: Clients stay a little longer than that (mako.client.remote.core.PATIENCE).
JUDGED_SECONDS: Final = 1.5


#: Of several partitions, in each: workers that clients may drive,
DRIVERS: Final = 4
#: how many workers, these included, may ask another one (as `mako.engine.pumped.ASKERS` is),
ASKERS: Final = 16
#: and the ports that a worker has to others (as `mako.engine.lane.PORTS_MAX` is).
PORTS_MAX: Final = 256


#: What drives leave of `spare`: hashes (`mako.server.observing.HASHES_MAX`), a table that is
#: created, and what the event loop does at once, as to follow the versions of a row.
UNDRIVEN: Final = 6


def group_of(partition: int) -> GroupId:
    return GroupId(partition + 1)


def partition_of(group: GroupId) -> int:
    return group - 1


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """A replica of this process."""

    partition: int
    node: NodeId
    #: The members with which the group began.
    first: Configuration
    #: The node that should lead, if it is well; 0: any.
    preferred: NodeId = NODE_NONE
    #: Voters that came later, or took the place of one of the first.
    later: frozenset[NodeId] = frozenset()

    @property
    def group(self) -> GroupId:
        return group_of(self.partition)

    @property
    def is_founder(self) -> bool:
        """Whether it is a voter of the first members (mako.server.forming)."""
        return self.node in self.first.voters


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """Everything that `mako.server.process` needs to know."""

    cluster_id: int
    process: int
    #: The name of the cluster.
    cluster: str = "mako"
    name: str
    replicas: Sequence[ReplicaPlan]
    #: Where a node of a group lives. This and the next two grow when the process meets others.
    process_of: dict[tuple[GroupId, NodeId], int]
    #: Which partition has a key.
    shards: ShardMap = UNDIVIDED
    #: Name and address of every process.
    names: dict[int, str]
    addresses: dict[int, Address]
    listen: Sequence[Address]
    http: Address | None
    #: None: the log is in memory, and nothing survives the process.
    folder: Path | None
    #: Partitions whose replica in that folder is deleted (mako.server.forgetting).
    forget: frozenset[int] = frozenset()
    memory_bytes: int = 1 << 30
    #: Of each partition's memory, to be provided by the system at the start.
    pretouch_bytes: int = 0
    workers: int = 1
    #: Contexts beside the workers': sessions and snapshots of clients.
    sessions: int = 32
    #: Workers that clients may drive over partitions, beside the others.
    drivers: int = DRIVERS
    #: How many workers of another partition may ask here, driven ones included: the same in all of
    #: the cluster, and `mako.engine.pumped.ASKERS` outside of simulations.
    askers: int = ASKERS
    #: And for what comes and goes: hashes, tables that are created, drives beside them.
    spare: int = 8
    #: Log ring of a context; half of it is the largest transaction, and the largest entry.
    ring_bytes: int = RING_BYTES
    tick_seconds: float = 0.01
    #: While there is work, the leader's rings are drained this often: Linux wakes no sooner than
    #: after a millisecond, and a turn costs some hundred microseconds of Python.
    turn_seconds: float = TURN_SECONDS
    #: Physical time that must have passed a timestamp before it is acknowledged.
    clock_offset_ms: int = 1
    #: Seconds that clients of a leader that was deposed wait to be told what became of their
    #: transactions, before that is unknown.
    judged_seconds: float = JUDGED_SECONDS
    #: A procedure that runs for longer is ended.
    procedure_seconds: float = 10.0
    #: Modules whose procedures can be called by name.
    modules: Sequence[str] = ()
    raft: Settings = field(default_factory=Settings)
    wal: WalSettings = field(default_factory=WalSettings)
    driver: DriverSettings
    #: Bugs that are switched on, see mako.server.planted. Empty outside of simulations.
    planted: frozenset[str] = frozenset()

    def places(self, partition: int) -> list[str]:
        """Addresses of the processes with a replica of a partition, in the order of its sites."""
        group = group_of(partition)
        numbers = {number: None for (of, _), number in self.process_of.items() if of == group}
        known = [self.addresses[number] for number in numbers if number in self.addresses]
        return [f"{host}:{port}" for host, port in known]

    def whereabouts(self) -> dict[str, Any]:
        """What DESCRIBE says of all partitions: the shard map, and addresses of each, in the order
        in which they should be asked."""
        places = [self.places(partition) for partition in range(self.shards.partitions)]
        return {"shards": self.shards.plain(), "places": places}

    @property
    def guests(self) -> int:
        """Contexts that sessions and driven workers may have together. What is left is enough for
        all else, so that a replica finds those that it needs."""
        return self.sessions + max(self.spare - UNDRIVEN, 0)

    @property
    def partitions(self) -> tuple[int, ...]:
        """All partitions of the cluster."""
        return tuple(sorted({partition_of(group) for group, _ in self.process_of}))

    def witnesses(self) -> frozenset[int]:
        """The other processes that have voters of groups in which this one has one of the first; of
        a group without other voters, those that have learners of it."""
        found = set()
        for replica in self.replicas:
            if not replica.is_founder:
                continue
            voters = replica.first.voters | replica.later
            others = {self.process_of[replica.group, node] for node in voters} - {self.process}
            everybody = {
                each for (group, _), each in self.process_of.items() if group == replica.group
            }
            found |= others or everybody
        return frozenset(found - {self.process})
