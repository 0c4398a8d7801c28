"""Replay beside execution: what a transaction costs the leader's worker, and what a follower.

    python -m bench.replay [--scale tiny|small|spec] [--transactions N] [--rounds R]
                           [--batch N] [--output text|json]

                 execute              drain                    apply
    worker ───▶ leader's engine ───▶ entry, entry, ... ───▶ follower's engine

One thread does all of it in turns, each part under the clock of its processor time: a round
executes so many transactions of the TPC-C mix, which become entries of `--batch` transactions,
about a millisecond of work; then the follower applies the entries. At its end both must have the
same state, or there is no figure. Execution is what the worker does, from drawing the input to
reclaiming memory; draining and sealing, which are the leader's as well, are shown beside it. Replay
is all of `Partition.apply`.

The parts of replay are measured after each round, on the same entries: the checksum, the checks of
the format and of the tables for themselves, and what an entry without transactions costs. The
rest is looking up and installing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import machine
from bench.arguments import whole
from bench.engine.driving import drive_some
from bench.engine.figures import without_collector
from bench.options import Scale, TpccOptions
from bench.tpcc.benchmark import Tpcc
from bench.tpcc.schema import TABLES
from bench.tpcc.workload import WORKLOAD
from mako.client.database import Database
from mako.crc import crc32
from mako.engine import layout
from mako.engine.buffers import addressed
from mako.engine.codec import check_body, frame_of, seal
from mako.engine.entries import workload_entries
from mako.entry import Entry, EntryKind, Index, Term
from mako.errors import Error, OutOfMemory
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, EntryType
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings

RING_BYTES: Final = 16 << 20
MEMORY_BYTES: Final = {"tiny": 1 << 30, "small": 1 << 30, "spec": 3 << 30}
TERM: Final = 1


class Differs(Error):
    """The follower has another state than the leader: no figure counts."""


@dataclass(frozen=True, slots=True)
class Round:
    """Processor time in ns of each part of a round, and what it was for."""

    transactions: int
    logged: int
    writes: int
    bytes: int
    entries: int
    execute: int
    drain: int
    replay: int
    crc: int
    checks: int
    bare_entries: int

    @property
    def ratio(self) -> float:
        return self.replay / self.execute

    @property
    def install(self) -> int:
        """Looking up and installing: what is left of replay."""
        return self.replay - self.crc - self.checks - self.bare_entries


def spent(work: Callable[[], object]) -> int:
    """Processor time of this thread in ns."""
    with without_collector():
        began = time.thread_time_ns()
        work()
        return time.thread_time_ns() - began


class Leader:
    """A partition that leads, and a worker that runs on this thread."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.partition = made(scale)
        self.log: list[Entry] = []
        self._tpcc = Tpcc(TpccOptions(workers=1, warehouses=1, scale=scale, seed=seed))
        self._add([self.partition.open_term(TERM, [])])
        self._tpcc.prepare(Database(self.partition.engine), self._on_progress)
        self.drain()
        self._worker = self._prepare(seed)

    def _on_progress(self, done: int, total: int, what: str) -> None:
        self.drain()

    def _prepare(self, seed: int) -> int:
        """A context as `Drive` prepares it."""
        engine = self.partition.engine
        state = WORKLOAD.state.pack(self._tpcc.states(1, seed)[0])
        context = engine.take_context()
        place = engine.allocate(context, max(len(state), 8))
        engine.write(place, state)
        generate, execute = workload_entries(WORKLOAD)
        for word, value in (
            (layout.K_GENERATE, generate.address),
            (layout.K_EXECUTE, execute.address),
            (layout.K_STATE, place),
            (layout.K_RANDOM, seed * 1_000_003),
            (layout.K_OFFSET, time.time_ns() - time.monotonic_ns()),
        ):
            engine.set_word(context + word, value)
        return context

    def execute(self, count: int) -> None:
        done = drive_some(self._worker, count)
        if done != count:
            raise OutOfMemory("memory is full; take fewer transactions or rounds")

    def drain(self) -> list[Entry]:
        """What was executed, as entries; it is committed at once."""
        self.partition.want(self.partition.engine.clock)
        return self._add(self.partition.drain())

    def _add(self, made: Iterable[bytes]) -> list[Entry]:
        entries = []
        for data in made:
            entries.append(Entry(Term(TERM), Index(len(self.log) + 1), EntryKind.NORMAL, data))
            self.log += entries[-1:]
        self.partition.apply(entries)
        return entries


