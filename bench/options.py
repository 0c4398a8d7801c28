"""What a user may choose about a benchmark: checked by `bench.cli`, obeyed by the benchmarks.

Plain frozen values, so that the command line can build them without importing the benchmarks
(which import numba). A benchmark may rely on the bounds stated here.
"""

from dataclasses import dataclass
from typing import Final, Literal

Scale = Literal["tiny", "small", "spec"]
Profile = Literal["spec", "janus"]

#: The transaction types of TPC-C in the order of clauses 2.4 to 2.8: order of `--mix`, reports.
TPCC_KINDS: Final = ("new_order", "payment", "order_status", "delivery", "stock_level")


#: w_id has 16 bits, and clause 1.4.11 wants room for twice as many.
WAREHOUSES_MAX: Final = 32_767
#: b_id has 24 bits.
BRANCHES_MAX: Final = 1 << 23
#: What TPC-C asks for.
REMOTE_ITEM_PCT: Final = 1
REMOTE_PAYMENT_PCT: Final = 15
#: Of one kind of transactions in `--mix`.
WEIGHT_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Distribution:
    """How keys are drawn: every key alike, or the k-th most popular in proportion to k^-theta."""

    kind: Literal["uniform", "zipf"] = "uniform"
    #: 0 < theta < 1; zero for `uniform`.
    theta: float = 0.0

    def __str__(self) -> str:
        return "uniform" if self.kind == "uniform" else f"zipf:{self.theta:g}"


@dataclass(frozen=True, slots=True)
class TpccOptions:
    workers: int
    #: From 1 to WAREHOUSES_MAX. Worker k serves the warehouses with (w_id - 1) % workers == k, one
    #: after the other; if there are fewer than workers, warehouse k % warehouses + 1 alone. Of a
    #: cluster of several partitions: the same within each. 0: as many as their blocks have room
    #: for, of one partition one for each worker.
    warehouses: int
    scale: Scale = "spec"
    #: Weights up to WEIGHT_MAX in the order of TPCC_KINDS, not all zero; None: the shuffled deck
    #: of 5.2.4.2.
    mix: tuple[int, int, int, int, int] | None = None
    seed: int = 1
    #: Of a hundred lines, and payments, how many are for another warehouse (2.4.1.5, 2.5.1.2).
    remote_item_pct: int = REMOTE_ITEM_PCT
    remote_payment_pct: int = REMOTE_PAYMENT_PCT


@dataclass(frozen=True, slots=True)
class TpcaOptions:
    workers: int
    profile: Profile = "spec"
    #: `spec`: branches, with ten tellers each, from 1 to BRANCHES_MAX. `janus`: unused, 1.
    branches: int = 1
    #: `spec`: accounts of each branch. `janus`: rows of each of the three tables.
    accounts: int = 100_000
    #: `spec`: always uniform. `janus`: of each of the three keys.
    dist: Distribution = Distribution()
    seed: int = 1


@dataclass(frozen=True, slots=True)
class MicroOptions:
    workers: int
    keys: int = 1_000_000
    #: Of a hundred transactions, how many only read; the others read, modify and write.
    read_pct: int = 50
    #: Keys of one transaction, 1 to 64.
    ops: int = 4
    dist: Distribution = Distribution()
    seed: int = 1
    #: Of a hundred transactions, how many use keys of two partitions; 0 where there is one.
    cross_shard_pct: int = 0


BenchmarkOptions = TpccOptions | TpcaOptions | MicroOptions
