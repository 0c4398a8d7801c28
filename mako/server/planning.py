"""From the configuration of a cluster to the plan of one of its processes."""

from collections.abc import Iterable
from pathlib import Path

from mako.config import ClusterConfig, Site
from mako.entry import NODE_NONE, Configuration, GroupId, NodeId
from mako.errors import ConfigError
from mako.raft import Settings
from mako.replication.contract import DriverSettings
from mako.server.plan import ASKERS, DRIVERS, PORTS_MAX, ReplicaPlan, ServerPlan, group_of
from mako.size import parse_memory, parse_size
from mako.storage.wal import WalSettings


def plan_of(
    config: ClusterConfig,
    name: str,
    *,
    workers: int | None = None,
    data: str | None = None,
    forget: Iterable[int] = (),
) -> ServerPlan:
    """What the process `name` has to do. ConfigError if it is not in the configuration."""
    process = config.process(name)
    if not process.sites:
        raise ConfigError(f"process {name} has no site; give it one in `process`, or start others")
    document = config.document
    root = Path(data if data is not None else document.data)
    workers = document.workers if workers is None else workers
    if problem := _too_many(len(config.partitions), workers):
        raise ConfigError(problem)
    return ServerPlan(
        cluster_id=config.id,
        process=process.number,
        cluster=document.cluster.name,
        name=name,
        replicas=[_replica(config, site) for site in process.sites],
        process_of=_process_of(config),
        shards=config.shards,
        names={each.number: each.name for each in config.processes if each.sites},
        addresses={
            each.number: (each.host, each.ports[0]) for each in config.processes if each.sites
        },
        listen=[(process.host, port) for port in process.ports],
        http=(document.http_host, process.http_port) if process.http_port else None,
        folder=None if document.log == "memory" else root / name,
        forget=frozenset(forget),
        memory_bytes=config.memory_bytes,
        pretouch_bytes=parse_size(document.pretouch),
        workers=workers,
        tick_seconds=document.raft.tick_ms / 1000,
        clock_offset_ms=_clock_offset_ms(config),
        procedure_seconds=document.procedure_seconds,
        modules=document.procedures,
        raft=Settings(
            election_ticks=document.raft.election_ticks,
            heartbeat_ticks=document.raft.heartbeat_ticks,
            commit_waits=True,
        ),
        wal=WalSettings(
            keep_bytes=parse_size(document.wal.keep_bytes),
            keep_ms=document.wal.keep_seconds * 1000,
            segment_bytes=parse_memory(document.wal.segment_bytes),
            entries_sealed=True,
        ),
        driver=DriverSettings(
            cluster_id=config.id,
            snapshot_entries=document.snapshot.entries,
            snapshot_bytes=parse_size(document.snapshot.bytes),
            stream_rate=parse_size(document.snapshot.send_rate),
        ),
    )


def _too_many(partitions: int, workers: int) -> str:
    """What is too much for the way between the workers of several partitions; empty: nothing."""
    if partitions < 2:
        return ""
    most = ASKERS - DRIVERS
    if workers > most:
        return (
            f"{workers} workers are too many with several partitions; give at most {most} in"
            " `workers` or --threads"
        )
    # Its first worker has a port for what it asks each other partition, and its share of those for
    # what workers there ask.
    most = 1 + PORTS_MAX // (1 + -(-ASKERS // workers))
    if partitions > most:
        return (
            f"{partitions} partitions are too many with {workers} of `workers`; use at most {most},"
            " or more workers"
        )
    return ""


def _clock_offset_ms(config: ClusterConfig) -> int:
    """An acknowledgement waits until so many whole ms have passed. Timestamps count within their
    ms, each partition's on its own: so it is one more than clocks differ by (DESIGN §6). On one
    host, where they do not differ, the 1 of the configuration is that one."""
    hosts = {process.host for process in config.processes if process.sites}
    more = len(hosts) > 1 and len(config.partitions) > 1
    return config.document.max_clock_offset_ms + int(more)


def _replica(config: ClusterConfig, site: Site) -> ReplicaPlan:
    sites = config.partitions[site.partition]
    began = [each for each in sites if each.first_node]
    first = Configuration(
        frozenset(NodeId(each.first_node) for each in began if not each.is_learner),
        learners=frozenset(NodeId(each.first_node) for each in began if each.is_learner),
    )
    leads = config.preferred(site.partition)
    preferred = NODE_NONE if leads is None else NodeId(leads.node)
    voters = {NodeId(each.node) for each in sites if not each.is_learner}
    later = frozenset(voters - first.voters)
    return ReplicaPlan(site.partition, NodeId(site.node), first, preferred, later)


def _process_of(config: ClusterConfig) -> dict[tuple[GroupId, NodeId], int]:
    """Where nodes live, those included that were replaced by a later one."""
    numbers = {process.name: process.number for process in config.processes}
    found = {}
    for partition, sites in enumerate(config.partitions):
        for site in sites:
            for node in {site.first_node, site.node} - {0}:
                found[group_of(partition), NodeId(node)] = numbers[site.process]
    return found
