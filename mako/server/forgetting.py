"""Replicas in a folder that the configuration does not give to its process any more.

Nobody takes snapshots of one, so the log of the process, which is cut from its beginning, could
not be cut any more: it would grow for ever. To remove it takes more than that the configuration
lacks it, as that may be a wrong file, or a mistake, and it may still count for what was
acknowledged. So the process does not start until it is told to forget it.

A replica that was forgotten by mistake may come back: it has lost its votes then, like one whose
disk was lost, and returns like that (R11 of mako.raft.node). That is noted first.
"""

from collections.abc import Callable, Iterable

from mako.entry import GroupId
from mako.errors import ConfigError
from mako.server.folder import FolderState
from mako.server.plan import ServerPlan, group_of, partition_of
from mako.storage.store import LogStore


def forget_strangers(
    plan: ServerPlan,
    state: FolderState,
    store: LogStore,
    save: Callable[[FolderState], None],
    tell: Callable[..., None],
    now_ms: int,
) -> None:
    """Remove what `plan.forget` says from the log, durably; the snapshots go as those are looked
    at which the log knows. ConfigError if there is more than that and the plan."""
    here = {replica.partition for replica in plan.replicas}
    for partition in sorted(plan.forget & here):
        raise ConfigError(
            f"--forget-partition {partition}: the configuration gives {plan.name} a replica of"
            f" partition {partition}; take its site out of the configuration, or the option away"
        )
    strangers = {partition_of(GroupId(group)) for group in store.groups()} - here
    _check(plan, sorted(strangers - plan.forget))
    for partition in sorted(plan.forget - strangers):
        tell("has nothing to forget", partition=partition)
    if not strangers:
        return
    for partition in strangers:
        key = str(group_of(partition))
        state.nodes.pop(key, None)
        if key not in state.returning:
            state.returning.append(key)
    save(state)
    for partition in sorted(strangers):
        tell("forgets a replica: its log and its snapshots are removed", partition=partition)
        store.remove_group(group_of(partition))
    store.seal()
    store.write(now_ms)
    store.sync()


def _check(plan: ServerPlan, strangers: Iterable[int]) -> None:
    for partition in strangers:
        raise ConfigError(
            f"{plan.folder} has a replica of partition {partition}, and the configuration gives"
            f" {plan.name} none; correct the configuration, or, if the replica is no member any"
            f" more (mako replica replace, remove), start once with --forget-partition {partition},"
            " which deletes it"
        )
