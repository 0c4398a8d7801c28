"""The numbers that a report wants, out of what a process says at /metrics."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

#: What is told apart: the kind of number, and whose it is.
Counter = tuple[str, str]

CPU: Final = "cpu"
WORKER: Final = "worker"
SENT: Final = "sent"
ABORTED: Final = "aborted"
#: Of ABORTED: attempts over partitions where they began, and the parts of them elsewhere.
OVER: Final = "over"
ELSEWHERE: Final = "elsewhere"
#: What leaders did for transactions over partitions, by what it was.
DISTRIBUTED: Final = "distributed"
#: Versions of a partition that were taken back because of another one: "partition<cause".
CASCADED: Final = "cascaded"

#: Outcomes of attempts that are retried, in the words of the reports.
_RETRIED: Final = {"locked": "lock", "changed": "changed", "phantom": "phantom"}
_LINE: Final = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def counters_of(text: str) -> dict[Counter, float]:
    """The counters in a text of Prometheus' format, which a process wrote."""
    found: dict[Counter, float] = {}
    for name, labels, value in _samples(text):
        counter = _counter(name, labels)
        if counter is not None:
            found[counter] = found.get(counter, 0.0) + value
    return found


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:  # Comments are none.
            yield match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])


def _counter(name: str, labels: Mapping[str, str]) -> Counter | None:
    match name:
        case "mako_process_cpu_seconds_total":
            return CPU, ""
        case "mako_worker_cpu_seconds_total":
            partition, worker = labels["partition"], labels["worker"]
            return WORKER, worker if partition == "0" else f"{partition}/{worker}"
        case "mako_peer_sent_bytes_total":
            return SENT, labels["peer"]
        case "mako_transactions_total" if labels["outcome"] in _RETRIED:
            return ABORTED, _RETRIED[labels["outcome"]]
        case "mako_distributed_conflicts_total" if labels["outcome"] in _RETRIED:
            part = OVER if labels["part"] == "coordinator" else ELSEWHERE
            return part, _RETRIED[labels["outcome"]]
        case "mako_distributed_total":
            return DISTRIBUTED, labels["what"]
        case "mako_discarded_versions_total" if labels["cause"] != labels["partition"]:
            return CASCADED, f"{labels['partition']}<{labels['cause']}"
    return None
