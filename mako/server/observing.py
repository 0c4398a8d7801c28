"""What a server process shows of itself: metrics, status, health (`mako.server.http`)."""

import time
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import trio

from mako.ids import Outcome, Timestamp, ms_of_timestamp
from mako.metrics.catalogue import ROLE_NUMBERS, ServerMetrics
from mako.metrics.text import render
from mako.net.links import PeerLinks
from mako.server.hashing import hash_at
from mako.server.hosting import Hosted
from mako.server.http import NoHash
from mako.server.plan import group_of
from mako.server.process import ServerProcess
from mako.server.status import (
    Members,
    PartitionStatus,
    ProcessStatus,
    StateHash,
    to_json,
)
from mako.server.tracer import Tracer

#: Seconds without a turn after which the process does not do its work: it ticks every few ms.
STALLED_SECONDS: Final = 2.0
#: Above this lag nobody should send clients here.
READY_LAG_MS: Final = 3000
#: Hashes at a time. Each takes one of the contexts that clients need for their transactions.
HASHES_MAX: Final = 4
#: What `Hosted.status` knows already.
_SHARED: Final = (
    "partition", "node", "role", "leader", "leader_address", "epoch", "term", "commit", "applied",
    "last", "watermark", "watermark_lag_ms", "snapshot_index", "snapshot_bytes",
)  # fmt: skip


