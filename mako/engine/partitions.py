"""Workers of several partitions in one process, connected with each other.

Every worker gets lanes, and a port to a worker of each other partition: worker i of one talks to
worker i of the other, modulo how many that has. Channels and meshes lie in a region of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mako.engine import lane as lanes
from mako.engine.channel import CHANNEL_SIZE
from mako.engine.layout import (
    C_MESH,
    PARTITION,
    PEERS,
    T_MAP,
    T_MAP_EACH,
    T_MAP_FIRST,
    T_MAP_SHIFT,
)
from mako.engine.owner import BLOCKS, COUNT_SHIFT, HASH
from mako.engine.region import Region
from mako.errors import ConfigError, SchemaError
from mako.schema import Table

if TYPE_CHECKING:
    from mako.engine.engine import Engine, TableHandle

#: Lanes of a worker: for transactions that it coordinates, and for those of others.
OWN_LANES: Final = 16
OTHER_LANES: Final = 40
#: How far ahead of the time a proposal is, in microseconds: about what it takes to arrive.
SLACK_US: Final = 20
_UNITS_PER_US: Final = (1 << 20) / 1000


def contexts_for(workers: int) -> int:
    """Contexts that so many workers need beside their own."""
    return workers * (OWN_LANES + OTHER_LANES)


@dataclass(frozen=True, slots=True)
class MeshCounts:
    """What the workers of one partition have done with others, since they were connected."""

    distributed: int
    raised: int
    refused: int
    parked: int
    inherited: int
    read_for_others: int
    waited_for_room: int


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
        if own_lanes < 1 or other_lanes < 1 or own_lanes + other_lanes > lanes.LANES_MAX:
            raise ConfigError(
                f"{own_lanes} and {other_lanes} lanes; give at least one of each, and"
                f" {lanes.LANES_MAX} at most in all"
            )
        self._engines = list(engines)
        self._by_partition = {engine.word(engine.base + PARTITION): engine for engine in engines}
        if len(self._by_partition) != len(self._engines):
            raise ConfigError("two engines have the same partition number; give each its own")
        self._workers = workers
        self._slack = round(slack_us * _UNITS_PER_US)
        others = len(self._engines) - 1
        pairs = len(self._engines) * others // 2 * workers
        size = len(self._engines) * workers * (lanes.MESH_BYTES + others * lanes.PORT_BYTES)
        self._region = Region(_aligned(size) + pairs * 4 * CHANNEL_SIZE + 4096)
        self._words = self._region.view.cast("q")
        self._used = 0
        self._meshes: dict[tuple[int, int], int] = {}
        self._lanes: list[tuple[Engine, int]] = []
        try:
            for partition, engine in self._by_partition.items():
                for number in range(workers):
                    self._make_mesh(engine, partition, number, own_lanes, other_lanes)
            self._connect()
        except BaseException:
            self.close()
            raise
        bits = sum(1 << partition for partition in self._by_partition)
        for engine in self._engines:
            engine.set_word(engine.base + PEERS, bits if bits < 1 << 63 else bits - (1 << 64))

    # --- making -------------------------------------------------------------------------------

    def _take(self, size: int) -> int:
        place = self._region.base + self._used
        self._used += _aligned(size)
        return place

    def _set(self, address: int, value: int) -> None:
        self._words[(address - self._region.base) >> 3] = value

    def _get(self, address: int) -> int:
        return self._words[(address - self._region.base) >> 3]

    def _make_mesh(self, engine: Engine, partition: int, number: int, own: int, other: int) -> None:
        mesh = self._take(lanes.MESH_BYTES)
        self._meshes[partition, number] = mesh
        self._set(mesh + lanes.H_OWN, (1 << own) - 1)
        bits = (1 << own + other) - 1
        self._set(mesh + lanes.H_FREE, bits if bits < 1 << 63 else -1)
        self._set(mesh + lanes.H_SLACK, self._slack)
        self._set(mesh + lanes.H_TELLS, int(number == 0))
        for i in range(own + other):
            context = engine.take_context()
            self._lanes.append((engine, context))
            engine.set_word(context + C_MESH, mesh)
            engine.set_word(context + lanes.L_INDEX, i)
            engine.set_word(context + lanes.L_STATE, lanes.FREE)
            self._set(mesh + lanes.H_LANE_LIST + 8 * i, context)

    def _connect(self) -> None:
        partitions = sorted(self._by_partition)
        for at, one in enumerate(partitions):
            for other in partitions[at + 1 :]:
                for number in range(self._workers):
                    channels = [self._take(CHANNEL_SIZE) for _ in range(4)]
                    ask, asked, answer, answered = channels
                    self._add_port(one, number, other, (ask, asked, answer, answered))
                    self._add_port(other, number, one, (asked, ask, answered, answer))

    def _add_port(self, here: int, number: int, there: int, channels: tuple[int, ...]) -> None:
        mesh = self._meshes[here, number]
        port = self._take(lanes.PORT_BYTES)
        self._set(port + lanes.P_PARTITION, there)
        fields = (lanes.P_ASK, lanes.P_ASKED, lanes.P_ANSWER, lanes.P_ANSWERED)
        for field, channel in zip(fields, channels, strict=True):
            self._set(port + field, channel)
        count = self._get(mesh + lanes.H_PORTS)
        self._set(mesh + lanes.H_PORT_LIST + 8 * count, port)
        self._set(mesh + lanes.H_PORTS, count + 1)
        self._set(mesh + lanes.H_PORT_OF + 8 * there, port)

    # --- use ----------------------------------------------------------------------------------

    def attach(self, engine: Engine, context: int, number: int) -> None:
        """`context` is that of worker `number` of `engine`, which has not begun."""
        mesh = self._meshes[engine.word(engine.base + PARTITION), number]
        engine.set_word(context + C_MESH, mesh)

    def detach(self, engine: Engine, context: int) -> None:
        """The worker has ended."""
        engine.set_word(context + C_MESH, 0)

    def place_of(self, engine: Engine, number: int) -> int:
        """The place of worker `number` of `engine` among all workers."""
        return self._engines.index(engine) * self._workers + number

    def lanes_of(self, engine: Engine) -> list[int]:
        """The contexts that are lanes of the workers of `engine`."""
        return [context for one, context in self._lanes if one is engine]

    @property
    def busy(self) -> int:
        """Transactions that are under way, as it happens to be; once for each partition."""
        return sum(self._get(mesh + lanes.H_BUSY).bit_count() for mesh in self._meshes.values())

    def counts(self, partition: int) -> MeshCounts:
        fields = (
            lanes.H_DISTRIBUTED,
            lanes.H_RAISED,
            lanes.H_REFUSED,
            lanes.H_PARKED,
            lanes.H_INHERITED,
            lanes.H_READ_FOR,
            lanes.H_WAITING,
        )
        meshes = [mesh for (one, _), mesh in self._meshes.items() if one == partition]
        return MeshCounts(*(sum(self._get(mesh + field) for mesh in meshes) for field in fields))

    def close(self) -> None:
        """Every worker has ended."""
        for engine in self._engines:
            engine.set_word(engine.base + PEERS, 0)
        for engine, context in self._lanes:
            engine.set_word(context + C_MESH, 0)
            engine.give_context(context)
        self._lanes.clear()
        self._words.release()
        self._region.close()


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def set_blocks(
    engine: Engine, handle: TableHandle, partitions: int, *, first: int, each: int
) -> None:
    """The rows whose key begins with `first` to `first + each - 1` are in partition 0, and so on.

    SchemaError if the table has no key of numbers.
    """
    if not isinstance(handle.table, Table):
        raise SchemaError(f"table {handle.table.name} has byte strings as keys; give it a hash")
    field = handle.table.key_fields[0]
    engine.set_word(handle.address + T_MAP_SHIFT, field.shift)
    engine.set_word(handle.address + T_MAP_FIRST, first)
    engine.set_word(handle.address + T_MAP_EACH, each)
    engine.set_word(handle.address + T_MAP, BLOCKS | partitions << COUNT_SHIFT)


def set_hash(engine: Engine, handle: TableHandle, partitions: int) -> None:
    """Where a row is depends on all of its key."""
    engine.set_word(handle.address + T_MAP, HASH | partitions << COUNT_SHIFT)


def unset_map(engine: Engine, handle: TableHandle) -> None:
    """Every partition has the whole table, as far as it knows."""
    engine.set_word(handle.address + T_MAP, 0)
