"""Wrong lines of the engine, and of clients: edits of their source, in a process that has not
imported it yet.

    source of a module ──edited──▶ source with the wrong line ──▶ imported in its place

What is compiled has no switches, so a bug of it cannot be switched on as others are. It is written
into the source as that is read, and the engine runs interpreted (NUMBA_DISABLE_JIT=1): nothing on
disk changes, machine code that is kept does not either, and other processes know nothing of it.
Clients have no switches, as there is none that a user should find; their bugs are planted in the
same way, and the engine may be compiled.

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

#: A module of mako.engine, or with a point in its name of mako, a text that is there exactly once,
#: and the text instead.
Edit = tuple[str, str, str]

_ENGINE: Final = "mako.engine"
_ROOT: Final = Path(__file__).resolve().parent.parent.parent


class MutationError(Error):
    """An edit does not apply: correct its text."""


def _full_name(module: str) -> str:
    return f"mako.{module}" if "." in module else f"{_ENGINE}.{module}"


def _place(module: str) -> str:
    return _full_name(module).replace(".", "/") + ".py"


def of_engine(edits: Sequence[Edit]) -> bool:
    """Whether the engine has to be interpreted: one of them is of it, or there are none."""
    return not edits or any(_full_name(module).startswith(f"{_ENGINE}.") for module, _, _ in edits)


def edited(module: str, source: str, edits: Iterable[Edit]) -> str:
    """The source of a module with its edits. MutationError: one does not apply."""
    for name, old, new in edits:
        if name != module:
            continue
        count = source.count(old)
        if count != 1:
            first = next((line.strip() for line in old.splitlines() if line.strip()), "")
            raise MutationError(
                f"the text to replace is {count} times in {_place(module)}, not once; give the edit"
                f" the text that is there now: {first}"
            )
        source = source.replace(old, new)
    return source


def check(edits: Sequence[Edit]) -> None:
    """Whether all of them apply to what is there. MutationError says which one does not."""
    for module in sorted({module for module, _, _ in edits}):
        path = _ROOT / _place(module)
        if not path.exists():
            raise MutationError(f"there is no {_place(module)} to edit; name a module that is")
        edited(module, path.read_text(), edits)


def install(edits: Sequence[Edit]) -> None:
    """Have the engine of this process imported with `edits`.

    MutationError if they do not apply, or the engine, or who is edited, is there already, or it
    will be compiled.
    """
    check(edits)
    if of_engine(edits):
        if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
            raise MutationError("a mutation is for an interpreted engine; set NUMBA_DISABLE_JIT=1")
        if any(name == _ENGINE or name.startswith(f"{_ENGINE}.") for name in sys.modules):
            raise MutationError("the engine was imported before its mutation; install that first")
    by_module: dict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_module[_full_name(edit[0])].append(edit)
    for name in by_module:
        if name in sys.modules:
            raise MutationError(f"{name} was imported before its mutation; install that first")
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
        source = edited(self._edits[0][0], Path(self.path).read_text(), self._edits)
        return compile(source, self.path, "exec", dont_inherit=True)
