"""The layout of timestamps and the numbers that compiled code relies on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako import ids
from mako.ids import Outcome


@given(st.integers(0, ids.MILLISECONDS_MAX), st.integers(0, ids.COUNT_MASK))
def test_timestamp_gives_back_what_it_was_made_of(ms: int, count: int) -> None:
    timestamp = ids.timestamp_of_ms(ms, count)
    assert ids.ms_of_timestamp(timestamp) == ms
    assert ids.count_of_timestamp(timestamp) == count
    assert 0 <= timestamp <= ids.TIMESTAMP_MAX


def test_layout_is_the_one_in_existing_logs() -> None:
    assert ids.timestamp_of_ms(1) == 1 << 20
    assert ids.timestamp_of_ms(3, 5) == 3 * 1048576 + 5
    assert ids.timestamp_of_ms(ids.MILLISECONDS_MAX, ids.COUNT_MASK) == 2**63 - 1


def test_later_milliseconds_are_greater_whatever_the_count() -> None:
    assert ids.timestamp_of_ms(7, ids.COUNT_MASK) < ids.timestamp_of_ms(8, 0)


@pytest.mark.parametrize(("ms", "count"), [(-1, 0), (1 << 43, 0), (0, -1), (0, 1 << 20)])
def test_what_does_not_fit_is_not_cut(ms: int, count: int) -> None:
    with pytest.raises(AssertionError):
        ids.timestamp_of_ms(ms, count)


@pytest.mark.parametrize("timestamp", [-1, 1 << 63])
def test_a_timestamp_has_63_bits(timestamp: int) -> None:
    with pytest.raises(AssertionError):
        ids.ms_of_timestamp(ids.Timestamp(timestamp))
    with pytest.raises(AssertionError):
        ids.count_of_timestamp(ids.Timestamp(timestamp))


def test_outcomes_keep_their_numbers() -> None:
    assert [outcome.name for outcome in sorted(Outcome)] == [
        *("COMMITTED", "LOCKED", "CHANGED", "PHANTOM", "NOT_FOUND", "EXISTS", "ROLLED_BACK"),
        *("RAISED", "OUT_OF_MEMORY", "TOO_LARGE", "TIMED_OUT", "LOG_FULL", "KEY_TOO_LARGE"),
        *("VALUE_TOO_LARGE", "READ_ONLY", "TOO_OLD", "UNAVAILABLE", "ELSEWHERE", "REMOTE"),
    ]
    assert sorted(Outcome) == list(range(19))


def test_table_ids_fit_15_bits_and_do_not_overlap() -> None:
    assert ids.TABLE_ID_DECLARED_LAST < ids.TABLE_ID_NAMED_FIRST <= ids.TABLE_ID_LAST
    assert ids.TABLE_ID_LAST == 2**15 - 1