class Observer:
    """`mako.server.http.Source` of a process. Everything is read in trio's thread."""

    def __init__(self, server: ServerProcess, links: PeerLinks, cluster: str) -> None:
        self._server = server
        self._links = links
        self._cluster = cluster
        self._began = time.monotonic()
        self._version = version("mako-db")
        self._metrics = ServerMetrics()
        self._hashing = 0
        self._hashes: dict[int, StateHash] = {}
        plan = server.plan
        self._tracer = Tracer(plan.name, cluster, server.hosted, plan.partitions)
        #: What is said at /trace and /trace/TXN.
        self.waits, self.trace = self._tracer.waits, self._tracer.trace
        server.on_write = self._metrics.fsync.of().observe

    # --- Status --------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        server = self._server
        return to_json(
            ProcessStatus(
                process=server.plan.name,
                cluster=self._cluster,
                cluster_id=server.plan.cluster_id,
                version=self._version,
                uptime_s=round(time.monotonic() - self._began, 3),
                connections=self._connections(),
                log_bytes=server.store.total_bytes,
                log_full=server.store.full,
                partitions=tuple(self._partition(hosted) for hosted in server.hosted.values()),
            )
        )

    def _connections(self) -> int:
        return sum(len(hosted.connections) for hosted in self._server.hosted.values())

    def _partition(self, hosted: Hosted) -> PartitionStatus:
        facts = hosted.status()
        node, partition = hosted.node, hosted.partition
        engine = partition.engine
        storage = None if node is None else node.storage
        members = Members()
        if node is not None:
            now = node.configuration
            members = Members(
                voters=tuple(sorted(now.voters)),
                outgoing=tuple(sorted(now.outgoing)),
                learners=tuple(sorted(now.learners | now.learners_next)),
            )
        return PartitionStatus(
            **{name: facts[name] for name in _SHARED},
            log_entries=0 if storage is None else storage.last_index() - storage.first_index() + 1,
            closed=engine.closed,
            stable=engine.stable,
            memory_bytes=engine.memory_bytes,
            returning=node is not None and node.returning,
            state_hash=self._hashes.get(hosted.replica.partition),
            members=members,
        )

    async def state_hash(self, partition: int, timestamp: int) -> StateHash:
        """The hash of all rows at a timestamp that the watermark passes soon."""
        hosted = self._server.hosted.get(group_of(partition))
        if hosted is None:
            text = f"there is no replica of partition {partition} here; see /status"
            raise NoHash(text, HTTPStatus.NOT_FOUND)
        if self._hashing >= HASHES_MAX:
            text = f"{self._hashing} hashes are being made; ask again when they are done"
            raise NoHash(text, HTTPStatus.SERVICE_UNAVAILABLE)
        self._hashing += 1
        try:
            found = await hash_at(
                hosted.partition, timestamp, want=partial(hosted.touch, timestamp)
            )
        finally:
            self._hashing -= 1
        self._hashes[partition] = found
        return found

    # --- Health --------------------------------------------------------------------------------

    def healthy(self) -> tuple[bool, str]:
        turns = self._server.turns
        if turns is None or not self._server.hosted:
            return True, "starting"  # It may wait for others that are not started yet.
        silent = trio.current_time() - turns.last_turn
        if silent > STALLED_SECONDS:
            return False, f"no turn was taken for {silent:.1f} s"
        if self._server.store.full:
            return False, "the disk is full: writes are refused until there is room"
        return True, "well"

    def ready(self) -> tuple[bool, str]:
        server = self._server
        if not server.hosted:
            missing = [server.plan.names[number] for number in server.forming.missing]
            return False, f"waits for {', '.join(missing) or 'its replicas'}"
        if server.ending:
            return False, "is ending"
        for hosted in server.hosted.values():
            facts = hosted.status()
            where = f"partition {facts['partition']}"
            if not facts["leader"]:
                return False, f"{where} has no leader"
            if hosted.node is not None and hosted.node.returning:
                return False, f"{where} is being brought up: its disk was lost, or is new"
            if not facts["watermark"]:
                return False, f"{where} has no watermark yet"
            if facts["watermark_lag_ms"] > READY_LAG_MS:
                return False, f"{where} is {facts['watermark_lag_ms']} ms behind the clock"
        return True, "ready"

    # --- Metrics -------------------------------------------------------------------------------

    def metrics(self) -> str:
        m, server = self._metrics, self._server
        m.info.of(server.plan.name, self._cluster, self._version).set(1)
        m.uptime.of().set(time.monotonic() - self._began)
        m.process_cpu.of().mirror(time.process_time())
        m.connections.of().set(self._connections())
        m.log_bytes.of().set(server.store.total_bytes)
        m.log_full.of().set(int(server.store.full))
        m.recovered.clear()  # Only the last epochs are known.
        for hosted in server.hosted.values():
            self._measure(hosted)
        connected = self._links.connected
        for process, counters in self._links.counters.items():
            name = server.plan.names.get(process, str(process))
            m.peer_connected.of(name).set(int(process in connected))
            m.queue_bytes.of(name).set(self._links.queued_bytes(process))
            m.sent_bytes.of(name).mirror(counters.bytes_out)
            m.received_bytes.of(name).mirror(counters.bytes_in)
            m.dropped_messages.of(name).mirror(counters.drops)
        return render(m.registry)

    def _measure(self, hosted: Hosted) -> None:
        m = self._metrics
        status = self._partition(hosted)
        who = status.partition, status.node
        m.role.of(*who).set(ROLE_NUMBERS.get(status.role, 0))
        m.term.of(*who).set(status.term)
        m.commit_index.of(*who).set(status.commit)
        m.last_applied.of(*who).set(status.applied)
        m.log_size.of(*who).set(status.log_entries)
        m.elections.of(*who).mirror(hosted.elections)
        for process, name in self._server.plan.names.items():
            if process != self._server.plan.process:
                failures = hosted.replication_failures[process]
                m.replication_failures.of(*who, name).mirror(failures)
        m.epoch.of(*who).set(status.epoch)
        if status.watermark:  # Before there is one it would seem to lag by half a century.
            m.watermark.of(*who).set(_seconds(status.watermark))
            m.watermark_lag.of(*who).set(status.watermark_lag_ms / 1000)
        m.closed.of(*who).set(_seconds(status.closed))
        engine = hosted.partition.engine
        for outcome, count in engine.outcomes().items():
            m.transactions.of(*who, Outcome(outcome).name.lower()).mirror(count)
        m.memory.of(*who).set(status.memory_bytes)
        m.memory_limit.of(*who).set(engine.memory_limit)
        m.snapshot_index.of(*who).set(status.snapshot_index)
        m.snapshot_bytes.of(*who).set(status.snapshot_bytes)
        self._measure_others(hosted, who)
        for worker, used in hosted.backend.crew.cpu_seconds().items():
            m.worker_cpu.of(*who, worker).mirror(used)

    def _measure_others(self, hosted: Hosted, who: tuple[int, int]) -> None:
        m = self._metrics
        for fate in ("durable", "discarded", "unknown"):
            m.judged.of(*who, fate).mirror(hosted.connections.judged[fate])
        partition = hosted.partition
        own = hosted.replica.partition
        m.discarded.of(*who, own).mirror(partition.discarded + partition.across.discarded[own])
        for each in partition.across.recoveries:
            m.recovered.of(*who, each.partition, each.epoch).set(each.versions)
        others = [each for each in self._server.plan.partitions if each != own]
        if not others:
            return
        m.given_up.of(*who).mirror(hosted.given_up)
        for what, count in hosted.distributed.items():
            m.distributed.of(*who, what).mirror(count)
        for (part, outcome), count in hosted.conflicts.items():
            m.conflicts.of(*who, outcome, part).mirror(count)
        pumped = hosted.pumped
        waiting = {} if pumped is None else pumped.station.waiting_for()
        undurable = self._tracer.waiting_for(hosted)
        m.undurable.of(*who, own).set(undurable.get(own, 0))
        for other in others:
            m.discarded.of(*who, other).mirror(partition.across.discarded[other])
            m.waiting_for.of(*who, other).set(waiting.get(other, 0))
            m.set_aside.of(*who, other).set(hosted.backend.serving.count_aside(other))
            m.undurable.of(*who, other).set(undurable.get(other, 0))
            m.reachable.of(*who, other).set(int(other in hosted.reached))


def _seconds(timestamp: int) -> float:
    return ms_of_timestamp(Timestamp(timestamp)) / 1000
