"""Option values of the command line: what is accepted, and one line for what is not.

A value is refused where it is parsed, before the database opens, with a sentence that names the
option, what was wrong and what would be right. `OneLineGroup` turns click's own complaints
(an unknown option, a missing value) into the same form:

    mako: --workers 64 is more than this machine's 2 cores; use at most 2

Exit status 2, no usage text, no traceback.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from bench.options import TPCC_KINDS, WEIGHT_MAX, Distribution
from mako.cli.usage import sentence_of
from mako.errors import ConfigError
from mako.size import parse_size

#: Exit status of a run that was asked for in the wrong way.
EXIT_BAD_INPUT: Final = 2
SEED_MAX: Final = (1 << 63) - 1

#: More digits than any number that is taken, and few enough to be shown in a line.
_DIGITS_MAX: Final = 20
_WHOLE: Final = re.compile(rf"[+-]?[0-9](_?[0-9]){{0,{_DIGITS_MAX - 1}}}")
_DURATION: Final = re.compile(
    rf"([0-9]{{1,{_DIGITS_MAX}}}(?:\.[0-9]{{1,{_DIGITS_MAX}}})?)(ms|s|m|h)?"
)
_FRACTION: Final = re.compile(rf"[0-9]{{0,{_DIGITS_MAX}}}\.[0-9]{{1,{_DIGITS_MAX}}}")
_SECONDS_OF: Final = {"ms": 1e-3, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

Result = TypeVar("Result")


class BadInput(click.ClickException):
    """The user asked for something impossible. Printed as one line; exit status 2."""

    exit_code = EXIT_BAD_INPUT

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mako: {one_line(self.message)}", file=file, err=file is None)


def one_line(text: str) -> str:
    return " ".join(text.split())


class OneLineGroup(click.Group):
    """A group whose usage errors, and those of everything below it, are one line.

    It works as the outermost group and inside another one: what is raised is an exception
    that shows itself in the right form, whoever catches it.
    """

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        return in_one_line(lambda: super(OneLineGroup, self).make_context(*args, **options))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their definition: the best known first."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        return in_one_line(lambda: super(OneLineGroup, self).invoke(ctx))


def in_one_line(call: Callable[[], Result]) -> Result:
    """The result of `call`; a usage error of click leaves it as `BadInput`."""
    try:
        return call()
    except click.exceptions.NoArgsIsHelpError:
        raise  # A bare `mako bench` is a question: it is answered with the help.
    except click.UsageError as error:
        raise BadInput(sentence_of(error)) from error


class Count(click.ParamType):  # type: ignore[type-arg]
    """A whole number within bounds."""

    name = "number"

    def __init__(self, *, least: int = 1, most: int = 1_000_000_000) -> None:
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not _WHOLE.fullmatch(text):
            advice = f"give one such as {self.least}"
            self.fail(f"{text!r:.40} is not a whole number; {advice}", param, ctx)
        number = int(text)
        if number < self.least:
            self.fail(f"{number} is too small; give at least {self.least}", param, ctx)
        if number > self.most:
            self.fail(f"{number} is too large; give at most {self.most}", param, ctx)
        return number


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or a number with a unit: 30, 30s, 5m, 1h, 500ms."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r:.40} is not a duration; write 30, 30s, 5m or 1h", param, ctx)
        seconds = float(match[1]) * _SECONDS_OF[match[2]]
        if seconds <= 0 and not self.zero:
            self.fail("it must be longer than zero; write 30, 30s, 5m or 1h", param, ctx)
        return seconds


class Folder(click.ParamType):  # type: ignore[type-arg]
    """The path of a folder, which may be missing. Without a name it would be where we are."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            self.fail("the name is empty; give a folder, or . for this one", param, ctx)
        return Path(value)


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes, as `mako.size` reads them: 4GiB, 4G (the same), 512MiB, 4GB (decimal)."""

    name = "size"

    def __init__(self, *, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = parse_size(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        if size < self.least:
            least = f"{self.least >> 20}MiB"
            self.fail(f"{value} is too small for a database; give at least {least}", param, ctx)
        return size


class Mix(click.ParamType):  # type: ignore[type-arg]
    """`deck`, or five weights in the order of TPCC_KINDS."""

    name = "mix"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | None:
        if value is None or value == "deck":
            return None
        order = ",".join(TPCC_KINDS)
        parts = str(value).split(",")
        if len(parts) != len(TPCC_KINDS):
            self.fail(
                f"{value!r:.40} has {len(parts)} weights; give five, {order}, such as 45,43,4,4,4",
                param,
                ctx,
            )
        weights = tuple(self._weight(part.strip(), order, param, ctx) for part in parts)
        if not any(weights):
            self.fail("all weights are zero; one at least must be positive", param, ctx)
        return weights

    def _weight(
        self, text: str, order: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if not (text.isascii() and text.isdecimal()):
            self.fail(
                f"{text!r:.40} is not a weight; give five whole numbers, {order},"
                " such as 45,43,4,4,4",
                param,
                ctx,
            )
        if len(text) > _DIGITS_MAX or int(text) > WEIGHT_MAX:
            self.fail(f"the weight {text:.24} is too large; give at most {WEIGHT_MAX}", param, ctx)
        return int(text)


class Dist(click.ParamType):  # type: ignore[type-arg]
    """`uniform` or `zipf:THETA`."""

    name = "distribution"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Distribution:
        if isinstance(value, Distribution):
            return value
        if value == "uniform":
            return Distribution()
        kind, colon, text = str(value).partition(":")
        if kind != "zipf" or not colon:
            self.fail(
                f"{value!r:.40} is not a distribution; give uniform, or zipf:0.9 for a skew of 0.9",
                param,
                ctx,
            )
        theta = float(text) if _FRACTION.fullmatch(text) else 0.0
        if not 0 < theta < 1:
            self.fail(
                f"the skew {text!r:.40} must be a number above 0 and below 1, as in zipf:0.9",
                param,
                ctx,
            )
        return Distribution("zipf", theta)
