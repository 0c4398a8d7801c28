"""What a sync of the log takes while a snapshot is written to the same disk.

    python -m bench.beside --folder DIR [--mib N] [--rate MIB_PER_S] [--rounds N]
                           [--output text|json]

One thread writes 4 KiB and syncs them, again and again, as a log does; the other one writes a file
of so many MiB, at that rate, and syncs it only in the end, or after every few MiB; 8 is what a
replica does (`DriverSettings.snapshot_sync_bytes`). The ways take turns.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.arguments import real, whole
from mako.storage.disk import File
from mako.storage.os_disk import OsDisk

#: MiB after which the snapshot is synced.
WAYS: Final = (0, 8, 32)
MIB: Final = 1 << 20
LOG_BYTES: Final = 16 * MIB
RECORD: Final = os.urandom(4096)


@dataclass(slots=True)
class Log:
    """Writes and syncs until it is told to stop."""

    file: File
    #: Seconds that each write with its sync has taken, since they were cleared.
    taken: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        at = 0
        while not self.stop.is_set():
            started = time.perf_counter()
            self.file.write(at, RECORD)
            self.file.sync()
            self.taken.append(time.perf_counter() - started)
            at = (at + len(RECORD)) % LOG_BYTES
            time.sleep(0.001)


def snapshot(disk: OsDisk, mib: int, rate: float, every: int) -> None:
    """Write a file of so many MiB and sync it."""
    data = os.urandom(MIB)
    file = disk.open("snapshot", create=True)
    file.truncate(0)
    started = time.perf_counter()
    for number in range(mib):
        file.write(number * MIB, data)
        if every and number % every == every - 1:
            file.sync()
        ahead = (number + 1) / rate - (time.perf_counter() - started)
        time.sleep(max(ahead, 0))
    file.sync()
    file.close()
    disk.remove("snapshot")


def measure(folder: Path, mib: int, rate: float, rounds: int) -> list[dict[str, float]]:
    """Milliseconds of the log's syncs for each of WAYS, over all rounds."""
    disk = OsDisk(folder)
    file = disk.open("log", create=True)
    file.allocate(LOG_BYTES)
    for at in range(0, LOG_BYTES, MIB):
        file.write(at, bytes(MIB))
    file.sync()
    log = Log(file)
    thread = threading.Thread(target=log.run)
    thread.start()
    found: dict[int, list[float]] = {way: [] for way in WAYS}
    try:
        for _ in range(rounds):
            for way, taken in found.items():
                log.taken.clear()
                snapshot(disk, mib, rate, way)
                while not log.taken:  # The disk was faster with a small one.
                    time.sleep(0.001)
                taken += log.taken
    finally:
        log.stop.set()
        thread.join()
        file.close()
        disk.close()
    return [
        {
            "sync_after_mib": way,
            "syncs": len(taken),
            "p50_ms": 1e3 * sorted(taken)[len(taken) // 2],
            "p99_ms": 1e3 * sorted(taken)[len(taken) * 99 // 100],
            "max_ms": 1e3 * max(taken),
        }
        for way, taken in found.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--mib", type=whole(), default=512)
    parser.add_argument("--rate", type=real(0.001), default=250.0)
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.mib, options.rate, options.rounds)
    if options.output == "json":
        print(json.dumps(found))
        return 0
    print("snapshot synced after   log's syncs   p50 ms   p99 ms   max ms")
    for way in found:
        after = f"{way['sync_after_mib']} MiB" if way["sync_after_mib"] else "its end"
        print(
            f"{after:>21}   {way['syncs']:>11}   {way['p50_ms']:>6.1f}   {way['p99_ms']:>6.1f}"
            f"   {way['max_ms']:>6.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
