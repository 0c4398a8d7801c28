"""A click group that imports a subcommand when it is used, not when it is listed."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import click

from mako.cli.variables import name_variables
from mako.errors import ConfigError

_OWN_PACKAGES: Final = ("bench", "mako")


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a subcommand lives, and its line in the help of the group."""

    module: str
    attribute: str
    help: str

    def load(self) -> click.Command:
        """Import and return the command. ConfigError if its package is not installed."""
        try:
            module = import_module(self.module)
        except ModuleNotFoundError as error:
            # A missing library is a broken installation. A missing module of ours is a bug, and
            # keeps its traceback.
            name = (error.name or "").partition(".")[0]
            if name in _OWN_PACKAGES:
                raise
            raise ConfigError(
                f"cannot load {self.module}: {name} is not installed; "
                "run `pip install mako-db` again"
            ) from error
        command = getattr(module, self.attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group whose help is written from its table, so that listing imports no subcommand."""

    def __init__(self, *, lazy: Mapping[str, LazyCommand], **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        command = lazy.load()
        if ctx.auto_envvar_prefix is not None:
            name_variables(command, f"{ctx.auto_envvar_prefix}_{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])
