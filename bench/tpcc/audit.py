"""Whether the generated inputs were what clause 2 asks for: the bands of clause 9.2.2.5.

A share of one in a hundred that may be off by a tenth of itself needs hundreds of thousands of
samples before chance stays inside the band. With fewer than that, and always with fewer than
10 000, the property is SKIPped: a FAIL means that the generator is wrong.

The numbers of a NURand are counted in ranges of equal size and compared with the exact
probability of each range by a chi-square test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Final

from bench.options import REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT, TPCC_KINDS
from bench.shares import SAMPLES_MIN, SIGMAS, share_audit
from bench.tpcc.inputs import (
    DECK,
    DELIVERY_KIND,
    NEW_ORDER_KIND,
    ORDER_STATUS_KIND,
    PAYMENT_KIND,
)
from bench.tpcc.random import A_CUSTOMER, A_ITEM, A_LAST, C_CUSTOMER, C_ITEM, C_LAST_RUN
from bench.tpcc.scale import Scale
from bench.tpcc.schema import DISTRICTS, LINES_MAX, LINES_MIN
from bench.tpcc.workload import spread_shift
from bench.workload import AuditResult, Status

#: SIGMAS: how many standard deviations of chance must fit between what is expected and the end of a
#: band.
#: The mix that clause 5.2.3 asks for, in per cent: at least, except for new orders: at most.
_MIX_BANDS: Final = ((0.0, 45.0), (43.0, 100.0), (4.0, 100.0), (4.0, 100.0), (4.0, 100.0))


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of all workers together: sums, element by element, of the fields `n_…`."""

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, states: Sequence[Mapping[str, Any]]) -> "Counts":
        fields: dict[str, Any] = {}
        for name in states[0] if states else ():
            if not name.startswith("n_"):
                continue
            values = [state[name] for state in states]
            if isinstance(values[0], int):
                fields[name] = sum(values)
            else:
                fields[name] = tuple(map(sum, zip(*values, strict=True)))
        return cls(fields)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def kind(self, kind: int) -> int:
        count: int = self["n_kinds"][kind]
        return count


def audit(
    states: Sequence[Mapping[str, Any]],
    scale: Scale,
    warehouses: int,
    mix: Sequence[int] | None,
    remote_pct: tuple[int, int] = (REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT),
) -> list[AuditResult]:
    """Every property of the inputs that the workers with these states have drawn. `remote_pct`: of
    lines, and payments, what was asked for."""
    counts = Counts.of(states)
    new_orders, payments = counts.kind(NEW_ORDER_KIND), counts.kind(PAYMENT_KIND)
    lines, statuses = counts["n_lines"], counts.kind(ORDER_STATUS_KIND)
    remote = warehouses > 1
    return [
        *_mix(counts, mix),
        _share("rollbacks_pct", "new orders that roll back, 1 % (2.4.1.4)",
               counts["n_rollbacks"], new_orders, (0.9, 1.0, 1.1)),
        _mean_lines(counts, new_orders),
        _chi_square("order_lines_chi2", "lines of an order, 5 to 15 alike (2.4.1.3)",
                    counts["n_lines_of"][LINES_MIN : LINES_MAX + 1],
                    [1.0] * (LINES_MAX - LINES_MIN + 1)),
        _remote("remote_lines_pct", "order lines from another warehouse, 1 % (2.4.1.5)",
                counts["n_remote_lines"], lines if remote else 0,
                (0.95, REMOTE_ITEM_PCT, 1.05), remote_pct[0]),
        _remote("remote_payments_pct", "payments for a remote customer, 15 % (2.5.1.2)",
                counts["n_remote_payments"], payments if remote else 0,
                (14.0, REMOTE_PAYMENT_PCT, 16.0), remote_pct[1]),
        _share("payments_by_name_pct", "payments by last name, 60 % (2.5.1.2)",
               counts["n_payments_by_name"], payments, (57.0, 60.0, 63.0)),
        _share("status_by_name_pct", "order status by last name, 60 % (2.6.1.2)",
               counts["n_status_by_name"], statuses, (57.0, 60.0, 63.0)),
        _chi_square("nurand_items_chi2", "items are NURand(8191) (2.4.1.5)",
                    *_spread(counts["n_items"], A_ITEM, C_ITEM, 1, scale.items)),
        _chi_square("nurand_customers_chi2", "customers are NURand(1023) (2.4.1.2)",
                    *_spread(counts["n_customers"], A_CUSTOMER, C_CUSTOMER, 1, scale.customers)),
        _chi_square("nurand_names_chi2", "last names are NURand(255) (2.5.1.2)",
                    *_spread(counts["n_names"], A_LAST, C_LAST_RUN, 0, scale.names - 1)),
        *_skipped(counts),
    ]  # fmt: skip


def _mix(counts: Counts, mix: Sequence[int] | None) -> list[AuditResult]:
    """The deck must keep the mix of clause 5.2.3, weights of the user's own must be kept."""
    total = sum(counts["n_kinds"])
    weights = mix or DECK
    results = []
    for kind, name in enumerate(TPCC_KINDS):
        expected = weights[kind] / sum(weights)
        chance = 100 * SIGMAS * sqrt(expected * (1 - expected) / max(total, 1))
        low, high = 100 * expected - chance, 100 * expected + chance
        title = f"share of {name}, as asked for"
        if mix is None:
            low, high = _MIX_BANDS[kind]
            title = f"share of {name} (5.2.3)"
        value = 100 * counts.kind(kind) / max(total, 1)
        results.append(_result(f"mix_{name}_pct", title, value, (low, high), total))
    return results


