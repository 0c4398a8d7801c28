"""The micro-benchmark behind the interface that the runner knows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bench.distribution import first_fields, ranges_of
from bench.micro.terminals import Terminal as MicroTerminal
from bench.micro.workload import (
    CALL_OPS_MAX,
    KINDS,
    PARTED,
    READ_MODIFY_WRITE,
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
    Done,
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
        self._terminals: list[MicroTerminal] = []

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
        self._terminals = [
            MicroTerminal(self.states(1, seed, number % self._places)[0], seed * count + number)
            for number in range(count)
        ]
        return self._terminals

    def check(
        self, db: "mako.Database", *, after_load: bool, done: Done | None = None
    ) -> list[CheckResult]:
        """No part of a transaction is missing, and no update was lost."""
        if after_load:
            return []
        total, writes = sums_over(db, (sum_values, sum_writes), self._ranges())
        status = Status.FAIL if total else Status.PASS
        detail = f"it is {total}"
        if self._options.ops == 1 and not total:
            status, detail = Status.SKIP, "a transaction of one key changes none"
        return [
            CheckResult("values", "the sum of all values is zero", status, detail),
            self._check_writes(writes, self._written(done)),
        ]

    def _check_writes(self, writes: int, written: tuple[int, int] | None) -> CheckResult:
        """`written`: how many transactions have, at least and at most."""
        ops = self._options.ops
        good = writes % ops == 0
        detail = f"it is {writes}"
        if written is None:
            detail += ", and nobody knows of how many"
        else:
            least, most = written[0] * ops, written[1] * ops
            good = good and least <= writes <= most
            detail += f" of {least}" if least == most else f" of {least} to {most}"
        return CheckResult(
            "writes",
            "the number of writes is that of the transactions that wrote, times their keys",
            Status.PASS if good else Status.FAIL,
            detail,
        )

    def _written(self, done: Done | None) -> tuple[int, int] | None:
        """How many transactions have written, at least and at most; None: nobody knows."""
        if self._terminals:
            # Of those that were not acknowledged some have, and some have not.
            least = sum(terminal.acknowledged for terminal in self._terminals)
            return least, _drawn(terminal.state() for terminal in self._terminals)
        if done is None:
            return None
        least, most = done.committed[KINDS[READ_MODIFY_WRITE]], _drawn(done.states)
        if done.at_once:  # None that was committed while the warm-up ended is left out, either.
            least = max(least, most - len(done.states))
        return least, most

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


def _drawn(states: Iterable[Mapping[str, Any]]) -> int:
    """How many transactions that write were begun."""
    return sum(state["n_transactions"] - state["n_reads"] for state in states)


def create(options: MicroOptions) -> Micro:
    return Micro(options)
