"""`mako status -f CONFIG`: what every process of a cluster says about its replicas.

Each is asked over the port that clients use; whoever does not answer within `ASK_SECONDS` is a row
that says so. Status 1: a partition has no leader, or two replicas that saw the same differ.

    watermarks ─▶ T, a little above the highest one ─▶ /hash of each replica, at T ─▶ compare

Watermarks move between one replica's answer and the next one's, and hashes at different timestamps
say nothing. So each is asked, over its HTTP port, for the hash at one timestamp that all will pass.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final, NoReturn
from urllib.error import HTTPError
from urllib.request import urlopen

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mako.config import ClusterConfig, Process, load
from mako.errors import Error
from mako.server.status import hash_of_json

#: Seconds that a process has to answer.
ASK_SECONDS: Final = 2.0
#: Seconds that a process has to hash all its rows, and for its watermark to come there.
HASH_SECONDS: Final = 30.0
#: The hashes are those of so many ms above the highest watermark.
HASH_AHEAD_MS: Final = 500
#: Seconds between two looks of --watch.
_LOOK_SECONDS: Final = 1.0
#: Columns of a table in a pipe or a file: enough for all of it.
_PIPE_COLUMNS: Final = 160
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
    wanted = [(process, site.partition) for process in config.processes for site in process.sites]
    with ThreadPoolExecutor(max(len(wanted), 1)) as pool:
        answers = list(pool.map(lambda one: _ask(one[0], one[1], config.id), wanted))
    if hashes:
        _add_hashes(config, answers)
    return answers


def _ask(process: Process, partition: int, cluster: int) -> Answer:
    import mako

    address = f"{process.host}:{process.ports[0]}"
    answer = Answer(process.name, partition, address)
    try:
        with mako.connect(
            address, replica=True, timeout=ASK_SECONDS, cluster=cluster, partition=partition
        ) as db:
            facts = db.status()
    except (Error, TimeoutError, OSError) as error:
        answer.error = " ".join(str(error).split())
        return answer
    if facts["partition"] == partition:
        answer.facts = facts
    return answer


def _add_hashes(config: ClusterConfig, answers: Sequence[Answer]) -> None:
    """Ask all replicas that answered for their hash, those of a partition at one timestamp."""
    alive = [answer for answer in answers if answer.facts]
    at: dict[int, int] = {}
    for answer in alive:
        wanted = answer.facts["watermark"] + (HASH_AHEAD_MS << 20)
        at[answer.partition] = max(at.get(answer.partition, 0), wanted)
    with ThreadPoolExecutor(max(len(alive), 1)) as pool:
        found = pool.map(
            lambda answer: _hash(config.process(answer.process), answer, at[answer.partition]),
            alive,
        )
        for answer, facts in zip(alive, found, strict=True):
            answer.facts.update(facts)


def _hash(process: Process, answer: Answer, timestamp: int) -> dict[str, Any]:
    """`timestamp` and `hash`, or `hash_error`: why there is none."""
    if not process.http_port:
        return {"hash_error": "it has no HTTP port; give it one in `http`"}
    host = f"[{process.host}]" if ":" in process.host else process.host
    query = f"partition={answer.partition}&at={timestamp}"
    try:
        with urlopen(f"http://{host}:{process.http_port}/hash?{query}", timeout=HASH_SECONDS) as r:
            found = hash_of_json(json.load(r))
    except HTTPError as error:
        with error:
            return {"hash_error": " ".join(error.read(1000).decode(errors="replace").split())}
    except (OSError, HTTPException, ValueError) as error:
        return {"hash_error": " ".join(str(error).split())}
    return {"timestamp": found.timestamp, "hash": found.hash}


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
    for name in ("lag", "log", "snapshot"):
        table.add_column(name, justify="right", no_wrap=True)
    with_hashes = any({"hash", "hash_error"} & answer.facts.keys() for answer in answers)
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
            # A process of an older version does not say them.
            *(_size(facts.get(name, 0)) for name in ("log_bytes", "snapshot_bytes")),
        ]
        if with_hashes:
            cells.append(facts["hash"][:16] if "hash" in facts else "[red]none: see -w json")
        table.add_row(*cells)
    return table


def _size(count: int) -> str:
    """Bytes for people; a dash for none."""
    for power, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {name}"
    return f"{count} B" if count else "-"


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
        _watch(config, output=output, hashes=hashes)
        return 0
    answers = ask_all(config, hashes=hashes)
    if output == "json":
        click.echo(as_json(answers))
    else:
        _print(_console(), answers)
    return 1 if problems(answers) else 0


def _console() -> Console:
    """As wide as the terminal; all columns where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)


def _print(console: Console, answers: Sequence[Answer]) -> None:
    console.print(as_table(answers))
    for problem in problems(answers):
        click.echo(problem)


def _watch(config: ClusterConfig, *, output: str, hashes: bool) -> None:
    """A table that changes; in a pipe or a file one after the other. Or a line of JSON each."""
    console = _console()
    if output == "table" and console.is_terminal:
        _watch_live(console, config, hashes=hashes)
    while True:
        answers = ask_all(config, hashes=hashes)
        if output == "json":
            click.echo(as_json(answers))
        else:
            _print(console, answers)
            click.echo()  # Between two tables; with it all of it is flushed.
        time.sleep(_LOOK_SECONDS)


def _watch_live(console: Console, config: ClusterConfig, *, hashes: bool) -> NoReturn:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            answers = ask_all(config, hashes=hashes)
            live.update(Group(as_table(answers), *problems(answers)), refresh=True)
            time.sleep(_LOOK_SECONDS)
