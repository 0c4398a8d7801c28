"""A replica in a server: its partition, and while it leads the workers that run transactions.

    leads ──▶ crew of workers ──▶ rings ──drain──▶ log          rests ──▶ workers stopped, what
              requests, drives                                            waits is told so

How often a leader drains: every turn while anybody is active, which a request or a drive says by
`touch`; after `ACTIVE_SECONDS` without one it falls back to the slow closing of an idle partition.
"""

from collections.abc import Callable
from typing import Final

from mako.client.workers import Crew
from mako.raft import RaftNode, Role
from mako.replication.partition import Partition, PartitionSettings
from mako.server.events import EventLog
from mako.server.plan import ReplicaPlan, ServerPlan
from mako.server.turns import TURN_SECONDS

ACTIVE_SECONDS: Final = 0.05
#: Contexts beside the workers': sessions and snapshots of clients.
SESSIONS: Final = 32
#: Log ring of a context, and the body of an entry: half a ring is the largest transaction.
RING_BYTES: Final = 7 << 20
ENTRY_BYTES: Final = 7 << 19
PROCEDURE_SECONDS_MAX: Final = 10.0


class Service:
    """Something that runs on a leader: `start` when it leads, `stop` before it rests."""

    def start(self, hosted: "Hosted") -> None: ...

    def stop(self, hosted: "Hosted") -> None: ...


class Hosted:
    """See the module. `kick` asks for a turn."""

    def __init__(
        self,
        plan: ServerPlan,
        replica: ReplicaPlan,
        log: EventLog,
        now_ms: Callable[[], int],
        *,
        kick: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.replica = replica
        self.node: RaftNode | None = None
        self.crew: Crew | None = None
        self.services: list[Service] = []
        self._log = log
        self._kick = kick
        self._active_until = 0.0
        self._drain_due = 0.0
        self._seen = (Role.FOLLOWER, 0)
        settings = PartitionSettings(
            partition=replica.partition,
            memory_bytes=plan.memory_bytes,
            contexts=plan.workers + SESSIONS,
            ring_bytes=RING_BYTES,
            entry_bytes=ENTRY_BYTES,
        )
        self.partition = Partition(settings, (), now_ms, on_lead=self._lead, on_rest=self._rest)

    # --- Turns ---------------------------------------------------------------------------------

    def touch(self, now: float) -> None:
        """Somebody is active: drain at every turn for a while."""
        self._active_until = now + ACTIVE_SECONDS
        self.partition.want()

    def before_turn(self, now: float) -> float:
        """When this replica needs its next turn at the latest."""
        if not self.partition.leading:
            return now + 3600.0
        active = now < self._active_until or any(service for service in self.services)
        return max(self._drain_due, now) if active else now + 0.02

    def due_to_drain(self, now: float) -> bool:
        if not self.partition.leading or now < self._drain_due:
            return False
        self._drain_due = now + TURN_SECONDS
        return True

    def after_turn(self) -> None:
        """What the turn changed is told."""
        node = self.node
        if node is None or (node.role, node.term) == self._seen:
            return
        before, self._seen = self._seen, (node.role, node.term)
        if node.role is not before[0] or node.role is Role.LEADER:
            self._log(
                f"is {node.role.value}",
                partition=self.replica.partition,
                term=node.term,
                leader=node.leader,
            )

    # --- Leading -------------------------------------------------------------------------------

    def _lead(self) -> None:
        self._log("leads", partition=self.replica.partition, epoch=self.partition.epoch)
        self.crew = Crew(self.partition.engine, PROCEDURE_SECONDS_MAX)
        for service in self.services:
            service.start(self)

    def _rest(self) -> None:
        for service in self.services:
            service.stop(self)
        if self.crew is not None:
            self.crew.close()
            self.crew = None
        self._log("rests", partition=self.replica.partition)

    def close(self) -> None:
        self.partition.close()
