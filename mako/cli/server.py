"""`mako server`: one process of a cluster, until it is told to end."""

import resource
from typing import TYPE_CHECKING, Final

import click

from mako.cli.options import config_files
from mako.errors import ConfigError

if TYPE_CHECKING:
    from mako.config import ClusterConfig

#: Files and connections that a process may have open, where the system lets it.
_DESCRIPTORS: Final = 65_536


@click.command()
@click.option(
    "--process",
    "name",
    required=True,
    metavar="NAME",
    help="Which process of the configuration this is.",
)
@config_files()
@click.option(
    "--shard",
    type=click.IntRange(0),
    help="That with this shard: the process NAME-SHARD, or NAME if it has several.",
)
@click.option("--threads", type=click.IntRange(1, 64), help="Workers for each partition.")
@click.option("--data", metavar="FOLDER", help="Where the process keeps its folder.")
@click.option(
    "--forget-partition",
    "forget",
    type=click.IntRange(0),
    multiple=True,
    metavar="NUMBER",
    help="Delete its replica, which was removed, from the folder; repeat.",
)
@click.option("--check", is_flag=True, help="Check the configuration, say what it means, and end.")
def server(
    name: str,
    files: tuple[str, ...],
    shard: int | None,
    threads: int | None,
    data: str | None,
    forget: tuple[int, ...],
    *,
    check: bool,
) -> None:
    """Run the process NAME: its replicas, their workers, and what clients ask of them.

    SIGTERM hands leaderships over, ends what is under way, and exits with status 0. Status 2:
    something has to be corrected, one line says what. Status 3: the disk failed.
    """
    from mako.config import load
    from mako.server.planning import plan_of

    config = load(files)
    if shard is not None:
        name = config.process_of_shard(name, shard).name
    plan = plan_of(config, name, workers=threads, data=data, forget=forget)
    _check_procedures(config)
    if check:
        addresses = ", ".join(f"{host}:{port}" for host, port in plan.listen)
        click.echo(
            f"process {plan.name}, number {plan.process} of cluster {plan.cluster_id}: listens at"
            f" {addresses}; " + ("log in memory" if plan.folder is None else f"in {plan.folder}")
        )
        for site in config.process(name).sites:
            role = "learner" if site.is_learner else "voter"
            later = "" if site.first_node == site.node else ", once it has joined"
            click.echo(f"partition {site.partition}: node {site.node}, {role}{later}")
        return
    _run(name, plan)


def _check_procedures(config: "ClusterConfig") -> None:
    """Only here: whoever asks a cluster needs its addresses, not its modules."""
    from mako.server.deploy import check_homes, deploy
    from mako.server.driving import deployed_workloads

    try:
        check_homes(deploy(config.document.procedures), config.shards)
        deployed_workloads(config.document.procedures)
    except ConfigError as error:
        raise config.error(("procedures",), str(error).removeprefix("procedures: ")) from None


def _raise_limit() -> None:
    """Connections of clients must not take the last descriptor from the log. Many systems begin
    with 1,024, and let each process have more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _run(name: str, plan: object) -> None:
    from mako.replication.driver import ProcessMustEnd
    from mako.server.events import EventLog
    from mako.server.plan import ServerPlan
    from mako.server.running import run

    assert isinstance(plan, ServerPlan)
    _raise_limit()
    log = EventLog(name)
    try:
        run(plan, log)
    except ProcessMustEnd as error:
        log("must end", reason=error)
        raise SystemExit(3) from None
    except ConfigError as error:
        log("cannot run", reason=error)
        raise
