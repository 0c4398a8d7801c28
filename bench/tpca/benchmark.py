"""Both profiles of TPC-A behind the interface that the runner knows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from bench.distribution import first_fields, ranges_of
from bench.moments import sums_over
from bench.options import BRANCHES_MAX, Distribution, TpcaOptions
from bench.parted import Parts, check_room
from bench.shares import share_audit
from bench.tpca import conditions, janus, spec
from bench.tpca.terminals import JanusTerminal, SpecTerminal
from bench.workload import (
    AuditResult,
    Benchmark,
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
#: TPC-A asks for 15 % of the accounts elsewhere; where chance exceeds the band, it is skipped.
_ELSEWHERE_BAND: Final = (14.0, 16.0)
_ELSEWHERE: Final = 15.0
_SAMPLES_MIN: Final = 10_000


class SpecTpca:
    """The specification's profile. See `bench.workload.Benchmark`."""

    name = "tpca"
    #: A row of history.
    growth_bytes = 224
    title = "TPC-A-like, profile spec, unaudited"

    def __init__(self, options: TpcaOptions) -> None:
        if options.branches > BRANCHES_MAX:
            raise ConfigError(
                f"{options.branches} branches do not fit the keys; take at most {BRANCHES_MAX}"
            )
        if options.branches * options.accounts > spec.ACCOUNTS_MAX:
            raise ConfigError(
                f"{options.branches} branches of {options.accounts} accounts do not fit the keys;"
                f" take at most {spec.ACCOUNTS_MAX} accounts in all"
            )
        self._options = options

    def options(self) -> Mapping[str, str | int | float]:
        return {
            "profile": "spec",
            "branches": self._options.branches,
            "accounts": self._options.accounts,
            "dist": "uniform",
        }

    def over(self, parts: Parts) -> None:
        raise ConfigError(
            "the spec profile runs on one partition, as its accounts are not placed with their"
            " branches; add --profile janus, or use a configuration with one partition"
        )

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        db.create(*spec.TABLES)
        accounts, branches = self._options.accounts, self._options.branches
        for b_id in range(1, branches + 1):
            db.run(spec.load_branch, b_id)
            for first, end in _chunks((b_id - 1) * accounts + 1, b_id * accounts + 1):
                db.run(spec.load_accounts, b_id, first, end)
                progress(end - 1, branches * accounts, "accounts")

    def size(self) -> DataSize:
        rows = (
            (spec.BRANCH, self._options.branches),
            (spec.TELLER, self._options.branches * spec.TELLERS),
            (spec.ACCOUNT, self._options.branches * self._options.accounts),
        )
        return _data_size(rows)

    def workload(self) -> "mako.Workload":
        return spec.WORKLOAD

    def states(self, workers: int, seed: int, place: int = 0) -> list[dict[str, Any]]:
        branches, accounts = self._options.branches, self._options.accounts
        return [
            dict(spec.first_state(worker, workers=workers, branches=branches, accounts=accounts))
            for worker in range(workers)
        ]

    def terminals(self, count: int, seed: int) -> Sequence[Terminal]:
        if count > spec.WORKERS_MAX:
            raise ConfigError(f"{count} terminals are too many; take at most {spec.WORKERS_MAX}")
        states = self.states(count, seed)
        return [SpecTerminal(state, seed * spec.WORKERS_MAX + k) for k, state in enumerate(states)]

    def check(
        self, db: "mako.Database", *, after_load: bool, done: Done | None = None
    ) -> list[CheckResult]:
        """Nothing ceases to hold after the load, so nothing is checked then."""
        if after_load:
            return []
        branches, accounts = self._options.branches, self._options.accounts
        counts = (
            (conditions.OF_BRANCHES, "branch-history", "B_BALANCE = sum(H_DELTA)", branches),
            (conditions.OF_TELLERS, "teller-history", "T_BALANCE = sum(H_DELTA)",
             branches * spec.TELLERS),
            (conditions.OF_ACCOUNTS, "account-history", "A_BALANCE = sum(H_DELTA)",
             branches * accounts),
        )  # fmt: skip
        with db.snapshot() as snapshot:
            results = [
                _result(
                    "branch-teller",
                    "B_BALANCE = sum(T_BALANCE)",
                    snapshot.run(conditions.tellers_match, 1, branches + 1),
                    f"{branches} branches",
                )
            ]
            for kind, clause, title, count in counts:
                violations = 0
                for first, end in _ranges(kind, count):
                    found, _ = snapshot.run(
                        conditions.balances_match, kind, first, end, out=conditions.SUMS
                    )
                    violations += found
                results.append(_result(clause, title, violations, f"{count} balances"))
            results.append(
                _result(
                    "account-branch",
                    "sum(A_BALANCE) = sum(B_BALANCE)",
                    snapshot.run(conditions.accounts_match, branches, accounts),
                    f"{branches * accounts} accounts",
                )
            )
        return results

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        samples = sum(state["n_transactions"] for state in states)
        elsewhere = sum(state["n_elsewhere"] for state in states)
        low, high = _ELSEWHERE_BAND
        value = 100 * elsewhere / max(samples, 1)
        status = Status.PASS if low <= value <= high else Status.FAIL
        chance = 500 * sqrt(0.15 * 0.85 / max(samples, 1))
        if samples < _SAMPLES_MIN or chance > high - _ELSEWHERE or self._options.branches == 1:
            status = Status.SKIP
        return [
            AuditResult(
                "remote_accounts_pct",
                "accounts of another branch than the teller's, 15 %",
                round(value, 4),
                low,
                high,
                status,
                samples,
            )
        ]

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        return []


