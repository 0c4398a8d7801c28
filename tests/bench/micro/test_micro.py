from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mako
from bench.micro.benchmark import Micro, create
from bench.micro.workload import RECORD
from bench.options import Distribution, MicroOptions
from bench.workload import Done, Status
from mako.errors import ConfigError
from tests.bench.driving import MEMORY, drive

ENOUGH = 30_000


@contextmanager
def loaded(options: MicroOptions) -> Iterator[tuple[Any, Micro]]:
    benchmark = create(options)
    with mako.open(":memory:", memory=MEMORY) as db:
        benchmark.prepare(db, lambda _done, _total, _what: None)
        yield db, benchmark


@pytest.mark.parametrize(
    "options",
    [
        MicroOptions(workers=2, keys=5_000),
        MicroOptions(workers=2, keys=50, ops=7, read_pct=10, dist=Distribution("zipf", 0.99)),
        MicroOptions(workers=1, keys=2, ops=64, read_pct=0, dist=Distribution("zipf", 0.5)),
        MicroOptions(workers=1, keys=1, ops=1, read_pct=100),
    ],
)
def test_a_run(options: MicroOptions) -> None:
    with loaded(options) as (db, benchmark):
        states = benchmark.states(options.workers, options.seed)
        sample, states = drive(db, benchmark.workload(), states, seed=options.seed, enough=ENOUGH)
        done = Done(states, {kind.name: kind.committed for kind in sample.kinds}, at_once=True)
        values, written = benchmark.check(db, after_load=False, done=done)
        assert values.status is (Status.SKIP if options.ops == 1 else Status.PASS)
        assert written.status is Status.PASS
        (audit,) = benchmark.audit(states, sample)
        assert audit.status is Status.PASS
        assert audit.samples >= ENOUGH
        with db.snapshot() as snapshot:
            writes = sum(row["writes"] for _, row in snapshot.table(RECORD).scan())
        assert writes == sample.kinds[1].committed * options.ops


def test_terminals_do_what_workers_do() -> None:
    with loaded(MicroOptions(workers=1, keys=20, ops=3)) as (db, benchmark):
        terminals = benchmark.terminals(2, 1)
        kinds = []
        for turn in range(100):
            request = terminals[turn % 2].draw()
            kinds.append(request.kind)
            terminals[turn % 2].told(db.run(request.procedure, *request.arguments))
        values, writes = benchmark.check(db, after_load=False)
        assert (values.status, writes.status) == (Status.PASS, Status.PASS)
        assert writes.detail == f"it is {3 * sum(kinds)} of {3 * sum(kinds)}"
        assert sum(terminal.state()["n_transactions"] for terminal in terminals) == 100


def test_a_terminal_sends_few_keys() -> None:
    with pytest.raises(ConfigError, match="--ops 9: a terminal sends 8 keys at most"):
        create(MicroOptions(workers=1, ops=9)).terminals(1, 1)


def test_violations_are_seen() -> None:
    with loaded(MicroOptions(workers=1, keys=10)) as (db, benchmark):
        assert benchmark.size().rows == 10
        assert benchmark.check(db, after_load=True) == []
        db.table(RECORD).put((3,), {"value": 1, "writes": 4})
        values, writes = benchmark.check(db, after_load=False)
        assert (values.status, writes.status) == (Status.FAIL, Status.PASS)
        db.table(RECORD).put((3,), {"writes": 5})
        values, writes = benchmark.check(db, after_load=False)
        assert (values.status, writes.status) == (Status.PASS, Status.FAIL)
