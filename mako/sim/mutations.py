"""Wrong lines of the engine: edits of its source, in a process that has not imported it yet.

    source of a module ──edited──▶ source with the wrong line ──▶ imported in its place

What is compiled has no switches, so a bug of it cannot be switched on as others are. It is written
into the source as that is read, and the engine runs interpreted (NUMBA_DISABLE_JIT=1): nothing on
disk changes, machine code that is kept does not either, and other processes know nothing of it.

An edit names the text that it replaces, which must be there exactly once. So an edit whose place
has changed is noticed, instead of planting nothing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from mako.errors import Error

#: A module of mako.engine, a text that is there exactly once, and the text instead.
Edit = tuple[str, str, str]

_ENGINE: Final = "mako.engine"
_FOLDER: Final = Path(__file__).resolve().parent.parent / "engine"


class MutationError(Error):
    """An edit does not apply: correct its text."""


def edited(module: str, source: str, edits: Iterable[Edit]) -> str:
    """The source of a module of the engine with its edits. MutationError: one does not apply."""
    for name, old, new in edits:
        if name != module:
            continue
        count = source.count(old)
        if count != 1:
            first = next((line.strip() for line in old.splitlines() if line.strip()), "")
            raise MutationError(
                f"the text to replace is {count} times in mako/engine/{module}.py, not once; give"
                f" the edit the text that is there now: {first}"
            )
        source = source.replace(old, new)
    return source


def check(edits: Sequence[Edit]) -> None:
    """Whether all of them apply to the engine as it is. MutationError says which one does not."""
    for module in sorted({module for module, _, _ in edits}):
        path = _FOLDER / f"{module}.py"
        if not path.exists():
            raise MutationError(f"there is no mako/engine/{module}.py to edit; name a module of it")
        edited(module, path.read_text(), edits)


def install(edits: Sequence[Edit]) -> None:
    """Have the engine of this process imported with `edits`.

    MutationError if they do not apply, or the engine is there already, or will be compiled.
    """
    check(edits)
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        raise MutationError("a mutation is for an interpreted engine; set NUMBA_DISABLE_JIT=1")
    if any(name == _ENGINE or name.startswith(f"{_ENGINE}.") for name in sys.modules):
        raise MutationError("the engine was imported before its mutation; install that first")
    by_module: dict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_module[f"{_ENGINE}.{edit[0]}"].append(edit)
    sys.meta_path.insert(0, _Finder(by_module))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are edited."""

    def __init__(self, edits: Mapping[str, Sequence[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        edits = self._edits.get(fullname)
        spec = None if edits is None else PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or edits is None:
            return None
        loader = _Loader(fullname, spec.origin, edits)
        return importlib.util.spec_from_loader(fullname, loader, origin=spec.origin)


class _Loader(SourceFileLoader):
    """Reads a module from its file, and edits what it has read."""

    def __init__(self, fullname: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(fullname, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        module = fullname.rpartition(".")[2]
        source = edited(module, Path(self.path).read_text(), self._edits)
        return compile(source, self.path, "exec", dont_inherit=True)
