"""The micro-benchmark behind the interface that the runner knows."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from bench.distribution import first_fields
from bench.micro.workload import RECORD, WORKLOAD, load, sum_values, sum_writes
from bench.options import MicroOptions
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
_SAMPLES_MIN: Final = 10_000
_SIGMAS: Final = 5


class Micro:
    """See `bench.workload.Benchmark`."""

    name = "micro"
    #: Rows are read and replaced.
    growth_bytes = 0

    def __init__(self, options: MicroOptions) -> None:
        self._options = options
        self.title = f"micro-benchmark, {options.ops} keys a transaction"

    def options(self) -> Mapping[str, str | int | float]:
        return {
            "keys": self._options.keys,
            "read_pct": self._options.read_pct,
            "ops": self._options.ops,
            "dist": str(self._options.dist),
        }

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        db.create(RECORD)
        for first in range(0, self._options.keys, _CHUNK):
            end = min(first + _CHUNK, self._options.keys)
            db.run(load, first, end)
            progress(end, self._options.keys, "records")

    def size(self) -> DataSize:
        keys = self._options.keys
        return DataSize(keys, keys * RECORD.key_size, keys * RECORD.row_size)

    def workload(self) -> "mako.Workload":
        return WORKLOAD

    def states(self, workers: int, seed: int) -> list[dict[str, Any]]:
        first = {
            **first_fields(self._options.dist, self._options.keys),
            "ops": self._options.ops,
            "read_pct": self._options.read_pct,
        }
        return [dict(first) for _ in range(workers)]

    def terminals(self, count: int, seed: int) -> Sequence[Terminal]:
        raise ConfigError("the micro-benchmark runs in workers only; leave out --clients")

    def check(self, db: "mako.Database", *, after_load: bool) -> list[CheckResult]:
        """No part of a transaction is missing, and no update was lost."""
        if after_load:
            return []
        with db.snapshot() as snapshot:
            total = snapshot.run(sum_values, self._options.keys)
            writes = snapshot.run(sum_writes, self._options.keys)
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
        reads = sum(state["n_reads"] for state in states)
        share = self._options.read_pct / 100
        chance = 100 * _SIGMAS * sqrt(share * (1 - share) / max(samples, 1))
        low, high = 100 * share - chance, 100 * share + chance
        value = 100 * reads / max(samples, 1)
        status = Status.PASS if low <= value <= high else Status.FAIL
        if samples < _SAMPLES_MIN:
            status = Status.SKIP
        title = "transactions that only read, as asked for"
        return [AuditResult("reads_pct", title, round(value, 4), low, high, status, samples)]

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        return []


def create(options: MicroOptions) -> Micro:
    return Micro(options)
