"""Latency histograms: counts over log-linear buckets of nanoseconds.

    value in ns     0 … 63      64 … 127     128 … 255    256 … 511   …   2^39 … 2^40-1
    bucket          0 … 63      64 … 127     128 … 191    192 … 255   …   2176 … 2239
    bucket width    1           1            2            4           …   2^33

Each power of two has 64 buckets, so a bucket is at most 1/64 (1.6 %) of its values wide. What
is read out of a histogram is the last value of a bucket: never too small, at most 1.6 % too
large. A histogram is a list of BUCKETS counts; adding two of them gives the histogram of both.

The formula of `bucket_of` is so short because compiled code repeats it: with the octave o, the
number of bits beyond seven, it is 64 * o + (ns >> o).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

SUB_BUCKET_BITS: Final = 6
#: Buckets of one octave, hence the precision.
SUB_BUCKETS: Final = 1 << SUB_BUCKET_BITS
#: Values of 2^40 ns (18 minutes) and more are counted in the last bucket.
VALUE_BITS_MAX: Final = 40
NS_MAX: Final = (1 << VALUE_BITS_MAX) - 1
BUCKETS: Final = SUB_BUCKETS * (VALUE_BITS_MAX - SUB_BUCKET_BITS + 1)


def bucket_of(ns: int) -> int:
    """The bucket that counts `ns`, which must not be negative."""
    assert ns >= 0, "durations are not negative"
    ns = min(ns, NS_MAX)
    octave = max(ns.bit_length() - SUB_BUCKET_BITS - 1, 0)
    return octave * SUB_BUCKETS + (ns >> octave)


def lower_ns(bucket: int) -> int:
    """The least value of `bucket`; of BUCKETS itself the first value that is beyond all."""
    assert 0 <= bucket <= BUCKETS
    # The first two rows of buckets are both one wide: octave 0 covers 0 … 127.
    octave = max(bucket // SUB_BUCKETS - 1, 0)
    return (bucket - octave * SUB_BUCKETS) << octave


def upper_ns(bucket: int) -> int:
    """The last value of `bucket`."""
    return lower_ns(bucket + 1) - 1


def empty() -> list[int]:
    """A histogram without values."""
    return [0] * BUCKETS


def merge(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The histogram of all values of `histograms`; without any, the empty one."""
    merged = empty()
    for counts in histograms:
        assert len(counts) == BUCKETS
        for bucket, count in enumerate(counts):
            merged[bucket] += count
    return merged


def quantile(counts: Sequence[int], q: float) -> int:
    """A value in ns that the share `q` of all values does not exceed; 0 if there are none.

    `q` is from 0 (the least value) to 1 (the greatest).
    """
    assert len(counts) == BUCKETS
    assert 0 <= q <= 1, "a quantile is a share"
    total = sum(counts)
    if total == 0:
        return 0
    # 0.07 * 100 is a little over 7 in binary: without rounding the eighth value would count.
    rank = max(math.ceil(round(q * total, 6)), 1)
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return upper_ns(bucket)
    raise AssertionError("the counts add up to their sum")


def maximum(counts: Sequence[int]) -> int:
    """The greatest value in ns, to the precision of its bucket; 0 if there are none."""
    return quantile(counts, 1.0)
