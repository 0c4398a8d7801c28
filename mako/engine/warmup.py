"""Compile, or load, everything that a first use of the engine needs.

Functions of the engine are compiled when they are first called, and exported ones when their
module is imported. This does both ahead of use, in the order of the imports, so that
afterwards a process only loads: see `mako warmup`. As a program it is a helper of that, which
begins at the other end.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mako.engine import jit
from mako.engine.compiling import NotMyTurn

if TYPE_CHECKING:
    from mako.procedure import Procedure

Progress = Callable[[str, int, int], None]

#: Functions that importing the engine compiles; only the progress depends on it.
EXPORTED_COUNT: Final = 60


def warmup(progress: Progress) -> None:
    """Compile all that Python calls; `progress(unit, done, total)` before each unit and at the
    end, when `done` is `total`."""
    done = 0

    def on_export(name: str) -> None:
        nonlocal done
        progress(name, done, max(EXPORTED_COUNT, done) + _CALLED_COUNT)
        done += 1

    jit.on_export = on_export
    try:
        called = list(_called())
    finally:
        jit.on_export = None
    total = done + len(called)
    for name, dispatcher in called:
        progress(name, done, total)
        if not jit.INTERPRETED:
            with dispatcher._cache.alone():
                dispatcher.compile(_words(dispatcher))
        done += 1
    progress("", done, total)


def help_out(helped: int) -> None:
    """Compile what `warmup` does in the process that has started this one, from the end on and in
    any order, and keep it; until nothing is left, or that one, `helped`, is gone. Nothing of it can
    be run here."""
    jit.postponed = []
    called = [dispatcher for _, dispatcher in _called(loading=False)]
    units = [(unit, unit.compile) for unit in jit.postponed]
    units += [(each, lambda each=each: each.compile(_words(each))) for each in called]
    for unit, compile_it in reversed(units):
        if os.getppid() != helped:
            return
        try:
            with unit._cache.alone(patience=0):
                compile_it()
        except NotMyTurn:
            continue


def load(procedures: Iterable[Procedure]) -> None:
    """Compile procedures, or load them; others who do so at the same time each take some."""
    from mako.engine.entries import procedure_entry

    busy = []
    for procedure in procedures:
        try:
            procedure_entry(procedure, patience=0)
        except NotMyTurn:
            busy.append(procedure)
    for procedure in busy:
        procedure_entry(procedure)


def _words(dispatcher: Any) -> tuple[Any, ...]:
    from numba import types

    return (types.int64,) * len(inspect.signature(dispatcher.py_func).parameters)


_CALLED: Final = {
    "closing": "activate advance_pinned advance_watermark close close_snapshot deactivate"
    " get_word open_snapshot set_word tick",
    "codec": "check_body check_frame check_header check_transactions",
    "dependent": "cross_out_dependent discard_dependent undo_logged",
    "discard": "discard_above",
    "draining": "drain_ordered forget_logged",
    "dump": "dump_rows mixed",
    "finding": "forget_found",
    "interactive": "record_key session_abort session_begin session_begin_snapshot session_commit"
    " session_delete session_get session_put session_rest session_saw session_scan",
    "keeper": "keep touch",
    "mailbox": "collected completion_slot listen open_rings post publish request_slot wait_stable"
    " wait_word_above",
    "loading": "as_writes",
    "memory": "allocate release size_class",
    "mesh": "has_mail",
    "participant": "note_loss release_lane",
    "pump": "rewind waits",
    "reclaim": "reclaim reclaim_at_rest",
    "recorder": "drain_rings switch_logging",
    "region": "add_table set_up",
    "replay": "close_entry follow raise_clock",
    "ring": "drain",
    "rounds": "abandon interrupt",
    "serving": "collect give_up_requests own_watermark post_calls",
    "watching": "give_way",
    "watermarks": "advance_stable set_watermark",
    "running": "run_at_snapshot run_retrying",
    "worker": "doom watch work",
}
_CALLED_COUNT: Final = sum(len(names.split()) for names in _CALLED.values())


def _called(*, loading: bool = True) -> Iterator[tuple[str, Any]]:
    """The functions that `mako.engine.engine` and the client call from Python."""
    from importlib import import_module

    from mako.engine.builtin import OPERATIONS, address_of, forget, once
    from mako.engine.gathered import gathered

    import_module("mako.engine.engine")
    import_module("mako.engine.pumped")
    for entry in (*OPERATIONS.values(), once, forget, gathered) if loading else ():
        address_of(entry)  # As a server that starts.
    for module, names in _CALLED.items():
        for name in names.split():
            yield f"{module}.{name}", getattr(import_module(f"mako.engine.{module}"), name)


if __name__ == "__main__":
    help_out(int(sys.argv[1]))
