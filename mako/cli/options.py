"""Options that several commands share, so that they are spelled alike everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def config_files(
    text: str = "The configuration of the cluster.", *, required: bool = True
) -> Callable[[Command], Command]:
    """`-f FILE`, as often as wanted: the parameter `files`, paths that `mako.config.load` takes.

    `text` says in the help what the files are for.
    """
    return click.option(
        "-f",
        "--config",
        "files",
        multiple=True,
        required=required,
        type=click.Path(),
        metavar="FILE",
        help=f"{text} Several combine, and later ones win.",
    )
