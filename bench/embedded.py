"""One durable put in an embedded database, beside a bare loop of write and fdatasync.

    python -m bench.embedded [--folder DIR] [--rounds N] [--puts N] [--output text|json]

Both take turns on the same disk, because a shared disk is another one every second; the ratio is
the median over the rounds, each of which compares neighbours. The bare loop writes as many bytes
as a put brings to disk, into a file with its room taken ahead. The same for several threads, whose
puts share syncs, beside one bare loop. Last, what the database costs while nobody uses it.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import mako
from bench.arguments import whole
from bench.wal import BareLoop

THREADS: Final = (1, 8)
VALUE: Final = bytes(100)
#: The batch of a put of 16 and 100 bytes in the log: an entry, a hard state, their frame.
BATCH_BYTES: Final = 384
#: Seconds after which an idle database has stopped its ticks, and for which it is then watched.
REST_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 5.0

Figures = dict[str, float | int]


def seconds_of(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def put_many(db: mako.Database, threads: int, puts: int) -> None:
    """`puts` puts, over so many threads."""

    def put(number: int) -> None:
        for i in range(puts // threads):
            db.put(b"%06d/%09d" % (number, i), VALUE)

    if threads == 1:
        put(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(threads)))


def put_figures(db: mako.Database, bare: BareLoop, threads: int, rounds: int, puts: int) -> Figures:
    """The database and the bare loop in turns."""
    data = bytes(BATCH_BYTES)

    def loop() -> None:
        for _ in range(puts):
            bare.turn(data)

    pairs = [
        (seconds_of(loop), seconds_of(lambda: put_many(db, threads, puts))) for _ in range(rounds)
    ]
    return {
        "threads": threads,
        "bare_ms": round(1e3 * statistics.median(one for one, _ in pairs) / puts, 3),
        "put_ms": round(1e3 * statistics.median(one for _, one in pairs) / puts, 3),
        "ratio": round(statistics.median(put / bare for bare, put in pairs), 2),
    }


def idle_share() -> float:
    """Processor time over time, of this whole process while it waits."""
    pause = threading.Event()
    pause.wait(REST_SECONDS)
    before = time.process_time()
    pause.wait(WATCH_SECONDS)
    return (time.process_time() - before) / WATCH_SECONDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.embedded", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files go")
    parser.add_argument("--rounds", type=whole(), default=15, help="rounds of each measurement")
    parser.add_argument("--puts", type=whole(), default=160, help="of each loop in a round")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder; name one on the disk to be measured")
    folder = Path(tempfile.mkdtemp(prefix="mako-embedded-", dir=options.folder))
    bare = BareLoop(folder)
    try:
        with mako.open(folder / "data", memory="256MiB") as db:
            put_many(db, 1, options.puts)
            rows = [put_figures(db, bare, n, options.rounds, options.puts) for n in THREADS]
            idle = idle_share()
    finally:
        bare.close()
        shutil.rmtree(folder)
    if options.output == "json":
        print(json.dumps({"put": rows, "idle_share": idle}))
        return 0
    print(f"{'threads':>8}{'bare ms':>10}{'put ms':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['threads']:>8}{row['bare_ms']:>10}{row['put_ms']:>10}{row['ratio']:>8}")
    print(f"idle: {idle:.4%} of one core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
