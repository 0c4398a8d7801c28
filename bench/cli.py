"""`mako bench tpcc|tpca|micro run`: options, their checks, and the exit status.

    0    the run ended, and no check and no audit failed
    1    a consistency condition or an audit FAILed, or the engine stopped by itself
    2    bad input: one line on stderr says what is wrong and what to do
    130  interrupted, or ended by SIGTERM; once transactions run, the report of the time until
         then has been written

Everything that can be refused is refused before the database opens. Importing this module
imports neither numba nor a benchmark: `mako bench --help` must be quick.
"""

import shlex
from typing import Any, Final, get_args

import click

from bench.common import Common, client_options, cluster_of, common_of, common_options
from bench.options import (
    BRANCHES_MAX,
    REMOTE_ITEM_PCT,
    REMOTE_PAYMENT_PCT,
    WAREHOUSES_MAX,
    BenchmarkOptions,
    Distribution,
    MicroOptions,
    Profile,
    Scale,
    TpcaOptions,
    TpccOptions,
)
from bench.parameters import (
    BadInput,
    Count,
    Dist,
    Mix,
    OneLineGroup,
)

OPS_MAX: Final = 64


class RunCommand(click.Command):
    """A command that remembers how it was called, for the report."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["bench.command"] = f"{ctx.command_path} {shlex.join(args)}".strip()
        return super().parse_args(ctx, args)


@click.group(cls=OneLineGroup)
def bench() -> None:
    """Measure mako with a standard workload, and check the result.

    Without -f the database lives in memory and ends with the run; the tables of a cluster must
    be empty. So there is only `run`: it loads, checks, measures, checks again and reports. There
    are no separate prepare, check and cleanup.
    """


_EPILOG: Final = (
    "Exit status: 0 no check failed, 1 a check or an audit failed, 2 bad input, 130 interrupted."
)


@bench.group()
def tpcc() -> None:
    """TPC-C-like: the five transactions of an order-entry business."""


@bench.group()
def tpca() -> None:
    """TPC-A-like: deposits and withdrawals at a bank's branches."""


@bench.group()
def micro() -> None:
    """Reads and read-modify-writes of random keys in one large table."""


@tpcc.command(
    "run",
    cls=RunCommand,
    epilog=_EPILOG,
    short_help="Load, run the five transactions, check the conditions, report.",
)
@click.option(
    "--scale",
    type=click.Choice(get_args(Scale)),
    default="spec",
    show_default=True,
    help="Rows of a warehouse. spec: as specified, about 100 MB. Others are not comparable.",
)
@click.option(
    "--warehouses",
    type=Count(most=WAREHOUSES_MAX),
    show_default="one per worker, or as many as the cluster's partitions have blocks for",
    help="Warehouses, shared out evenly among the workers.",
)
@click.option(
    "--warehouses-per-worker",
    type=Count(most=WAREHOUSES_MAX),
    metavar="N",
    help="Instead of --warehouses: so many for each worker of each partition.",
)
@click.option(
    "--remote-item-pct",
    type=Count(least=0, most=100),
    default=REMOTE_ITEM_PCT,
    show_default=True,
    help="Of a hundred order lines, how many are supplied by another warehouse.",
)
@click.option(
    "--remote-payment-pct",
    type=Count(least=0, most=100),
    default=REMOTE_PAYMENT_PCT,
    show_default=True,
    help="Of a hundred payments, how many are for a customer of another warehouse.",
)
@click.option(
    "--mix",
    type=Mix(),
    default="deck",
    show_default=True,
    metavar="N,N,N,N,N",
    help="deck: the cards of clause 5.2.4.2, 10:10:1:1:1, shuffled. Or the weights of new order,"
    " payment, order status, delivery, stock level, such as 45,43,4,4,4.",
)
@client_options
@common_options
def tpcc_run(
    scale: Scale,
    warehouses: int | None,
    warehouses_per_worker: int | None,
    mix: tuple[int, int, int, int, int] | None,
    remote_item_pct: int,
    remote_payment_pct: int,
    **values: Any,
) -> None:
    """Load warehouses, run the five transactions, check the twelve conditions of clause 3.3.2.

    Workers, and the terminals of --clients, run without keying and think times, so the figures say
    how fast the database is, not how many people it serves. tpmC is unaudited, and only --scale
    spec has one.
    """
    common = common_of(values)
    options = TpccOptions(
        workers=common.workers,
        warehouses=_warehouses(warehouses, warehouses_per_worker, common),
        scale=scale,
        mix=mix,
        seed=common.seed,
        remote_item_pct=remote_item_pct,
        remote_payment_pct=remote_payment_pct,
    )
    _run("tpcc", options, common)


def _warehouses(given: int | None, per_worker: int | None, common: Common) -> int:
    """How many; 0: one for each worker, or as the configuration of several partitions says."""
    if given is not None and per_worker is not None:
        raise BadInput(
            "--warehouses-per-worker: --warehouses says how many there are in all; leave out one"
        )
    if per_worker is None:
        return given or (0 if common.config else common.workers)
    cluster = cluster_of(common)
    workers = cluster.workers if common.clients else common.workers
    total = per_worker * workers * cluster.partitions
    if total > WAREHOUSES_MAX:
        raise BadInput(
            f"--warehouses-per-worker {per_worker}: that makes {total} warehouses, and there may be"
            f" {WAREHOUSES_MAX}; give less"
        )
    return total


