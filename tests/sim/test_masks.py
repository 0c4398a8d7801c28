"""Masks in logs: whoever writes over what is not durable everywhere waits for the same ones."""

import struct

import pytest

from mako.log_format import FLAG_DEPENDENCIES, HEADER, MAGIC, TRANSACTION, VERSION, EntryType
from mako.recovery.gossip import Gossip
from mako.recovery.history import EpochStart, History
from mako.sim.checkers import Violation
from mako.sim.shards.masks import Logged, Masks, transactions_of

VECTOR = {0: 3, 1: 2}


def transaction(timestamp: int, mask: int, *keys: bytes) -> bytes:
    writes = b"".join(
        struct.pack("<H", len(key)) + key + struct.pack("<I2sH", 2, b"vv", 1) for key in keys
    )
    flags = FLAG_DEPENDENCIES if mask else 0
    head = TRANSACTION.pack(timestamp, len(keys), flags, len(writes))
    return head + (struct.pack("<Q", mask) if mask else b"") + writes


def entry(*transactions: bytes, kind: EntryType = EntryType.TRANSACTIONS) -> bytes:
    body = b"".join(transactions)
    return HEADER.pack(MAGIC, VERSION, kind, 0, 0, 0, len(transactions), len(body), 3) + body


def told(watermark: int, epoch: int = 2, *starts: EpochStart) -> Gossip:
    """Partition 1 tells its watermark, and which epochs it knows."""
    return Gossip(2, 1, 1, epoch, watermark, 0, History(starts) if starts else None)


def test_an_entry_is_read_in_the_order_of_timestamps() -> None:
    first, second = transaction(9, 0b11, b"x", b"yy"), transaction(7, 0, b"x")
    assert transactions_of(entry(first, second)) == [
        Logged(7, 0, ((1, b"x"),)),
        Logged(9, 0b11, ((1, b"x"), (1, b"yy"))),
    ]
    assert transactions_of(entry(kind=EntryType.EPOCH)) == []


def log(masks: Masks, *transactions: bytes, vector: dict[int, int] = VECTOR) -> None:
    """The leader of partition 0 logs an entry."""
    masks.logged(0, vector, entry(*transactions))


@pytest.mark.parametrize("together", [True, False])
def test_a_bit_that_is_not_inherited_is_found(together: bool) -> None:  # noqa: FBT001
    masks = Masks()
    masks.announced(told(30))
    one, other = transaction(31, 0b11, b"x"), transaction(34, 0, b"x")
    if not together:
        log(masks, one)
    with pytest.raises(Violation, match="34 over 31 without waiting for partition 1"):
        log(masks, other, *[one] * together)


def test_a_bit_that_the_watermark_has_passed_may_go() -> None:
    masks = Masks()
    log(masks, transaction(31, 0b11, b"x"), transaction(32, 0b11, b"x"))
    assert masks.dropped == 0
    masks.announced(told(32))
    log(masks, transaction(34, 0, b"x"), transaction(35, 0, b"z"))
    assert masks.dropped == 1


def test_a_watermark_of_another_epoch_does_not_count() -> None:
    masks = Masks()
    log(masks, transaction(31, 0b11, b"x"))
    masks.announced(told(40, 3))
    with pytest.raises(Violation, match="watermark of epoch 2"):
        log(masks, transaction(34, 0, b"x"))


@pytest.mark.parametrize("epoch", [2, 3])
def test_the_final_watermark_that_begins_or_ends_an_epoch_counts(epoch: int) -> None:
    masks = Masks()
    log(masks, transaction(31, 0b11, b"x"))
    masks.announced(told(0, 1, EpochStart(1, epoch, 31)))
    log(masks, transaction(34, 0, b"x"))
    assert masks.dropped == 1


def test_what_an_epoch_has_undone_is_not_written_over() -> None:
    masks = Masks()
    log(masks, transaction(31, 0b11, b"x"))
    log(masks, transaction(34, 0, b"x"), vector={0: 3, 1: 3})
    assert masks.dropped == 0
