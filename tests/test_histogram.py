"""Histograms: the buckets tile the values, and what is read out is at most 1.6 % off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako import histogram

NS = st.integers(0, histogram.NS_MAX) | st.integers(0, 40).flatmap(
    # Also around the powers of two, where octaves meet.
    lambda bits: st.integers(max(0, (1 << bits) - 3), min((1 << bits) + 3, histogram.NS_MAX))
)


def record(values: list[int]) -> list[int]:
    counts = histogram.empty()
    for value in values:
        counts[histogram.bucket_of(value)] += 1
    return counts


def test_buckets_tile_the_values() -> None:
    assert histogram.lower_ns(0) == 0
    for bucket in range(histogram.BUCKETS):
        first, last = histogram.lower_ns(bucket), histogram.upper_ns(bucket)
        assert first <= last
        assert histogram.bucket_of(first) == bucket
        assert histogram.bucket_of(last) == bucket
    assert histogram.lower_ns(histogram.BUCKETS) == 1 << 40


def test_the_table_in_the_document_is_right() -> None:
    firsts = {0: 0, 63: 63, 64: 64, 127: 127, 128: 128, 192: 256, 2176: 1 << 39}
    assert {bucket: histogram.lower_ns(bucket) for bucket in firsts} == firsts
    assert histogram.BUCKETS == 2240


@given(NS)
def test_a_bucket_is_at_most_a_64th_of_its_values_wide(ns: int) -> None:
    bucket = histogram.bucket_of(ns)
    assert histogram.lower_ns(bucket) <= ns <= histogram.upper_ns(bucket)
    assert (histogram.upper_ns(bucket) - ns) * 64 <= max(ns, 1)


@given(st.integers(0, 1 << 62))
def test_what_is_too_long_counts_in_the_last_bucket(ns: int) -> None:
    expected = histogram.bucket_of(min(ns, histogram.NS_MAX))
    assert histogram.bucket_of(ns) == expected
    assert histogram.bucket_of(1 << 40) == histogram.BUCKETS - 1


def test_durations_are_not_negative() -> None:
    with pytest.raises(AssertionError):
        histogram.bucket_of(-1)


@given(st.lists(NS, min_size=1, max_size=60), st.integers(0, 100))
def test_a_quantile_is_that_of_the_sorted_values(values: list[int], percent: int) -> None:
    # The least value that at least `percent` of all do not exceed, in exact arithmetic.
    rank = max(-(-percent * len(values) // 100), 1)
    exact = sorted(values)[rank - 1]
    got = histogram.quantile(record(values), percent / 100)
    assert exact <= got <= exact + exact / 64


def test_a_share_that_binary_cannot_express_counts_no_value_too_many() -> None:
    assert 0.07 * 100 > 7
    assert histogram.quantile(record(list(range(100))), 0.07) == 6


@given(st.lists(NS), st.lists(NS))
def test_merging_counts_all_values_once(one: list[int], other: list[int]) -> None:
    assert histogram.merge([record(one), record(other)]) == record(one + other)


@given(st.lists(NS, min_size=1))
def test_the_maximum_is_that_of_the_values(values: list[int]) -> None:
    assert max(values) <= histogram.maximum(record(values)) <= max(values) * (1 + 1 / 64)


def test_nothing_recorded_reads_as_zero() -> None:
    assert histogram.quantile(histogram.empty(), 0.99) == 0
    assert histogram.maximum(histogram.merge([])) == 0


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_a_quantile_is_a_share(q: float) -> None:
    with pytest.raises(AssertionError, match="a quantile is a share"):
        histogram.quantile(record([1]), q)
