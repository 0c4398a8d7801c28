"""`mako sim check FILE ...`: what was recorded of clients and partitions, and whether it can be.

    0    ok: all of it can be explained
    1    a violation, with the smallest cycle in words; or unknown, with what was given up
    2    wrong usage, or a file that is no record

The form of the files is that of mako.sim.checking: `history` and `facts` describe it.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from mako.cli.options import text_or_json

if TYPE_CHECKING:
    from mako.sim.checking import Report


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.File(encoding="utf-8"))
@click.option(
    "--unordered", is_flag=True, help="The facts are not in the order in which they were."
)
@click.option("--unsettled", is_flag=True, help="It ended before all had learnt of all failures.")
@text_or_json
@click.pass_context
def check(
    ctx: click.Context,
    files: tuple[TextIO, ...],
    output: str,
    *,
    unordered: bool,
    unsettled: bool,
) -> None:
    """Whether a recorded history is strictly serializable, and keeps all other promises.

    Several FILES are parts of one history; - is standard input.
    """
    from mako.sim.checking import HistoryError, Record, Verdict, overall
    from mako.sim.checking import check as check_history

    record = Record()
    with _without_collector():
        for file in files:
            try:
                record.read(file)
            except HistoryError as error:
                raise HistoryError(f"{file.name}: {error}") from error
        reports = check_history(
            record.history, record.facts, settled=not unsettled, ordered=not unordered
        )
    verdict = overall(reports)
    if output == "json":
        found = {"verdict": str(verdict), "checkers": [report.as_dict() for report in reports]}
        click.echo(json.dumps(found))
    else:
        for report in reports:
            click.echo("\n".join(_lines_of(report)))
        click.echo(f"{len(record.history.transactions)} transactions: {verdict}")
    if verdict is not Verdict.OK:
        ctx.exit(1)


def _lines_of(report: "Report") -> Iterator[str]:
    yield f"{report.checker}: {report.verdict}, {report.looked_at} looked at"
    for finding in report.findings:
        yield from (f"  {line}" for line in str(finding).splitlines())
    if (more := report.found - len(report.findings)) > 0:
        yield f"  and {more} more"
    for why in report.gave_up:
        yield f"  given up: {why}"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of objects without cycles: to look for some would take a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
