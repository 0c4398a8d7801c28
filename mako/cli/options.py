"""Options that several commands share, so that they are spelled alike everywhere."""

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _output(*letters: str, first: str) -> Callable[[Command], Command]:
    """How to print: the parameter `output`, `first` if nothing is said, or json."""
    return click.option(
        *letters,
        "--output",
        type=click.Choice([first, "json"]),
        default=first,
        show_default=True,
        help="How to print it.",
    )


table_or_json = _output("-o", "-w", first="table")
text_or_json = _output("-o", first="text")


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """Seconds to wait: zero or more, and finite, as nothing is longer or shorter than nan."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not (isfinite(seconds) and seconds >= 0):
            self.fail(f"{value!r:.40} is no number of seconds; give one such as 30", param, ctx)
        return seconds


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
