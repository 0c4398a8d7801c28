"""A replicated partition as its clients see it (`mako.server.backend.Backend`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mako.ids import MILLISECOND_SHIFT
from mako.procedure import Workload
from mako.server.deploy import Deployed
from mako.server.driving import Drives
from mako.server.gated import EVERYBODY
from mako.server.serving import Crew, Serving, new_event
from mako.wire.hello import Hello

if TYPE_CHECKING:
    from mako.engine.codec import Description
    from mako.engine.engine import Engine, TableHandle
    from mako.server.administration import Administration
    from mako.server.hosting import Hosted


class ReplicatedBackend:
    """Reads and, while it leads, transactions of the partition that `hosted` has.

    A timestamp may be acknowledged when the watermark and physical time, less the most that
    clocks differ by, have passed it (DESIGN §6).
    """

    def __init__(
        self,
        hosted: Hosted,
        procedures: Mapping[str, Deployed],
        workloads: Mapping[str, Workload],
        hello: Callable[[], Hello],
        now_ms: Callable[[], int],
        make_crew: Callable[[Engine], Crew],
    ) -> None:
        """`make_crew` gives an engine who runs its workers."""
        self._hosted = hosted
        self._make_crew = make_crew
        self._event = new_event()
        self._say_who = hello
        self._now_ms = now_ms
        self.procedures = procedures
        self._workloads = workloads
        #: Set by the process before anybody connects.
        self.administration: Administration | None = None
        self._open()

    def _open(self) -> None:
        partition = self._hosted.partition
        self.engine: Engine = partition.engine
        self.crew = self._make_crew(self.engine)
        self.drives = Drives(
            self.crew,
            self._workloads,
            lambda: self._hosted.pumped,
            lambda: self.serving,
            self._hosted.plan.guests,
        )
        self.serving = Serving(
            self.crew,
            self.procedures,
            workers=0,
            limit=self.time_limit,
            gate=self.gate,
            stalled=lambda: self._hosted.partition.across.stalled,
            event=self._event,
        )

    def reopen(self) -> None:
        """The partition has another engine: nobody may look at the old one any more."""
        self._close()
        self._open()

    def close(self) -> None:
        self._close()
        os.close(self._event)

    def _close(self) -> None:
        self.drives.stop()
        self.serving.close()
        self.crew.close()

    def pause(self) -> None:
        """Stop the workers for a while; what they were asked for waits."""
        self.serving.pause()
        self.drives.pause()

    def resume(self) -> None:
        self.serving.resume()
        self.drives.resume()

    def time_limit(self) -> int:
        """The greatest timestamp that physical time has passed for sure."""
        return self._now_ms() - self._hosted.plan.clock_offset_ms + 1 << MILLISECOND_SHIFT

    @property
    def hello(self) -> Hello:
        return replace(self._say_who(), partition=self.partition)

    @property
    def partition(self) -> int:
        return self._hosted.replica.partition

    def whereabouts(self) -> dict[str, Any]:
        return self._hosted.plan.whereabouts()

    @property
    def planted(self) -> frozenset[str]:
        return self._hosted.plan.planted

    def is_lasting(self, table: TableHandle) -> bool:
        return self._hosted.partition.is_lasting(int(table.table.id))

    @property
    def leads(self) -> bool:
        return self._hosted.serves

    @property
    def epoch(self) -> int:
        return self._hosted.partition.epoch

    @property
    def leader(self) -> str:
        return self._hosted.leader_address

    def gate(self) -> int:
        # Not the engine's: that may just have been replaced.
        return min(self._hosted.partition.stable, self.time_limit())

    def passed(self, timestamp: int, mask: int) -> bool:
        if mask == EVERYBODY:
            return timestamp <= self.gate()
        reached = self._hosted.partition.across.reached(mask, timestamp)
        return reached and timestamp <= self.time_limit()

    def readable(self, over: int) -> int:
        partition = self._hosted.partition
        if partition.engine is not self.engine:  # That has just been replaced, see `reopen`.
            return self.engine.stable
        # Workers hear from each other of watermarks, so the engine may be further.
        return max(self.engine.stable, partition.across.stable_over(over))

    def on_waiting(self, timestamp: int) -> None:
        self._hosted.touch(timestamp)

    def open_table(self, name: str) -> TableHandle:
        known = self.engine.table_named(name)
        return known or self._hosted.placed(self.engine.create_named(name))

    def create_table(self, description: Description) -> TableHandle:
        self.engine.describe_tables([description])
        return self._hosted.placed(self.engine.tables[description.table])

    def status(self) -> dict[str, Any]:
        return self._hosted.status()