class JanusTpca:
    """The profile of Mako and Janus. See `bench.workload.Benchmark`."""

    name = "tpca"
    growth_bytes = 0
    title = "TPC-A, profile janus: three increments"

    def __init__(self, options: TpcaOptions) -> None:
        self._options = options
        #: Partitions, and how many rows of a table each has room for.
        self._places, self._block = 1, 0

    def options(self) -> Mapping[str, str | int | float]:
        return {
            "profile": "janus",
            "accounts": self._options.accounts,
            "dist": str(self._options.dist),
        }

    def over(self, parts: Parts) -> None:
        self._places = parts.count
        advice = "add -f config/tpca_shards.yml"
        self._block = min(parts.block(table, first=0, advice=advice) for table in janus.TABLES)
        check_room(self._options.accounts, "--accounts", self._places, self._block)

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        db.create(*janus.TABLES)
        done = 0
        for first, end in self._ranges():
            for at, behind in _chunks(first, end):
                db.run(janus.load_janus, at, behind)
                done += behind - at
                progress(done, self._options.accounts, "rows")

    def _ranges(self) -> list[tuple[int, int]]:
        """The keys of each partition."""
        return ranges_of(self._options.accounts, places=self._places, block=self._block)

    def size(self) -> DataSize:
        return _data_size([(table, self._options.accounts) for table in janus.TABLES])

    def workload(self) -> "mako.Workload":
        return janus.PARTED if self._places > 1 else janus.WORKLOAD

    def states(self, workers: int, seed: int, place: int = 0) -> list[dict[str, Any]]:
        first = first_fields(
            self._options.dist, self._options.accounts, places=self._places, block=self._block
        )
        return [{**first, "place": place} for _ in range(workers)]

    def terminals(self, count: int, seed: int) -> Sequence[Terminal]:
        parted = self._places > 1
        return [
            JanusTerminal(
                self.states(1, seed, number % self._places)[0],
                seed * spec.WORKERS_MAX + number,
                parted=parted,
            )
            for number in range(count)
        ]

    def check(
        self, db: "mako.Database", *, after_load: bool, done: Done | None = None
    ) -> list[CheckResult]:
        """All three sums, over all partitions, at one snapshot."""
        if after_load:
            return []
        sums = (janus.sum_branches, janus.sum_tellers, janus.sum_customers)
        branches, tellers, customers = sums_over(db, sums, self._ranges())
        return [
            _equal("branch-teller", "sum of branches = sum of tellers", branches, tellers),
            _equal("teller-customer", "sum of tellers = sum of customers", tellers, customers),
        ]

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        """How many were over partitions: all but those whose teller and customer happen to be
        where the branch is."""
        if self._places == 1:
            return []
        share = 1 - 1 / self._places**2
        title = f"payments over partitions, {100 * share:.4g} % of {self._places}"
        result = share_audit(
            "cross_shard_pct",
            title,
            sum(state["n_cross"] for state in states),
            sum(state["n_transactions"] for state in states),
            share,
        )
        # Popular rows, and those that no other partition has one of, are not as many in each.
        even = self._options.accounts % self._places == 0 and self._options.dist == Distribution()
        return [result if even else replace(result, status=Status.SKIP)]

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        return []


def create(options: TpcaOptions) -> Benchmark:
    return SpecTpca(options) if options.profile == "spec" else JanusTpca(options)


def _result(clause: str, title: str, violations: int, seen: str) -> CheckResult:
    if violations:
        return CheckResult(clause, title, Status.FAIL, f"{violations} violations in {seen}")
    return CheckResult(clause, title, Status.PASS, seen)


def _ranges(kind: int, count: int) -> Iterator[tuple[int, int]]:
    """The numbers 1 to `count` in ranges that `balances_match` takes."""
    if kind != conditions.OF_ACCOUNTS:
        yield from _chunks(1, count + 1, conditions.SUMS_MAX)
        return
    for first, end in _chunks(0, count + 1, spec.BLOCK):
        yield max(first, 1), end


def _equal(clause: str, title: str, left: int, right: int) -> CheckResult:
    status = Status.PASS if left == right else Status.FAIL
    return CheckResult(clause, title, status, f"{left} and {right}")


def _data_size(rows: "Sequence[tuple[mako.Table, int]]") -> DataSize:
    return DataSize(
        rows=sum(count for _, count in rows),
        key_bytes=sum(table.key_size * count for table, count in rows),
        row_bytes=sum(table.row_size * count for table, count in rows),
    )


def _chunks(first: int, end: int, size: int = _CHUNK) -> Iterator[tuple[int, int]]:
    """The numbers from `first` to `end` - 1 as ranges [first, end) of at most `size`."""
    for at in range(first, end, size):
        yield at, min(at + size, end)
