"""History against a dictionary; what somebody misses; encoding, and bytes that are none."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mako.recovery.history import (
    RECORDS_MAX,
    BadHistory,
    EpochStart,
    Forgotten,
    History,
    decode_history,
    decode_records,
)

PARTITIONS: Final = st.integers(0, 3) | st.just(63)
#: For some partitions how many epochs are forgotten, and by how much each F is above the last.
SHAPES: Final = st.dictionaries(
    PARTITIONS,
    st.tuples(st.integers(0, 3), st.lists(st.integers(0, 5), min_size=1, max_size=5)),
    max_size=4,
)


def history_of(shape: dict[int, tuple[int, list[int]]]) -> History:
    starts = []
    for partition, (base, steps) in sorted(shape.items()):
        final = 0
        for at, step in enumerate(steps):
            final += step
            starts.append(EpochStart(partition, base + 1 + at, final))
    return History(starts)


HISTORIES: Final = SHAPES.map(history_of)


def test_epochs_come_one_by_one_and_begin_with_what_stands() -> None:
    history = History()
    assert (history.epoch(2), history.final(2)) == (0, None)
    assert history.add(EpochStart(2, 1, 0))
    assert history.add(EpochStart(2, 2, 90))
    assert not history.add(EpochStart(2, 1, 0))
    assert (history.epoch(2), history.final(2), history.final(2, 1)) == (2, 90, 0)
    assert history.vector() == {2: 2}


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (EpochStart(2, 2, 91), "two final watermarks"),  # H1
        (EpochStart(2, 3, 89), "is below"),  # H2
        (EpochStart(2, 4, 99), "comes behind"),  # H3
        (EpochStart(64, 1, 0), "no epoch"),
        (EpochStart(1, 0, 0), "no epoch"),
        (EpochStart(1, 1, 1 << 63), "no epoch"),
    ],
)
def test_what_contradicts_the_history_is_refused(start: EpochStart, why: str) -> None:
    history = History([EpochStart(2, 1, 0), EpochStart(2, 2, 90)])
    with pytest.raises(BadHistory, match=why):
        history.add(start)
    assert history == History([EpochStart(2, 1, 0), EpochStart(2, 2, 90)])


def test_news_of_a_final_watermark_below_the_last_one_is_refused() -> None:
    history = History([EpochStart(2, 1, 0), EpochStart(2, 2, 90)])
    with pytest.raises(BadHistory, match="is below"):
        history.merge(History([EpochStart(1, 1, 0), EpochStart(2, 3, 80), EpochStart(2, 4, 95)]))
    assert history.vector() == {2: 2}


def test_what_is_missed_is_told_epoch_by_epoch() -> None:
    history = History([EpochStart(1, 1, 0), EpochStart(2, 1, 0), EpochStart(2, 2, 90)])
    assert history.missed({1: 1, 2: 0}) == [EpochStart(2, 1, 0), EpochStart(2, 2, 90)]
    assert history.missed({1: 1, 2: 1}) == [EpochStart(2, 2, 90)]
    assert history.missed({1: 1, 2: 2, 3: 9}) == []


def test_the_first_epoch_that_was_missed_decides_what_is_void() -> None:
    history = History([EpochStart(2, 1, 0), EpochStart(2, 2, 50), EpochStart(2, 3, 90)])
    vector = {2: 1}
    assert history.is_void(vector, 0b100, 51)
    assert not history.is_void(vector, 0b100, 50)
    assert not history.is_void(vector, 0b011, 51)  # It does not depend on 2.
    assert not history.is_void({2: 2}, 0b100, 90)
    assert history.is_void({2: 2}, 0b100, 91)
    assert not history.is_void({2: 3}, 0b100, 1000)


def test_what_everybody_has_is_forgotten_and_who_lacks_it_is_told_so() -> None:
    history = History([EpochStart(2, 1, 0), EpochStart(2, 2, 50), EpochStart(2, 3, 90)])
    assert history.known_by_all([{2: 3}, {2: 2}, {2: 7}]) == {2: 2}
    assert history.known_by_all([{2: 3}, {}]) == {2: 0}
    before = history.hash
    assert history.forget(2, 2) == 2
    assert history.forget(2, 2) == 0
    assert list(history.starts()) == [EpochStart(2, 3, 90)]
    assert (history.epoch(2), history.hash) == (3, before)
    assert history.missed({2: 2}) == [EpochStart(2, 3, 90)]
    with pytest.raises(Forgotten, match="partition 2"):
        history.missed({2: 1})
    with pytest.raises(Forgotten):
        history.is_void({2: 1}, 0b100, 60)
    assert history.forget(2, 9) == 0  # The newest stays.
    assert history.epoch(2) == 3


def test_the_hash_is_that_of_the_document() -> None:
    assert History().hash.to_bytes(8, "little").hex() == "e4a6a0577479b2b4"
    history = History([EpochStart(2, 1, 0), EpochStart(2, 2, 90)])
    assert history.hash.to_bytes(8, "little").hex() == "bfebdd44374162b9"
    assert history.hash == History([EpochStart(2, 2, 90)]).hash
    assert history.hash != History([EpochStart(2, 2, 91)]).hash
    before = history.hash
    history.add(EpochStart(2, 3, 90))
    assert history.hash != before


@given(HISTORIES, HISTORIES)
def test_hashes_are_equal_exactly_if_the_newest_epochs_are(one: History, other: History) -> None:
    def newest(history: History) -> list[tuple[int, int, int | None]]:
        return [(p, e, history.final(p)) for p, e in history.vector().items()]

    assert (one.hash == other.hash) == (newest(one) == newest(other))


@given(SHAPES, st.data())
def test_merging_two_views_of_one_past_gives_the_longer_of_each_partition(
    shape: dict[int, tuple[int, list[int]]], data: st.DataObject
) -> None:
    whole = history_of(shape)

    def view() -> History:
        starts = []
        for partition, (base, steps) in sorted(shape.items()):
            end = base + data.draw(st.integers(0, len(steps)))
            starts += [s for s in whole.starts() if s.partition == partition and s.epoch <= end]
        return History(starts)

    one, other = view(), view()
    before = one.vector()
    expected = [s for s in other.starts() if s.epoch > before.get(s.partition, 0)]
    # A partition of which nothing is known here, and whose beginning is forgotten.
    lost = [p for p in other.vector() if p not in before and shape[p][0] > 0]
    if lost:
        with pytest.raises(Forgotten, match=f"partition {min(lost)} "):
            one.copy().merge(other)
        return
    new = one.copy().merge(other)
    assert new == expected
    merged = one.copy()
    merged.merge(other)
    for partition in {*one.vector(), *other.vector()}:
        assert merged.epoch(partition) == max(one.epoch(partition), other.epoch(partition))
    assert merged.merge(one) == []
    assert merged.merge(other) == []


@given(HISTORIES, st.integers(0, 100))
def test_a_merge_that_fails_changes_nothing(history: History, at: int) -> None:
    starts = list(history.starts())
    if not starts:
        return
    changed = starts[at % len(starts)]
    other = History(
        start._replace(final=start.final + 1)
        if start.partition == changed.partition and start.epoch >= changed.epoch
        else start
        for start in starts
    )
    before = history.copy()
    with pytest.raises(BadHistory, match="two final"):
        history.merge(other)
    assert history == before


# --- Encoding ----------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_document() -> None:
    history = History([EpochStart(2, 4, 90), EpochStart(2, 5, 0x1_0000_0000)])
    record = "0200" + "0400000000000000" + "5a00000000000000"
    record += "0200" + "0500000000000000" + "0000000001000000"
    assert history.records().hex() == record
    assert history.encode().hex() == "0100" + "0000" + "02000000" + record


@given(HISTORIES)
def test_what_is_encoded_is_decoded(history: History) -> None:
    assert decode_history(history.encode()) == history
    assert decode_records(history.records()) == history


@given(HISTORIES, st.data())
def test_nearly_good_bytes_are_refused_or_are_a_history(
    history: History, data: st.DataObject
) -> None:
    changed = bytearray(history.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        found = decode_history(bytes(changed))
    except BadHistory:
        return
    assert found.encode() == bytes(changed)


@given(st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    try:
        found = decode_history(data)
    except BadHistory:
        return
    assert found.encode() == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\1\0\0\0\0\0\0", "no head"),
        (b"\2\0\0\0\0\0\0\0", "version 2"),
        (b"\1\0\1\0\0\0\0\0", "version"),
        (b"\1\0\0\0\1\0\0\0", "1 epochs in 8 bytes"),
        (b"\1\0\0\0\xff\xff\xff\xff", "epochs in 8 bytes"),
    ],
)
def test_heads_are_checked(data: bytes, why: str) -> None:
    with pytest.raises(BadHistory, match=why):
        decode_history(data)


def test_no_message_is_longer_than_one_may_be() -> None:
    long = b"".join(
        (2).to_bytes(2, "little") + epoch.to_bytes(8, "little") + bytes(8)
        for epoch in range(1, RECORDS_MAX + 2)
    )
    head = b"\1\0\0\0" + (RECORDS_MAX + 1).to_bytes(4, "little")
    with pytest.raises(BadHistory, match="65537 epochs"):
        decode_history(head + long)


def test_epochs_out_of_order_or_twice_are_refused() -> None:
    one, two = (History([EpochStart(p, 1, 0)]).records() for p in (1, 2))
    assert decode_records(one + two).vector() == {1: 1, 2: 1}
    with pytest.raises(BadHistory, match="ascending"):
        decode_records(two + one)
    with pytest.raises(BadHistory, match="ascending"):
        decode_records(one + one)
    with pytest.raises(BadHistory, match="no list"):
        decode_records(one[:-1])


def test_a_message_has_the_last_epochs_of_a_history_that_is_too_long() -> None:
    history = History(
        [EpochStart(p, e, e) for p in (0, 1) for e in range(1, 6)] + [EpochStart(2, 1, 1)]
    )
    found = decode_history(history.encode(limit=6))
    assert [(s.partition, s.epoch) for s in found.starts()] == [
        (0, 4),
        (0, 5),
        (1, 4),
        (1, 5),
        (2, 1),
    ]
    assert found.hash == history.hash
    assert 8 + 18 * RECORDS_MAX < 8 << 20, "it fits a frame between processes"
