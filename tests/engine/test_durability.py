"""How far a driven worker runs ahead of the watermark, and what is counted as durable."""

from collections.abc import Iterator

import pytest

from mako import histogram
from mako.engine import layout as at
from mako.engine.closing import advance_watermark
from mako.engine.durability import (
    LEAD_NS,
    LEAD_TIMES,
    LOOK_NS,
    SLOT_BYTES,
    bucket_of,
    may_begin,
    note,
    settle,
)
from mako.engine.engine import Engine

pytestmark = pytest.mark.interpreted

MS = 1_000_000
BEGAN = 1_000 * MS


class Worker:
    """A context whose transactions are noted by hand."""

    def __init__(self) -> None:
        self.engine = Engine(16 << 20, contexts=2, ring_bytes=1 << 14, now_ms=1, replicated=True)
        self.context = self.engine.take_context()
        place = self.engine.allocate(self.context, at.DURABLE_SLOTS * SLOT_BYTES)
        self.engine.set_word(self.context + at.C_DURABLE + at.DURABLE_RING, place)
        self._watermark = self.engine.stable
        self.last = 0

    def word(self, offset: int) -> int:
        return self.engine.word(self.context + at.C_DURABLE + offset)

    def run(self, now: int) -> None:
        self.last += 1
        note(self.context, self._watermark + self.last, now - 7 * MS, 0, now)

    def durable(self, number: int, now: int) -> None:
        """The first so many are."""
        advance_watermark(self.engine.base, self._watermark + number)
        settle(self.context, now)

    def may(self, now: int) -> bool:
        return bool(may_begin(self.context, now))


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    assert made.may(BEGAN)
    yield made
    made.engine.close()


def test_buckets_are_those_of_whoever_reads_them() -> None:
    """One that there is not would be in the middle of something else."""
    edges = [1 << octave for octave in range(41)] + [65 << octave for octave in range(35)]
    for ns in {near for edge in (*edges, histogram.NS_MAX) for near in range(edge - 2, edge + 3)}:
        assert bucket_of(ns) == histogram.bucket_of(min(max(ns, 0), histogram.NS_MAX)), ns


def test_nothing_is_measured_and_nothing_waits_without_a_ring(worker: Worker) -> None:
    worker.engine.set_word(worker.context + at.C_DURABLE + at.DURABLE_RING, 0)
    for _ in range(3):
        worker.run(BEGAN)
    assert worker.may(BEGAN + LOOK_NS)
    assert worker.word(at.DURABLE_HEAD) == 0


def test_a_worker_waits_once_its_oldest_is_older_than_some_least_latencies(worker: Worker) -> None:
    worker.run(BEGAN)
    worker.run(BEGAN + MS)
    worker.durable(2, BEGAN + 3 * MS)
    assert worker.word(at.DURABLE_LEAST) == 2 * MS
    worker.run(BEGAN + 10 * MS)
    worker.run(BEGAN + 20 * MS)
    limit = BEGAN + 10 * MS + LEAD_TIMES * 2 * MS + LEAD_NS
    assert worker.may(limit)
    assert not worker.may(limit + 1)
    worker.durable(3, limit + 1)
    assert worker.may(limit + 1)
    assert worker.word(at.DURABLE_LEAST) == 2 * MS, "the least one"
    worker.durable(4, limit + 10 * MS)
    assert worker.may(limit + 10 * MS)
    assert worker.word(at.DURABLE_LEAST) == 2 * MS, "also with nothing under way"
    worker.run(limit + 10 * MS)
    worker.durable(5, limit + 11 * MS)
    assert worker.word(at.DURABLE_LEAST) == MS


def test_nobody_waits_before_anything_is_known(worker: Worker) -> None:
    worker.run(BEGAN)
    assert worker.may(BEGAN + 5_000 * MS)


def test_the_least_latency_is_looked_for_anew_with_nothing_under_way(worker: Worker) -> None:
    worker.run(BEGAN)
    worker.durable(1, BEGAN + MS)
    worker.run(BEGAN + LOOK_NS - MS)
    assert worker.may(BEGAN + LOOK_NS - 1)
    assert not worker.may(BEGAN + LOOK_NS)
    worker.durable(2, BEGAN + LOOK_NS + 50 * MS)
    assert worker.word(at.DURABLE_LEAST) == MS
    assert worker.may(BEGAN + LOOK_NS + 50 * MS)
    assert worker.word(at.DURABLE_LEAST) == 0
    worker.run(BEGAN + LOOK_NS + 50 * MS)
    worker.durable(3, BEGAN + LOOK_NS + 90 * MS)
    assert worker.word(at.DURABLE_LEAST) == 40 * MS


def test_a_full_ring_waits(worker: Worker) -> None:
    for _ in range(at.DURABLE_SLOTS):
        assert worker.may(BEGAN)
        worker.run(BEGAN)
    assert not worker.may(BEGAN)
    worker.durable(1, BEGAN)
    assert worker.may(BEGAN)
    assert worker.word(at.DURABLE_COUNT) == 1
