"""What a process offers to its clients: tables, procedures, and who leads."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from mako.ids import MILLISECOND_SHIFT
from mako.placement import UNDIVIDED
from mako.procedure import Workload
from mako.server.deploy import Deployed
from mako.server.driving import Drives
from mako.server.serving import Serving
from mako.server.workers import Crew
from mako.wire.hello import PROCESS_NONE, Hello, Role

if TYPE_CHECKING:
    from mako.engine.codec import Description
    from mako.engine.engine import Engine, TableHandle
    from mako.server.administration import Administration

#: What hellos say.
SOFTWARE: Final = "mako 0.1.0"


class Backend(Protocol):
    """One partition, as the connections of clients see it."""

    @property
    def engine(self) -> Engine: ...
    @property
    def serving(self) -> Serving: ...
    @property
    def procedures(self) -> Mapping[str, Deployed]: ...
    @property
    def drives(self) -> Drives: ...
    @property
    def hello(self) -> Hello:
        """Who this process is. A client that names another cluster is refused."""
        ...

    @property
    def partition(self) -> int: ...

    def whereabouts(self) -> dict[str, Any]:
        """What DESCRIBE says of all partitions (mako.server.plan)."""
        ...

    @property
    def administration(self) -> Administration | None:
        """What operators may ask for; None where there are no replicas."""
        ...

    @property
    def planted(self) -> frozenset[str]:
        """Bugs that are switched on (mako.server.planted)."""
        ...

    def is_lasting(self, table: TableHandle) -> bool:
        """Whether a table stays whoever leads next."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this process may execute now."""
        ...

    @property
    def epoch(self) -> int:
        """Another one each time that this process begins to lead."""
        ...

    @property
    def leader(self) -> str:
        """The address of the leader for clients, or an empty string while nobody knows."""
        ...

    def gate(self) -> int:
        """What is at or below it may be acknowledged: the watermark, and time that has passed."""
        ...

    def passed(self, timestamp: int, mask: int) -> bool:
        """Whether what depends on the partitions of `mask` only may be acknowledged."""
        ...

    def readable(self, over: int) -> int:
        """What a snapshot of the partitions of the mask `over` may read at here."""
        ...

    def on_waiting(self, timestamp: int) -> None:
        """Somebody waits for the watermark to pass `timestamp`: it should do so soon."""
        ...

    def open_table(self, name: str) -> TableHandle:
        """The table of byte strings called `name`, created if need be; the log says so."""
        ...

    def create_table(self, description: Description) -> TableHandle:
        """The table that fits `description`. SchemaError if another one is in its place."""
        ...

    def status(self) -> dict[str, Any]:
        """What `status()` of a client shows: plain values."""
        ...


class LoneBackend:
    """A partition without replicas: it leads, and is durable as far as it is closed."""

    leads = True
    epoch = 0
    leader = ""
    partition = 0
    administration = None
    planted: frozenset[str] = frozenset()

    def __init__(
        self,
        crew: Crew,
        procedures: Mapping[str, Deployed],
        *,
        workers: int = 1,
        name: str = "localhost",
        clock_offset_ms: int = 0,
        workloads: Mapping[str, Workload] | None = None,
    ) -> None:
        self.engine = crew.engine
        self.procedures = procedures
        self.drives = Drives(crew, workloads or {})
        self.hello = Hello(0, Role.PEER, PROCESS_NONE, name, secrets.randbits(63), SOFTWARE)
        self._offset_ms = clock_offset_ms
        for deployed in procedures.values():
            for table in deployed.procedure.tables():
                self.engine.create_table(table)
        self.serving = Serving(crew, procedures, workers=workers, limit=self._time_limit)

    def _time_limit(self) -> int:
        passed = time.time_ns() // 1_000_000 - self._offset_ms
        # The whole millisecond has passed only if a later one has begun; without an offset
        # to wait for, there is nobody whose clock differs.
        return (passed + (self._offset_ms == 0)) << MILLISECOND_SHIFT

    def whereabouts(self) -> dict[str, Any]:
        return {"shards": UNDIVIDED.plain(), "places": [[]]}

    def is_lasting(self, table: TableHandle) -> bool:
        return True

    def gate(self) -> int:
        self.engine.settle()
        return min(self.serving.watermark, self._time_limit())

    def passed(self, timestamp: int, mask: int) -> bool:
        return timestamp <= self.gate()

    def readable(self, over: int) -> int:
        return self.engine.stable

    def on_waiting(self, timestamp: int) -> None:
        """The next look closes."""

    def open_table(self, name: str) -> TableHandle:
        return self.engine.table_named(name) or self.engine.create_named(name)

    def create_table(self, description: Description) -> TableHandle:
        self.engine.describe_tables([description])
        return self.engine.tables[description.table]

    def status(self) -> dict[str, Any]:
        return {"role": "leader", "watermark": self.serving.watermark, "leader": self.leader}

    def close(self) -> None:
        self.drives.stop()
        self.serving.close()
