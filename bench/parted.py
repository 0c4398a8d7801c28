"""A benchmark on a cluster of several partitions: where its rows are, and who drives it.

                    ┌─▶ leader of partition 0: workers ─┐
    PartedDrive ────┤                                   ├──▶ one sample, one list of states
                    └─▶ leader of partition 1: workers ─┘

Workers of a partition begin transactions of which at least a part is there, so a generator has to
know which keys are. Tables are therefore cut into blocks (docs/sharding.md), all of one size:

    first               first + size          first + 2 · size
      ├── partition 0 ──────┼── partition 1 ───────┼── …
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import mako
from bench.sides import SidedSample, by_type, merged, sides_of
from mako.errors import ConfigError
from mako.placement import ShardMap, blocks

if TYPE_CHECKING:
    from bench.workload import Benchmark

_WORD_BITS: Final = 64
#: What a server is sent as a seed has no more bits.
_SEED_MASK: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Parts:
    """The partitions of a cluster."""

    shards: ShardMap

    @property
    def count(self) -> int:
        return self.shards.partitions

    def block(self, table: mako.Table, *, first: int, advice: str) -> int:
        """How many values of its first key field, from `first` on, each partition has of a table.

        ConfigError if it is not cut into blocks; it ends with `advice`.
        """
        bits = table.key_fields[0].bits
        placement = self.shards.of(table.name)
        if placement.field_bits == bits and placement.boundaries:
            word = int.from_bytes(placement.boundaries[0], "big")
            size = (word >> _WORD_BITS - bits) - first
            if size > 0 and placement == blocks(self.count, size=size, bits=bits, first=first):
                return size
        raise ConfigError(
            f"`shards` of the configuration does not cut table {table.name} into blocks from"
            f" {first} on, so nobody knows which of its rows are local; {advice}"
        )


def check_room(rows: int, option: str, places: int, block: int) -> None:
    """ConfigError if so many rows, dealt out to `places`, do not fit their blocks."""
    if rows < places:
        raise ConfigError(f"{option} {rows}: {places} partitions need a row each; give more")
    if -(-rows // places) > block:
        raise ConfigError(
            f"{option} {rows}: `shards` of the configuration has blocks of {block} in {places}"
            f" partitions; give at most {block * places}, or the cluster larger blocks when it is"
            " made"
        )


class PartedDrive:
    """Drives of the leaders of all partitions. See `bench.runner.Drive`.

    `workers` at each of them; `rate` is that of all together, 0 for a closed loop.
    """

    def __init__(
        self,
        db: mako.RemoteDatabase,
        benchmark: "Benchmark",
        *,
        workers: int,
        seed: int,
        rate: float,
    ) -> None:
        partitions = db.partitions
        self._drives: list[Any] = []
        try:
            for place, partition in enumerate(partitions):
                self._drives.append(
                    db.drive(
                        benchmark.workload(),
                        workers=workers,
                        states=benchmark.states(workers, seed, place),
                        seed=seed * len(partitions) + place & _SEED_MASK,
                        rate=rate / len(partitions),
                        partition=partition,
                    )
                )
        except BaseException:
            self.stop()
            raise

    def sample(self) -> SidedSample:
        """All of them together."""
        return together([drive.sample() for drive in self._drives])

    def reset(self) -> None:
        for drive in self._drives:
            drive.reset()

    def stop(self) -> None:
        """Stop all, also if one of them is lost; its error then."""
        errors = []
        for drive in self._drives:
            try:
                drive.stop()
            except mako.Error as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def states(self) -> list[dict[str, Any]]:
        return [state for drive in self._drives for state in drive.states()]


def together(samples: Sequence[mako.Sample]) -> SidedSample:
    """What several partitions have done, as one sample: the watermark is the lowest."""
    names = [kind.name for kind in samples[0].kinds]
    kinds = [
        merged(name, [sample.kinds[at] for sample in samples]) for at, name in enumerate(names)
    ]
    return SidedSample(
        seconds=min(sample.seconds for sample in samples),
        kinds=by_type(kinds),
        aborts=_sum([sample.aborts for sample in samples]),
        log_bytes=sum(sample.log_bytes for sample in samples),
        log_transactions=sum(sample.log_transactions for sample in samples),
        memory_bytes=sum(sample.memory_bytes for sample in samples),
        memory_limit=sum(sample.memory_limit for sample in samples),
        watermark=min(sample.watermark for sample in samples),
        watermark_lag_ms=max(sample.watermark_lag_ms for sample in samples),
        stopped=next((sample.stopped for sample in samples if sample.stopped), ""),
        aborts_over=_sum([sample.aborts_over for sample in samples]),
        parked=_sum([sample.parked for sample in samples]),
        sides=sides_of(kinds),
        fullest=max(sample.memory_bytes / sample.memory_limit for sample in samples),
    )


def _sum(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
