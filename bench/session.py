"""From checked options to an exit status: builds the parts of a run and shows its result.

The first module on the way that may import a benchmark, and with it the engine.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click
from rich.console import Console

from bench import machine
from bench.cluster.watch import ClusterWatch, HttpAddress
from bench.interrupt import sigterm_like_sigint
from bench.options import BenchmarkOptions
from bench.parameters import EXIT_BAD_INPUT, BadInput
from bench.report.model import RunReport, Setting
from bench.report.summary import summary_text
from bench.report.table import closing
from bench.results import ResultsFolder
from bench.runner import Drive, Runner
from bench.view import LiveView, PlainView, View
from bench.workload import Benchmark
from mako.config import ClusterConfig, load

if TYPE_CHECKING:
    import mako

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130

#: Seconds that a call of the load and of the checks may take.
CALL_SECONDS: Final = 60.0

#: Workers that the leader of one of several partitions drives (`mako.server.plan.DRIVERS`).
DRIVERS_MAX: Final = 4

#: Sessions of a database in this process: at least so many, and so many beside one for each worker.
SESSIONS_MIN: Final = 24
SESSIONS_BESIDE: Final = 8

#: Columns of the closing tables in a pipe or a file.
PIPE_COLUMNS: Final = 110


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, checked."""

    name: str
    options: BenchmarkOptions
    workers: int
    seconds: float
    warmup_s: float
    seed: int
    #: Transactions per second of an open loop; 0: closed loop.
    rate: int
    memory_bytes: int
    #: One JSON object on stdout instead of tables.
    json: bool
    folder: Path | None
    check: bool
    command: str
    #: Configurations of a running cluster, in place of a database in this process.
    config: tuple[str, ...] = ()
    #: Terminals that ask the cluster, and the connections they share; 0: its workers drive.
    clients: int = 0
    connections: int = 0


def run(request: Request) -> int:
    """Run it, show the result, and return the exit status."""
    folder = ResultsFolder(request.folder) if request.folder else None
    try:
        with sigterm_like_sigint():
            return _run(request, folder)
    finally:
        if folder:
            folder.close()


def _run(request: Request, folder: ResultsFolder | None) -> int:
    console = Console(stderr=request.json)
    view: View = LiveView(console) if console.is_terminal else PlainView(to_stderr=request.json)
    view.event("start", "loading the engine")
    benchmark = create(request.name, request.options)
    config = load(request.config) if request.config else None
    if config is not None and len(config.partitions) > 1:
        spread(request, benchmark, config)
    with ExitStack() as stack:
        runner = Runner(
            setting_of(request, benchmark, config),
            benchmark,
            view,
            check=request.check,
            on_interval=folder.append if folder else lambda _interval: "",
            start=start_of(request, benchmark, config),
            watch=stack.enter_context(ClusterWatch(shown_by(config))) if config else None,
        )
        report = runner.run(lambda: database_of(request, config))
    try:
        if request.json:
            click.echo(summary_text(report), nl=False)
        else:
            print_closing(report, console)
    finally:  # Neither may cost the other: both disks can be full.
        wrote = _wrote(report, folder, view) if folder else True
    return exit_status(report) or (EXIT_OK if wrote else EXIT_BAD_INPUT)


def _wrote(report: RunReport, folder: ResultsFolder, view: View) -> bool:
    """Whether the folder has the report now; if not, it is said why."""
    try:
        page = folder.finish(report)
    except BadInput as error:
        view.warn(error.message)
        return False
    view.event("report", str(page))
    return True


def spread(request: Request, benchmark: Benchmark, config: ClusterConfig) -> None:
    """Tell a benchmark of several partitions. BadInput and ConfigError: it cannot run on them."""
    from bench.parted import Parts

    if request.workers > DRIVERS_MAX and not request.clients:
        # The servers would say so, too, but after the load.
        raise BadInput(
            f"--workers {request.workers}: a leader of several partitions has room for"
            f" {DRIVERS_MAX} threads of benchmarks; give less"
        )
    benchmark.over(Parts(config.shards))


