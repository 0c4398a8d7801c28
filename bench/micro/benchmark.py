"""The micro-benchmark behind the interface that the runner knows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bench.distribution import first_fields, ranges_of
from bench.micro.terminals import Terminal as MicroTerminal
from bench.micro.workload import (
    CALL_OPS_MAX,
    PARTED,
    RECORD,
    WORKLOAD,
    load_records,
    sum_values,
    sum_writes,
)
from bench.moments import sums_over
from bench.options import MicroOptions
from bench.parted import Parts, check_room
from bench.shares import share_audit
from bench.workload import (
    AuditResult,
    CheckResult,
    DataSize,
    Extra,
    Progress,
    Status,
    Terminal,
)
from mako.errors import ConfigError

if TYPE_CHECKING:
    import mako

_CHUNK: Final = 500  # Rows of one loading transaction.


class Micro:
    """See `bench.workload.Benchmark`."""

    name = "micro"
    #: Rows are read and replaced.
    growth_bytes = 0

    def __init__(self, options: MicroOptions) -> None:
        self._options = options
        self.title = f"micro-benchmark, {options.ops} keys a transaction"
        #: Partitions, and how many rows each has room for.
        self._places, self._block = 1, 0

    def options(self) -> Mapping[str, str | int | float]:
        over = {"cross_shard_pct": self._options.cross_shard_pct} if self._places > 1 else {}
        return {
            "keys": self._options.keys,
            "read_pct": self._options.read_pct,
            "ops": self._options.ops,
            "dist": str(self._options.dist),
            **over,
        }

    def over(self, parts: Parts) -> None:
        self._places = parts.count
        self._block = parts.block(RECORD, first=0, advice="add -f config/micro_shards.yml")
        check_room(self._options.keys, "--keys", self._places, self._block)

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        db.create(RECORD)
        done = 0
        for first, end in self._ranges():
            for at in range(first, end, _CHUNK):
                behind = min(at + _CHUNK, end)
                db.run(load_records, at, behind)
                done += behind - at
                progress(done, self._options.keys, "records")

    def _ranges(self) -> list[tuple[int, int]]:
        """The keys of each partition."""
        return ranges_of(self._options.keys, places=self._places, block=self._block)

    def size(self) -> DataSize:
        keys = self._options.keys
        return DataSize(keys, keys * RECORD.key_size, keys * RECORD.row_size)

    def workload(self) -> "mako.Workload":
        return PARTED if self._places > 1 else WORKLOAD

    def states(self, workers: int, seed: int, place: int = 0) -> list[dict[str, Any]]:
        asked = self._options
        first = {
            **first_fields(asked.dist, asked.keys, places=self._places, block=self._block),
            "ops": asked.ops,
            "read_pct": asked.read_pct,
            "place": place,
            "places": self._places,
            "cross_pct": asked.cross_shard_pct,
        }
        return [dict(first) for _ in range(workers)]

    def terminals(self, count: int, seed: int) -> Sequence[Terminal]:
        if self._options.ops > CALL_OPS_MAX:
            raise ConfigError(
                f"--ops {self._options.ops}: a terminal sends {CALL_OPS_MAX} keys at most; give"
                " fewer --ops, or leave out --clients"
            )
        return [
            MicroTerminal(self.states(1, seed, number % self._places)[0], seed * count + number)
            for number in range(count)
        ]

    def check(self, db: "mako.Database", *, after_load: bool) -> list[CheckResult]:
        """No part of a transaction is missing, and no update was lost."""
        if after_load:
            return []
        total, writes = sums_over(db, (sum_values, sum_writes), self._ranges())
        whole = writes % self._options.ops == 0
        return [
            CheckResult(
                "values",
                "the sum of all values is zero",
                Status.FAIL if total else Status.PASS,
                f"it is {total}",
            ),
            CheckResult(
                "writes",
                "the number of writes is a multiple of the keys of a transaction",
                Status.PASS if whole else Status.FAIL,
                f"it is {writes}",
            ),
        ]

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        samples = sum(state["n_transactions"] for state in states)

        def share(name: str, title: str, field: str, asked: int) -> AuditResult:
            count = sum(state[field] for state in states)
            return share_audit(name, title, count, samples, asked / 100)

        reads = "transactions that only read, as asked for"
        found = [share("reads_pct", reads, "n_reads", self._options.read_pct)]
        if self._places > 1:
            over = "transactions over partitions, as asked for"
            asked = self._options.cross_shard_pct
            found.append(share("cross_shard_pct", over, "n_cross", asked))
        return found

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        return []


def create(options: MicroOptions) -> Micro:
    return Micro(options)
