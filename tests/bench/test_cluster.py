"""What is made of what processes of a cluster say: who led, how far the watermark was behind."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from bench.cluster.model import Cascade, Lag, Stretch
from bench.cluster.record import Record
from bench.cluster.scrape import (
    ABORTED,
    CASCADED,
    CPU,
    DISTRIBUTED,
    ELSEWHERE,
    OVER,
    SENT,
    WORKER,
    Counter,
    counters_of,
)
from bench.cluster.watch import ClusterWatch, HttpAddress
from mako.metrics import ServerMetrics, render
from tests.engine.running import DEADLINE_S, until

Says = dict[str, Any]


def says(role: str, *, term: int = 1, lag: int = 5, partition: int = 0, watermark: int = 1) -> Says:
    """A /status with one replica."""
    replica = {"partition": partition, "role": role, "term": term, "watermark": watermark}
    return {"partitions": [replica | {"watermark_lag_ms": lag}]}


# --- Numbers -----------------------------------------------------------------------------------


def test_a_lag_is_described_by_values_that_occurred() -> None:
    assert Lag.of([]) is None
    lag = Lag.of([4.0, 1.0, 2.0, 3.0])
    assert lag == Lag(mean_ms=2.5, p50_ms=2.0, p99_ms=4.0, max_ms=4.0, looks=4)
    many = Lag.of([float(value) for value in range(1, 101)])
    assert many is not None
    assert (many.p50_ms, many.p99_ms, many.max_ms) == (50.0, 99.0, 100.0)


def test_counters_are_found_in_what_a_server_writes() -> None:
    m = ServerMetrics()
    m.process_cpu.of().inc(2.5)
    m.worker_cpu.of(0, 1, 0).inc(1.5)
    m.worker_cpu.of(3, 7, 1).inc(0.25)
    m.sent_bytes.of("two").inc(70)
    m.sent_bytes.of("three").inc(5)
    for outcome, count in (("locked", 2), ("changed", 3), ("committed", 99)):
        m.transactions.of(0, 1, outcome).inc(count)
    m.transactions.of(3, 7, "changed").inc(4)
    m.conflicts.of(3, 7, "changed", "coordinator").inc(2)
    m.conflicts.of(3, 7, "changed", "participant").inc(1)
    m.conflicts.of(3, 7, "timed_out", "coordinator").inc(1)
    m.distributed.of(0, 1, "local_inherited").inc(6)
    m.distributed.of(3, 7, "local_inherited").inc(1)
    m.discarded.of(3, 7, 3).inc(8)
    m.discarded.of(3, 7, 0).inc(5)
    m.fsync.of().observe(0.01)
    assert counters_of(render(m.registry)) == {
        (CPU, ""): 2.5,
        (WORKER, "0"): 1.5,
        (WORKER, "3/1"): 0.25,
        (SENT, "two"): 70,
        (SENT, "three"): 5,
        (ABORTED, "lock"): 2,
        (ABORTED, "changed"): 7,
        (OVER, "changed"): 2,
        (ELSEWHERE, "changed"): 1,
        (DISTRIBUTED, "local_inherited"): 7,
        (CASCADED, "3<0"): 5,
    }


# --- A record ----------------------------------------------------------------------------------


def test_an_attempt_over_partitions_counts_where_it_began() -> None:
    record = Record(["one", "two"])
    before: dict[Counter, float] = {(ABORTED, "lock"): 5, (OVER, "lock"): 1, (ELSEWHERE, "lock"): 4}
    for name in ("one", "two"):
        record.count(name, 0.0, before)
    record.count("one", 1.0, {(ABORTED, "lock"): 9, (OVER, "lock"): 3, (ELSEWHERE, "lock"): 5})
    record.count("two", 1.0, before | {(DISTRIBUTED, "raised"): 2})
    stretch = record.stretch(0.0, 1.0)
    assert (stretch.aborts, stretch.aborts_over) == ({"lock": 3}, {"lock": 2})
    assert stretch.distributed == {"raised": 2}
    assert (stretch.parked, stretch.parked_over) == (0, 0)


def test_who_is_parked_is_not_aborted() -> None:
    record = Record(["one"])
    record.count("one", 0.0, {(ABORTED, "lock"): 10.0, (OVER, "lock"): 4.0})
    parked: dict[Counter, float] = {(DISTRIBUTED, "parked"): 7, (DISTRIBUTED, "local_parked"): 4}
    record.count("one", 1.0, {(ABORTED, "lock"): 20.0, (OVER, "lock"): 9.0, **parked})
    stretch = record.stretch(0.0, 1.0)
    assert (stretch.aborts, stretch.aborts_over) == ({"lock": 3}, {"lock": 2})
    assert (stretch.parked, stretch.parked_over) == (4, 3)


def test_what_is_counted_between_two_looks_is_counted_in_proportion() -> None:
    record = Record(["one", "two"])
    assert record.stretch(0.0, 1.0).aborts == {}
    for at, count in ((1.0, 100.0), (2.0, 200.0), (4.0, 600.0)):
        record.count("one", at, {(ABORTED, "lock"): count})
    for start, end, count in ((1.5, 3.0, 250), (2.0, 4.0, 400), (0.0, 1.5, 50), (3.5, 9.0, 100)):
        assert record.stretch(start, end).aborts == {"lock": count}


@pytest.mark.parametrize("seed", range(5))
def test_stretches_that_are_asked_for_as_they_end_add_up(seed: int) -> None:
    """Whatever is known by then: what comes later is in the next one, and nothing twice."""
    chance = random.Random(seed)
    record = Record(["one", "two"])
    ends = [float(second) for second in range(1, 20)]
    looks = sorted((chance.uniform(0, 19), name) for name in ("one", "two") for _ in range(25))
    counts = {"one": 0, "two": 0}
    told, start = 0, 0.5
    for end in ends:
        while looks and looks[0][0] <= end:
            at, name = looks.pop(0)
            counts[name] += chance.randrange(50)
            record.count(name, at, {(ABORTED, "lock"): counts[name]})
        told += record.stretch(start, end).aborts.get("lock", 0)
        start = end
    assert told == record.stretch(0.5, ends[-1]).aborts["lock"] > 300


def test_counters_are_known_once_everybody_who_answers_was_asked() -> None:
    record = Record(["one", "two", "three"])
    assert record.counted(1.0), "nobody answers"
    for name in ("one", "two"):
        record.look(name, 0.0, says("leader" if name == "one" else "follower"))
        record.count(name, 0.5, {})
    record.silent("three", 0.1)
    record.count("one", 1.0, {})
    assert not record.counted(1.0)
    record.silent("two", 1.1)
    assert record.counted(1.0)
    assert not record.counted(1.01)


def test_replicas_take_the_same_versions_back() -> None:
    record = Record(["one", "two", "three"])
    for name in ("one", "two", "three"):
        record.count(name, 0.0, {(CPU, ""): 1.0})
    for name, versions in (("one", 7), ("two", 12), ("three", 0)):
        record.count(name, 1.0, {(CASCADED, "1<0"): versions, (CASCADED, "0<1"): 0})
    assert record.stretch(0.0, 1.0).cascades == (Cascade(partition=1, cause=0, versions=12),)


def test_counters_of_a_stretch_are_those_of_the_looks_before_its_ends() -> None:
    record = Record(["one"])
    for at, cpu in ((0.0, 10.0), (1.0, 10.5), (2.0, 11.5), (3.0, 13.5)):
        record.count("one", at, {(CPU, ""): cpu, (SENT, "two"): 100 * cpu})
    (process,) = record.stretch(1.2, 3.1).processes
    assert (process.duration_s, process.cpu_s, process.sent_bytes) == (2.0, 3.0, 300.0)
    assert (process.cores, process.sent_per_s) == (1.5, 150.0)
    (process,) = record.stretch(2.2, 2.8).processes
    assert (process.duration_s, process.cores, process.sent_per_s) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_counters_that_begin_anew_go_on(seed: int) -> None:
    """Whatever is killed how often: what is counted is what was done."""
    chance = random.Random(seed)
    record = Record(["one"])
    value, done = 7.0, 0.0
    record.count("one", 0.0, {(CPU, ""): value})
    for at in range(1, 50):
        if chance.random() < 0.2:
            # It was restarted, and has done less than before: nobody could tell otherwise.
            value = more = chance.uniform(0, 0.9) * value
        else:
            more = chance.uniform(0.01, 2)
            value += more
        done += more
        record.count("one", float(at), {(CPU, ""): value})
    (process,) = record.stretch(0.0, 100.0).processes
    assert process.cpu_s == pytest.approx(done)


def test_a_worker_that_comes_later_is_counted_from_its_start() -> None:
    record = Record(["one"])
    counters: dict[Counter, float] = {(CPU, ""): 5.0}
    record.count("one", 0.0, counters)
    record.count("one", 1.0, counters | {(WORKER, "0"): 0.5})
    (process,) = record.stretch(0.0, 1.0).processes
    assert process.workers_s == {"0": 0.5}


def test_leaderships_and_the_lag_while_nobody_leads() -> None:
    record = Record(["one", "two"])
    assert not record.led
    record.look("one", 0.5, says("leader", term=3, lag=4))
    record.look("two", 0.6, says("follower", term=3, lag=90))
    assert record.led
    assert record.leads("one")
    assert not record.leads("two")
    record.silent("one", 1.0)
    assert not record.led
    record.look("two", 1.1, says("candidate", term=4, lag=700))
    record.look("two", 1.5, says("leader", term=4, lag=40))
    # Who was away and has not heard of it yet is not believed.
    record.look("one", 1.6, says("leader", term=3, lag=9_999))
    record.look("one", 1.7, says("follower", term=4, lag=8_888))
    led = record.leaderships(0.0, 2.0)
    assert [(each.at_s, each.process, each.term) for each in led] == [
        (0.5, "one", 3),
        (1.5, "two", 4),
    ]
    assert [each.process for each in record.leaderships(1.55, 2.0)] == ["two"]
    assert [each.process for each in record.leaderships(0.0, 1.0)] == ["one"]
    whole = record.stretch(0.0, 2.0)
    assert whole.leaders == {0: "two"}
    assert whole.lag is not None
    # A follower's own lag is nobody's business while there is a leader.
    assert (whole.lag.looks, whole.lag.max_ms) == (3, 700.0)
    assert [process.role for process in whole.processes] == ["follower", "leader"]
    assert [process.role for process in record.stretch(0, 1.2).processes] == ["silent", "candidate"]


def test_partitions_have_leaders_of_their_own() -> None:
    record = Record(["one", "two"])
    record.look("one", 0.0, says("leader", term=1))
    record.look("two", 0.1, says("leader", term=7, partition=1))
    record.look("one", 0.2, says("leader", term=9, partition=1))
    assert record.stretch(0.0, 0.15).leaders == {0: "one", 1: "two"}
    assert [each.process for each in record.leaderships(0.0, 1.0)] == ["one", "two", "one"]


def test_what_transactions_met_is_known_of_leaders_whose_counters_were_seen() -> None:
    record = Record(["one", "two"])
    assert not record.stretch(0.0, 1.0).is_counted(1)
    record.look("one", 0.0, says("leader"))
    record.count("two", 0.1, {})
    assert not record.stretch(0.0, 1.0).is_counted(1)
    record.count("one", 0.2, {})
    found = record.stretch(0.0, 1.0)
    assert found.is_counted(1)
    assert not found.is_counted(2), "nobody is known to lead the other one"


def test_before_the_first_watermark_there_is_no_lag() -> None:
    record = Record(["one"])
    record.look("one", 0.0, says("leader", watermark=0, lag=10**12))
    assert record.stretch(0.0, 1.0).lag is None


# --- A watch -----------------------------------------------------------------------------------


class Process(BaseHTTPRequestHandler):
    """The HTTP port of a process; `said` is what it shows, nothing: it answers with an error."""

    said: ClassVar[Says] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        cpu = b"mako_process_cpu_seconds_total 3.5\n"
        body = cpu if self.path == "/metrics" else json.dumps(self.said).encode()
        self.send_response(200 if self.said else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def processes() -> Iterator[tuple[list[type[Process]], list[HttpAddress]]]:
    """Two of them, at real ports."""
    with ExitStack() as stack:
        handlers, addresses = [], []
        for name in ("one", "two"):
            handler = type("Handler", (Process,), {"said": {}})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            handlers.append(handler)
            addresses.append(HttpAddress(name, "127.0.0.1", server.server_port))
        yield handlers, addresses


def roles(found: Stretch) -> list[str]:
    return [process.role for process in found.processes]


def looks(found: Stretch) -> int:
    return 0 if found.lag is None else found.lag.looks


def test_a_watch_sees_who_leads_and_who_takes_over(
    processes: tuple[list[type[Process]], list[HttpAddress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cluster.watch.ANSWER_SECONDS", DEADLINE_S)
    (one, two), addresses = processes
    one.said, two.said = says("leader", term=3), says("follower", term=3)
    started = time.monotonic()
    with ClusterWatch(addresses) as watch:

        def seen() -> Stretch:
            return watch.stretch(started, time.monotonic())

        until(lambda: roles(seen()) == ["leader", "follower"] and looks(seen()) >= 2)
        one.said = {}  # It is there and cannot answer.
        two.said = says("leader", term=4, lag=321)
        before = looks(seen())
        until(lambda: roles(seen()) == ["silent", "leader"] and looks(seen()) >= before + 2)
        found = seen()
        led = watch.leaderships(started, time.monotonic())
    assert [(each.process, each.term) for each in led] == [("one", 3), ("two", 4)]
    assert found.leaders == {0: "two"}
    assert [process.role for process in found.processes] == ["silent", "leader"]
    assert found.lag is not None
    assert found.lag.max_ms == 321
    assert found.lag.looks > 3, "it is asked again and again"


def test_a_watch_of_nobody_ends_and_says_that_they_are_silent() -> None:
    # Port 1 of the loopback belongs to nobody.
    with ClusterWatch([HttpAddress("one", "127.0.0.1", 1)]) as watch:
        pass
    found = watch.stretch(0, time.monotonic())
    assert [(process.role, process.duration_s) for process in found.processes] == [("silent", 0.0)]
