"""What an engine has for transactions over partitions: a mesh for each worker, and their ports.

    worker 0   mesh: lanes, ports ─┬─▶ partition 1      the ports of a mesh that its worker asks at
               ...                 └─▶ partition 2
    worker 0   ports ◀── asked by the workers of partition 1, of partition 2, ...

A station is of one leadership. What becomes of transactions when an epoch begins somewhere is
here, too; no worker runs then. `mako.engine.partitions` connects stations of one process directly,
`mako.engine.pumped` connects those of several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from mako.engine import lane as lanes
from mako.engine.closing import set_word
from mako.engine.layout import (
    C_INHERITED,
    C_MESH,
    C_OUTCOMES,
    C_PARKED_OUTCOMES,
    C_REFUSED,
    PARTITION,
    PEERS,
    STALLED,
    VIEW,
)
from mako.engine.participant import note_loss, release_lane
from mako.engine.region import Region
from mako.engine.rounds import abandon, interrupt
from mako.engine.transitions import broken
from mako.engine.worker import watch
from mako.errors import ConfigError
from mako.ids import MILLISECOND_SHIFT, Outcome

if TYPE_CHECKING:
    from mako.engine.engine import Engine

#: Lanes of a worker: for transactions that it coordinates, and for those of others.
OWN_LANES: Final = 16
OTHER_LANES: Final = 40
#: How far ahead of the time a proposal is, in microseconds: about what it takes to arrive.
SLACK_US: Final = 20
_UNITS_PER_US: Final = (1 << 20) / 1000


#: What a lane's transaction keeps while it is run again: who asked for it, or when it began.
_WHOSE: Final = (lanes.L_INDEX, lanes.L_REQUEST, lanes.L_ORIGIN, lanes.L_STARTED)
_PARTICIPATING: Final = (lanes.VOTING, lanes.HOLDING, lanes.TELLING, lanes.VOID)


class Lanes(NamedTuple):
    """How many lanes a worker has."""

    own: int = OWN_LANES
    others: int = OTHER_LANES


class Channels(NamedTuple):
    """The channels of a port, by their addresses; 0: it has none of the kind."""

    ask: int = 0
    asked: int = 0
    answer: int = 0
    answered: int = 0


class Abandoned(NamedTuple):
    """A request that was in a lane when the leadership ended, and has no effect."""

    origin: int
    number: int


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
    unreached: int
    #: Transactions that were refused because a timestamp was too far ahead.
    apart: int
    #: Requests that were told to come back, as no lane was free.
    turned_away: int


#: How an attempt ends that is made again.
_CONFLICTS: Final = (Outcome.LOCKED, Outcome.CHANGED, Outcome.PHANTOM)


def inherited(engine: Engine) -> int:
    """Commits that were of this partition alone and depended on others, ever."""
    contexts = map(engine.context, range(engine.context_count))
    return sum(engine.word(context + C_INHERITED) for context in contexts)


def refused_as_stalled(engine: Engine) -> int:
    """Transactions that ended since they inherited from a partition that stalls, ever."""
    contexts = map(engine.context, range(engine.context_count))
    return sum(engine.word(context + C_REFUSED) for context in contexts)


class Conflicts(NamedTuple):
    """Attempts in lanes that conflicts have ended, by outcome."""

    #: Of transactions over partitions that began here.
    over: Counter[Outcome]
    #: Of those that touch no other partition, and wait here for a prepared lock.
    alone: Counter[Outcome]
    #: The parts here of those that began elsewhere, where they count, too.
    others: Counter[Outcome]
    #: How often one that began here was parked as it met a prepared lock, which is an attempt that
    #: ended LOCKED: `alone` or `over` partitions.
    parked: Counter[str]


class Station:
    """See the module. `lanes_of` says for each worker how many lanes it has, `ports` how many
    there will be of all workers together."""

    def __init__(
        self,
        engine: Engine,
        lanes_of: Sequence[Lanes],
        ports: int,
        *,
        slack_us: float = SLACK_US,
        sleeps: bool = False,
        ahead_ms: int = 0,
    ) -> None:
        """`sleeps`: whoever sends something wakes the worker, which may sleep until then.
        `ahead_ms`: how far ahead of the time a timestamp of others may be; 0: at will."""
        for own, others in lanes_of:
            if own < 1 or others < 0 or own + others > lanes.LANES_MAX:
                raise ConfigError(
                    f"{own} and {others} lanes; give at least one of each, and {lanes.LANES_MAX}"
                    " at most in all"
                )
        self.engine = engine
        self.partition = engine.word(engine.base + PARTITION)
        self.meshes: list[int] = []
        #: Contexts that are lanes.
        self.lanes: list[int] = []
        size = len(lanes_of) * _aligned(lanes.MESH_BYTES) + ports * _aligned(lanes.PORT_BYTES)
        self._region = Region(-(-size // 4096) * 4096)
        self._words = self._region.view.cast("q")
        self._used = 0
        self._ports = ports
        try:
            for number, wanted in enumerate(lanes_of):
                mesh = self._make_mesh(number, wanted, round(slack_us * _UNITS_PER_US), sleeps)
                self._set(mesh + lanes.H_AHEAD, ahead_ms << MILLISECOND_SHIFT)
        except BaseException:
            self.close()
            raise
        self._before = self._conflicts()  # Contexts were something else before.

    # --- making -------------------------------------------------------------------------------

    def _take(self, size: int) -> int:
        place = self._region.base + self._used
        self._used += _aligned(size)
        return place

    def _set(self, address: int, value: int) -> None:
        self._words[(address - self._region.base) >> 3] = value

    def _get(self, address: int) -> int:
        return self._words[(address - self._region.base) >> 3]

    def _make_mesh(self, number: int, wanted: Lanes, slack: int, sleeps: bool) -> int:
        engine = self.engine
        mesh = self._take(lanes.MESH_BYTES)
        self.meshes.append(mesh)
        self._set(mesh + lanes.H_OWN, (1 << wanted.own) - 1)
        bits = (1 << wanted.own + wanted.others) - 1
        self._set(mesh + lanes.H_FREE, bits if bits < 1 << 63 else -1)
        self._set(mesh + lanes.H_SLACK, slack)
        self._set(mesh + lanes.H_SLEEPS, int(sleeps))
        self._set(mesh + lanes.H_TELLS, int(number == 0 and not sleeps))
        for i in range(wanted.own + wanted.others):
            context = engine.take_context()
            self.lanes.append(context)
            engine.set_word(context + C_MESH, mesh)
            engine.set_word(context + lanes.L_INDEX, i)
            engine.set_word(context + lanes.L_STATE, lanes.FREE)
            self._set(mesh + lanes.H_LANE_LIST + 8 * i, context)
        return mesh

    def add_port(self, number: int, there: int, channels: Channels) -> int:
        """A port of worker `number` to partition `there`; its address."""
        assert self._ports > 0, "no more than was said"
        self._ports -= 1
        mesh = self.meshes[number]
        port = self._take(lanes.PORT_BYTES)
        self._set(port + lanes.P_PARTITION, there)
        self.set_channels(port, channels)
        count = self._get(mesh + lanes.H_PORTS)
        assert count < lanes.PORTS_MAX
        self._set(mesh + lanes.H_PORT_LIST + 8 * count, port)
        self._set(mesh + lanes.H_PORTS, count + 1)
        if channels.ask:
            self._set(mesh + lanes.H_PORT_OF + 8 * there, port)
        return port

    def wake_with(self, port: int, state: int, event: int) -> None:
        """Who reads what this port sends sleeps on the eventfd `event`, and says so at `state`."""
        self._set(port + lanes.P_STATE, state)
        self._set(port + lanes.P_EVENT, event)

    def port_word(self, port: int, field: int) -> int:
        return self._get(port + field)

    def set_channels(self, port: int, channels: Channels) -> None:
        """No worker runs."""
        self._set(port + lanes.P_ASK, channels.ask)
        self._set(port + lanes.P_ASKED, channels.asked)
        self._set(port + lanes.P_ANSWER, channels.answer)
        self._set(port + lanes.P_ANSWERED, channels.answered)

    def set_sleeps(self, sleeps: bool) -> None:
        """Whether whoever sends something wakes the workers."""
        for mesh in self.meshes:
            set_word(mesh + lanes.H_SLEEPS, int(sleeps))

    def clear_port(self, port: int) -> None:
        """Nothing was sent there, and nobody there has a lane here."""
        for field in (lanes.P_SENT, lanes.P_PUMPED):
            self._set(port + field, 0)
        self._set(port + lanes.P_TOLD, 0)
        for i in range(lanes.LANES_MAX):
            self._set(port + lanes.P_LANES + 8 * i, 0)

    # --- use ----------------------------------------------------------------------------------

    def attach(self, context: int, number: int) -> None:
        """`context` is that of worker `number`, which has not begun."""
        self.engine.set_word(context + C_MESH, self.meshes[number])

    def detach(self, context: int) -> None:
        """The worker has ended."""
        self.engine.set_word(context + C_MESH, 0)

    def set_peers(self, partitions: Sequence[int]) -> None:
        """These are all partitions, this one among them."""
        bits = sum(1 << partition for partition in partitions)
        self.engine.set_word(self.engine.base + PEERS, _signed(bits))

    def set_view(self, view: int) -> None:
        """What epochs this partition knows (`mako.recovery.history.History.view`)."""
        self.engine.set_word(self.engine.base + VIEW, view)

    def set_closed(self, partitions: Sequence[int]) -> None:
        """These partitions are out of reach, and the others are not. Workers may run."""
        bits = _signed(sum(1 << partition for partition in partitions))
        for mesh in self.meshes:
            set_word(mesh + lanes.H_CLOSED, bits)

    def set_stalled(self, partitions: Sequence[int]) -> None:
        """These others make nothing durable: nobody inherits from them. Workers may run."""
        bits = _signed(sum(1 << partition for partition in partitions))
        self.engine.set_word(self.engine.base + STALLED, bits)

    @property
    def is_stale(self) -> bool:
        """Whether a message was seen that knows of an epoch which this partition does not."""
        return any(self._get(mesh + lanes.H_STALE) for mesh in self.meshes)

    @property
    def broken(self) -> str:
        """An event that a lane must not have had, and had; empty: none (`transitions`)."""
        for mesh in self.meshes:
            if event := self._get(mesh + lanes.H_BROKEN):
                return str(broken(event, self._get(mesh + lanes.H_BROKEN + 8)))
        return ""

    @property
    def apart(self) -> tuple[int, int]:
        """The partition whose timestamp was furthest ahead of those that were refused last, and by
        how many ms; (0, 0): none was."""
        found = (self._get(mesh + lanes.H_APART_BY) for mesh in self.meshes)
        ahead, mesh = max(zip(found, self.meshes, strict=True))
        return self._get(mesh + lanes.H_APART_FROM), ahead >> MILLISECOND_SHIFT

    @property
    def busy(self) -> int:
        """Transactions that are under way here, as it happens to be."""
        return sum(self._get(mesh + lanes.H_BUSY).bit_count() for mesh in self.meshes)

    def is_busy(self, number: int) -> bool:
        """Whether transactions of this worker are under way."""
        return self._get(self.meshes[number] + lanes.H_BUSY) != 0

    def turned(self, number: int) -> int:
        """When a worker began its last turn, in monotonic ns."""
        return self._get(self.meshes[number] + lanes.H_NOW)

    def runs(self, number: int) -> list[int]:
        """What lanes of a worker run at this moment: whose transactions these are."""
        mesh, found = self.meshes[number], []
        for lane in self.lanes:
            if self.engine.word(lane + C_MESH) == mesh and watch(lane):
                found += [self._lane(lane, field) for field in _WHOSE]
        return found

    def waiting_for(self) -> dict[int, int]:
        """By partition: transactions that hold something here until its leader answers."""
        found: dict[int, int] = {}
        for lane in self._busy_lanes():
            bits = self._lane(lane, lanes.L_WAITING)
            if self._lane(lane, lanes.L_STATE) in _PARTICIPATING:
                bits = 1 << self._get(self._lane(lane, lanes.L_PORT) + lanes.P_PARTITION)
            for partition in range(64):
                if bits >> partition & 1:
                    found[partition] = found.get(partition, 0) + 1
        return found

    def counts(self) -> MeshCounts:
        fields = (
            lanes.H_DISTRIBUTED,
            lanes.H_RAISED,
            lanes.H_REFUSED,
            lanes.H_PARKED,
            lanes.H_INHERITED,
            lanes.H_READ_FOR,
            lanes.H_WAITING,
            lanes.H_UNREACHED,
            lanes.H_APART,
            lanes.H_TURNED_AWAY,
        )
        return MeshCounts(
            *(sum(self._get(mesh + field) for mesh in self.meshes) for field in fields)
        )

    def conflicts(self) -> Conflicts:
        """Since the station was made."""
        now, before = self._conflicts(), self._before
        found = Conflicts(
            now.over - before.over,
            now.alone - before.alone,
            now.others - before.others,
            now.parked - before.parked,
        )
        found.parked["over"] = self.counts().parked - found.parked["alone"]
        return found

    def _conflicts(self) -> Conflicts:
        found = Conflicts(Counter(), Counter(), Counter(), Counter())
        for lane in self.lanes:
            found.parked["alone"] += self.engine.word(lane + C_PARKED_OUTCOMES)
            participates = self._is_participant(lane)
            for outcome in _CONFLICTS:
                count = self.engine.word(lane + C_OUTCOMES + 8 * outcome)
                alone = self.engine.word(lane + C_PARKED_OUTCOMES + 8 * outcome)
                found.alone[outcome] += alone
                (found.others if participates else found.over)[outcome] += count - alone
        return found

    # --- recovery: no worker runs ---------------------------------------------------------------

    def _lane(self, lane: int, field: int) -> int:
        return self.engine.word(lane + field)

    def _busy_lanes(self) -> list[int]:
        return [lane for lane in self.lanes if self._lane(lane, lanes.L_STATE) != lanes.FREE]

    def _is_participant(self, lane: int) -> bool:
        mesh = self.engine.word(lane + C_MESH)
        return not self._get(mesh + lanes.H_OWN) >> self._lane(lane, lanes.L_INDEX) & 1

    def interrupt(self, finals: Mapping[int, int]) -> None:
        """Epochs of these partitions have begun: what each had at or below its final watermark
        stands. What is undecided here is run again, what was prepared for them is forgotten, and
        nobody waits for their old leaders any more (DESIGN §8).

        It comes before versions are discarded: to release a lock puts back what was there.
        """
        gone = _signed(sum(1 << partition for partition in finals))
        for lane in self._busy_lanes():
            if not self._is_participant(lane):
                interrupt(lane, gone)
            elif self._get(self._lane(lane, lanes.L_PORT) + lanes.P_PARTITION) in finals:
                release_lane(lane)
            else:
                for partition, final in finals.items():
                    note_loss(lane, partition, final)
        for mesh in self.meshes:
            self._set(mesh + lanes.H_STALE, 0)

    def abandon(self) -> list[Abandoned]:
        """This leadership is over: nothing is held any more. The requests in lanes that have no
        effect, and about which nothing was said."""
        found = []
        for lane in self._busy_lanes():
            if self._is_participant(lane):
                release_lane(lane)
                continue
            kept = self._lane(lane, lanes.L_KEPT)
            origin, number = self._lane(lane, lanes.L_ORIGIN), self._lane(lane, lanes.L_REQUEST)
            if abandon(lane) and kept:
                found.append(Abandoned(origin, number))
            self.engine.set_word(lane + lanes.L_KEPT, 0)
        for mesh in self.meshes:
            self._set(mesh + lanes.H_KEPT, 0)
        return found

    def close(self) -> None:
        """Every worker has ended."""
        for context in self.lanes:
            self.engine.set_word(context + C_MESH, 0)
            self.engine.give_context(context)
        self.lanes.clear()
        self._words.release()
        self._region.close()


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def _signed(bits: int) -> int:
    return bits if bits < 1 << 63 else bits - (1 << 64)
