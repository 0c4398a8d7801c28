"""A batch has the same bytes whether its entries were copied or written from where they are."""

import random

import pytest

from mako.storage import wal_turn
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import WalSettings
from mako.storage.wal_format import (
    BATCH_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    ZERO_SECTOR,
    decode_batch,
)
from tests.storage.building import contents, data_of, entry, meta, opened, turn

FIRST = "wal/0000000000000001.wal"


def log_of(sizes: list[int], seed: int) -> tuple[bytes, object]:
    rng = random.Random(seed)
    disk = MemoryDisk()
    wal = opened(disk, WalSettings(segment_bytes=1 << 20, reserve_bytes=4096))
    wal.append(1, None, (), meta(0, 0))
    turn(wal)
    pieces = [
        data_of(rng, size // 2) + bytes(size // 4) + rng.randbytes(size - size // 2 - size // 4)
        for size in sizes
    ]
    wal.append(1, None, [entry(at + 1, 1, piece) for at, piece in enumerate(pieces)])
    turn(wal)
    assert contents(opened(disk)) == contents(wal)
    return disk.contents(FIRST), contents(wal)


@pytest.mark.parametrize("life", range(20))
def test_copied_or_not_the_bytes_are_the_same(
    seed: int, life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed + life)
    sizes = [rng.choice((1, 100, 600, 1024, 3000, 9000)) for _ in range(rng.randint(1, 8))]
    copied = log_of(sizes, seed)
    for limit in (1024, 2000, 4000):
        monkeypatch.setattr(wal_turn, "COPIED_BYTES_MAX", limit)
        assert log_of(sizes, seed) == copied


def test_zero_sectors_are_counted_exactly(seed: int) -> None:
    for life in range(20):
        data, _ = log_of([random.Random(seed + life).randint(1, 9000) for _ in range(5)], seed)
        at = SEGMENT_HEADER_BYTES
        while (header := decode_batch(data, at)) is not None:
            first, end = at + BATCH_HEADER_BYTES, at + BATCH_HEADER_BYTES + header.length
            wanted = sum(
                data[sector : sector + 512] == ZERO_SECTOR
                for sector in range(0, len(data), 512)
                if first <= sector and sector + 512 <= end
            )
            assert header.zero_sectors == wanted
            at += header.bytes