def made(scale: Scale) -> Partition:
    settings = PartitionSettings(
        memory_bytes=MEMORY_BYTES[scale],
        contexts=4,
        ring_bytes=RING_BYTES,
        entry_bytes=RING_BYTES // 2,
    )
    return Partition(settings, TABLES, lambda: time.time_ns() // 1_000_000)


def execute(leader: Leader, transactions: int, batch: int) -> tuple[list[Entry], int, int]:
    """Entries of so many transactions, and the ns of executing and of draining them."""
    entries: list[Entry] = []
    executing = draining = 0
    with without_collector():
        for at in range(0, transactions, batch):
            began = time.thread_time_ns()
            leader.execute(min(batch, transactions - at))
            executed = time.thread_time_ns()
            entries += leader.drain()
            executing += executed - began
            draining += time.thread_time_ns() - executed
    return entries, executing, draining


def run_round(leader: Leader, follower: Partition, transactions: int, batch: int) -> Round:
    entries, executing, draining = execute(leader, transactions, batch)
    before = follower._replayer.applied.writes

    def apply() -> None:
        for entry in entries:
            follower.apply([entry])

    replaying = spent(apply)
    if leader.partition.state_hash() != follower.state_hash():
        raise Differs("the follower's state is not the leader's; tell whoever changed the replayer")
    full = [entry.data for entry in entries if frame_of(entry.data).count]
    return Round(
        transactions=transactions,
        logged=sum(frame_of(data).count for data in full),
        writes=follower._replayer.applied.writes - before,
        bytes=sum(map(len, full)),
        entries=len(full),
        execute=executing,
        drain=draining,
        replay=replaying,
        bare_entries=bare_entries(leader, follower, len(full)),
        **parts_of(full, follower),
    )


def parts_of(entries: Sequence[bytes], follower: Partition) -> dict[str, int]:
    """The checks of replay, each for itself."""
    base = follower.engine.base

    def checksum() -> None:
        for data in entries:
            crc32(memoryview(data)[:-4])

    def through(function: Callable[[int, int], tuple[int, int]]) -> Callable[[], None]:
        def work() -> None:
            for data in entries:
                with addressed(data) as (address, size):
                    if function(address, size)[0]:
                        raise AssertionError("an entry of our own making is good")

        return work

    def fits(address: int, size: int) -> tuple[int, int]:
        failed, offset, unfit, _ = check_body(address, size, base)
        return failed or unfit, offset

    def unrelated(address: int, size: int) -> tuple[int, int]:
        return 0, 0

    python = spent(through(unrelated))
    return {
        "crc": spent(checksum),
        "checks": max(spent(through(fits)) - python, 0),
    }


def bare_entries(leader: Leader, follower: Partition, count: int) -> int:
    """ns of applying `count` entries that only close a timestamp."""
    space = memoryview(bytearray(HEADER_BYTES + FOOTER_BYTES))
    closed = leader.partition.drained
    for _ in range(count):
        data = bytes(
            seal(
                space,
                0,
                kind=EntryType.TRANSACTIONS,
                count=0,
                closed=closed,
                stable=closed,
                submitted=0,
                epoch=leader.partition.epoch,
            )
        )
        leader._add([data])
    fresh = leader.log[-count:]

    def apply() -> None:
        for entry in fresh:
            follower.apply([entry])

    return spent(apply)


def measure(scale: Scale, transactions: int, rounds: int, batch: int, seed: int) -> list[Round]:
    leader = Leader(scale, seed)
    follower = made(scale)
    try:
        run_rounds = []
        follower.apply(leader.log)
        # The first one compiles, and takes the memory that later ones use again.
        for number in range(rounds + 1):
            done = run_round(leader, follower, transactions, batch)
            if number:
                run_rounds.append(done)
                print(line_of(done), file=sys.stderr, flush=True)
        return run_rounds
    finally:
        leader.partition.close()
        follower.close()


def line_of(done: Round) -> str:
    """One line of progress."""
    return (
        f"executed {done.execute / done.transactions / 1e3:.2f} us,"
        f" replayed {done.replay / done.transactions / 1e3:.2f} us: {done.ratio:.3f}"
    )


def summary_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians over the rounds: ns per executed transaction, and per write."""

    def per(part: str, of: str = "transactions") -> float:
        each = [getattr(done, part) / getattr(done, of) for done in rounds]
        return float(round(statistics.median(each), 2))

    ratios = sorted(done.ratio for done in rounds)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_least": round(ratios[0], 3),
        "ratio_most": round(ratios[-1], 3),
        "execute_ns": per("execute"),
        "drain_ns": per("drain"),
        "replay_ns": per("replay"),
        "replay_ns_per_write": per("replay", "writes"),
        "crc_ns": per("crc"),
        "checks_ns": per("checks"),
        "bare_entries_ns": per("bare_entries"),
        "install_ns": per("install"),
        "install_ns_per_write": per("install", "writes"),
        "writes_per_transaction": per("writes"),
        "bytes_per_transaction": per("bytes"),
        "transactions_per_entry": per("logged", "entries"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scale", choices=["tiny", "small", "spec"], default="tiny")
    parser.add_argument("--transactions", type=whole(), default=20_000, help="of a round")
    parser.add_argument("--rounds", type=whole(), default=9)
    parser.add_argument("--batch", type=whole(), default=60, help="transactions of an entry")
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument("--output", choices=["text", "json"], default="text")
    given = parser.parse_args()
    rounds = measure(given.scale, given.transactions, given.rounds, given.batch, given.seed)
    figures = {"scale": given.scale, "rounds": given.rounds, **summary_of(rounds)}
    if given.output == "json":
        print(json.dumps({**figures, "machine": machine.describe()}))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
