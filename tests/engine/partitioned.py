"""Several partitions in one thread: workers that take a step when a test says so; and accounts,
with procedures that touch one of them."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mako
from mako.engine import lane as lanes
from mako.engine import layout
from mako.engine.completing import STOP
from mako.engine.engine import Engine
from mako.engine.mailbox import REQUEST_ARGUMENTS, open_rings, post, request_slot
from mako.engine.maps import place
from mako.engine.mesh import turn
from mako.engine.partitions import Mesh, contexts_for
from mako.engine.region import Region
from mako.engine.worker import oldest_request, serve_oldest
from mako.ids import Outcome, Status
from mako.placement import Placement, blocks
from mako.procedure import Procedure
from mako.schema import BytesTable, Table
from tests.engine.pumping import PumpedMesh

LANES: Final = 4
_COMPLETION: Final = struct.Struct("<8q")


@dataclass(slots=True)
class Done:
    """What became of a request."""

    number: int
    outcome: Outcome | Status
    timestamp: int
    mask: int
    value: int
    detail: int = 0


class Cluster:
    """Partitions with one worker each. Of a table without a placement each of them has the rows of
    one number of the first field."""

    def __init__(
        self,
        tables: Sequence[Table | BytesTable],
        *,
        placements: Mapping[str, Placement] | None = None,
        partitions: int = 2,
        lanes: int = LANES,
        others: int | None = None,
        now_ns: int = 1_700_000_000_000_000_000,
        slack_us: float = 20,
        logging: bool = False,
        pumped: bool = False,
    ) -> None:
        self.now_ns = now_ns
        self.engines = [
            Engine(
                16 << 20,
                contexts=6 + contexts_for(1),
                ring_bytes=1 << 16,
                partition=partition,
                now_ns=lambda: self.now_ns,
            )
            for partition in range(partitions)
        ]
        self.homes: list[int] = []
        self._rings: list[Region] = []
        others = lanes * max(partitions - 1, 1) if others is None else others
        self.network: PumpedMesh | None = None
        self.mesh: Mesh | PumpedMesh
        if pumped:
            self.mesh = self.network = PumpedMesh(self.engines, slack_us=slack_us)
        else:
            self.mesh = Mesh(
                self.engines, 1, own_lanes=lanes, other_lanes=others, slack_us=slack_us
            )
        for engine in self.engines:
            engine.logging = logging
            for table in tables:
                handle = engine.create_table(table)
                if placements is not None:
                    place(engine, handle, placements[table.name])
                elif isinstance(table, Table):
                    bits = table.key_fields[0].bits
                    place(engine, handle, blocks(partitions, size=1, bits=bits))
            home = engine.take_context()
            rings = Region(layout.REQUEST_RING_BYTES + layout.COMPLETION_RING_BYTES)
            open_rings(home, rings.base, rings.base + layout.REQUEST_RING_BYTES, -1)
            engine.set_word(home + layout.C_CONTROL, STOP)
            self.mesh.attach(engine, home, 0)
            self.homes.append(home)
            self._rings.append(rings)
        self._seen = [0] * partitions
        self._numbers = 0

    def post(self, partition: int, procedure: Procedure, *arguments: int) -> int:
        """Ask the worker of a partition; the number of the request."""
        engine = self.engines[partition]
        words = engine.argument_words(procedure, arguments)
        return self.post_entry(partition, engine.entry(procedure).address, words)

    def post_entry(self, partition: int, entry: int, words: bytes, *, origin: int = 0) -> int:
        """The same for the address of an entry, and its arguments as they lie in memory."""
        home = self.homes[partition]
        slot = request_slot(home, REQUEST_ARGUMENTS + len(words))
        assert slot, "the ring has room for what a test asks at a time"
        rings = self._rings[partition]
        rings.write(slot + REQUEST_ARGUMENTS, words)
        self._numbers += 1
        post(home, slot, self._numbers, entry)
        rings.write(slot + layout.Q_ORIGIN, origin.to_bytes(8, "little"))
        return self._numbers

    def has_requests(self, partition: int) -> bool:
        return bool(oldest_request(self.homes[partition]) != 0)

    def serve(self, partition: int) -> bool:
        """Have the worker run its oldest request once, or move it to a lane."""
        return self.has_requests(partition) and bool(
            serve_oldest(self.homes[partition], self.now_ns)
        )

    def turn(self, partition: int) -> int:
        """Have the worker look at what other partitions want."""
        return turn(self.homes[partition], self.now_ns)

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns

    def done(self) -> list[Done]:
        """What has been completed since the last time."""
        found = []
        for partition, home in enumerate(self.homes):
            engine = self.engines[partition]
            head = engine.word(home + layout.K_COMPLETION_HEAD)
            tail = self._seen[partition]
            base = layout.REQUEST_RING_BYTES
            while tail < head:
                place = base + tail % layout.COMPLETION_RING_BYTES
                size = struct.unpack_from("<q", self._rings[partition].view, place)[0]
                if size == layout.RING_SKIP:
                    tail += layout.COMPLETION_RING_BYTES - tail % layout.COMPLETION_RING_BYTES
                    continue
                _, number, outcome, *rest, _ = _COMPLETION.unpack_from(
                    self._rings[partition].view, place
                )
                ended = Status(outcome) if outcome >= Status.NOT_LEADER else Outcome(outcome)
                found.append(Done(number, ended, *rest))
                tail += size
            self._seen[partition] = tail
            engine.set_word(home + layout.K_COMPLETION_TAIL, tail)
        return found

    def settle(self) -> list[Done]:
        """Let everybody go on until nothing is under way, and all know each other's watermarks."""
        found: list[Done] = []
        partitions = range(len(self.engines))
        for _ in range(100_000):
            self.pass_time(10_000)
            busy = sum(self.serve(each) for each in partitions)
            busy += sum(self.turn(each) for each in partitions)
            if self.network is not None:
                self.network.carry()
            found += self.done()
            if busy == 0 and self.mesh.busy == 0 and not any(map(self.has_requests, partitions)):
                break
        else:
            raise AssertionError("it does not come to rest")
        self.agree()
        return found

    def agree(self) -> None:
        """Let all know each other's watermarks."""
        # Proposals are a little ahead of the time, and clocks of who has nothing to do behind it.
        self.pass_time(10_000_000)
        for _ in range(2):
            for engine in self.engines:
                engine.tick(self.now_ns // 1_000_000)
                engine.settle()
            if self.network is not None:
                self.network.tell_watermarks()
            for each in (*range(len(self.engines)), *range(len(self.engines))):
                self.turn(each)

    def run(self, partition: int, procedure: Procedure, *arguments: int) -> Done:
        """Ask, and let everybody go on until it is done."""
        return self.finish(self.post(partition, procedure, *arguments))

    def finish(self, number: int) -> Done:
        """Let everybody go on until a request is done."""
        (found,) = [done for done in self.settle() if done.number == number]
        return found

    def close_partition(self, partition: int) -> int:
        """Close; I4: what is prepared here, or not installed everywhere, is above."""
        engine = self.engines[partition]
        closed = engine.settle()
        for context in self.mesh.lanes_of(engine):
            state = engine.word(context + lanes.L_STATE)
            holds = state in (lanes.PREPARING, lanes.RAISING, lanes.COMMITTED_, lanes.HOLDING)
            if state == lanes.VOTING and engine.word(context + lanes.L_ANSWER) >= 0:
                holds = True
            raised = engine.word(context + lanes.L_HIGHEST)
            timestamp = max(engine.word(context + lanes.L_TIMESTAMP), raised + 1 if raised else 0)
            assert not holds or closed < timestamp, (partition, state, closed, timestamp)
        return closed

    def close(self) -> None:
        broken = [self.mesh.station_of(engine).broken for engine in self.engines]
        self.mesh.close()
        for engine, home in zip(self.engines, self.homes, strict=True):
            engine.give_context(home)
            engine.close()
        for rings in self._rings:
            rings.close()
        assert not any(broken), broken


ACCOUNT: Final = mako.Table("account", id=7, key={"place": 8, "number": 32}, row={"v": "i8"})


@mako.procedure
def put(tx: Any, place: int, number: int, value: int) -> int:
    tx.put(ACCOUNT, (place, number)).v = value
    return 0


@mako.procedure
def insert(tx: Any, place: int, number: int, value: int) -> int:
    tx.insert(ACCOUNT, (place, number)).v = value
    return 0


@mako.procedure
def delete(tx: Any, place: int, number: int) -> int:
    tx.delete(ACCOUNT, (place, number))
    return 0


@mako.procedure
def change(tx: Any, place: int, number: int) -> int:
    tx.write(ACCOUNT, (place, number)).v += 1
    return 0
