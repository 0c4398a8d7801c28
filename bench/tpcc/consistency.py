"""Which consistency conditions of clause 3.3.2 hold: all evaluated at one snapshot.

Condition 11 is true of a fresh population only, as every delivery breaks it; the others are
checked after the run.

    partition 0 ──▶ conditions of its warehouses ───────────▶ together
    partition 1 ──▶ conditions of its warehouses ───────────▶ together
         each   ──▶ sums of its payments, by who was paid ──▶ 8 and 9

HISTORY is where the customer is, and conditions 8 and 9 add it up by who was paid, who may be of
another partition. So of a cluster of several each adds up what it has, and the sums are added up
here. Whatever the others speak of is in the partition of one warehouse (config/tpcc_shards.yml).
No row of HISTORY is fetched: they may be more than there is memory for here, and meanwhile the
snapshots of other partitions would be idle for so long that their servers end them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, Any, Final, Literal

from bench.moments import again, passed, snapshot_from
from bench.tpcc import conditions
from bench.tpcc.scale import Scale
from bench.tpcc.schema import DISTRICT_YTD, DISTRICTS, WAREHOUSE_YTD
from bench.workload import CheckResult, Status

if TYPE_CHECKING:
    import mako


#: Places where a condition was looked at, and how many violations each has.
Seen = Iterable[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition and how its procedure is to be called."""

    number: int
    title: str
    procedure: "mako.Procedure"
    #: What one call is for. A range of warehouses is [first, end).
    scope: Literal["warehouse", "district", "warehouses"]
    #: The row that the procedure adds up in, its last parameter.
    out: "mako.Row | None" = None

    @property
    def clause(self) -> str:
        return f"3.3.2.{self.number}"


AFTER_LOAD: Final = (
    Condition(11, "count(ORDER) - count(NEW-ORDER) = {delivered}", conditions.condition_11,
              "district"),
)  # fmt: skip
AFTER_RUN: Final = (
    Condition(1, "W_YTD = sum(D_YTD)", conditions.condition_1, "warehouse"),
    Condition(2, "D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID)", conditions.condition_2,
              "district"),
    Condition(3, "max(NO_O_ID) - min(NO_O_ID) + 1 = count(NEW-ORDER)", conditions.condition_3,
              "district"),
    Condition(4, "sum(O_OL_CNT) = count(ORDER-LINE)", conditions.condition_4, "district"),
    Condition(5, "O_CARRIER_ID is null ⇔ in NEW-ORDER", conditions.condition_5, "district"),
    Condition(6, "O_OL_CNT = count(its ORDER-LINE)", conditions.condition_6, "district"),
    Condition(7, "OL_DELIVERY_D is null ⇔ O_CARRIER_ID is null", conditions.condition_7,
              "district"),
    Condition(8, "W_YTD = sum(H_AMOUNT)", conditions.condition_8, "warehouses",
              conditions.BY_DISTRICT),
    Condition(9, "D_YTD = sum(H_AMOUNT)", conditions.condition_9, "warehouses",
              conditions.BY_DISTRICT),
    Condition(10, "C_BALANCE = sum(delivered OL_AMOUNT) - sum(H_AMOUNT)",
              conditions.condition_10, "district", conditions.BY_CUSTOMER),
    Condition(12, "C_BALANCE + C_YTD_PAYMENT = sum(delivered OL_AMOUNT)",
              conditions.condition_12, "district", conditions.BY_CUSTOMER),
)  # fmt: skip


def check(
    db: "mako.Database", scale: Scale, warehouses: int, *, after_load: bool, since: int = 0
) -> list[CheckResult]:
    """Evaluate the conditions that must hold now: at a snapshot that sees what was acknowledged
    before, and of `since` or later."""
    wanted = AFTER_LOAD if after_load else AFTER_RUN
    since = max(since, passed(db))
    if len(getattr(db, "partitions", ())) < 2:
        with snapshot_from(db, since) as snapshot:
            return [
                _evaluate(each, scale, warehouses, _run(snapshot, each, scale, warehouses))
                for each in wanted
            ]
    return again(lambda: _check_parted(db, wanted, scale, warehouses, since))


