"""`mako trace`: which transactions wait for durability, for whom, and through which versions.

    no TXN   the oldest that wait at each leader, and who waits for whom in total
    TXN      one of them, as the leaders of all partitions know it

Processes are asked over their HTTP ports (mako.cli.asking), and leaders answer.
"""

from typing import Final

import click

from mako.cli.options import config_files, table_or_json

_TIMESTAMP_MAX: Final = (1 << 63) - 1


def _timestamp(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or int(value) > _TIMESTAMP_MAX:
        raise click.UsageError(
            f"{value!r:.60} is no timestamp of a transaction; give a number as `mako trace` lists"
            " them, or the timestamp that a client has of its commit"
        )
    return int(value)


@click.command()
@config_files()
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Transactions of each leader, or rows of one transaction.",
)
@table_or_json
@click.argument("txn", required=False, metavar="[TXN]", callback=_timestamp)
def trace(files: tuple[str, ...], limit: int, output: str, txn: int | None) -> int:
    """Which transactions wait for durability, for which partitions, and why.

    TXN is a timestamp as this command lists them, and as clients see it: `timestamp` of what
    `submit` returned, or `commit_ts`.

    Exit status 1: nobody knows TXN, or a process or the leader of a partition does not answer.
    """
    import json

    from mako.cli import asking, traced, waits
    from mako.config import load

    config = load(files)
    if txn is None:
        all_ = waits.gather(config, asking.ask_waits(config, limit))
        click.echo(waits.text(all_) if output == "table" else json.dumps(all_.plain()))
        return 1 if all_.problems else 0
    one = traced.gather(config, txn, asking.ask_trace(config, txn, limit))
    click.echo(traced.text(one) if output == "table" else json.dumps(one.plain()))
    return 1 if one.problems or one.state == traced.UNKNOWN else 0
