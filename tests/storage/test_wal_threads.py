"""The loop appends and reads while a thread writes and syncs, on real files."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mako.entry import Entry
from mako.storage.os_disk import OsDisk
from mako.storage.wal import Wal, WalSettings
from tests.storage.building import FOLDER, IDENTITY, contents, entry, hard, meta

SETTINGS = WalSettings(
    segment_bytes=64 << 10, reserve_bytes=4096, cache_bytes=8 << 10, keep_bytes=256 << 10
)


def write_and_sync(wal: Wal, now_ms: int) -> None:
    wal.write(now_ms)
    wal.sync()


def test_appending_and_reading_go_on_during_a_write(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = OsDisk(tmp_path, lock=True)
    wal = Wal(disk, FOLDER, IDENTITY, SETTINGS)
    wal.recover()
    wanted: dict[int, list[Entry]] = {1: [], 2: []}
    for group in wanted:
        wal.append(group, None, (), meta(0, 0))
    with ThreadPoolExecutor(1) as pool:
        for now_ms in range(300):
            wal.seal()
            flying = pool.submit(write_and_sync, wal, now_ms)
            for group, log in wanted.items():
                index = len(log) + 1
                log.append(entry(index, 1, rng.randbytes(rng.choice((10, 500, 3000)))))
                wal.append(group, hard(1, 1, index - 1), log[-1:])
                low = max(wal.storage(group).first_index(), rng.randint(1, index))
                assert wal.storage(group).entries(low, index + 1, 1 << 30) == log[low - 1 :]
            if now_ms % 50 == 49:
                index = len(wanted[1]) - 5
                for group in wanted:
                    wal.append(group, None, (), meta(index, 1))
                    wal.release(group, index)
                wal.cut(now_ms)
            flying.result()
            wal.clean()
    wal.close()
    again = Wal(disk, FOLDER, IDENTITY, SETTINGS)
    again.recover()
    for group, (_, _, entries) in contents(again).items():
        first = entries[0].index
        assert first > 100, "old segments were cut"
        assert entries == wanted[group][first - 1 :]
    again.close()
    disk.close()
