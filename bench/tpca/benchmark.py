"""Both profiles of TPC-A behind the interface that the runner knows."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from bench.distribution import first_fields
from bench.options import BRANCHES_MAX, TpcaOptions
from bench.tpca import conditions, janus, spec
from bench.tpca.terminals import SpecTerminal
from bench.workload import (
    AuditResult,
    Benchmark,
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

    def states(self, workers: int, seed: int) -> list[dict[str, Any]]:
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

    def check(self, db: "mako.Database", *, after_load: bool) -> list[CheckResult]:
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

    def options(self) -> Mapping[str, str | int | float]:
        return {
            "profile": "janus",
            "accounts": self._options.accounts,
            "dist": str(self._options.dist),
        }

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        db.create(*janus.TABLES)
        for first, end in _chunks(0, self._options.accounts):
            db.run(janus.load, first, end)
            progress(end, self._options.accounts, "rows")

    def size(self) -> DataSize:
        return _data_size([(table, self._options.accounts) for table in janus.TABLES])

    def workload(self) -> "mako.Workload":
        return janus.WORKLOAD

    def states(self, workers: int, seed: int) -> list[dict[str, Any]]:
        first = first_fields(self._options.dist, self._options.accounts)
        return [dict(first) for _ in range(workers)]

    def terminals(self, count: int, seed: int) -> Sequence[Terminal]:
        raise ConfigError("the janus profile runs in workers only; leave out --clients")

    def check(self, db: "mako.Database", *, after_load: bool) -> list[CheckResult]:
        if after_load:
            return []
        keys = self._options.accounts
        with db.snapshot() as snapshot:
            branches = snapshot.run(janus.sum_branches, keys)
            tellers = snapshot.run(janus.sum_tellers, keys)
            customers = snapshot.run(janus.sum_customers, keys)
        return [
            _equal("branch-teller", "sum of branches = sum of tellers", branches, tellers),
            _equal("teller-customer", "sum of tellers = sum of customers", tellers, customers),
        ]

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        return []

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
