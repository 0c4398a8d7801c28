"""Are the rows of a process where its configuration looks for them, and its peers as well?

Nothing moves rows that are stored. With another number of partitions, or another rule for a table
that has rows, they would be looked for where they are not, and what is written meanwhile would be
missed later. So the folder of a process notes the number, and the rule of each table once it is
there; a start that finds others is refused. Two processes whose maps differ do not talk.

A rule may be given to a table that is not there yet: in the configurations of all processes, while
none of them runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mako.errors import ConfigError
from mako.placement import Kind, Placement, ShardMap, hash_of
from mako.replication.contract import ProcessMustEnd
from mako.server.folder import FolderState
from mako.storage.errors import DiskFailed, DiskFull

if TYPE_CHECKING:
    from mako.engine.engine import Engine


def rule_of(placement: Placement) -> str:
    """The rule as text: hash, everywhere, or range and its boundaries in hexadecimal digits. One
    partition has only one rule, whatever the configuration says."""
    if placement.partitions == 1 or placement.kind is Kind.HASH:
        return "hash"
    if placement.kind is Kind.EVERYWHERE:
        return "everywhere"
    return "range " + " ".join(f"0x{boundary.hex()}" for boundary in placement.boundaries)


def rules_of(shards: ShardMap) -> dict[str, str]:
    """Table -> its rule, where it is not the one of the others, which has the name ""."""
    default = rule_of(shards.default)
    named = {name: rule_of(placement) for name, placement in shards.tables.items()}
    return {"": default} | {name: rule for name, rule in named.items() if rule != default}


def fingerprint_of(shards: ShardMap) -> int:
    """64 bits that are the same for maps that mean the same; never 0."""
    text = json.dumps([shards.partitions, sorted(rules_of(shards).items())])
    return hash_of(text.encode()) or 1


def check_same(cluster: ShardMap, config: ShardMap) -> None:
    """ConfigError if a configuration is not that of the cluster that was asked."""
    if fingerprint_of(cluster) != fingerprint_of(config):
        raise ConfigError(
            "the cluster that answers looks for keys in other partitions than this configuration"
            " says; give the configuration with which its processes were started"
        )


def check_rules(there: Mapping[str, str], shards: ShardMap) -> None:
    """ConfigError if a backup with the rules `there` cannot be restored with `shards`."""
    here = rules_of(shards)
    if there and there != here:
        names = sorted(
            name for name in there.keys() | here.keys() if there.get(name) != here.get(name)
        )
        raise ConfigError(
            f"`shards` of the configuration is not that of the backup, see {names[0] or 'default'}:"
            f" {there.get(names[0], there[''])} in the backup, {here.get(names[0], here[''])} here;"
            " restore with that of the backup"
        )


class Placed:
    """The rules of the tables of a process, noted in its folder `where` by `write`.

    The tables `unsharded` are each partition's own. ConfigError if rows that are there are not
    where `shards` says.
    """

    def __init__(
        self,
        shards: ShardMap,
        state: FolderState,
        write: Callable[[FolderState], None],
        where: str,
        unsharded: Collection[str] = (),
    ) -> None:
        self._shards = shards
        self._state = state
        self._write = write
        self._unsharded = unsharded
        #: How many tables there were in all replicas when they were last noted.
        self._tables = 0
        self._check(where)

    def _check(self, where: str) -> None:
        there, here = self._state.partitions, self._shards.partitions
        if there not in (0, here):
            raise ConfigError(
                f"{where} is of a cluster of {there} partitions, and the configuration has {here};"
                " their number stays: correct the configuration, or load the data into a new"
                " cluster"
            )
        for name, rule in sorted(self._state.rules.items()):
            now = rule_of(self._shards.of(name))
            if now != rule:
                raise ConfigError(
                    f"table {name} of {where} is placed by {rule}, and by {now} in the"
                    " configuration; the rule of a table stays: correct `shards`, or load the data"
                    " into a new cluster"
                )

    def note(self, engines: Sequence[Engine]) -> None:
        """After a turn: there may be new tables. Their rules are in the folder soon after them, or
        on a full disk once there is room. ProcessMustEnd: it has failed."""
        tables = sum(len(engine.tables) for engine in engines)
        if tables == self._tables:
            return
        names = {handle.table.name for engine in engines for handle in engine.tables.values()}
        new = names - self._state.rules.keys() - set(self._unsharded)
        rules = self._state.rules | {name: rule_of(self._shards.of(name)) for name in new}
        if new:
            try:
                self._write(replace(self._state, rules=rules))
            except DiskFull:
                return
            except DiskFailed as error:
                raise ProcessMustEnd(str(error)) from error
            self._state.rules = rules
        self._tables = tables
