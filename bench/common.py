"""Options that several benchmarks have, and the checks of them that need the machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import click

from bench import machine
from bench.parameters import SEED_MAX, BadInput, Count, Duration, Folder, Size
from bench.report import numbers
from mako.cli.options import config_files

#: Worker threads when --workers is not given: all cores up to this many, because a first try
#: on a large machine should not fill its memory with one full-size warehouse per core.
WORKERS_DEFAULT_MAX: Final = 4
#: Share of the available memory that a database gets when --memory is not given.
MEMORY_SHARE_DEFAULT: Final = 0.7
MEMORY_BYTES_MIN: Final = 64 << 20
CONNECTIONS_DEFAULT: Final = 2

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Common:
    """Options that every benchmark has, checked."""

    workers: int
    seconds: float
    warmup: float
    seed: int
    rate: int
    memory: int
    output: Literal["table", "json"]
    report: Path | None
    check: bool
    config: tuple[str, ...]
    clients: int = 0
    connections: int = 0


class ClusterSize(NamedTuple):
    """What of the cluster matters to options; of a database in this process it is 1 and 0."""

    partitions: int
    #: Of each leader, for clients.
    workers: int


_COMMON_OPTIONS: Final = (
    config_files(
        "Run on the cluster of this configuration, whose processes are up and have the benchmark"
        " deployed. Workers are threads of the leader, of several partitions of each.",
        required=False,
    ),
    click.option(
        "--workers",
        type=Count(),
        show_default=f"cores, at most {WORKERS_DEFAULT_MAX}; with -f 1",
        help="Worker threads, each on a core of its own.",
    ),
    click.option(
        "--seconds",
        type=Duration(),
        default="10s",
        show_default=True,
        help="How long to measure: 30, 30s, 5m.",
    ),
    click.option(
        "--warmup",
        type=Duration(zero=True),
        default="2s",
        show_default=True,
        help="How long to run before the measurement starts.",
    ),
    click.option(
        "--rate",
        type=Count(least=0),
        default=0,
        show_default="0, closed loop",
        help="Open loop: start this many transactions per second in total, and count the"
        " latency of each from the moment it was due.",
    ),
    click.option(
        "--seed",
        type=Count(least=0, most=SEED_MAX),
        default=1,
        show_default=True,
        help="The same seed and workers give the same input.",
    ),
    click.option(
        "--memory",
        type=Size(least=MEMORY_BYTES_MIN),
        show_default=f"{MEMORY_SHARE_DEFAULT:.0%} of what is available",
        help="Memory for the database: 4GiB, 512MiB. The run ends before it is full. A cluster has"
        " what its configuration says.",
    ),
    click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="json: exactly one JSON object on stdout, all else on stderr.",
    ),
    click.option(
        "--report",
        type=Folder(),
        metavar="DIR",
        help="Write intervals.jsonl, summary.json and report.html to this folder.",
    ),
    click.option(
        "--no-check",
        is_flag=True,
        help="Leave out the consistency conditions (they take seconds on a large database).",
    ),
)


_CLIENT_OPTIONS: Final = (
    click.option(
        "--clients",
        type=Count(),
        metavar="N",
        help="With -f: N terminals at a distance instead of worker threads of the leader. Each"
        " calls one transaction after the other and waits until it is durable. They go on when"
        " another process takes over.",
    ),
    click.option(
        "--connections",
        type=Count(most=64),
        show_default=str(CONNECTIONS_DEFAULT),
        help="Connections that the terminals of --clients share.",
    ),
)


def client_options(command: Command) -> Command:
    """Add the options of a benchmark that terminals can run, in the order of --help."""
    for option in reversed(_CLIENT_OPTIONS):
        command = option(command)
    return command


def common_options(command: Command) -> Command:
    """Add the options of `Common`, in the order in which --help shows them."""
    for option in reversed(_COMMON_OPTIONS):
        command = option(command)
    return command


def common_of(values: dict[str, Any]) -> Common:
    """Take the shared options out of `values` and check what needs the machine."""
    cores = machine.core_count()
    config: tuple[str, ...] = values.pop("files")
    clients, connections = values.pop("clients", None), values.pop("connections", None)
    _check_clients(clients, connections, values["workers"], config)
    workers = values.pop("workers") or (1 if config else min(cores, WORKERS_DEFAULT_MAX))
    if workers > cores and not config:
        raise BadInput(
            f"--workers {workers}: this machine has {cores} core{'' if cores == 1 else 's'} for"
            f" this process, and a worker keeps one busy; give at most {cores}"
        )
    memory = values.pop("memory")
    if memory is not None and config:
        raise BadInput("--memory: a cluster has the `memory` of its configuration; leave it out")
    total = machine.memory_bytes()
    if memory is None:
        memory = int(MEMORY_SHARE_DEFAULT * machine.memory_available_bytes())
        memory = max(MEMORY_BYTES_MIN, memory)
    elif memory > total:
        raise BadInput(
            f"--memory {numbers.size(memory)}: this machine has {numbers.size(total)}; give less"
        )
    return Common(
        workers=workers,
        memory=memory,
        check=not values.pop("no_check"),
        config=config,
        clients=clients or 0,
        connections=(connections or CONNECTIONS_DEFAULT) if clients else 0,
        **{name: values.pop(name) for name in ("seconds", "warmup", "seed", "rate")},
        **{name: values.pop(name) for name in ("output", "report")},
    )


def cluster_of(common: Common) -> ClusterSize:
    """ConfigError if the configuration is wrong."""
    if not common.config:
        return ClusterSize(1, 0)
    from mako.config import load

    config = load(common.config)
    return ClusterSize(len(config.partitions), config.document.workers)


def _check_clients(
    clients: int | None, connections: int | None, workers: int | None, config: tuple[str, ...]
) -> None:
    if clients is None:
        if connections is not None:
            raise BadInput("--connections: only terminals share them; add --clients N")
        return
    if not config:
        raise BadInput(
            f"--clients {clients}: terminals need a cluster that runs; add -f and its configuration"
        )
    if workers is not None:
        raise BadInput(
            "--workers: terminals are served by the cluster's own workers, which `workers` of its"
            " configuration counts; leave out --workers or --clients"
        )
