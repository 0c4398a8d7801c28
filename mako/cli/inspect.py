"""`mako inspect wal|snapshot|log PATH`: print what is in a file of the database, and verify it.

    0    nothing is wrong; a torn tail of a log is no damage, the next start repairs it
    1    something is damaged: `problems` says where, the rest is what could still be read
    2    wrong usage, or a file that cannot be read

No file is ever changed, and nothing of a damaged file is believed.
"""

import json
from pathlib import Path
from typing import Any

import click

from mako.cli.machine import format_bytes
from mako.cli.options import text_or_json

Report = dict[str, Any]

_PATH = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def inspect() -> None:
    """Print and verify a write-ahead log, a snapshot, or a recorded log."""


@inspect.command()
@click.argument("path", type=_PATH)
@click.option("--records", is_flag=True, help="Every record, too.")
@text_or_json
@click.pass_context
def wal(ctx: click.Context, path: Path, output: str, *, records: bool) -> None:
    """A write-ahead log: a folder of segments, or one segment."""
    from mako.storage.inspect import inspect_wal, wal_records
    from mako.storage.os_disk import OsDisk

    disk = OsDisk(path if path.is_dir() else path.parent, read_only=True)
    report = inspect_wal(disk, "", None if path.is_dir() else [path.name])
    if records:
        report["record_list"] = [
            record
            for segment in report["segments"]
            for record in wal_records(disk, "", segment["file"])
        ]
    _finish(ctx, path, report, output, _wal_lines)


@inspect.command()
@click.argument("path", type=_FILE)
@text_or_json
@click.pass_context
def snapshot(ctx: click.Context, path: Path, output: str) -> None:
    """A snapshot of a partition."""
    from mako.storage.inspect import inspect_snapshot
    from mako.storage.os_disk import OsDisk

    report = inspect_snapshot(OsDisk(path.parent, read_only=True), path.name)
    _finish(ctx, path, report, output, _snapshot_lines)


@inspect.command()
@click.argument("path", type=_FILE)
@click.option("--entries", is_flag=True, help="Every entry, too.")
@text_or_json
@click.pass_context
def log(ctx: click.Context, path: Path, output: str, *, entries: bool) -> None:
    """A log of a partition, as recorded by `record_log`."""
    from mako.storage.inspect import inspect_log, log_entries
    from mako.storage.os_disk import OsDisk

    disk = OsDisk(path.parent, read_only=True)
    report = inspect_log(disk, path.name)
    if entries:
        report["entry_list"] = list(log_entries(disk.open(path.name)))
    _finish(ctx, path, report, output, _log_lines)


def _finish(ctx: click.Context, path: Path, report: Report, output: str, lines: Any) -> None:
    """Print the report; exit with 1 if something is wrong."""
    report = {"path": str(path), "good": not report["problems"], **report}
    if output == "json":
        click.echo(json.dumps(report))
    else:
        for line in [*lines(report), *_problem_lines(report["problems"])]:
            click.echo(line)
    if report["problems"]:
        ctx.exit(1)


def _problem_lines(problems: list[Report]) -> list[str]:
    if not problems:
        return ["good: everything was checked"]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return [
        f"DAMAGED: {count}",
        *(f"  {one['file']} at byte {one['offset']}: {one['reason']}" for one in problems),
    ]


def _wal_lines(report: Report) -> list[str]:
    lines = []
    for one in report["segments"]:
        if "batches" not in one:
            lines.append(f"{one['file']}  {format_bytes(one['bytes'])}, not a readable segment")
            continue
        kinds = ", ".join(f"{count} {kind}" for kind, count in one["records"].items())
        lines.append(
            f"{one['file']}  cluster {one['cluster']} node {one['node']},"
            f" {format_bytes(one['used_bytes'])} of {format_bytes(one['bytes'])} used,"
            f" batches {one['first_batch']} to {one['first_batch'] + one['batches'] - 1}"
            f" ({kinds or 'no records'}), {one['end']} end"
        )
    lines += map(_group_line, report["groups"])
    lines += map(_record_line, report.get("record_list", []))
    return lines


def _group_line(one: Report) -> str:
    return (
        f"group {one['group']}  term {one['term']} vote {one['vote']},"
        f" log {one['first_index']} to {one['last_index']}@{one['last_term']}"
        f" ({format_bytes(one['entry_bytes'])}), commit {one['commit']},"
        f" snapshot {one['snapshot_index']}@{one['snapshot_term']}, voters {one['voters']}"
    )


def _record_line(one: Report) -> str:
    return (
        f"{one['file']} {one['offset']:>10}  batch {one['batch']}  {one['type']}"
        f"  group {one['group']}  {one['index']}@{one['term']}  {one['bytes']} bytes"
    )


def _snapshot_lines(report: Report) -> list[str]:
    lines = [f"{report['file']}  {format_bytes(report['bytes'])}, {report['rows']} rows"]
    if "index" in report:
        lines.append(
            f"group {report['group']} of cluster {report['cluster']}, entry"
            f" {report['index']}@{report['term']}, timestamp {report['timestamp']},"
            f" voters {report['voters']}"
        )
    lines += [f"table {table}: {count} rows" for table, count in report["rows_by_table"].items()]
    if "digest" in report:
        lines.append(f"hash {report['digest']}")
    return lines


def _log_lines(report: Report) -> list[str]:
    lines = [
        f"{report['file']}  {format_bytes(report['bytes'])}, {report['entries']} entries"
        f" ({report['schema_entries']} of them schemas, {report['epoch_entries']} epochs,"
        f" {report['discard_entries']} discards),"
        f" partitions {report['partitions']}",
        f"{report['transactions']} transactions, {report['writes']} writes"
        f" ({report['deletes']} of them deletes), closed up to {report['closed']}",
    ]
    for one in report.get("entry_list", []):
        if "problem" in one:
            lines.append(f"{one['offset']:>12}  bad")
            continue
        what = f"{one['transactions']} transactions"
        if one["lost"] is not None:
            partition, epoch, final = one["lost"]
            what = f"epoch {epoch} of partition {partition}, final watermark {final}"
        lines.append(
            f"{one['offset']:>12}  {one['type']}, {one['bytes']} bytes, {what},"
            f" closed {one['closed']}"
        )
    return lines
