"""`mako status -f CONFIG`: what every process of a cluster says about its replicas.

Each is asked over the port that clients use; whoever does not answer within `ASK_SECONDS` is a row
that says so. Status 1: a partition has no leader, or two replicas that saw the same differ.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mako.config import ClusterConfig, Process, load
from mako.errors import Error

#: Seconds that a process has to answer.
ASK_SECONDS: Final = 2.0
#: Seconds between two looks of --watch.
_LOOK_SECONDS: Final = 1.0
_SILENT: Final = "does not answer"


@dataclass(slots=True)
class Answer:
    """What one process said about one of its replicas."""

    process: str
    partition: int
    address: str
    #: Empty if it did not answer.
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def ask_all(config: ClusterConfig, *, hashes: bool = False) -> list[Answer]:
    """An answer for each replica, in the order of the configuration."""
    processes = [process for process in config.processes if process.sites]
    with ThreadPoolExecutor(max(len(processes), 1)) as pool:
        found = pool.map(lambda process: _ask(process, config.id, hashes=hashes), processes)
        return [answer for answers in found for answer in answers]


def _ask(process: Process, cluster: int, *, hashes: bool) -> list[Answer]:
    import mako

    address = f"{process.host}:{process.ports[0]}"
    answers = [Answer(process.name, site.partition, address) for site in process.sites]
    try:
        with mako.connect(address, replica=True, timeout=ASK_SECONDS, cluster=cluster) as db:
            facts = db.status()
            if hashes:
                with db.snapshot() as snapshot:
                    facts["timestamp"], facts["hash"] = snapshot.timestamp, snapshot.state_hash()
    except (Error, TimeoutError, OSError) as error:
        for answer in answers:
            answer.error = " ".join(str(error).split())
        return answers
    for answer in answers:
        if answer.partition == facts["partition"]:
            answer.facts = facts
    return answers


def problems(answers: Sequence[Answer]) -> list[str]:
    """What is wrong with the cluster, a sentence each."""
    found = []
    for partition in sorted({answer.partition for answer in answers}):
        here = [answer for answer in answers if answer.partition == partition]
        if not any(answer.facts.get("role") == "leader" for answer in here):
            found.append(f"partition {partition} has no leader")
        seen: dict[int, set[str]] = {}
        for answer in here:
            if "hash" in answer.facts:
                seen.setdefault(answer.facts["timestamp"], set()).add(answer.facts["hash"])
        if any(len(hashes) > 1 for hashes in seen.values()):
            found.append(f"replicas of partition {partition} differ at the same timestamp")
    return found


def as_json(answers: Sequence[Answer]) -> str:
    rows = [
        {"process": a.process, "address": a.address, "answers": bool(a.facts), "error": a.error}
        | {"partition": a.partition}
        | a.facts
        for a in answers
    ]
    return json.dumps({"replicas": rows, "problems": problems(answers)})


def as_table(answers: Sequence[Answer]) -> Table:
    """One row for each replica."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = ("process", "partition", "role", "epoch", "term", "commit", "applied", "watermark")
    for name in columns:
        right = name in ("partition", "epoch", "term", "commit", "applied")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    with_hashes = any("hash" in answer.facts for answer in answers)
    if with_hashes:
        table.add_column("hash", no_wrap=True)
    for answer in answers:
        facts = answer.facts
        if not facts:
            table.add_row(answer.process, str(answer.partition), f"[red]{_SILENT}")
            continue
        role = facts["role"]
        cells = [
            answer.process,
            str(answer.partition),
            f"[bold green]{role}" if role == "leader" else role,
            *(str(facts[name]) for name in ("epoch", "term", "commit", "applied")),
            moment(facts["watermark"]),
            f"{facts['watermark_lag_ms']} ms",
        ]
        table.add_row(*cells, *([facts.get("hash", "")[:16]] if with_hashes else []))
    return table


def moment(timestamp: int) -> str:
    """The time of a timestamp, UTC."""
    if not timestamp:
        return "none yet"
    ms = timestamp >> 20
    return time.strftime("%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}"


def show(files: Sequence[str], *, output: str, hashes: bool, watch: bool) -> int:
    """Print it, once or until interrupted; the exit status."""
    config = load(files)
    if watch:
        _watch(config, hashes=hashes)
        return 0
    answers = ask_all(config, hashes=hashes)
    if output == "json":
        click.echo(as_json(answers))
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=160)
        console.print(as_table(answers))
        for problem in problems(answers):
            click.echo(problem)
    return 1 if problems(answers) else 0


def _watch(config: ClusterConfig, *, hashes: bool) -> None:
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(as_table(ask_all(config, hashes=hashes)), refresh=True)
            time.sleep(_LOOK_SECONDS)
