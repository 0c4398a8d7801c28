"""`mako replica`: who has a copy of a partition, and who leads it, changed while it runs."""

from collections.abc import Iterable
from typing import Final

import click

from mako.cli.options import config_files
from mako.errors import ConfigError

_SECONDS: Final = 600.0

_FILES = config_files("The configuration, with what is new.")
_WAIT = click.option(
    "--timeout",
    "seconds",
    default=_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait for one step, such as catching up.",
)
_NAMES = click.argument("names", nargs=-1, required=True, metavar="PROCESS...")
_NAME = click.argument("name", metavar="PROCESS")


@click.group()
def replica() -> None:
    """Add, replace and remove replicas, and hand leaderships over, while all goes on.

    What a command was doing when it was interrupted is done by the same command again.
    """


@replica.command()
@_FILES
@_WAIT
@_NAMES
def add(files: tuple[str, ...], names: tuple[str, ...], seconds: float) -> None:
    """Make the replicas of new processes members.

    The processes are in the configuration, their sites under `joined`, and run already. They vote
    once they have caught up, unless they are learners.
    """
    from mako.cli.membership import Membership
    from mako.config import load

    config = load(files)
    for partition in _partitions(config, names):
        with Membership(config, partition, click.echo, seconds=seconds) as group:
            group.introduce()
            now = group.members()
            sites = [site for site in group.sites if site.process in names]
            voters = now.voters | {site.node for site in sites if not site.is_learner}
            learners = now.learners | {site.node for site in sites if site.is_learner}
            _check_odd(len(voters), "add two at a time")
            group.change(voters, learners - voters)
            _report(partition, group)


@replica.command()
@_FILES
@_WAIT
@_NAMES
def remove(files: tuple[str, ...], names: tuple[str, ...], seconds: float) -> None:
    """Take the replicas of processes out. End the processes afterwards.

    Then write "-" in the place of their sites in the configuration.
    """
    from mako.cli.membership import Membership
    from mako.config import load

    config = load(files)
    for partition in _partitions(config, names):
        with Membership(config, partition, click.echo, seconds=seconds) as group:
            group.introduce()
            now = group.members()
            gone = {site.node for site in group.sites if site.process in names}
            _check_odd(len(now.voters - gone), "remove two at a time, or replace")
            group.change(now.voters - gone, now.learners - gone)
            _report(partition, group)


@replica.command()
@_FILES
@_WAIT
@_NAME
def replace(files: tuple[str, ...], name: str, seconds: float) -> None:
    """Put a new replica in the place of one that is gone for good.

    The configuration gives the site a new id under `node`, and the process, perhaps at another
    address, runs with an empty folder.
    """
    from mako.cli.membership import Membership
    from mako.config import load

    config = load(files)
    for partition in _partitions(config, [name]):
        with Membership(config, partition, click.echo, seconds=seconds) as group:
            group.introduce()
            now = group.members()
            site = group.site_of(name)
            gone = now.all - {each.node for each in group.sites}
            if site.node in now.all and not gone:
                raise ConfigError(
                    f"{group.name(site.node)} is a member already; give site {site.name} an id that"
                    " was never used under `node`"
                )
            new = {site.node}
            voters = (now.voters - gone) | (set() if site.is_learner else new)
            learners = (now.learners - gone) | (new if site.is_learner else set())
            _check_odd(len(voters), "replace one at a time")
            group.change(voters, learners - voters)
            _report(partition, group)


@replica.command()
@_FILES
@click.option("--partition", type=click.IntRange(0), help="Only this one.")
@click.option(
    "--timeout",
    "seconds",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait until it leads.",
)
@_NAME
def lead(files: tuple[str, ...], name: str, partition: int | None, seconds: float) -> None:
    """Hand leaderships to a process. It is preferred from then on, until processes restart."""
    from mako.cli.membership import Membership
    from mako.config import load

    config = load(files)
    wanted = _partitions(config, [name]) if partition is None else [partition]
    for each in wanted:
        with Membership(config, each, click.echo, seconds=seconds) as group:
            group.introduce()
            took = group.hand_over(name)
            click.echo(f"partition {each}: {name} leads, after {took:.2f} s")


def _partitions(config: object, names: Iterable[str]) -> list[int]:
    """Those that have a replica in one of the processes."""
    from mako.config import ClusterConfig

    assert isinstance(config, ClusterConfig)
    sites = [site for name in names for site in config.process(name).sites]
    if not sites:
        raise ConfigError("these processes have no site; add them to site.server and process")
    return sorted({site.partition for site in sites})


def _check_odd(voters: int, instead: str) -> None:
    if voters % 2 == 0:
        raise ConfigError(
            f"there would be {voters} voters, and an even number tolerates no more failures than"
            f" one less; {instead}"
        )


def _report(partition: int, group: object) -> None:
    from mako.cli.membership import Membership

    assert isinstance(group, Membership)
    now = group.members()
    text = f"partition {partition}: voters {group.names(now.voters)}"
    if now.learners:
        text += f"; learners {group.names(now.learners)}"
    click.echo(text)
