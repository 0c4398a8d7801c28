"""Procedures that do not end are ended, wherever they run, and harm nobody else."""

import threading
import time
from collections.abc import Iterator

import pytest

import mako
from mako import Database, Procedure, ProcedureTimeout
from mako.engine.completing import RUNNING
from mako.engine.layout import C_STATE
from mako.engine.loops import with_checked_loops
from tests.client import procedures as p
from tests.client.endless import Endless
from tests.engine.running import DEADLINE_S, until

LIMIT = 0.15


@pytest.fixture
def db() -> Iterator[Database]:
    with mako.open(memory="32MiB", sessions=8, procedure_timeout=LIMIT) as opened:
        opened.create(p.COUNTER)
        opened.run(p.add, 1, 5)
        yield opened


@pytest.mark.parametrize(("procedure", "argument"), p.ENDLESS, ids=lambda v: getattr(v, "name", ""))
@pytest.mark.parametrize("how", ["run", "submit"])
def test_an_endless_procedure_times_out(
    db: Database, procedure: Procedure, argument: int, how: str
) -> None:
    def act() -> int:
        if how == "run":
            return db.run(procedure, argument)
        return db.submit(procedure, argument).result()

    with pytest.raises(ProcedureTimeout, match="bound its loops") as caught:
        act()
    assert str(caught.value).startswith(procedure.name)
    assert not caught.value.retryable
    assert db.run(p.add, 1, 1) == 6
    assert db.submit(p.add, 1, 1).result() == 7


def test_an_endless_check_at_a_snapshot_times_out_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mako.server.workers.SNAPSHOT_FACTOR", 3)
    with db.snapshot() as snapshot:
        began = time.monotonic()
        with pytest.raises(ProcedureTimeout):
            snapshot.run(p.spin, 2)
        assert time.monotonic() - began > 3 * LIMIT
        assert snapshot.run(p.value_of, 1) == 5


@pytest.mark.parametrize(
    "workload", [p.ENDLESS_WORKLOAD, p.ENDLESS_GENERATOR], ids=lambda workload: workload.name
)
def test_an_endless_workload_stops_its_drive(db: Database, workload: mako.Workload) -> None:
    with db.drive(workload, workers=1, states=[{"left": 10}]) as drive:
        until(lambda: drive.sample().stopped)
    sample = drive.sample()
    assert "did not end in time" in sample.stopped
    if workload is p.ENDLESS_WORKLOAD:
        assert sample.kinds[0].committed == 10
        assert db.run(p.value_of, 1) == 15
    assert db.run(p.add, 1, 1) > 5


def test_others_go_on_while_one_does_not_end(db: Database) -> None:
    with db.start_workers(2):
        endless = db.submit(p.spin, 2)
        others = [db.submit(p.add, 2, 1) for _ in range(50)]
        assert sum(1 for other in others if other.result()) == 50
        assert db.run(p.value_of, 2) == 50
        with pytest.raises(ProcedureTimeout):
            endless.result()


def test_closing_ends_what_does_not_end_in_another_thread(db: Database) -> None:
    engine = db._engine
    contexts = [engine.context(number) for number in range(engine.context_count)]
    raised: list[BaseException] = []

    def run() -> None:
        try:
            db.run(p.spin, 2)
        except mako.Error as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: any(engine.word(context + C_STATE) == RUNNING for context in contexts))
    db.close()
    thread.join()
    assert [type(error) for error in raised] == [ProcedureTimeout]
    assert engine.over.wait(DEADLINE_S)


def test_closing_ends_what_does_not_end_in_a_worker(db: Database) -> None:
    endless = Endless(db)
    db.close()
    with pytest.raises(ProcedureTimeout):
        endless.submitted.result()
    assert db._engine.over.wait(DEADLINE_S)


# --- what is rewritten, and what is not ----------------------------------------------------------


class Check:
    """Stands for the compiled check, and counts."""

    def __init__(self, first: object = "tx") -> None:
        self.first = first
        self.calls = 0

    def __call__(self, first: object, rounds: int) -> int:
        assert first == self.first
        assert rounds >= self.calls
        self.calls += 1
        return rounds + 1


def looping(tx: object, count: int) -> int:
    while count > 0:
        count -= 1
    for i in range(count + 7):
        if i % 2:
            continue
        for _ in range(3):
            count += i
    return count


