"""The command `mako`: its subcommands, and how every failure becomes one line and an exit status.

    0    done
    1    it ran, and a check failed (a command says so by `ctx.exit(1)` or by returning 1); also
         click's answer to a reader that stops early, as in `mako ... | head`
    2    wrong usage, a wrong value, any other `mako.Error`, or a file or output that cannot be
         read or written: one line, no traceback
    130  interrupted

A broken invariant keeps its traceback: it is a bug here, and somebody has to see where.
"""

import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

import click

from mako.cli import cache
from mako.cli.lazy import LazyCommand, LazyGroup
from mako.cli.usage import sentence_of
from mako.errors import Error

DISTRIBUTION: Final = "mako-db"

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_COMMANDS: Final = {
    "status": LazyCommand(
        "mako.cli.status", "status", "What this installation can use; with -f, how a cluster does."
    ),
    "trace": LazyCommand(
        "mako.cli.trace", "trace", "Which transactions wait for durability, for whom, and why."
    ),
    "warmup": LazyCommand("mako.cli.warmup", "warmup", "Compile the engine once, ahead of use."),
    "inspect": LazyCommand(
        "mako.cli.inspect", "inspect", "Print and verify logs and snapshots on disk."
    ),
    "sim": LazyCommand("mako.cli.sim", "sim", "Attack a simulated cluster, seed after seed."),
    "server": LazyCommand("mako.cli.server", "server", "Run one process of a cluster."),
    "replica": LazyCommand(
        "mako.cli.replica", "replica", "Add, replace and remove replicas; hand leaderships over."
    ),
    "backup": LazyCommand("mako.cli.backup", "backup", "Copy all data of a running cluster."),
    "restore": LazyCommand(
        "mako.cli.backup", "restore", "Make the folders of processes from a backup."
    ),
    "bench": LazyCommand("bench.cli", "bench", "Run TPC-C, TPC-A or the micro-benchmark."),
}


def version_of(distribution: str) -> str:
    """The installed version of `distribution`, found without importing it; "" if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: object) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    version = version_of(DISTRIBUTION) or "not installed"
    click.echo(f"mako {version} on Python {platform.python_version()}")
    ctx.exit()


mako = LazyGroup(
    name="mako",
    lazy=_COMMANDS,
    help="A transactional in-memory database in Python, compiled by numba.",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MAKO"},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        )
    ],
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default `sys.argv`) and return the exit status."""
    return run(mako, "mako", arguments)


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command, which users know as `name`, and return the exit status: see the module."""
    # For whatever the command loads: see mako.cli.cache.
    os.environ[cache.ROOT_VARIABLE] = str(cache.cache_root(os.environ))
    try:
        result = command.main(
            args=None if arguments is None else list(arguments),
            prog_name=name,
            standalone_mode=False,
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as error:
        return _refuse(sentence_of(error))
    except click.ClickException as error:
        return _refuse(error.format_message())
    except Error as error:
        return _refuse(str(error))
    except TimeoutError as error:  # Of a call that was not answered, too.
        return _refuse(str(error))
    except OSError as error:
        # Files named by the user: a report folder without permission. A disk that is full under
        # what is written, or under our own output, has no name.
        reason = error.strerror or str(error) or type(error).__name__
        if error.filename is None:
            _forget_output()
            return _refuse(reason)
        return _refuse(f"{error.filename}: {reason}; name another place")
    except (click.Abort, KeyboardInterrupt):
        click.echo("mako: interrupted", err=True)
        return EXIT_INTERRUPTED
    # Without click's own error handling, an `exit(1)` and a returned 1 arrive here alike.
    return result if isinstance(result, int) else 0


def _forget_output() -> None:
    """What standard output did not take is not tried again when the interpreter ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _refuse(reason: str) -> int:
    click.echo(f"mako: {' '.join(reason.split())}", err=True)
    return EXIT_USAGE
