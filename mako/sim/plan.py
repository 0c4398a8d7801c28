"""What a seed is made of: sizes, delays, limits and chances, each drawn; some of them zero.

Every seed is another kind of world (swarm testing): what never happens in one of them lets the
others go far in it.
"""

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from mako.client.remote.core import SILENCE_MAX
from mako.entry import GroupId, NodeId
from mako.raft import Settings
from mako.raft import planted as raft_planted
from mako.replication import planted as driver_planted
from mako.replication.driver import DriverSettings
from mako.sim.clock import MS, SECOND
from mako.sim.disk import SimDisk
from mako.sim.network import LinkSettings
from mako.sim.streams import StreamSettings as ByteStreamSettings
from mako.storage import planted as storage_planted
from mako.storage.snapshot_stream import StreamSettings
from mako.storage.wal import WalSettings

CLUSTER_ID: Final = 193
#: A node's id says where it lives: process + PROCESSES_MAX * life of its data.
PROCESSES_MAX: Final = 64
_KIB: Final = 1 << 10

#: The faults, by the weights that they may be drawn with. The first is the most likely.
FAULTS: Final = {
    "power cut": (1.0, 3.0),
    "power cut of all": (0.0, 0.4, 1.0),
    "kill": (0.0, 1.0),
    "pause": (0.0, 1.0, 2.0),
    "isolate": (0.0, 1.0, 2.0),
    "split": (0.0, 1.0),
    "one way": (0.0, 1.0, 2.0),
    "bad link": (0.0, 0.7),
    "slow disk": (0.0, 1.0),
    "hung disk": (0.0, 0.7),
    "full disk": (0.0, 0.7, 2.0),
    "failing sync": (0.0, 0.6),
    "bit rot": (0.0, 0.5, 1.0),
    "wipe": (0.0, 0.5, 1.0),
    "clock": (0.0, 0.6),
    "transfer": (0.0, 0.7, 2.0),
    "demote": (0.0, 0.7, 2.0),
    "replace": (0.0, 0.5),
    "reshape": (0.0, 0.7, 2.0),
    "stale leader": (0.0, 0.7, 2.0),
}


@dataclass(frozen=True, slots=True)
class OperationsPlan:
    """What is drawn for faults between two operations of a disk (mako.sim.faults.operations)."""

    #: Operations of all disks between two of them, on average; 0: there are none.
    distance: int = 0
    #: Share of them that are errors; the others are power cuts.
    errors: float = 0.0


def draw_operations(chance: Random) -> OperationsPlan:
    distance = chance.choice((0, 0, 300, 1000, 3000))
    return OperationsPlan(distance, chance.choice((0.0, 0.3, 1.0)))


@dataclass(frozen=True, slots=True)
class ClientsPlan:
    """What is drawn for clients of a served group (mako.sim.served, mako.sim.traffic)."""

    #: Of a replica: workers, contexts beside theirs, bytes of a log ring.
    workers: int = 1
    sessions: int = 5
    ring_bytes: int = 256 * _KIB
    #: ns between two turns of a leader that is busy.
    turn: int = 5 * MS
    clock_offset_ms: int = 1
    #: Chance that workers go on between closing and draining, and that one stops in a commit.
    between: float = 0.5
    halfway: float = 0.2
    #: ns between two troubles of connections, on average; and for how long a link is cut.
    trouble_distance: int = SECOND
    trouble_length: int = SECOND // 5
    #: Shares of what clients do, by the names of mako.sim.traffic.
    shares: dict[str, float] = field(default_factory=dict)
    stream: ByteStreamSettings = field(default_factory=ByteStreamSettings)
    #: Seconds of silence after which a client leaves a server. A run is hardly longer than what
    #: real clients wait.
    silence: float = SILENCE_MAX


#: Of `ClientsPlan.silence`.
SILENCES: Final = (0.4, 1.5, SILENCE_MAX)
#: What clients do, by the weights that it may be drawn with.
SHARES: Final = {
    "append": (3.0, 6.0),
    "lengths": (0.0, 1.0, 2.0),
    "interactive": (0.0, 1.0, 3.0),
    "snapshot": (0.0, 1.0, 2.0),
    "write": (0.0, 1.0),
    "get": (0.0, 1.0),
}


