"""`mako warmup`: compile the engine once, so that its first use does not wait for it.

On a terminal a progress bar, in a pipe one line per unit. Both go to standard error: the one line
on standard output is the result.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from mako.cli import cache
from mako.cli.app import version_of
from mako.errors import ConfigError

#: Called before each unit is compiled with its name, how many are done, and how many there are.
Progress = Callable[[str, int, int], None]
#: Processes that compile beside this one, at most: each needs about 300 MB.
HELPERS_MAX: Final = 3


@click.command()
def warmup() -> None:
    """Compile the engine once, ahead of use. Compiled already, it takes a few seconds."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise ConfigError("nothing is compiled while NUMBA_DISABLE_JIT is set; unset it")
    root = cache.cache_root(os.environ)
    cache.make_root(root)
    from mako.engine.warmup import warmup as compile_all

    started = time.monotonic()
    stamp = cache.stamp_file(root, version_of("numba"))
    processors = len(os.sched_getaffinity(0))
    helpers = 0 if stamp.exists() else min(processors - 1, HELPERS_MAX)
    with _helped(helpers), _shown_progress() as progress:
        compile_all(progress)
    stamp.touch()
    click.echo(f"compiled, ready in {time.monotonic() - started:.1f} s; kept in {root}")


@contextmanager
def _helped(count: int) -> Iterator[None]:
    """So many processes compile meanwhile. What one of them does not do is done here."""
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):  # There may be no room for another process.
            helpers.extend(_helper() for _ in range(count))
        yield
    finally:
        for each in helpers:
            each.terminate()
        for each in helpers:
            each.wait()


def _helper() -> "subprocess.Popen[bytes]":
    """With the mako that runs here, wherever it was started."""
    folders = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    command = [sys.executable, "-P", "-m", "mako.engine.warmup", str(os.getpid())]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing)


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """A callback that shows progress in the way that suits standard error."""
    if not sys.stderr.isatty():
        yield _print_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("compiling"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(unit: str, done: int, total: int) -> None:
            bar.update(task, description=unit, completed=done, total=total)

        yield show


def _print_line(unit: str, done: int, total: int) -> None:
    click.echo(f"compiling {done}/{total} {unit}", err=True)
