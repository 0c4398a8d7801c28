"""Replay beside execution: `python -m bench.engine.replaying`.

A worker runs the TPC-C mix while its log is recorded; then a follower's replayer applies the log.
Printed is the processor time per transaction of both, and the ratio. That of execution is the
worker's thread alone, that of replay includes the check of each entry.
"""

import argparse
import io
import time

import mako
from bench.arguments import span, whole
from bench.options import TpccOptions
from bench.tpcc.benchmark import Tpcc
from mako.engine.engine import Engine
from mako.engine.replayer import Replayer
from mako.log_format import ENTRY_BYTES_MIN, HEADER


def record(scale: str, seconds: float) -> tuple[list[bytes], int, float, int]:
    """Entries, how many of them are of the load, µs of processor time per transaction,
    transactions."""
    benchmark = Tpcc(TpccOptions(workers=1, warehouses=1, scale=scale))  # type: ignore[arg-type]
    file = io.BytesIO()
    with mako.open(memory="6GiB") as db:
        recording = db.record_log(file)
        benchmark.prepare(db, lambda *_: None)
        while not recording_is_even(recording):
            pass
        loaded = file.tell()
        drive = db.drive(benchmark.workload(), workers=1, states=benchmark.states(1, 1), seed=1)
        time.sleep(seconds)
        used = drive.cpu_seconds
        drive.stop()
        sample = drive.sample()
        recording.close()
    count = sum(kind.committed for kind in sample.kinds)
    entries, at, of_load = [], 0, 0
    data = file.getbuffer()
    while at < len(data):
        size = ENTRY_BYTES_MIN + HEADER.unpack_from(data, at)[7]
        of_load += at < loaded
        entries.append(bytes(data[at : at + size]))
        at += size
    return entries, of_load, 1e6 * used / count, count


def recording_is_even(recording: object) -> bool:
    """The recorder has had time to write what was loaded."""
    time.sleep(0.2)
    return recording is not None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", choices=["tiny", "small", "spec"], default="spec")
    parser.add_argument("--seconds", type=span, default=3)
    parser.add_argument("--rounds", type=whole(), default=3)
    given = parser.parse_args()
    for _ in range(given.rounds):
        entries, of_load, executed, count = record(given.scale, given.seconds)
        engine = Engine(6 << 30, contexts=4, now_ms=0)
        replayer = Replayer(engine)
        for entry in entries[:of_load]:
            replayer.apply(entry)
        before = replayer.applied.transactions
        started = time.process_time()
        for entry in entries[of_load:]:
            replayer.apply(entry)
        took = time.process_time() - started
        done = replayer.applied.transactions - before
        size = sum(map(len, entries[of_load:]))
        print(
            f"executed {count}, {executed:.2f} us each; replayed {done} that wrote, {size >> 20}"
            f" MiB, {1e6 * took / count:.2f} us per executed one:"
            f" {1e6 * took / count / executed:.2f}"
        )
        engine.close()


if __name__ == "__main__":
    main()
