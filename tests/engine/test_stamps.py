"""Compiled code is kept under what it was compiled from: sources, the code itself, constants."""

import sys
from pathlib import Path
from typing import Any

import pytest

from mako.procedure import Procedure

MODULE = """
import mako
import stamped_limits
from stamped_limits import Kind

ACCOUNT = mako.Table("stamped", id=900, key={"number": 32}, row={"v": "i8"})


@mako.function
def doubled(value):
    return value * 2


@mako.procedure
def total(tx, number, step=stamped_limits.STEP):
    rows = sum([tx.read(ACCOUNT, (number + i,)).v for i in range(stamped_limits.inner.COUNT)])
    return doubled(rows) + Kind.PAID * step
"""
LIMITS = """
import enum
import types

STEP = 3
inner = types.ModuleType("inner")
inner.COUNT = 4


class Kind(enum.IntEnum):
    PAID = 7
"""


def load(folder: Path) -> Procedure:
    """As another process would import it."""
    for name in ("stamped", "stamped_limits"):
        sys.modules.pop(name, None)
    import importlib

    importlib.invalidate_caches()
    found: Procedure = importlib.import_module("stamped").total
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(tmp_path)
    return tmp_path


def write(
    folder: Path, module: tuple[str, str] = ("", ""), limits: tuple[str, str] = ("", "")
) -> None:
    (folder / "stamped.py").write_text(MODULE.replace(*module))
    (folder / "stamped_limits.py").write_text(LIMITS.replace(*limits))


def stamp_of(procedure: Procedure) -> Any:
    entries = pytest.importorskip("mako.engine.entries")
    return entries.stamp_of(procedure)


@pytest.mark.parametrize(("old", "new"), [("value * 2", "value * 3"), ("+ Kind", "- Kind")])
def test_code_that_was_imported_before_an_edit_is_not_kept_as_that_of_the_edit(
    folder: Path, old: str, new: str
) -> None:
    imported = load(folder)
    write(folder, module=(old, new))
    assert stamp_of(imported) != stamp_of(load(folder))


@pytest.mark.parametrize(
    ("old", "new"), [("STEP = 3", "STEP = 5"), ("COUNT = 4", "COUNT = 5"), ("PAID = 7", "PAID = 8")]
)
def test_a_constant_of_another_module_is_part_of_it(folder: Path, old: str, new: str) -> None:
    before = stamp_of(load(folder))
    assert stamp_of(load(folder)) == before
    write(folder, limits=(old, new))
    assert stamp_of(load(folder)) != before


def test_a_table_that_a_comprehension_reads_is_one_of_its_tables(folder: Path) -> None:
    assert [table.name for table in load(folder).tables()] == ["stamped"]
