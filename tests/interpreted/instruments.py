"""What is different in an explored engine from the engine as it runs elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any, Final

from mako.engine import (
    access,
    ahead,
    commit,
    index,
    interpreted,
    keeper,
    memory,
    prune,
    reclaim,
    scan,
)
from mako.engine import layout as at
from mako.engine.atomics import ld8, st8
from tests.interpreted.world import LOG_BUFFER, World

POISON: Final = 0x5A5A5A5A5A5A5A5B  # no address, not aligned, above every timestamp


@contextmanager
def explored(
    *, fanout: int = 4, spin_max: int | None = None, kept_bytes: int | None = None
) -> Iterator[None]:
    """Make the engine of this process one to explore; everything is as before afterwards."""
    with ExitStack() as undo:
        for kind in (access.WORD_ACCESS, access.PAIR_ACCESS, access.BYTES_ACCESS):
            _shrink_nodes(undo, kind, fanout)
        for name in ("release", "release_surplus"):
            freeing = getattr(memory, name)
            _replace(undo, name, freeing, _poisoning(freeing))
        if kept_bytes is not None:
            _set(undo, reclaim, "kept_bytes", lambda _engine: kept_bytes)
        _replace(undo, "unlink_record", commit.unlink_record, _pinned(commit.unlink_record))
        if spin_max is not None:
            for module in (index, prune, scan):
                _set(undo, module, "SPIN_MAX", spin_max)
        yield


@contextmanager
def log_kept(world: World) -> Iterator[None]:
    """Let `keeper.turn` drain into `world`."""
    with ExitStack() as undo:
        _set(undo, keeper, "drain", world.take_log)
        interpreted.add_region(LOG_BUFFER, world.log_view)
        undo.callback(interpreted.remove_region, LOG_BUFFER)
        yield


def _set(undo: ExitStack, module: Any, name: str, value: Any) -> None:
    undo.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)


def _replace(undo: ExitStack, name: str, old: Any, new: Any) -> None:
    """Replace what every module of the engine has imported as `name`."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("mako.engine") and getattr(module, name, None) is old:
            _set(undo, module, name, new)


def _poisoning(release: Callable[..., None]) -> Callable[..., None]:
    """`release` that overwrites what it frees, except for what has to survive: the link, and
    the first word of records and nodes (`mako.engine.memory`)."""

    def poisoning(context: int, pool: int, block: int, size_class: int) -> None:
        release(context, pool, block, size_class)
        if pool == at.POOL_VALUES:
            st8(block, POISON)
        for place in range(2 * at.WORD, memory.class_bytes(size_class), at.WORD):
            st8(block + place, POISON)

    return poisoning


def _pinned(unlink: Callable[..., int]) -> Callable[..., int]:
    """`unlink_record` that insists on what no schedule here can show: a search looks at keys
    between two atomics, so only real threads could free what it is looking at."""

    def pinned(tx: int, table: int, record: int) -> int:
        assert ld8(tx + at.C_ACTIVE) != at.NONE, "who goes through a tree pins its memory"
        return unlink(tx, table, record)

    return pinned


def _shrink_nodes(undo: ExitStack, kind: Any, fanout: int) -> None:
    """Let the functions of one kind of tree believe in nodes of `fanout` keys.

    The factories that make them keep the number in a closure cell each; the layout of the node
    stays as it is.
    """
    number = kind.index.kind.kind
    pruning = (prune.WORD_PRUNING, prune.PAIR_PRUNING, prune.BYTES_PRUNING)[number - 1]
    scanning = scan.SCANNINGS[number]
    roots = [kind.index.kind.count_less, kind.index.kind.count_not_above, kind.index.find_leaf]
    roots += [kind.index.link, kind.index.get, kind.index.get_in, kind.index.find_before]
    roots += [pruning.unlink, scanning.forward, scanning.backward]
    roots += [ahead.AHEAD[number]] if number in ahead.AHEAD else []
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if name == "fanout":
                undo.callback(setattr, cell, "cell_contents", cell.cell_contents)
                cell.cell_contents = fanout
            else:
                waiting.append(cell.cell_contents)
