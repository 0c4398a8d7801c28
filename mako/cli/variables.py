"""The environment variable by which each option can be set: MAKO, the command, the option.

mako server --process p1        MAKO_SERVER_PROCESS=p1
mako replica lead --timeout 5   MAKO_REPLICA_LEAD_TIMEOUT=5
"""

import click


def name_variables(command: click.Command, prefix: str) -> None:
    """Name those of a command and of all below it. Left to itself click takes the names of
    parameters in the code, which no user knows."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            name = max(parameter.opts, key=len).lstrip("-")
            parameter.envvar = _joined(prefix, name)
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            name_variables(below, _joined(prefix, name))


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}_{name}".replace("-", "_").upper()
