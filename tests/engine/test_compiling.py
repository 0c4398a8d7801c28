"""Who compiles what others want, too: one does, and the others wait for it, or for so long."""

import os
import secrets
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import mako
from mako.engine import entries, jit, warmup
from mako.engine.cache_folder import ROOT_VARIABLE
from mako.engine.compiling import PATIENCE, NotMyTurn, Turn
from mako.procedure import Procedure


class Clock:
    """Time passes where somebody waits; after so many waits something else happens."""

    def __init__(self, **happens: Any) -> None:
        self.now = 0.0
        self.pauses = 0
        self.happens = {int(number[2:]): what for number, what in happens.items()}

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses += 1
        self.happens.get(self.pauses, lambda: None)()

    def turn(self, path: Path, patience: float = 100.0) -> Turn:
        return Turn(path, patience=patience, now=lambda: self.now, pause=self.pause)


def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
    first = Turn(tmp_path / "of" / "a.lock")
    clock = Clock(at3=lambda: first.__exit__(None, None, None))
    first.take()
    with clock.turn(tmp_path / "of" / "a.lock") as second:
        second.take()
        assert clock.pauses == 3
        with pytest.raises(NotMyTurn), Turn(tmp_path / "of" / "a.lock", patience=0) as third:
            third.take()
        with Turn(tmp_path / "of" / "b.lock", patience=0) as other:
            other.take()
    with Turn(tmp_path / "of" / "a.lock", patience=0) as third:
        third.take()
        third.take()  # It is its own.


def test_who_has_waited_for_long_compiles_too(tmp_path: Path) -> None:
    clock = Clock()
    with Turn(tmp_path / "a.lock") as first:
        first.take()
        with clock.turn(tmp_path / "a.lock", patience=10.0) as second:
            second.take()
    assert 10.0 <= clock.now < 11.0


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mako.engine.compiling import Turn\n"
        "turn = Turn(Path(sys.argv[1])); turn.take(); print('taken', flush=True); input()\n"
    )
    path = tmp_path / "a.lock"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(NotMyTurn), Turn(path, patience=0) as turn:
            turn.take()
        other.kill()
    with Turn(path, patience=0) as turn:
        turn.take()


def test_where_no_lock_can_be_everybody_compiles(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        with Turn(tmp_path / "file" / "a.lock", patience=0) as turn:
            turn.take()


def _times(amount: int) -> Procedure:
    @mako.procedure
    def multiply(tx: Any, number: int) -> int:
        return number * amount

    return multiply


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
def test_a_procedure_that_another_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no patience is told; who waits loads what has been kept meanwhile."""
    taken: list[Path] = []
    kept: dict[Path, bytes] = {}
    original = Turn.take

    def take(turn: Turn) -> None:
        taken.append(turn._path)
        original(turn)
        for path, code in kept.items():
            path.write_bytes(code)

    def loaded(patience: float = PATIENCE) -> int:
        monkeypatch.setattr(entries, "_entries", {})
        return int(entries.procedure_entry(procedure, patience=patience)._keep.cache_hits)

    monkeypatch.setattr(Turn, "take", take)
    procedure = _times(secrets.randbits(40))  # The code of an earlier run is kept.
    assert loaded() == 0
    (lock,) = taken
    assert loaded(patience=0) == 1
    assert len(taken) == 1, "what is there is nobody's turn"
    files = [path for path in lock.parent.glob(f"{lock.stem}*") if path != lock]
    codes = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    with Turn(lock) as other:
        original(other)
        with pytest.raises(NotMyTurn):
            loaded(patience=0)
    kept.update(codes)
    assert loaded() == 1


def test_what_others_compile_is_loaded_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def entry(procedure: Procedure, *, patience: float = 1.0) -> None:
        if patience == 0 and procedure is busy:
            raise NotMyTurn
        seen.append(procedure)

    busy, free = _times(2), _times(3)
    monkeypatch.setattr(entries, "procedure_entry", entry)
    warmup.load([busy, free])
    assert seen == [free, busy]


class Unit:
    """Something to be compiled, by a helper."""

    def __init__(self, number: int, done: list[int], *, busy: bool = False) -> None:
        self._cache = self
        self.number = number
        self.done = done
        self.busy = busy
        self.py_func = lambda one, two: None

    def alone(self, patience: float) -> Any:
        assert patience == 0
        return nullcontext()

    def compile(self, words: tuple[Any, ...] = ()) -> None:
        if self.busy:
            raise NotMyTurn
        self.done.append(self.number)


def help_with(monkeypatch: pytest.MonkeyPatch, units: list[Unit], parents: list[int]) -> None:
    def called(*, loading: bool) -> Any:
        assert not loading, "a helper runs nothing"
        assert jit.postponed is not None
        jit.postponed.extend(units[:2])
        yield from ((str(unit.number), unit) for unit in units[2:])

    monkeypatch.setattr(jit, "postponed", None)
    monkeypatch.setattr(warmup, "_called", called)
    monkeypatch.setattr("os.getppid", lambda: parents.pop(0) if parents else 7)
    warmup.help_out(7)


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
def test_a_helper_begins_at_the_end_and_passes_over_what_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    help_with(monkeypatch, [Unit(n, done, busy=n == 2) for n in range(4)], [])
    assert done == [3, 1, 0]


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
def test_a_helper_ends_when_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    help_with(monkeypatch, [Unit(n, done) for n in range(4)], [7, 7, 1])
    assert done == [3, 2]


UNITS = """
from mako.engine.jit import exported


@exported
def inner(number: int) -> int:
    return number * 3


@exported
def outer(number: int) -> int:
    return inner(number) + 1
"""

HELPS = """
import os
from mako.engine import warmup

def called(*, loading):
    import units
    return iter(())

warmup._called = called
warmup.help_out(os.getppid())
"""

USES = """
import units
from mako.engine import jit

print([made.cache_hits for made in jit._kept], units.outer(5))
"""


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
def test_what_a_helper_has_kept_is_loaded_and_right(tmp_path: Path) -> None:
    """It knew no address of what one function calls in another one."""
    (tmp_path / "units.py").write_text(UNITS)

    def python(program: str) -> str:
        environment = os.environ | {ROOT_VARIABLE: str(tmp_path / "cache")}
        command = [sys.executable, "-c", program]
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout

    python(HELPS)
    assert python(USES) == "[1, 1] 16\n"