def draw_clients(plan: "Plan", chance: Random) -> None:
    """Draw the clients' part of the plan of a seed: one group, and entries as large as they are."""
    choice = chance.choice
    plan.groups = 1
    # A busy server does more in less time.
    plan.duration = int(SECOND * choice((2.0, 3.0, 4.0)))
    plan.think = choice((5, 15)) * MS
    # A client needs longer to find a new leader than an election takes.
    plan.fault_distance = choice((80, 150, 300)) * MS
    plan.leader_killer = choice((0.0, 0.0, 0.4, 0.8))
    plan.raft = replace(plan.raft, entry_bytes_max=4 << 20)
    # They write some hundred kilobytes, which must not take the whole run in chunks of 200 bytes.
    stream = plan.driver.stream
    plan.driver = replace(
        plan.driver,
        stream=replace(
            stream,
            chunk_bytes=16 * stream.chunk_bytes,
            window_bytes=16 * stream.window_bytes,
        ),
    )
    plan.clients_plan = ClientsPlan(
        workers=choice((1, 2, 3)),
        sessions=choice((3, 5)),
        ring_bytes=choice((64, 256)) * _KIB,
        turn=choice((2, 5, 10)) * MS,
        clock_offset_ms=choice((0, 1, 10)),
        between=choice((0.0, 0.3, 0.9)),
        halfway=choice((0.0, 0.2, 0.6)),
        trouble_distance=choice((SECOND // 4, SECOND, 3 * SECOND)),
        trouble_length=choice((SECOND // 20, SECOND // 2)),
        shares={name: choice(options) for name, options in SHARES.items()},
        stream=ByteStreamSettings(
            delay_mean=choice((MS // 10, MS // 2, 3 * MS)), pieces_max=choice((1, 3, 10))
        ),
        silence=choice(SILENCES),
    )


def process_of(group: GroupId, node: NodeId) -> int:
    """Where a node lives."""
    del group
    return node % PROCESSES_MAX


@dataclass(slots=True)
class Plan:
    """Everything that is drawn before a run begins."""

    processes: int
    groups: int
    #: ns; of an honest clock.
    tick: int
    #: ns for which faults come, and their mean distance.
    duration: int
    fault_distance: int
    fault_weights: dict[str, float]
    #: Chance that a new leader fails soon after its election.
    leader_killer: float
    #: How it fails.
    killer_kinds: tuple[str, ...]
    #: ns for which a fault lasts, on average.
    fault_length: int
    restart_delay: int
    clients: int
    keys: int
    #: ns between the operations of a client, on average.
    think: int
    read_share: float
    padding_max: int
    raft: Settings
    wal: WalSettings
    driver: DriverSettings
    link: LinkSettings
    #: ns between sealing and writing; least and mean additional latency of a sync.
    write_delay: int
    disk_min: int
    disk_mean: int
    planted: frozenset[str] = field(default_factory=frozenset)
    clients_plan: ClientsPlan = field(default_factory=ClientsPlan)
    operations: OperationsPlan = field(default_factory=OperationsPlan)

    def set_latency(self, disk: SimDisk) -> None:
        disk.latency_min, disk.latency_mean = self.disk_min, self.disk_mean


def _raft_settings(chance: Random, planted: frozenset[str]) -> Settings:
    choice = chance.choice
    return Settings(
        election_ticks=10,
        heartbeat_ticks=choice((1, 2, 3)),
        inflight_messages_max=choice((2, 8, 128)),
        append_bytes_max=choice((1, 500, 4 * _KIB, 64 * _KIB)),
        entry_bytes_max=choice((2200, 4 << 20)),
        uncommitted_bytes_max=choice((4 * _KIB, 64 * _KIB, 1024 * _KIB)),
        snapshot_ticks_max=40,
        promotion_entries_max=choice((20, 200)),
        commit_waits=choice((False, True)),
        planted=planted & raft_planted.NAMES,
    )


def _wal_settings(chance: Random, planted: frozenset[str]) -> WalSettings:
    choice = chance.choice
    return WalSettings(
        segment_bytes=choice((8, 16, 32, 64)) * _KIB,
        reserve_bytes=4 * _KIB,
        headroom_bytes=2 * _KIB,
        cache_bytes=choice((2, 16, 256)) * _KIB,
        keep_bytes=choice((16, 48, 128)) * _KIB,
        keep_ms=choice((500, 2000, 60_000)),
        planted=planted & storage_planted.NAMES,
    )


def draw(chance: Random, planted: frozenset[str] = frozenset()) -> Plan:
    """The plan of a seed. Planted bugs change nothing in it."""
    choice = chance.choice
    processes = choice((3, 3, 4, 5))
    groups = choice((1, 1, 2))
    padding_max = choice((0, 40, 400, 2000))
    weights = {name: choice(options) for name, options in FAULTS.items()}
    raft = _raft_settings(chance, planted)
    wal = _wal_settings(chance, planted)
    chunk_bytes = choice((200, 1000, 64 * _KIB))
    driver = DriverSettings(
        cluster_id=CLUSTER_ID,
        snapshot_entries=choice((15, 40, 120)),
        snapshot_bytes=choice((8, 64, 1024)) * _KIB,
        snapshot_blocks_per_tick=choice((1, 4)),
        snapshot_sync_bytes=choice((1, 4000, 1 << 20)),
        full_ticks=15,
        cut_ticks=choice((3, 10)),
        # What clients write while the slowest stream lasts.
        catch_up_bytes=2048 * _KIB,
        stream=StreamSettings(
            chunk_bytes=chunk_bytes,
            window_bytes=chunk_bytes * choice((1, 4)),
            timeout_ms=100,
            timeouts_max=5,
        ),
        stream_rate=choice((50, 1000)) * _KIB,
        planted=planted & driver_planted.NAMES,
    )
    link = LinkSettings(
        delay_min=choice((0, MS // 10, MS)),
        delay_mean=int(MS * choice((0.3, 1.0, 4.0))),
        loss=choice((0.0, 0.0, 0.01, 0.05)),
        duplication=choice((0.0, 0.0, 0.02, 0.1)),
        late=choice((0.0, 0.0, 0.02)),
        ordered=choice((True, False)),
        cut_loses=choice((True, False)),
    )
    return Plan(
        processes=processes,
        groups=groups,
        tick=10 * MS,
        duration=int(SECOND * choice((4.0, 6.0, 8.0))),
        fault_distance=choice((60, 120, 250)) * MS,
        fault_weights=weights,
        leader_killer=choice((0.0, 0.0, 0.4, 0.9)),
        killer_kinds=choice((("power cut", "kill", "isolate", "pause"), ("isolate",))),
        fault_length=choice((60, 200, 500)) * MS,
        restart_delay=choice((5, 50, 300)) * MS,
        clients=choice((3, 5, 8)),
        keys=choice((1, 3, 6)) * groups,
        think=choice((15, 30)) * MS,
        read_share=choice((0.0, 0.2, 0.4)),
        padding_max=padding_max,
        raft=raft,
        wal=wal,
        driver=driver,
        link=link,
        write_delay=choice((0, 0, MS)),
        disk_min=choice((0, MS // 5, MS)),
        disk_mean=int(MS * choice((0.0, 0.5, 3.0))),
        planted=planted,
    )
