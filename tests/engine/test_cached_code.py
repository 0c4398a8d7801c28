"""Machine code that other processes have compiled: everybody runs the function that it asks for."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import mako
from mako.engine import jit
from mako.engine.cache_folder import ROOT_VARIABLE, cache_root
from mako.engine.entries import procedure_entry
from mako.procedure import Procedure
from tests.engine.running import DEADLINE_S, together

COUNTER = mako.Table("counter", id=1, key={"number": 32}, row={"value": "i8"})

#: Two procedures that call functions of one name, each too long to become part of its procedure.
MODULE = """
import mako

COUNTER = mako.Table("counter", id=1, key={"number": 32}, row={"value": "i8"})


def changing(amount):
    @mako.function
    def change(tx, number: int) -> int:
        found, _ = tx.find(COUNTER, (number,))
        if not found:
            tx.insert(COUNTER, (number,))
        row = tx.write(COUNTER, (number,))
        row.value += amount
        return row.value

    return change


up, down = changing(1), changing(-1)


@mako.procedure
def rise(tx, one: int, two: int, three: int) -> int:
    return up(tx, one) + up(tx, two) + up(tx, three)


@mako.procedure
def sink(tx, one: int, two: int, three: int) -> int:
    return down(tx, one) + down(tx, two) + down(tx, three)
"""

LOADS = """
import sys
import counters, mako

db = mako.open()
db.create(counters.COUNTER)
for name in sys.argv[1:]:
    db.run(getattr(counters, name), 1, 2, 3)
print(db.run(counters.rise, 1, 2, 3), db.run(counters.sink, 1, 2, 3))
"""

COMPILES = """
import sys
import counters
from mako.engine.entries import procedure_entry

procedure_entry(getattr(counters, sys.argv[1]))
"""


def link(source: str, target: str) -> None:
    """A second name, or a copy where the temporary folder is of another file system."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(source, target)


def test_procedures_that_different_processes_have_compiled_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "counters.py").write_text(MODULE)
    cache = tmp_path / "cache"
    # Others compile meanwhile: what they are about to rename may be gone when its turn comes.
    unfinished = shutil.ignore_patterns("*.tmp.*")
    shutil.copytree(cache_root(os.environ), cache, copy_function=link, ignore=unfinished)

    def python(program: str, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env=os.environ | {ROOT_VARIABLE: str(cache)},
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.strip()

    python(COMPILES, "rise")
    python(COMPILES, "sink")
    assert python(LOADS, "rise", "sink") == "3 0"
    assert python(LOADS, "sink", "rise") == "3 0"


def _adds(amount: int) -> Procedure:
    @mako.procedure
    def add(tx: Any, number: int) -> int:
        return number + amount

    return add


def test_procedures_of_one_source_differ_by_what_is_compiled_in() -> None:
    with mako.open() as db:
        assert db.run(_adds(1), 10) == 11
        assert db.run(_adds(2), 10) == 12


LIMIT = 3


@mako.function
def limited(tx: Any, number: int) -> int:
    return min(number, LIMIT, sys.maxsize)


def test_what_is_compiled_in_is_named() -> None:
    add = _adds(7)
    name = f"{__name__}._adds.<locals>.add"
    assert add.constants() == [f"{name}.amount=7"]
    both = [f"{__name__}.limited.LIMIT=3", f"{__name__}.limited.sys.maxsize={sys.maxsize}"]
    assert limited.constants() == both

    @mako.procedure
    def calls(tx: Any, number: int) -> Any:
        return limited(tx, number)

    assert calls.constants() == both


class _Turns:
    """Who goes next, of two threads."""

    def __init__(self, order: tuple[int, ...]) -> None:
        self._order = list(order)
        self._changed = threading.Condition()

    def take(self, who: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._order[0] == who, DEADLINE_S)

    def end(self) -> None:
        with self._changed:
            del self._order[0]
            self._changed.notify_all()


class _Stepped(jit._CacheFile):
    """Each look at a file waits for its turn."""

    def __init__(self, folder: Path, turns: _Turns, who: int) -> None:
        super().__init__(str(folder), "function-1", "stamp")
        for name in ("_load_index", "_save_index", "_save_data"):
            setattr(self, name, self._in_turn(getattr(self, name), turns, who))

    @staticmethod
    def _in_turn(act: Callable[..., Any], turns: _Turns, who: int) -> Callable[..., Any]:
        def acted(*arguments: Any) -> Any:
            turns.take(who)
            try:
                return act(*arguments)
            finally:
                turns.end()

        return acted


@pytest.mark.parametrize("firsts", list(combinations(range(6), 3)))
def test_two_that_save_at_once_get_their_own(tmp_path: Path, firsts: tuple[int, ...]) -> None:
    turns = _Turns(tuple(0 if turn in firsts else 1 for turn in range(6)))
    one, other = (_Stepped(tmp_path, turns, who) for who in range(2))
    together(lambda: one.save("a", "code of a"), lambda: other.save("b", "code of b"))
    third = jit._CacheFile(str(tmp_path), "function-1", "stamp")
    found = [third.load(key) for key in "ab"]
    assert found[0] in (None, "code of a"), "it may be compiled again"
    assert found[1] in (None, "code of b")
    assert found != [None, None]


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
def test_a_full_folder_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may be the first that wants it compiled; that must not end the server."""

    @mako.procedure
    def count_rows(tx: Any, number: int) -> int:
        found, _ = tx.find(COUNTER, (number,))
        return int(found)

    def full(self: Any, sig: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jit._Cache, "save_overload", full)
    with pytest.raises(mako.ConfigError, match="No space left on device; make room there"):
        procedure_entry(count_rows)
