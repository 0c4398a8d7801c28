"""Workers of several partitions in one process, connected with each other.

Every worker gets lanes, and a port to a worker of each other partition: worker i of one talks to
worker i of the other, modulo how many that has. Channels and meshes lie in a region of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mako.engine.channel import CHANNEL_SIZE
from mako.engine.layout import PARTITION
from mako.engine.region import Region
from mako.engine.station import (
    OTHER_LANES,
    OWN_LANES,
    SLACK_US,
    Channels,
    Conflicts,
    Lanes,
    MeshCounts,
    Station,
)
from mako.errors import ConfigError

if TYPE_CHECKING:
    from mako.engine.engine import Engine


def contexts_for(workers: int) -> int:
    """Contexts that so many workers need beside their own."""
    return workers * (OWN_LANES + OTHER_LANES)


class Mesh:
    """The connections of all workers of `engines`, which are the partitions of one database."""

    def __init__(
        self,
        engines: Sequence[Engine],
        workers: int,
        *,
        own_lanes: int = OWN_LANES,
        other_lanes: int = OTHER_LANES,
        slack_us: float = SLACK_US,
    ) -> None:
        self._engines = list(engines)
        self._workers = workers
        self.stations: dict[int, Station] = {}
        partitions = [engine.word(engine.base + PARTITION) for engine in engines]
        if len(set(partitions)) != len(partitions):
            raise ConfigError("two engines have the same partition number; give each its own")
        others = len(partitions) - 1
        if other_lanes < 1:
            raise ConfigError(f"{other_lanes} lanes for others; give at least one")
        pairs = len(partitions) * others // 2 * workers
        self._region = Region(pairs * 4 * CHANNEL_SIZE + 4096)
        self._used = 0
        try:
            for partition, engine in zip(partitions, engines, strict=True):
                station = Station(
                    engine,
                    [Lanes(own_lanes, other_lanes)] * workers,
                    workers * others,
                    slack_us=slack_us,
                )
                self.stations[partition] = station
                station.set_peers(partitions)
            self._connect()
        except BaseException:
            self.close()
            raise

    def _take_channel(self) -> int:
        place = self._region.base + self._used
        self._used += CHANNEL_SIZE
        return place

    def _connect(self) -> None:
        partitions = sorted(self.stations)
        for at, one in enumerate(partitions):
            for other in partitions[at + 1 :]:
                for number in range(self._workers):
                    ask, asked, answer, answered = (self._take_channel() for _ in range(4))
                    here = Channels(ask, asked, answer, answered)
                    self.stations[one].add_port(number, other, here)
                    there = Channels(asked, ask, answered, answer)
                    self.stations[other].add_port(number, one, there)

    # --- use ----------------------------------------------------------------------------------

    def station_of(self, engine: Engine) -> Station:
        """The station of one of the engines."""
        return self.stations[engine.word(engine.base + PARTITION)]

    def attach(self, engine: Engine, context: int, number: int) -> None:
        """`context` is that of worker `number` of `engine`, which has not begun."""
        self.station_of(engine).attach(context, number)

    def detach(self, engine: Engine, context: int) -> None:
        """The worker has ended."""
        self.station_of(engine).detach(context)

    def place_of(self, engine: Engine, number: int) -> int:
        """The place of worker `number` of `engine` among all workers."""
        return self._engines.index(engine) * self._workers + number

    def lanes_of(self, engine: Engine) -> list[int]:
        """The contexts that are lanes of the workers of `engine`."""
        return self.station_of(engine).lanes

    def conflicts_of(self, engine: Engine) -> Conflicts:
        """How often attempts in lanes of the workers of `engine` were in the way of others."""
        return self.station_of(engine).conflicts()

    @property
    def busy(self) -> int:
        """Transactions that are under way, as it happens to be; once for each partition."""
        return sum(station.busy for station in self.stations.values())

    def counts(self, partition: int) -> MeshCounts:
        return self.stations[partition].counts()

    def close(self) -> None:
        """Every worker has ended."""
        for station in self.stations.values():
            station.set_peers([])
            station.close()
        self._region.close()