@pytest.mark.interpreted
def test_loops_are_checked_and_do_what_they_did() -> None:
    check = Check()
    rewritten = with_checked_loops(looping, check)
    assert rewritten("tx", 5) == looping("tx", 5)
    assert check.calls == 5 + 7
    assert rewritten.__code__.co_firstlineno == looping.__code__.co_firstlineno
    assert rewritten.__code__.co_filename == looping.__code__.co_filename
    assert rewritten.__globals__ is looping.__globals__


@pytest.mark.interpreted
def test_closures_and_defaults_stay() -> None:
    offset = 3

    def body(tx: object, count: int, extra: int = 4) -> int:
        while count > 0:
            count -= 1
        return count + offset + extra

    check = Check()
    rewritten = with_checked_loops(body, check)
    assert rewritten("tx", 2) == 7
    assert check.calls == 2
    offset = 4
    check.calls = 0
    assert rewritten("tx", 2, 0) == 4
    assert check.calls == 2


@pytest.mark.interpreted
def test_without_a_source_a_function_is_left_alone() -> None:
    scope: dict[str, object] = {}
    exec("def body(tx):\n    while False: pass\n    return 1\n", scope)
    body = scope["body"]
    assert callable(body)
    assert with_checked_loops(body, Check()) is body


@pytest.mark.interpreted
def test_a_source_that_was_edited_meanwhile_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["def looping(tx, count):\n", "    while count > 1:\n", "        count -= 1\n"]
    monkeypatch.setattr("inspect.getsourcelines", lambda body: (lines, 1))
    assert with_checked_loops(looping, Check()) is looping


@pytest.mark.interpreted
def test_a_loop_is_checked_where_the_rounds_of_short_loops_multiply() -> None:
    def nested(tx: object) -> int:
        rounds = 0
        for _ in range(100):
            for _ in range(3):
                for _ in range(20):
                    rounds += 1
            for _ in range(10):
                rounds += 1
        return rounds

    check = Check()
    assert with_checked_loops(nested, check)("tx") == 7000
    assert check.calls == 100 * 3 * 20  # 6000 rounds of the innermost one; the others are short.

    def deep(tx: object) -> int:
        rounds = 0
        for _ in range(2):
            for _ in range(4096):
                for _ in range(4):
                    rounds += 1
        return rounds

    check = Check()
    assert with_checked_loops(deep, check)("tx") == 2 * 4096 * 4
    assert check.calls == 2 * 4096


@pytest.mark.interpreted
def test_short_loops_in_short_loops_are_not_checked() -> None:
    def nested(tx: object) -> int:
        rounds = 0
        for _ in range(64):
            for _ in range(1, 64):
                rounds += 1
        for _ in range(4096):
            rounds += 1
        return rounds

    assert with_checked_loops(nested, Check()) is nested


@pytest.mark.interpreted
def test_without_a_first_parameter_that_stays_rounds_are_counted() -> None:
    def lonely() -> int:
        rounds = 0
        while rounds < 5:
            rounds += 1
        for _ in range(rounds):
            rounds += 1
        return rounds

    def bound_again(left: int) -> int:
        while left > 0:
            left -= 1
        return left

    check = Check(first=None)
    assert with_checked_loops(lonely, check)() == 10
    assert check.calls == 10
    check = Check(first=None)
    assert with_checked_loops(bound_again, check)(6) == 0
    assert check.calls == 6


@pytest.mark.parametrize("procedure", p.ENDLESS_HELPERS, ids=lambda procedure: procedure.name)
def test_a_helper_without_a_transaction_ends(procedure: Procedure) -> None:
    with mako.open(memory="32MiB", sessions=8) as db:
        db.create(p.COUNTER)
        with pytest.raises(mako.ProcedureError, match="67 million times; give it `tx`"):
            db.run(procedure, 5)
        assert db.run(p.add, 1, 1) == 1  # Nothing of it was kept.


def test_short_loops_in_short_loops_end_in_time(db: Database) -> None:
    with pytest.raises(ProcedureTimeout):
        db.run(p.count_in_short_loops, 5)


def test_helpers_that_end_do_what_they_do(db: Database) -> None:
    assert db.run(p.common_divisor, 1_071, 462) == 21
    assert db.run(p.common_divisor, 1 << 40, 3 << 20) == 1 << 20
