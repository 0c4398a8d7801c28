"""Partitions of one process with a worker each, and what they do in a while."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import mako
from mako.engine.engine import Engine
from mako.engine.maps import place, unset
from mako.engine.partitions import Mesh, contexts_for
from mako.placement import blocks as in_blocks
from mako.schema import Table
from mako.server.drive import Drive, Sample
from mako.server.workers import Crew

#: Seconds that transactions under way have to end.
DRAIN_SECONDS: Final = 30.0
WARMUP_SECONDS: Final = 1.0
#: Contexts for loading and checking, beside those of the workers and their lanes.
_SESSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """What the partitions have done together."""

    seconds: float
    committed: int
    #: Rolled back because the workload asked for it.
    rolled_back: int
    #: Attempts that were run again, those apart that waited for a prepared lock.
    aborted: int
    counts: dict[str, int]
    states: tuple[dict[str, Any], ...]
    #: Of `aborted`: attempts over partitions.
    aborted_over: int = 0
    #: That became durable meanwhile, rolled back ones included; None: nothing is replicated.
    durable: int | None = None

    @property
    def per_second(self) -> float:
        """Executed, not durable yet."""
        return (self.committed + self.rolled_back) / self.seconds

    @property
    def durable_per_second(self) -> float | None:
        return None if self.durable is None else self.durable / self.seconds

    @property
    def abort_pct(self) -> float:
        """Of all attempts, without those that were parked."""
        ended = self.committed + self.rolled_back
        return 100 * self.aborted / max(ended + self.aborted, 1)


class Partitions:
    """Engines with the tables of a workload, which `load` fills; then `drive`."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        self._stack = ExitStack()
        self.engines: list[Engine] = []
        for partition in range(count):
            engine = Engine(memory_bytes, contexts=_SESSIONS + contexts_for(1), partition=partition)
            self._stack.callback(engine.close)
            self.engines.append(engine)

    def create(self, tables: Iterable[Table]) -> None:
        for engine in self.engines:
            for table in tables:
                engine.create_table(table)

    def run(self, partition: int, procedure: mako.Procedure, *arguments: int) -> int:
        """Run a procedure at one partition, which sees its own rows only."""
        return self.engines[partition].run(procedure, arguments)[0]

    def drive(
        self,
        workload: mako.Workload,
        states: Sequence[dict[str, Any]],
        seconds: float,
        blocks: Iterable[tuple[Table, int, int]],
        *,
        seed: int = 1,
    ) -> Measured:
        """Drive a worker at each partition for a while. `blocks` says of which tables the rows are
        dealt out: the first number, and how many numbers each partition has."""
        dealt = list(blocks)
        for table, first, each in dealt:
            bits = table.key_fields[0].bits
            placement = in_blocks(len(self.engines), size=each, bits=bits, first=first)
            for engine in self.engines:
                place(engine, engine.tables[int(table.id)], placement)
        mesh = Mesh(self.engines, 1)
        crews = [Crew(engine, 10.0) for engine in self.engines]
        drives = [
            Drive(crew, workload, workers=1, states=[state], seed=seed + i, rate=0, mesh=mesh)
            for i, (crew, state) in enumerate(zip(crews, states, strict=True))
        ]
        try:
            time.sleep(WARMUP_SECONDS)
            before = self._counts(mesh)
            for drive in drives:
                drive.reset()
            time.sleep(seconds)
            samples = [drive.sample() for drive in drives]
            after = self._counts(mesh)
        finally:
            _drain(drives, mesh)
            for drive in drives:
                drive.stop()
            for crew in crews:
                crew.close()
            mesh.close()
        for engine in self.engines:
            for table, _, _ in dealt:
                unset(engine, engine.tables[int(table.id)])
        counts = {name: after[name] - before[name] for name in after}
        return measured(samples, counts, [drive.states()[0] for drive in drives])

    def _counts(self, mesh: Mesh) -> dict[str, int]:
        total: dict[str, int] = {}
        for partition in range(len(self.engines)):
            for name, value in asdict(mesh.counts(partition)).items():
                total[name] = total.get(name, 0) + value
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def measured(
    samples: Sequence[Sample], counts: dict[str, int], states: Sequence[dict[str, Any]]
) -> Measured:
    stopped = next((sample.stopped for sample in samples if sample.stopped), "")
    if stopped:
        raise mako.Error(f"a worker stopped: {stopped}")
    kinds = [kind for sample in samples for kind in sample.kinds]
    is_replicated = any(kind.durable for kind in kinds)
    return Measured(
        seconds=samples[0].seconds,
        committed=sum(kind.committed for kind in kinds),
        rolled_back=sum(kind.rolled_back for kind in kinds),
        aborted=sum(sum(sample.aborts.values()) for sample in samples),
        counts=counts,
        states=tuple(states),
        aborted_over=sum(sum(sample.aborts_over.values()) for sample in samples),
        durable=sum(sum(kind.durable) for kind in kinds) if is_replicated else None,
    )


def _drain(drives: Sequence[Drive], mesh: Mesh) -> None:
    for drive in drives:
        drive.drain()
    end = time.monotonic() + DRAIN_SECONDS
    while mesh.busy and time.monotonic() < end:
        time.sleep(0.002)
    if mesh.busy:
        raise mako.Error(f"{mesh.busy} transactions did not end in {DRAIN_SECONDS:g} s")
