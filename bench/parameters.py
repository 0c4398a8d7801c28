"""Option values of the command line: what is accepted, and one line for what is not.

A value is refused where it is parsed, before the database opens, with a sentence that names the
option, what was wrong and what would be right. `OneLineGroup` turns click's own complaints
(an unknown option, a missing value) into the same form:

    mako: --workers 64 is more than this machine's 2 cores; use at most 2

Exit status 2, no usage text, no traceback.
"""

import re
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

import click

from bench.options import TPCC_KINDS, Distribution

#: Exit status of a run that was asked for in the wrong way.
EXIT_BAD_INPUT: Final = 2
SEED_MAX: Final = (1 << 63) - 1

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS_OF: Final = {"ms": 1e-3, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(ib|b)?", re.IGNORECASE)
_POWER_OF: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

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


def sentence_of(error: click.UsageError) -> str:
    """What is wrong and what to do, in one sentence."""
    help_command = f"see {error.ctx.command_path} --help" if error.ctx else "see --help"
    if isinstance(error, click.NoSuchOption):
        near = f"did you mean {' or '.join(error.possibilities)}?" if error.possibilities else ""
        return f"there is no option {error.option_name}; {near or help_command}"
    if isinstance(error, click.MissingParameter):
        return f"{error.param.opts[0] if error.param else 'a value'} is missing; {help_command}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{error.param.opts[0]}: {_uncapitalized(error.message)}"
    return f"{_uncapitalized(error.format_message()).rstrip('.')}; {help_command}"


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]


class Count(click.ParamType):  # type: ignore[type-arg]
    """A whole number within bounds."""

    name = "number"

    def __init__(self, *, least: int = 1, most: int = 1_000_000_000) -> None:
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value).replace("_", ""))
        except ValueError:
            self.fail(f"{value!r} is not a whole number; give one such as {self.least}", param, ctx)
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
            self.fail(f"{value!r} is not a duration; write 30, 30s, 5m or 1h", param, ctx)
        seconds = float(match[1]) * _SECONDS_OF[match[2]]
        if seconds <= 0 and not self.zero:
            self.fail("it must be longer than zero; write 30, 30s, 5m or 1h", param, ctx)
        return seconds


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: 4GiB, 4G (the same), 512MiB, 4GB (decimal)."""

    name = "size"

    def __init__(self, *, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write 4GiB or 512MiB", param, ctx)
        decimal = (match[3] or "").lower() == "b" and match[2]
        size = int(float(match[1]) * (1000 if decimal else 1024) ** _POWER_OF[match[2].lower()])
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
                f"{value!r} has {len(parts)} weights; give five, {order}, such as 45,43,4,4,4",
                param,
                ctx,
            )
        for part in parts:
            if not part.strip().isdecimal():
                self.fail(
                    f"{part.strip()!r} is not a weight; give five whole numbers, {order},"
                    " such as 45,43,4,4,4",
                    param,
                    ctx,
                )
        weights = tuple(int(part) for part in parts)
        if not any(weights):
            self.fail("all weights are zero; one at least must be positive", param, ctx)
        return weights


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
                f"{value!r} is not a distribution; give uniform, or zipf:0.9 for a skew of 0.9",
                param,
                ctx,
            )
        try:
            theta = float(text)
        except ValueError:
            theta = 0.0
        if not 0 < theta < 1:
            self.fail(
                f"the skew {text!r} must be a number above 0 and below 1, as in zipf:0.9",
                param,
                ctx,
            )
        return Distribution("zipf", theta)
