"""Terminals that ask a real server over the loopback: what they count, and how they end."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Self

import pytest

import mako
from bench.sides import SidedSample
from bench.stats import between
from bench.terminals import TerminalDrive, ending_of
from bench.workload import Request
from mako import histogram
from mako.client.remote import async_link, core
from mako.procedure import Procedure
from tests.client.remote.proxy import Proxy
from tests.server import procedures
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

KINDS = ("add", "give_up")


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(["tests.server.procedures"]) as running:
        yield running


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is a thread of this process, and may have to wait for a processor: it is neither
    silent for that reason, nor does the run end without its last answers."""
    for module in (core, async_link):
        monkeypatch.setattr(module, "PATIENCE", PATIENCE)
    monkeypatch.setattr(core, "SILENCE_MAX", 3 * PATIENCE)
    monkeypatch.setattr("bench.terminals.CALL_SECONDS", PATIENCE)
    monkeypatch.setattr("bench.terminals.STOP_SECONDS", PATIENCE)


class Counting:
    """A terminal that adds to a counter of its own; every tenth transaction rolls back."""

    def __init__(self, number: int, procedure: Procedure | None = None) -> None:
        self.number = number
        self.procedure = procedure
        self.drawn = 0
        self.results: list[int] = []

    def draw(self) -> Request:
        self.drawn += 1
        if self.procedure is not None:
            return Request(0, self.procedure, (1,))
        if self.drawn % 10 == 0:
            return Request(1, procedures.give_up, (self.number,))
        return Request(0, procedures.add, (self.number, 1))

    def told(self, result: int) -> None:
        self.results.append(result)

    def state(self) -> Mapping[str, Any]:
        return {"drawn": self.drawn}


def until(drive: TerminalDrive, good: Callable[[SidedSample], bool]) -> SidedSample:
    never = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not good(found := drive.sample()):
        assert time.monotonic() < deadline, f"it does not come to that: {found}"
        never.wait(0.01)
    return found


def completed(sample: mako.Sample) -> int:
    return sum(kind.committed + kind.rolled_back for kind in sample.kinds)


def start(server: Loopback, terminals: list[Counting], **options: Any) -> TerminalDrive:
    return TerminalDrive(server.address, terminals, KINDS, **{"connections": 2} | options)


def test_what_terminals_are_told_is_what_is_counted(server: Loopback) -> None:
    numbers = random.sample(range(1_000, 1 << 40), 5)
    terminals = [Counting(number) for number in numbers]
    drive = start(server, terminals)
    until(drive, lambda sample: completed(sample) >= 300)
    drive.stop()
    sample = drive.sample()
    add, give_up = sample.kinds
    assert add.committed == sum(len(terminal.results) for terminal in terminals)
    for terminal in terminals:
        assert terminal.results == list(range(1, len(terminal.results) + 1)), "one at a time"
    assert add.committed == sum(add.histogram) == sum(add.durable)
    assert (give_up.committed, give_up.rolled_back) == (0, sum(give_up.durable))
    assert completed(sample) == sum(state["drawn"] for state in drive.states()), "all ended"
    assert sample.endings == {}
    assert sample.stopped == ""
    drive.stop()  # Twice is harmless.
    assert drive.sample() is sample


def test_a_reset_forgets_and_an_interval_is_a_difference(server: Loopback) -> None:
    ahead = 0.0
    drive = start(server, [Counting(7)], connections=1, clock=lambda: time.monotonic() + ahead)
    first = until(drive, lambda sample: completed(sample) >= 50)
    ahead = 10_000.0  # So much longer does it seem to take until here than from here on.
    second = until(drive, lambda sample: completed(sample) >= completed(first) + 50)
    interval = between(first, second, phase="measure", end_s=1.0)
    assert interval.every.count == completed(second) - completed(first)
    assert interval.every.durable is not None
    drive.reset()
    drive.stop()
    last = drive.sample()
    assert last.seconds < second.seconds
    # What was done before is not counted again; only what has ended since then is.
    (state,) = drive.states()
    assert completed(last) <= state["drawn"] - completed(second)
    assert sum(sum(kind.durable) for kind in last.kinds) <= completed(last)


