"""Runs the micro-benchmarks that were asked for and shows their figures."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.engine import index, log, sessions
from bench.engine.figures import Figure

PARTS: Final = ("index", "log", "python")
LARGE_KEYS: Final = 10_000_000
#: Wide enough for the longest row.
COLUMNS: Final = 132


def run(keys: int, *, large: bool, parts: tuple[str, ...], as_json: bool, command: str) -> None:
    """Measure `parts` with `keys` keys, and print a table or one JSON object."""
    counts = [keys, LARGE_KEYS] if large else [keys]
    measures: dict[str, Callable[[], Iterator[Figure]]] = {
        "index": lambda: index.measure(counts),
        "log": lambda: log.measure(keys),
        "python": lambda: sessions.measure(min(keys, 100_000)),
    }
    figures = []
    for part in parts:
        for figure in measures[part]():
            figures.append(figure)
            click.echo(line_of(figure), err=True)
    described = machine.describe()
    if as_json:
        click.echo(json.dumps(summary_of(figures, described, command)))
    else:
        click.echo(table_of(figures, described, command))


def line_of(figure: Figure) -> str:
    """One line of progress."""
    rate = f"{figure.per_second:,.0f}/s"
    return f"{figure.group}: {figure.setting}: {figure.what}: {figure.subject} {rate}"


def summary_of(
    figures: list[Figure], described: dict[str, str | int], command: str
) -> dict[str, Any]:
    return {
        "workload": "engine",
        "command": command,
        "figures": [figure.as_dict() for figure in figures],
        "machine": described,
        "version": machine.version_of("mako-db"),
    }


def table_of(figures: list[Figure], described: dict[str, str | int], command: str) -> str:
    """The figures as a table of plain text, one row for each."""
    table = Table(box=box.MARKDOWN, pad_edge=True)
    for heading in ("part", "setting", "what", "by"):
        table.add_column(heading, no_wrap=True)
    for heading in ("per second", "ns each", "GB/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.group,
            figure.setting,
            figure.what,
            figure.subject,
            f"{figure.per_second:,.0f}",
            f"{figure.ns:,.0f}",
            f"{figure.gb_per_second:.2f}" if figure.bytes else "",
        )
    text = StringIO()
    console = Console(file=text, width=COLUMNS)
    console.print(table, highlight=False)
    facts = ", ".join(f"{name} {value}" for name, value in described.items())
    return "\n".join([command, facts, "", *(it.rstrip() for it in text.getvalue().splitlines())])
