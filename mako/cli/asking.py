"""What the processes of a cluster say at /trace, asked all at once.

Whoever does not answer within `ASK_SECONDS` leaves a line that says so, and the others count.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final, Generic, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from mako.config import ClusterConfig, Process
from mako.server.trace_schema import ProcessTrace, ProcessWaits, of_json

#: Seconds that a process has to answer.
ASK_SECONDS: Final = 5.0

Shown = TypeVar("Shown", ProcessWaits, ProcessTrace)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Shown]):
    """What one process said, or why it did not."""

    process: str
    shown: Shown | None = None
    error: str = ""


def ask_waits(config: ClusterConfig, limit: int) -> list[Answer[ProcessWaits]]:
    """What waits, of each process that has a replica."""
    return _ask_all(config, f"/trace?limit={limit}", ProcessWaits)


def ask_trace(config: ClusterConfig, timestamp: int, limit: int) -> list[Answer[ProcessTrace]]:
    """What each process knows of a transaction."""
    return _ask_all(config, f"/trace/{timestamp}?limit={limit}", ProcessTrace)


def _ask_all(config: ClusterConfig, path: str, kind: type[Shown]) -> list[Answer[Shown]]:
    asked = [process for process in config.processes if process.sites]
    with ThreadPoolExecutor(max(len(asked), 1)) as pool:
        return list(pool.map(lambda process: _ask(process, path, kind), asked))


def _ask(process: Process, path: str, kind: type[Shown]) -> Answer[Shown]:
    if not process.http_port:
        return Answer(process.name, error="has no HTTP port; give it one in `http`")
    host = f"[{process.host}]" if ":" in process.host else process.host
    address = f"{host}:{process.http_port}"
    try:
        with urlopen(f"http://{address}{path}", timeout=ASK_SECONDS) as answer:
            return Answer(process.name, of_json(kind, json.load(answer)))
    except HTTPError as error:
        with error:
            said = " ".join(error.read(1000).decode(errors="replace").split())
        if error.code == 404:
            said = "is of a version that has no /trace; upgrade it"
        return Answer(process.name, error=f"refuses: {said}" if error.code != 404 else said)
    except URLError as error:
        return Answer(process.name, error=f"does not answer at {address}: {_line(error.reason)}")
    except (OSError, HTTPException) as error:
        return Answer(process.name, error=f"does not answer at {address}: {_line(error)}")
    except ValueError as error:
        return Answer(process.name, error=f"sends what cannot be read: {_line(error)}")


def _line(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def problems_of(
    answers: Iterable[Answer[Shown]], partitions: Iterable[int], led: Iterable[int]
) -> list[str]:
    """What is missing, a sentence each."""
    known = set(led)
    found = [f"{answer.process} {answer.error}" for answer in answers if answer.error]
    return found + [
        f"partition {partition}: no leader answers"
        for partition in partitions
        if partition not in known
    ]