def test_an_open_loop_begins_as_many_as_it_was_asked_to(server: Loopback) -> None:
    terminals = [Counting(number) for number in range(20, 24)]
    drive = start(server, terminals, rate=400)
    sample = until(drive, lambda sample: completed(sample) >= 40)
    # A sample looks at the time first, and then counts: in between others may go on.
    seconds = time.monotonic() - drive._counts.since
    drive.stop()
    # None begins before it is due, so there cannot be more of them; and the first are at once.
    assert completed(sample) <= 400 * seconds + len(terminals)


def test_a_slow_open_loop_does_not_hold_up_the_end(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.terminals.STOP_SECONDS", 1e6)
    drive = start(server, [Counting(30)], rate=0.001)
    until(drive, lambda sample: completed(sample) == 1)
    stopping = threading.Thread(target=drive.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive(), "who waits for its next transaction has nothing to end"
    assert completed(drive.sample()) == 1


class Script:
    """A cluster of cardboard: every call has its early answer after 2 ms, the last after 5 more."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = range(partitions)
        self.silent: tuple[int, ...] = ()
        self.now = 100.0
        self.calls = 0
        #: What the last answer of each call is, besides a result.
        self.errors: list[Exception | None] = []
        self.done = threading.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def status(self, *, partition: int) -> dict[str, int]:
        if partition in self.silent:
            await asyncio.Event().wait()
        return {
            "memory": 7 + 50 * partition,
            "memory_limit": 70,
            "watermark": 5 - partition,
            "watermark_lag_ms": 3 + 6 * partition,
        }

    async def submit(self, _procedure: Procedure, *_arguments: int) -> "Script":
        self.calls += 1
        return self

    @property
    def retries(self) -> int:
        return 2 if self.calls == 1 else 0

    async def result(self) -> int:
        self.now += 0.002
        return self.calls

    async def wait_durable(self) -> int:
        self.now += 0.005
        if self.calls > len(self.errors):
            self.done.set()
            await asyncio.Event().wait()
        error = self.errors[self.calls - 1]
        if error is not None:
            raise error
        return self.calls


def test_both_latencies_begin_when_the_terminal_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.errors = [None, mako.Discarded("x"), None, mako.Unknown("x")]

    async def connected(*_: object, **_options: object) -> Script:
        return script

    monkeypatch.setattr(mako, "aconnect", connected, raising=False)
    monkeypatch.setattr("bench.terminals.STOP_SECONDS", 0.0)
    terminal = Counting(1)
    drive = TerminalDrive("a:1", [terminal], KINDS, connections=1, clock=lambda: script.now)
    assert script.done.wait(PATIENCE)
    drive.stop()
    sample = drive.sample()
    (add, _) = sample.kinds
    assert terminal.results == [1, 3]
    assert add.committed == 2
    # Five were answered early, the last of them never again.
    assert {i: n for i, n in enumerate(add.histogram) if n} == {near(0.002): 5}
    assert {i: n for i, n in enumerate(add.durable) if n} == {near(0.007): 2}
    assert sample.endings == {"retried": 2, "discarded": 1, "unknown": 1, "unanswered": 1}
    assert (sample.memory_bytes, sample.memory_limit, sample.watermark) == (7, 70, 5)


def near(seconds: float) -> int:
    """The bucket of so many seconds, counted by a clock that adds them up."""
    return histogram.bucket_of(round(1e9 * (100 + seconds - 100)))


def test_who_hears_nothing_sees_the_watermark_fall_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()

    async def connected(*_: object, **_options: object) -> Script:
        return script

    monkeypatch.setattr(mako, "aconnect", connected, raising=False)
    monkeypatch.setattr("bench.terminals.STOP_SECONDS", 0.0)
    monkeypatch.setattr("bench.terminals.LOOK_SECONDS", 1000.0)
    drive = TerminalDrive("a:1", [Counting(1)], KINDS, connections=1, clock=lambda: script.now)
    assert script.done.wait(PATIENCE)
    assert drive.sample().watermark_lag_ms == 3, "it was just heard"
    script.now += 2005.0
    assert drive.sample().watermark_lag_ms == pytest.approx(3 + 1000 * 5, abs=50)
    drive.stop()


def test_memory_and_watermark_are_those_of_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(partitions=3)

    async def connected(*_: object, **_options: object) -> Script:
        return script

    monkeypatch.setattr(mako, "aconnect", connected, raising=False)
    monkeypatch.setattr("bench.terminals.STOP_SECONDS", 0.0)
    drive = TerminalDrive("a:1", [Counting(1)], KINDS, connections=1, clock=lambda: script.now)
    assert script.done.wait(PATIENCE)
    sample = drive.sample()
    assert (sample.memory_bytes, sample.memory_limit) == (3 * 7 + 50 + 100, 3 * 70)
    assert sample.fullest == 107 / 70
    assert (sample.watermark, sample.watermark_lag_ms) == (3, 15)
    # Who answers hides nobody who does not.
    script.silent = (1, 2)
    for _ in range(2):  # Then nobody is amid an answer of before.
        known = drive._looks[0]
        until(drive, lambda _, known=known: drive._looks[0] is not known)  # type: ignore[misc]
    script.now += 2005.0
    found = until(drive, lambda _: drive._looks[0].at > 2000)
    assert found.watermark_lag_ms == pytest.approx(15 + 1000 * 2005, abs=200)
    drive.stop()


def test_errors_of_single_transactions_do_not_end_the_run(server: Loopback) -> None:
    drive = start(server, [Counting(40, procedures.fail)])
    until(drive, lambda sample: sample.endings.get("ProcedureError", 0) >= 2)
    drive.stop()
    assert completed(drive.sample()) == 0
    assert drive.sample().stopped == ""


def test_a_procedure_that_is_not_deployed_ends_the_run_with_a_reason(server: Loopback) -> None:
    @mako.procedure
    def nobody_has_it(tx: Any, key: int) -> int:
        return key

    drive = start(server, [Counting(41, nobody_has_it)])
    found = until(drive, lambda sample: sample.stopped != "")
    assert "deploy its module in the server's configuration" in found.stopped
    drive.stop()


def test_a_lost_connection_is_unknown_and_they_go_on(server: Loopback) -> None:
    # Cut amid an answer, so that it is lost for sure.
    with Proxy(server.port, down=[4_000]) as proxy:
        terminals = [Counting(50), Counting(51)]
        drive = TerminalDrive(proxy.address, terminals, KINDS, connections=1)
        found = until(drive, lambda sample: "unknown" in sample.endings)
        until(drive, lambda sample: completed(sample) >= completed(found) + 20)
        drive.stop()
    assert proxy.connections == 2
    lost = drive.sample().endings["unknown"]
    assert 1 <= lost <= len(terminals), "each waits for one answer at a time"
    # What is unknown has happened or not; what they were told has.
    told = sum(len(terminal.results) for terminal in terminals)
    assert told <= sum(terminal.results[-1] for terminal in terminals) <= told + lost


def test_nobody_to_talk_to_is_the_error_of_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = core.Core.lost

    def lose(one: core.Core, now: float, trouble: str = "") -> None:
        lost(one, now, trouble)
        monkeypatch.setattr(async_link, "time", SimpleNamespace(monotonic=lambda: now + PATIENCE))

    monkeypatch.setattr(core.Core, "lost", lose)  # Once is enough: then its time is over.
    with pytest.raises(mako.ConnectionLost):
        TerminalDrive("127.0.0.1:1", [Counting(60)], KINDS, connections=1)


def test_endings_have_the_names_that_users_know() -> None:
    assert ending_of(mako.Unknown("x")) == "unknown"
    assert ending_of(mako.Discarded("x")) == "discarded"
    assert ending_of(TimeoutError()) == "timeout"
    assert ending_of(mako.NotLeader("x")) == "NotLeader"
