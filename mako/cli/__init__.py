"""The command line: `mako status`, `mako warmup`, `mako bench ...`.

Importing it costs click and nothing else. numba, and with it the engine, is loaded by the commands
that run transactions, when they run: `--help` and `status` must answer at once.
"""

from mako.cli.app import main

__all__ = ["main"]
