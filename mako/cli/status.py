"""`mako status`: what is installed here, what it can use, and whether its code is compiled; with
-f, what the processes of a cluster say (mako.cli.watching).

It imports neither numba nor the engine: versions come from the metadata of installed packages.
"""

import json
import os
import platform

import click

from mako.cli import cache, machine
from mako.cli.app import DISTRIBUTION, version_of
from mako.cli.options import config_files, table_or_json


@click.command()
@config_files("Ask the processes of the cluster of this configuration.", required=False)
@click.option("--watch", is_flag=True, help="With -f: look again every second.")
@click.option("--hash", "hashes", is_flag=True, help="With -f: the hash of each replica's rows.")
@table_or_json
def status(output: str, files: tuple[str, ...], *, watch: bool, hashes: bool) -> int:
    """What this installation is and can use, or with -f how a cluster does.

    Exit status 1: a partition has no leader, or replicas differ.
    """
    if files:
        from mako.cli.watching import show

        return show(files, output=output, hashes=hashes, watch=watch)
    if watch or hashes:
        raise click.UsageError("--watch and --hash need -f")
    facts = collect()
    click.echo(json.dumps(facts) if output == "json" else format_table(facts))
    return 0


def collect() -> dict[str, str | int | bool]:
    """The facts by their JSON names."""
    numba = version_of("numba")
    root = cache.cache_root(os.environ)
    total, available = machine.memory_bytes()
    return {
        "version": version_of(DISTRIBUTION),
        "python": platform.python_version(),
        "numba": numba,
        "cores": machine.core_count(),
        "memory_bytes": total,
        "memory_available_bytes": available,
        "cache_folder": str(root),
        "cache_warm": cache.stamp_file(root, numba).is_file(),
        "servers": machine.server_count(),
    }


def format_table(facts: dict[str, str | int | bool]) -> str:
    """The facts for a reader, one per line, after a sentence that sums them up."""
    warm = facts["cache_warm"]
    memory = machine.format_bytes(int(facts["memory_bytes"]))
    available = machine.format_bytes(int(facts["memory_available_bytes"]))
    rows = [
        ("version", facts["version"] or "not installed; run `pip install -e .`"),
        ("python", facts["python"]),
        ("numba", facts["numba"] or "not installed; run `pip install -e .`"),
        ("cores", facts["cores"]),
        ("memory", f"{memory}, {available} available"),
        ("cache", facts["cache_folder"]),
        ("compiled", "yes" if warm else "no; run `mako warmup`, or the first use compiles"),
        ("servers", f"{facts['servers']} running here"),
    ]
    lines = ["This installation; `mako status -f CONFIG` asks a cluster.", ""]
    lines += [f"{name:<10}{value}" for name, value in rows]
    return "\n".join(lines)
