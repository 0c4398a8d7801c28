"""Which consistency conditions of clause 3.3.2 hold: all evaluated at one snapshot.

Condition 11 is true of a fresh population only, as every delivery breaks it; the others are
checked after the run.

    partition 0 ──▶ conditions of its warehouses ──────────────────────────────▶ together
    partition 1 ──▶ conditions of its warehouses ──────────────────────────────▶ together
         each   ──▶ its payments, with what warehouses took in ──▶ one database ▶ 8 and 9

HISTORY is where the customer is, and conditions 8 and 9 add it up by who was paid, who may be of
another partition. So of a cluster of several they read a copy, of the same snapshot. Whatever the
others speak of is in the partition of one warehouse (config/tpcc_shards.yml).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from bench.moments import again, passed, snapshot_from
from bench.tpcc import conditions
from bench.tpcc.scale import Scale
from bench.tpcc.schema import DISTRICT_YTD, DISTRICTS, HISTORY, WAREHOUSE_YTD
from bench.workload import CheckResult, Status

if TYPE_CHECKING:
    import mako


#: What is copied of a cluster of several partitions, and how many rows at a time.
_GATHERED: Final = (HISTORY, WAREHOUSE_YTD, DISTRICT_YTD)
_COPIED: Final = 500


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
            return [_evaluate(snapshot, each, scale, warehouses) for each in wanted]
    return again(lambda: _check_parted(db, wanted, scale, warehouses, since))


def _check_parted(
    db: Any, wanted: Sequence[Condition], scale: Scale, warehouses: int, since: int
) -> list[CheckResult]:
    import mako

    # The copy is made first, as that takes a while.
    with (
        mako.open(":memory:", memory="1GiB") as copy,
        snapshot_from(db, since) as snapshot,
    ):
        gather(snapshot, copy)
        with copy.snapshot() as together:
            places = [together if each.scope == "warehouses" else snapshot for each in wanted]
            return [
                _evaluate(place, each, scale, warehouses)
                for place, each in zip(places, wanted, strict=True)
            ]


def gather(snapshot: Any, copy: "mako.Database") -> None:
    """Copy what all partitions have of the tables of conditions 8 and 9."""
    import mako

    copy.create(*_GATHERED)
    for table in _GATHERED:
        rows = snapshot.table(table).scan()
        batch = mako.WriteBatch()
        while some := list(islice(rows, _COPIED)):
            for key, row in some:
                batch.insert(key, row, table=table)
            copy.write(batch)
            batch.clear()


def _evaluate(
    snapshot: "mako.Snapshot", condition: Condition, scale: Scale, warehouses: int
) -> CheckResult:
    violations = 0
    first = ""  # The first place where something is wrong.
    for place, count in _run(snapshot, condition, scale, warehouses):
        violations += count
        if count and not first:
            first = place
    by_district = condition.scope == "district"
    seen = f"{warehouses * DISTRICTS} districts" if by_district else f"{warehouses} warehouses"
    return CheckResult(
        clause=condition.clause,
        title=condition.title.format(delivered=scale.delivered),
        status=Status.FAIL if violations else Status.PASS,
        detail=f"{violations} violations, the first in {first}" if violations else seen,
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
        block = conditions.DISTRICTS_MAX // DISTRICTS
        for first in range(1, warehouses + 1, block):
            end = min(first + block, warehouses + 1)
            yield f"warehouses {first} to {end - 1}", run(first, end)
        return
    for w_id in range(1, warehouses + 1):
        if condition.scope == "warehouse":
            yield f"warehouse {w_id}", run(w_id)
            continue
        # Only condition 11 has a number to compare with.
        more = (scale.delivered,) if condition.number == 11 else ()
        for d_id in range(1, DISTRICTS + 1):
            yield f"warehouse {w_id}, district {d_id}", run(w_id, d_id, *more)