def _check_parted(
    db: Any, wanted: Sequence[Condition], scale: Scale, warehouses: int, since: int
) -> list[CheckResult]:
    with snapshot_from(db, since) as snapshot:
        over_all = any(each.scope == "warehouses" for each in wanted)
        together = _compare_payments(snapshot, warehouses) if over_all else {}
        return [
            _evaluate(
                each,
                scale,
                warehouses,
                together.get(each.number) or _run(snapshot, each, scale, warehouses),
            )
            for each in wanted
        ]


def _compare_payments(snapshot: Any, warehouses: int) -> dict[int, list[tuple[str, int]]]:
    """Conditions 8 and 9, by number, of payments in all partitions."""
    by_warehouse = {key[0]: row["w_ytd"] for key, row in snapshot.table(WAREHOUSE_YTD).scan()}
    by_district = {tuple(key): row["d_ytd"] for key, row in snapshot.table(DISTRICT_YTD).scan()}
    found: dict[int, list[tuple[str, int]]] = {8: [], 9: []}
    for first, end in _ranges(warehouses, conditions.PAYEES_MAX):
        sums = _add_payments(snapshot, warehouses, first, end)
        wrong = wrong_districts = 0
        for w_id in range(first, end):
            at = (w_id - first) * conditions.SUMS
            paid = sums[at : at + conditions.SUMS]
            wrong += by_warehouse.get(w_id) != sum(paid)
            wrong_districts += sum(
                by_district.get((w_id, d_id)) != paid[d_id] for d_id in range(1, DISTRICTS + 1)
            )
        found[8].append((_named(first, end), wrong))
        found[9].append((_named(first, end), wrong_districts))
    return found


def _add_payments(snapshot: Any, warehouses: int, first: int, end: int) -> list[int]:
    """What all customers have paid to each of a range of warehouses, SUMS for each."""
    total = [0] * ((end - first) * conditions.SUMS)
    for w_id in range(1, warehouses + 1):
        _, sums = snapshot.run(
            conditions.add_payments, w_id, first, end, out=conditions.BY_DISTRICT
        )
        total = list(map(add, total, sums["cents"]))
    return total


def _evaluate(condition: Condition, scale: Scale, warehouses: int, seen: Seen) -> CheckResult:
    violations = 0
    first = ""  # The first place where something is wrong.
    for place, count in seen:
        violations += count
        if count and not first:
            first = place
    by_district = condition.scope == "district"
    what = f"{warehouses * DISTRICTS} districts" if by_district else f"{warehouses} warehouses"
    return CheckResult(
        clause=condition.clause,
        title=condition.title.format(delivered=scale.delivered),
        status=Status.FAIL if violations else Status.PASS,
        detail=f"{violations} violations, the first in {first}" if violations else what,
    )


def _run(
    snapshot: "mako.Snapshot", condition: Condition, scale: Scale, warehouses: int
) -> Iterator[tuple[str, int]]:
    """Call the procedure for one place after the other; yields place and violations."""

    def run(*arguments: int) -> int:
        if condition.out is None:
            count: int = snapshot.run(condition.procedure, *arguments)
        else:
            count, _ = snapshot.run(condition.procedure, *arguments, out=condition.out)
        return count

    if condition.scope == "warehouses":
        for first, end in _ranges(warehouses, conditions.DISTRICTS_MAX // DISTRICTS):
            yield _named(first, end), run(first, end)
        return
    for w_id in range(1, warehouses + 1):
        if condition.scope == "warehouse":
            yield f"warehouse {w_id}", run(w_id)
            continue
        # Only condition 11 has a number to compare with.
        more = (scale.delivered,) if condition.number == 11 else ()
        for d_id in range(1, DISTRICTS + 1):
            yield f"warehouse {w_id}, district {d_id}", run(w_id, d_id, *more)


def _ranges(warehouses: int, block: int) -> Iterator[tuple[int, int]]:
    """All warehouses as ranges [first, end) of at most `block`."""
    for first in range(1, warehouses + 1, block):
        yield first, min(first + block, warehouses + 1)


def _named(first: int, end: int) -> str:
    return f"warehouses {first} to {end - 1}"