def _share(
    name: str, title: str, count: int, samples: int, band: tuple[float, float, float]
) -> AuditResult:
    """`count` of `samples` in per cent, which shall be in the band (low, expected, high)."""
    low, expected, high = band
    share = expected / 100
    distance = min(high - expected, expected - low) / 100
    enough = SIGMAS**2 * share * (1 - share) / distance**2
    value = 100 * count / max(samples, 1)
    return _result(name, title, value, (low, high), samples, enough)


def _remote(
    name: str, title: str, count: int, samples: int, band: tuple[float, float, float], asked: int
) -> AuditResult:
    """A share that the user may choose: then chance alone may separate it from what was asked."""
    if asked == band[1]:
        return _share(name, title, count, samples, band)
    what, _, _ = title.partition(",")
    return share_audit(name, f"{what}, {asked} % as asked for", count, samples, asked / 100)


def _mean_lines(counts: Counts, new_orders: int) -> AuditResult:
    value = counts["n_lines"] / max(new_orders, 1)
    title = "lines of an order on average, 10 (2.4.1.3)"
    return _result("order_lines_mean", title, value, (9.5, 10.5), new_orders)


def _skipped(counts: Counts) -> list[AuditResult]:
    """How many deliveries found a district without an order, and how many districts that were.

    Clause 2.7.4.2 has it reported if this happens in more than 1 % of the transactions, or in more
    than one; of districts it asks for the share, and sets it no bound.

    The deck brings 9.9 orders for every ten that it delivers, so at the speed of a database
    without thinking terminals the queues run dry, and a hundredth is skipped from then on. That is
    no fault of the input: this never fails.
    """
    deliveries = counts.kind(DELIVERY_KIND)
    results = []
    for what, title, samples, high in (
        ("deliveries", "deliveries that skipped a district (2.7.4.2)", deliveries, 1.0),
        ("districts", "districts without an order to deliver", DISTRICTS * deliveries, 100.0),
    ):
        value = 100 * counts[f"n_{what}_skipped"] / max(samples, 1)
        result = _result(f"{what}_skipped_pct", title, value, (0.0, high), samples)
        if result.status is Status.FAIL:
            result = replace(result, status=Status.SKIP)
        results.append(result)
    return results


def _chi_square(
    name: str, title: str, counts: Sequence[int], weights: Sequence[float]
) -> AuditResult:
    """How far `counts` are from being in proportion to `weights`: about the number of ranges.

    Its standard deviation is the root of twice that number; six of them allow for the skew.
    """
    samples = sum(counts)
    value = 0.0
    for count, weight in zip(counts, weights, strict=True):
        mean = samples * weight / sum(weights)
        if mean:
            value += (count - mean) ** 2 / mean
        elif count:
            value = float("inf")  # A number that cannot occur, and did.
    freedom = sum(1 for weight in weights if weight) - 1
    return _result(name, title, value, (0.0, freedom + 6 * sqrt(2 * freedom)), samples)


def _result(
    name: str,
    title: str,
    value: float,
    band: tuple[float, float],
    samples: int,
    enough: float = SAMPLES_MIN,
) -> AuditResult:
    low, high = band
    status = Status.PASS if low <= value <= high else Status.FAIL
    if samples < max(enough, SAMPLES_MIN):
        status = Status.SKIP
    return AuditResult(name, title, round(value, 4), low, high, status, samples)


def _spread(
    counts: Sequence[int], a: int, c: int, low: int, high: int
) -> tuple[list[int], list[float]]:
    """Counts by range, and the expected weight of each range, of NURand(a, low, high)."""
    weights = nurand_weights(a, c, low, high)
    size = 1 << spread_shift(len(weights))
    ranges = [float(sum(weights[at : at + size])) for at in range(0, len(weights), size)]
    return list(counts[: len(ranges)]), ranges


def nurand_weights(a: int, c: int, low: int, high: int) -> list[int]:
    """In how many of all (a + 1) * (high - low + 1) ways NURand gives `low`, `low` + 1, … `high`.

    `a` + 1 is a power of two, so the bits above those of `a` come from random(low, high) alone,
    and among the lower ones u | v = w for 2^(ones of v) numbers u, if v has ones only where w
    has. Summing over all such v is a sum over subsets of bits, a bit at a time.
    """
    block = a + 1
    assert block & a == 0, "A + 1 is a power of two"
    count = high - low + 1
    weights = [0] * count
    for first in range(low - low % block, high + 1, block):
        ways = [1 << v.bit_count() if low <= first + v <= high else 0 for v in range(block)]
        bit = 1
        while bit < block:
            for w in range(block):
                if w & bit:
                    ways[w] += ways[w ^ bit]
            bit <<= 1
        for w in range(block):
            weights[(first + w + c) % count] += ways[w]
    return weights
