from dataclasses import replace
from typing import Any

import pytest

from bench.stats import between, latency_of
from mako import histogram
from tests.bench.fakes import KindSample, Sample


def histogram_of(*values_ns: int) -> list[int]:
    counts = histogram.empty()
    for value in values_ns:
        counts[histogram.bucket_of(value)] += 1
    return counts


EARLY = Sample(
    seconds=1.0,
    kinds=(
        KindSample("write", 90, 10, histogram_of(*[5_000] * 100)),
        KindSample("read", 0, 0, histogram.empty()),
    ),
    aborts={"changed": 3},
    log_bytes=9_000,
    log_transactions=90,
    memory_bytes=1_000,
    memory_limit=10_000,
    watermark=5,
    watermark_lag_ms=0.5,
)
LATE = replace(
    EARLY,
    seconds=3.0,
    kinds=(
        KindSample("write", 290, 10, histogram_of(*[5_000] * 100, *[9_000] * 200)),
        KindSample("read", 100, 0, histogram_of(*[1_000] * 100)),
    ),
    aborts={"changed": 3, "lock": 4, "phantom": 0},
    log_bytes=29_000,
    log_transactions=290,
    watermark=9,
)


def test_an_interval_is_the_difference_of_two_samples() -> None:
    early: Any = EARLY
    late: Any = LATE
    interval = between(early, late, phase="measure", end_s=3.0)
    write, read = interval.kinds
    assert (write.count, write.rolled_back, write.per_s) == (200, 0, 100.0)
    assert (read.count, read.per_s) == (100, 50.0)
    assert interval.every.count == 300
    assert interval.duration_s == 2.0
    assert interval.log_bytes_per_txn == 100.0
    assert interval.watermark == 9
    assert write.latency is not None
    assert 9.0 <= write.latency.p50_us <= 9.0 * 1.02
    assert write.latency == latency_of(histogram_of(9_000))


def test_all_types_together_have_percentiles_of_their_own() -> None:
    late: Any = LATE
    latency = between(None, late, phase="measure", end_s=3.0).every.latency
    assert latency is not None
    assert 5.0 <= latency.p50_us <= 5.1
    assert 9.0 <= latency.p90_us <= 9.2


def test_completed_work_includes_what_rolled_itself_back() -> None:
    early: Any = EARLY
    interval = between(None, early, phase="measure", end_s=1.0)
    assert interval.kinds[0].count == 100
    assert interval.kinds[0].rolled_back == 10


def test_a_type_that_never_ran_has_no_latency() -> None:
    early: Any = EARLY
    assert between(None, early, phase="measure", end_s=1.0).kinds[1].latency is None


def test_reasons_that_never_occurred_are_left_out() -> None:
    early: Any = EARLY
    late: Any = LATE
    interval = between(early, late, phase="measure", end_s=3.0)
    assert interval.aborts == {"lock": 4}
    assert interval.abort_pct == pytest.approx(100 * 4 / 304)


def test_nothing_logged_is_not_zero_bytes() -> None:
    early: Any = EARLY
    assert between(early, early, phase="measure", end_s=1.0).log_bytes_per_txn is None
