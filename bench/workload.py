"""What a benchmark must offer to be run, checked, audited and reported.

`bench/<name>/benchmark.py` offers `create(options) -> Benchmark`, where `options` is the matching
class of `bench.options`. The runner imports that module only when the benchmark is started, and
calls the object in this order (terminals of a cluster take the place of `db.drive`):

    db.open ─▶ prepare ─▶ check(after_load=True) ─▶ db.drive(workload(), states=states(...))
            ─▶ warm-up ─▶ drive.reset() ─▶ one sample() a second ─▶ drive.stop()
            ─▶ check(after_load=False) ─▶ audit(drive.states(), last sample) ─▶ extras(last sample)

Everything a benchmark returns is finished text and plain numbers: reports know no benchmark by
name, and a new benchmark needs no change in them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import mako
    from bench.parted import Parts

#: Called with (done, total, what), `what` naming the rows being loaded: "stock", "orders".
#: Calling it a thousand times a second is fine: the runner decides what to show. `total` may
#: change with `what`; `done == total` ends a step.
Progress = Callable[[int, int, str], None]


class Status(Enum):
    """Outcome of a check or an audit. SKIP says why in the detail, and never fails a run."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One consistency condition, evaluated at one snapshot."""

    #: "3.3.2.1": unique within a benchmark, the key in `consistency{}` of summary.json.
    clause: str
    #: The condition as a formula: "W_YTD = sum(D_YTD)".
    title: str
    status: Status
    #: What was looked at, or for FAIL how much is wrong and where: "3 of 20 districts".
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """One property of the generated input that must lie in [low, high]."""

    #: "remote_payments_pct": snake_case with the unit, the key in `audit{}` of summary.json.
    name: str
    #: What is counted, for readers: "payments for a remote customer, 15 % (2.5.1.2)".
    title: str
    value: float
    low: float
    high: float
    #: SKIP when there are too few samples to tell (below 10 000), or it does not apply.
    status: Status
    samples: int = 0


@dataclass(frozen=True, slots=True)
class DataSize:
    """What was loaded: the denominator of "memory per byte of data"."""

    rows: int
    key_bytes: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Extra:
    """One headline number that only this benchmark has."""

    #: The key in summary.json, at its top level: "tpmC", "new_orders_per_minute".
    name: str
    #: "tpmC (unaudited)", "orders/min (not comparable)".
    title: str
    value: float
    #: Whether the number is large by being good and belongs in big figures on the report.
    headline: bool = True


class Request(NamedTuple):
    """A transaction that a terminal asks for."""

    #: Place of its type in `Workload.kinds`.
    kind: int
    procedure: "mako.Procedure"
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What workers or terminals have done since the drive began, the warm-up included."""

    #: Their last states.
    states: Sequence[Mapping[str, Any]]
    #: By type: how many transactions are known to last. A few more may, of those at the end of the
    #: warm-up, and where it takes a while until one is durable at the end of the run.
    committed: Mapping[str, int]
    #: Whether what is committed lasts at once, so that of those that a worker has drawn the last
    #: one alone may be missing.
    at_once: bool


class Terminal(Protocol):
    """Somebody who asks a server for one transaction after the other."""

    def draw(self) -> Request:
        """The next transaction."""

    def told(self, result: int) -> None:
        """The transaction drawn last is durable, and this is its result."""

    def state(self) -> Mapping[str, Any]:
        """What was drawn, for the audit: as the state of a worker."""


class Benchmark(Protocol):
    """One benchmark with its options, before, during and after a run."""

    #: "tpcc": the name of the command and of `workload` in summary.json.
    name: str
    #: "TPC-C-like, scale tiny (not comparable)": never bare "TPC-C", results are not audited.
    title: str
    #: Bytes of memory that a transaction adds for good, on average; 0 if none.
    growth_bytes: int

    def options(self) -> Mapping[str, str | int | float]:
        """What was chosen, resolved: shown in reports and merged into summary.json.

        Keys are snake_case and end up at the top level: TPC-C gives at least `warehouses`,
        `scale` and `mix`. `workers`, `seed`, `seconds`, `rate` are added by the runner.
        """

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        """Create the tables and load the initial population."""

    def size(self) -> DataSize:
        """Rows, key bytes and row bytes that `prepare` has loaded."""

    def workload(self) -> "mako.Workload":
        """The generator and the transactions, for `db.drive`."""

    def over(self, parts: "Parts") -> None:
        """It will run on a cluster of several partitions: called first, before anything else.

        ConfigError if it cannot, or if its rows are not placed so that it can.
        """

    def states(self, workers: int, seed: int, place: int = 0) -> list[dict[str, Any]]:
        """First state of each worker: home warehouse, random constants, zero counters.

        Of several partitions those of the workers of the leader of partition `place`. Where its
        transactions may touch others, the kinds of the workload say so (`bench.sides`).
        """

    def terminals(self, count: int, seed: int) -> "Sequence[Terminal]":
        """Terminals that do together what workers would. Its checks look at what they were told.

        ConfigError if the benchmark has none, or not so many.
        """

    def check(
        self, db: "mako.Database", *, after_load: bool, done: Done | None = None
    ) -> list[CheckResult]:
        """Every consistency condition that holds at this moment, all at one snapshot.

        After the load only those that stop holding later (TPC-C's 3.3.2.11); after the run
        all the others. The two lists share no clause. `done`: what was done in between; None if
        nobody knows, as workers were lost with their leader.
        """

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        """Whether the generated input was what the specification asks for.

        `states` count from the start of the drive, the warm-up included; `sample` counts the
        measured part alone. Compare within one of them, never across.
        """

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        """Headline numbers of the measured part, such as tpmC."""