def create(name: str, options: BenchmarkOptions) -> Benchmark:
    """The benchmark `bench/<name>/benchmark.py` creates from its options."""
    benchmark: Benchmark = import_module(f"bench.{name}.benchmark").create(options)
    return benchmark


def database_of(request: Request, config: ClusterConfig | None) -> "mako.Database":
    """A new database in memory, or the cluster that runs."""
    import mako

    if config is None:
        sessions = max(SESSIONS_MIN, request.workers + SESSIONS_BESIDE)
        return mako.open(":memory:", memory=request.memory_bytes, sessions=sessions)
    remote = mako.connect(addresses_of(config), timeout=CALL_SECONDS, cluster=config.id)
    return cast("mako.Database", remote)  # It has the methods of the embedded one.


def addresses_of(config: ClusterConfig) -> str:
    """Every process, for `mako.connect`."""
    return ",".join(f"{p.host}:{port}" for p in config.processes for port in p.ports)


def shown_by(config: ClusterConfig) -> list[HttpAddress]:
    """Where processes show themselves; without a port one is watched in vain, and reported so."""
    return [
        HttpAddress(process.name, process.host, process.http_port)
        for process in config.processes
        if process.sites
    ]


def start_of(
    request: Request, benchmark: Benchmark, config: ClusterConfig | None
) -> "Callable[[mako.Database], Drive] | None":
    """What starts transactions; None: the workers of one database do."""
    if config is None:
        return None
    if request.clients:
        return terminals_of(request, benchmark, config)
    if len(config.partitions) == 1:
        return None
    from bench.parted import PartedDrive

    def start(db: "mako.Database") -> Drive:
        return PartedDrive(
            cast("mako.RemoteDatabase", db),
            benchmark,
            workers=request.workers,
            seed=request.seed,
            rate=request.rate,
        )

    return start


def terminals_of(
    request: Request, benchmark: Benchmark, config: ClusterConfig
) -> "Callable[[mako.Database], Drive]":
    """What starts terminals instead of workers. ConfigError if the benchmark has none."""
    from bench.terminals import TerminalDrive

    terminals = benchmark.terminals(request.clients, request.seed)
    kinds = benchmark.workload().kinds

    def start(_db: "mako.Database") -> Drive:
        return TerminalDrive(
            addresses_of(config),
            terminals,
            kinds,
            connections=request.connections,
            rate=request.rate,
            cluster=config.id,
        )

    return start


def setting_of(request: Request, benchmark: Benchmark, config: ClusterConfig | None) -> Setting:
    workers, memory = request.workers, request.memory_bytes
    if config is not None:
        memory = config.memory_bytes
        if request.clients:  # The leader's own work for them.
            workers = config.document.workers
    return Setting(
        workload=benchmark.name,
        title=benchmark.title,
        options=benchmark.options(),
        workers=workers,
        seed=request.seed,
        seconds=request.seconds,
        warmup_s=request.warmup_s,
        rate=request.rate,
        memory_limit_bytes=memory,
        command=request.command,
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=machine.version_of("mako-db"),
        machine=machine.describe(),
        clients=request.clients,
        connections=min(request.connections, request.clients),
        cluster=config.document.cluster.name if config else "",
        partitions=len(config.partitions) if config else 1,
    )


def print_closing(report: RunReport, console: Console) -> None:
    """The closing tables, as wide as the terminal, or as `PIPE_COLUMNS` where there is none."""
    if console.is_terminal:
        console.print()
        console.print(closing(report), highlight=False)
        return
    text = StringIO()
    Console(width=PIPE_COLUMNS, file=text).print(closing(report), highlight=False)
    # rich fills its tables with blanks up to the full width.
    click.echo("\n".join(["", *(line.rstrip() for line in text.getvalue().splitlines())]))


def exit_status(report: RunReport) -> int:
    """A failure outranks an interruption."""
    if report.failed:
        return EXIT_FAILED
    return EXIT_INTERRUPTED if report.interrupted else EXIT_OK
