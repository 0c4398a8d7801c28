"""Are the rows of a process where its configuration looks for them, and its peers as well?

Nothing moves rows that are stored. With another number of partitions, or another rule for a table
that is there, they would be looked for where they are not, and what is written meanwhile would be
missed later. So the folder of a process notes the number, and the rule of each table that an
applied entry describes; a start that finds others is refused. Two processes whose maps differ do
not talk, and a backup has the same notes.

A rule may be given to a table that is not there yet: in the configurations of all processes, while
none of them runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mako.errors import ConfigError
from mako.placement import Kind, Placement, ShardMap, hash_of
from mako.replication.contract import ProcessMustEnd
from mako.server.folder import FolderState
from mako.storage.errors import DiskFailed, DiskFull

if TYPE_CHECKING:
    from mako.replication.partition import Partition

#: New tables are noted this often at most, and a full disk is asked again.
NOTE_SECONDS: Final = 1.0
#: A table that each partition has for itself (mako.server.serving).
OWN: Final = "mako.requests"


def rule_of(placement: Placement) -> str:
    """The rule as text: hash, everywhere, or range and its boundaries in hexadecimal digits. One
    partition has only one rule, whatever the configuration says."""
    if placement.partitions == 1 or placement.kind is Kind.HASH:
        return "hash"
    if placement.kind is Kind.EVERYWHERE:
        return "everywhere"
    return "range " + " ".join(f"0x{boundary.hex()}" for boundary in placement.boundaries)


def fingerprint_of(shards: ShardMap) -> int:
    """64 bits that are the same for maps that mean the same; never 0."""
    default = rule_of(shards.default)
    named = {name: rule_of(placement) for name, placement in shards.tables.items()}
    rules = {"": default} | {name: rule for name, rule in named.items() if rule != default}
    text = json.dumps([shards.partitions, sorted(rules.items())])
    return hash_of(text.encode()) or 1


def placed_by(shards: ShardMap, tables: Iterable[str]) -> dict[str, list[str]]:
    """Rule -> the tables that it places, ascending."""
    placed: dict[str, list[str]] = {}
    for name in sorted(set(tables) - {OWN}):
        placed.setdefault(rule_of(shards.of(name)), []).append(name)
    return placed


def check_placed(
    placed: Mapping[str, Sequence[str]], shards: ShardMap, where: str, remedy: str
) -> None:
    """ConfigError if `shards` looks for rows of the tables elsewhere than where they are placed."""
    for rule, names in placed.items():
        for name in names:
            now = rule_of(shards.of(name))
            if now != rule:
                raise ConfigError(
                    f"table {name} of {where} is placed by {rule}, and by {now} in the"
                    f" configuration; the rule of a table stays: {remedy}"
                )


class Placed:
    """What the folder `where` of a process notes of its tables, by `write`.

    ConfigError if rows that are there are not where `shards` says.
    """

    def __init__(
        self, shards: ShardMap, state: FolderState, write: Callable[[FolderState], None], where: str
    ) -> None:
        self._shards = shards
        self._state = state
        self._write = write
        self._known = {OWN, *(name for names in state.placed.values() for name in names)}
        #: When to look again, by the clock of `note`.
        self._due = 0.0
        self._check(where)

    def _check(self, where: str) -> None:
        there, here = self._state.partitions, self._shards.partitions
        if there not in (0, here):
            raise ConfigError(
                f"{where} is of a cluster of {there} partitions, and the configuration has {here};"
                " their number stays: correct the configuration, or load the data into a new"
                " cluster"
            )
        remedy = "correct `shards`, or load the data into a cluster with new folders"
        check_placed(self._state.placed, self._shards, where, remedy)

    def note(self, partitions: Iterable[Partition], now: float) -> None:
        """After a turn, at `now` seconds: there may be new tables. Their rules are in the folder
        soon after them, or on a full disk once there is room. ProcessMustEnd: it has failed."""
        if now < self._due:
            return
        self._due = now + NOTE_SECONDS
        names = {table.name for partition in partitions for table in partition.described}
        new = names - self._known
        if not new and self._state.partitions:
            return
        placed = {rule: list(known) for rule, known in self._state.placed.items()}
        for rule, tables in placed_by(self._shards, new).items():
            placed[rule] = sorted([*placed.get(rule, []), *tables])
        count = self._shards.partitions
        try:
            self._write(replace(self._state, placed=placed, partitions=count))
        except DiskFull:
            return
        except DiskFailed as error:
            raise ProcessMustEnd(str(error)) from error
        self._state.placed, self._state.partitions = placed, count
        self._known |= new
