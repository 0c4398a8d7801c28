"""How fast the write-ahead log is, beside a bare loop on the same disk.

    python -m bench.wal [--folder DIR] [--rounds N] [--seconds S] [--recover-mib N]
                        [--output text|json]

For each size of an entry the log (append, seal, write, sync of it) and a bare loop take turns,
because a shared disk is another one every second. The bare loop does pwrite and fdatasync of as
many bytes as the log brings to disk for the entry, into a file with its room taken ahead. Rates
count the bytes of entries. The share is the median over the rounds, each of which compares
neighbours. Recovery is measured with the files in the page cache, and read from the disk.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from bench.arguments import span, whole
from mako.entry import Configuration, Entry, EntryKind, HardState, Index, NodeId, SnapshotMeta, Term
from mako.log_format import ENTRY_BYTES_MIN, FOOTER_BYTES, HEADER, MAGIC, VERSION
from mako.storage.os_disk import OsDisk
from mako.storage.wal import Identity, Wal, WalSettings
from mako.storage.wal_format import RECORD_BYTES, VOTE_BYTES, batch_bytes

SIZES: Final = (4 << 10, 64 << 10, 512 << 10)
IDENTITY: Final = Identity(1, 1)
MEMBERS: Final = Configuration(frozenset({NodeId(1)}))
#: Turns between cuts.
CUT_TURNS: Final = 100
#: Entry of the recovery measurement: what a busy partition appends in a millisecond or two.
RECOVER_ENTRY_BYTES: Final = 64 << 10
#: The bare loop begins anew when its file is full, as the log does.
BARE_BYTES: Final = 64 << 20
MB: Final = 1e6

Figures = dict[str, float | int]


class BareLoop:
    """pwrite and fdatasync, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bare"
        self._descriptor = -1
        self._at = 0
        self._begin()

    def _begin(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._path.unlink()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(self._descriptor, 0, BARE_BYTES)
        os.fsync(self._descriptor)
        self._at = 0

    def turn(self, data: bytes) -> None:
        if self._at + len(data) > BARE_BYTES:
            self._begin()
        os.pwrite(self._descriptor, data, self._at)
        os.fdatasync(self._descriptor)
        self._at += len(data)

    def close(self) -> None:
        os.close(self._descriptor)


class LogLoop:
    """One turn of the log per call."""

    def __init__(self, folder: Path) -> None:
        self._disk = OsDisk(folder)
        settings = WalSettings(cache_bytes=8 << 20, keep_bytes=0, entries_sealed=True)
        self._wal = Wal(self._disk, "wal", IDENTITY, settings)
        self._wal.recover()
        self._wal.append(1, None, (), SnapshotMeta(Index(0), Term(0), MEMBERS))
        self._index = 0

    def turn(self, data: bytes) -> None:
        self._index += 1
        wal = self._wal
        entry = Entry(Term(1), Index(self._index), EntryKind.NORMAL, data)
        wal.append(1, HardState(Term(1), NodeId(1), Index(self._index - 1)), (entry,))
        wal.seal()
        wal.write()
        wal.sync()
        if self._index % CUT_TURNS == 0:
            # Both loops let old files go: a disk that only grows is another disk.
            last = Index(self._index - 1)
            wal.append(1, None, (), SnapshotMeta(last, Term(1), MEMBERS))
            wal.release(1, last)
            wal.cut(0)
            wal.clean()

    def close(self) -> None:
        self._wal.close()
        self._disk.close()


def measured(turn: Callable[[], None], size: int, seconds: float) -> float:
    """Bytes of entries per second."""
    count = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        turn()
        count += 1
    return count * size / passed


def append_figures(folder: Path, size: int, rounds: int, seconds: float) -> Figures:
    """The log and the bare loop in turns."""
    data = sealed(size)
    # An entry and a hard state.
    whole = os.urandom(batch_bytes(2 * RECORD_BYTES + VOTE_BYTES + size))
    bare, log = BareLoop(folder), LogLoop(folder)
    pairs = [
        (
            measured(lambda: bare.turn(whole), size, seconds),
            measured(lambda: log.turn(data), size, seconds),
        )
        for _ in range(rounds)
    ]
    bare.close()
    log.close()
    return {
        "bytes": size,
        "bare_mb_s": round(statistics.median(bare for bare, _ in pairs) / MB, 1),
        "wal_mb_s": round(statistics.median(log for _, log in pairs) / MB, 1),
        "share": round(statistics.median(log / bare for bare, log in pairs), 3),
    }


def sealed(size: int) -> bytes:
    """Random bytes in the frame of an entry of the log, which ends with a CRC."""
    body = os.urandom(size - ENTRY_BYTES_MIN)
    data = HEADER.pack(MAGIC, VERSION, 1, 0, 0, 0, 1, len(body), 1) + body
    data += bytes(FOOTER_BYTES - 4)
    return data + crc32(data).to_bytes(4, "little")


def recover_figures(folder: Path, mib: int) -> Figures:
    """Write a log of `mib` MiB, then recover it from memory and from the disk."""
    disk = OsDisk(folder)
    wal = Wal(disk, "recover", IDENTITY, WalSettings(cache_bytes=1 << 20))
    wal.recover()
    data = sealed(RECOVER_ENTRY_BYTES)
    for index in range(1, (mib << 20) // RECOVER_ENTRY_BYTES + 1):
        entry = Entry(Term(1), Index(index), EntryKind.NORMAL, data)
        wal.append(1, None, (entry,))
        wal.write()
    wal.close()
    files = sorted((folder / "recover").glob("*.wal"))
    used = mib << 20
    figures: Figures = {"mib": mib}
    for name, cold in (("warm", False), ("cold", True)):
        for file in files:
            if cold:
                forget(file)
        start = time.perf_counter()
        Wal(disk, "recover", IDENTITY).recover()
        figures[f"{name}_mb_s"] = round(used / (time.perf_counter() - start) / MB, 1)
    for file in files:
        forget(file)
    start = time.perf_counter()
    for file in files:
        file.read_bytes()
    figures["bare_cold_mb_s"] = round(used / (time.perf_counter() - start) / MB, 1)
    return figures


def forget(file: Path) -> None:
    """Ask the kernel to drop the pages of a file, so that it is read from the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.wal", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files go")
    parser.add_argument("--rounds", type=whole(), default=7, help="rounds per batch size")
    parser.add_argument("--seconds", type=span, default=0.5, help="of each loop in a round")
    parser.add_argument("--recover-mib", type=whole(), default=512, help="of the log to recover")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder; name one on the disk to be measured")
    folder = Path(tempfile.mkdtemp(prefix="mako-wal-", dir=options.folder))
    try:
        appends = []
        for size in SIZES:
            place = folder / str(size)
            place.mkdir()
            appends.append(append_figures(place, size, options.rounds, options.seconds))
            shutil.rmtree(place)
        recovery = recover_figures(folder, options.recover_mib)
    finally:
        shutil.rmtree(folder)
    if options.output == "json":
        print(json.dumps({"append": appends, "recover": recovery}))
        return 0
    print(f"{'batch':>10}{'bare MB/s':>12}{'log MB/s':>12}{'share':>8}")
    for row in appends:
        label = f"{int(row['bytes']) >> 10} KiB"
        print(f"{label:>10}{row['bare_mb_s']:>12}{row['wal_mb_s']:>12}{row['share']:>8.1%}")
    print(
        f"recovery of {recovery['mib']} MiB: {recovery['warm_mb_s']} MB/s from memory,"
        f" {recovery['cold_mb_s']} MB/s from disk"
        f" (a bare read of the files: {recovery['bare_cold_mb_s']} MB/s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
