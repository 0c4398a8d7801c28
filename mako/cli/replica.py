"""`mako replica`: who has a copy of a partition, and who leads it, changed while it runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from mako.cli.options import Seconds, config_files
from mako.errors import ConfigError

if TYPE_CHECKING:
    from mako.cli.membership import Membership
    from mako.config import Site

_SECONDS: Final = 600.0

_FILES = config_files("The configuration, with what is new.")
_WAIT = click.option(
    "--timeout",
    "seconds",
    type=Seconds(),
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
            now = group.members()
            sites = [site for site in group.sites if site.process in names]
            voters = now.voters | {site.node for site in sites if not site.is_learner}
            learners = now.learners | {site.node for site in sites if site.is_learner}
            _check_odd(len(voters), "add two at a time")
            group.introduce()
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
            now = group.members()
            gone = {site.node for site in group.sites if site.process in names}
            _check_odd(len(now.voters - gone), "remove two at a time, or replace")
            group.introduce()
            group.change(now.voters - gone, now.learners - gone)
            _report(partition, group)


@replica.command()
@_FILES
@_WAIT
@_NAME
def replace(files: tuple[str, ...], name: str, seconds: float) -> None:
    """Put new replicas in the place of those that are gone for good.

    The configuration gives each site a new id under `node`, and the process, perhaps at another
    address, runs; what it does not have yet begins empty. Of its other partitions nothing changes.
    """
    from mako.cli.membership import Membership
    from mako.config import load

    config = load(files)
    partitions = _partitions(config, [name])
    idle = []
    for partition in partitions:
        with Membership(config, partition, click.echo, seconds=seconds) as group:
            site = group.site_of(name)
            if _replace(group, site):
                _report(partition, group)
            else:
                click.echo(f"partition {partition}: {group.name(site.node)} is a member already")
                idle.append(site)
    if len(idle) == len(partitions):
        raise ConfigError(_nothing_to_replace(idle, config.document.node))


@replica.command()
@_FILES
@click.option("--partition", type=click.IntRange(0), help="Only this one.")
@click.option(
    "--timeout",
    "seconds",
    type=Seconds(),
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
            group.site_of(name)  # Where there is none, that is said before others are told.
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


def _replace(group: "Membership", site: "Site") -> bool:
    """Make the node of a site a member instead of who is gone. False: there is nothing to do."""
    now = group.members()
    gone = now.all - {each.node for each in group.sites}
    if site.is_learner:
        gone &= now.learners
    # One that votes has its place, and who is gone is for another site. One that was interrupted
    # may have come as a learner only, or may be in the middle of the change.
    comes = site.node not in now.voters and (site.node not in now.all or bool(gone))
    if not comes and now.settled:
        return False
    voters, learners = now.voters, now.learners
    if comes:
        new = {site.node}
        voters = (voters - gone) | (set() if site.is_learner else new)
        learners = (learners - gone) | (new if site.is_learner else set())
        _check_odd(len(voters), "replace one at a time")
    group.introduce()
    group.change(voters, learners - voters)
    return True


def _nothing_to_replace(sites: "Sequence[Site]", replaced: Mapping[str, int]) -> str:
    names = " or ".join(site.name for site in sites)
    process = sites[0].process
    if any(site.name in replaced for site in sites):
        return (
            f"there is nothing to do for {process}: it was replaced, and is a member; to replace it"
            f" once more, give site {names} another id that was never used under `node`"
        )
    return (
        f"{process} is a member already; give site {names} an id that was never used under `node`"
    )


def _check_odd(voters: int, instead: str) -> None:
    if voters % 2 == 0:
        raise ConfigError(
            f"there would be {voters} voters, and an even number tolerates no more failures than"
            f" one less; {instead}"
        )


def _report(partition: int, group: "Membership") -> None:
    now = group.members()
    text = f"partition {partition}: voters {group.names(now.voters)}"
    if now.learners:
        text += f"; learners {group.names(now.learners)}"
    click.echo(text)