@tpca.command(
    "run",
    cls=RunCommand,
    epilog=_EPILOG,
    short_help="Load, run debits and credits, check the balances, report.",
)
@click.option(
    "--profile",
    type=click.Choice(get_args(Profile)),
    default="spec",
    show_default=True,
    help="spec: branch, teller, account, history. janus: three increments in three tables.",
)
@click.option(
    "--branches",
    type=Count(most=BRANCHES_MAX),
    show_default="one per worker",
    help="Branches, each with ten tellers (profile spec).",
)
@click.option(
    "--accounts",
    type=Count(most=100_000_000),
    default=100_000,
    show_default=True,
    help="spec: accounts of a branch. janus: rows of each of the three tables.",
)
@click.option(
    "--dist",
    type=Dist(),
    default="uniform",
    show_default=True,
    metavar="uniform|zipf:THETA",
    help="How the janus profile draws keys; the skew THETA is between 0 and 1.",
)
@client_options
@common_options
def tpca_run(
    profile: Profile,
    branches: int | None,
    accounts: int,
    dist: Distribution,
    **values: Any,
) -> None:
    """Load branches, run debits and credits, check that all balances agree."""
    common = common_of(values)
    if profile == "spec" and dist != Distribution():
        raise BadInput(
            f"--dist {dist}: the spec profile draws accounts as specified, 85 % from the teller's"
            " own branch; add --profile janus, or leave out --dist"
        )
    if profile == "janus" and branches is not None:
        raise BadInput(
            "--branches: the janus profile has three tables of equal size; set it with --accounts"
        )
    options = TpcaOptions(
        workers=common.workers,
        profile=profile,
        branches=branches or (common.workers if profile == "spec" else 1),
        accounts=accounts,
        dist=dist,
        seed=common.seed,
    )
    _run("tpca", options, common)


@micro.command(
    "run",
    cls=RunCommand,
    epilog=_EPILOG,
    short_help="Load, read and change random rows, report.",
)
@click.option(
    "--keys",
    type=Count(),
    default=1_000_000,
    show_default=True,
    help="Rows of the table.",
)
@click.option(
    "--read-pct",
    type=Count(least=0, most=100),
    default=50,
    show_default=True,
    help="Of a hundred transactions, how many only read.",
)
@click.option(
    "--ops",
    type=Count(most=OPS_MAX),
    default=4,
    show_default=True,
    help="Keys that one transaction reads, or reads, modifies and writes.",
)
@click.option(
    "--dist",
    type=Dist(),
    default="uniform",
    show_default=True,
    metavar="uniform|zipf:THETA",
    help="How keys are drawn; the skew THETA is between 0 and 1.",
)
@click.option(
    "--cross-shard-pct",
    type=Count(least=0, most=100),
    metavar="N",
    show_default="0",
    help="With -f and several partitions: of a hundred transactions, how many use keys of two.",
)
@client_options
@common_options
def micro_run(
    keys: int,
    read_pct: int,
    ops: int,
    dist: Distribution,
    cross_shard_pct: int | None,
    **values: Any,
) -> None:
    """Load one table and read or change a few random rows of it per transaction."""
    common = common_of(values)
    if ops > keys:
        raise BadInput(
            f"--ops {ops}: a transaction cannot use more than all {keys} keys; give"
            " fewer --ops or more --keys"
        )
    if cross_shard_pct is not None and cluster_of(common).partitions < 2:
        raise BadInput(
            f"--cross-shard-pct {cross_shard_pct}: there is one partition; add -f and the"
            " configuration of a cluster that has several"
        )
    if cross_shard_pct and ops < 2:
        raise BadInput(
            f"--cross-shard-pct {cross_shard_pct}: one key is in one partition; give --ops 2"
        )
    options = MicroOptions(
        workers=common.workers,
        keys=keys,
        read_pct=read_pct,
        ops=ops,
        dist=dist,
        seed=common.seed,
        cross_shard_pct=cross_shard_pct or 0,
    )
    _run("micro", options, common)


@bench.command(
    "engine",
    cls=RunCommand,
    epilog="Exit status: 0 measured, 2 bad input, 130 interrupted.",
    short_help="Measure the parts of the engine: index, log, calls from Python.",
)
@click.option(
    "--keys",
    type=Count(most=100_000_000),
    default=1_000_000,
    show_default=True,
    help="Keys of the index, writes of the log.",
)
@click.option("--large", is_flag=True, help="The index with 10 million keys, too; takes minutes.")
@click.option(
    "--only",
    type=click.Choice(["index", "log", "python"]),
    multiple=True,
    help="Only this part; may be given several times.",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: exactly one JSON object on stdout, all else on stderr.",
)
def engine(keys: int, *, large: bool, only: tuple[str, ...], output: str) -> None:
    """Measure the parts of the engine one by one, in this thread.

    The index is compared with dict and with SortedDict, which hold Python objects and are driven
    from Python: that is what a program would use instead.
    """
    from bench.engine import run

    run.run(
        keys,
        large=large,
        parts=only or run.PARTS,
        as_json=output == "json",
        command=click.get_current_context().meta["bench.command"],
    )


def _run(name: str, options: BenchmarkOptions, common: Common) -> None:
    """Hand over to `bench.session`, which imports the benchmark and the engine."""
    from bench import session

    ctx = click.get_current_context()
    request = session.Request(
        name=name,
        options=options,
        workers=common.workers,
        seconds=common.seconds,
        warmup_s=common.warmup,
        seed=common.seed,
        rate=common.rate,
        memory_bytes=common.memory,
        json=common.output == "json",
        folder=common.report,
        check=common.check,
        command=ctx.meta["bench.command"],
        config=common.config,
        clients=common.clients,
        connections=common.connections,
    )
    ctx.exit(session.run(request))
