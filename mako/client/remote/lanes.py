"""The ways to the partitions of a cluster: which one has what, and a core for each.

    key ──placement──▶ partition ──▶ Lane ─┬─ Core: one connection, to whoever leads it
                                           ├─ its socket: Link or AsyncLink
                                           └─ Asking: makes its calls

The first lane is there from the beginning, and its server says how many partitions there are and
where; each other lane is made when it is first needed. A lane that cannot reach its leader holds
up nobody but who asks it.

Where a transaction is, `together` says: in a session of one partition, or over several
(`mako.client.remote.gathered`).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from mako.client.remote.asking import Asking, Known, describe
from mako.client.remote.core import Core
from mako.errors import Closed, Rejected, SchemaError
from mako.forks import LEFT_CONNECTED, leave_in_child
from mako.placement import EVERYWHERE, ShardMap, check_home
from mako.shown import shown
from mako.wire.requests import Operation

LinkT = TypeVar("LinkT")

#: Where tables that are only named get their numbers, which are the same in all partitions.
CATALOG: Final = 0


class Lane(Generic[LinkT]):
    """The way to one partition."""

    __slots__ = ("asking", "core", "link", "partition", "tables")

    def __init__(self, core: Core, link: LinkT, *, once: bool) -> None:
        self.partition: Final = core.partition
        self.core: Final = core
        self.link: Final = link
        self.asking: Final = Asking(core, once=once)
        #: Numbers of the tables that are there for sure.
        self.tables: set[int] = set()

    def has(self, known: Known) -> bool:
        """Whether a server has said that a table is there."""
        about = self.core.about
        found = None if about is None else about.tables.get(known.name)
        return found is not None and found[0] == known.number


class Lanes(Generic[LinkT]):
    """See the module. `only`: one partition, whatever belongs elsewhere is refused."""

    def __init__(
        self,
        addresses: Sequence[str],
        make_link: Callable[[Core], LinkT],
        *,
        stay: bool = False,
        cluster: int = 0,
        once: bool = False,
        only: int | None = None,
    ) -> None:
        self._addresses = list(addresses)
        self._make_link = make_link
        self._once = once
        self.stay: Final = stay
        self._cluster = cluster
        self._only = only
        self._lock = threading.Lock()
        # Why nothing is asked any more; empty: it may be.
        self._refusal = ""
        self._lanes: dict[int, Lane[LinkT]] = {}
        self.first: Final = self._make(CATALOG if only is None else only, None)
        self._lanes[self.first.partition] = self.first
        leave_in_child(self, Lanes._leave)

    def _leave(self) -> None:
        """See `mako.forks`. Each link is left for itself."""
        self._lock = threading.Lock()
        self._refusal = LEFT_CONNECTED

    def _make(self, partition: int, shards: ShardMap | None) -> Lane[LinkT]:
        addresses = self._addresses
        if shards is not None:
            about = self.first.core.about
            assert about is not None, "it says how many there are"
            there = about.places[partition]
            # Who asks a replica near by named it; who asks the leader begins where one can be.
            named = addresses if self.stay else [each for each in addresses if each in there]
            addresses = [*named, *(each for each in there if each not in named)] or addresses
        core = Core(
            addresses,
            chance=random.SystemRandom(),
            stay=self.stay,
            cluster=self._cluster,
            partition=partition,
            shards=shards,
        )
        return Lane(core, self._make_link(core), once=self._once)

    # --- what is there ------------------------------------------------------------------

    @property
    def shards(self) -> ShardMap:
        """The map, once a server has described itself."""
        about = self.first.core.about
        assert about is not None, "whoever asks has waited for it"
        return about.shards

    @property
    def partitions(self) -> Sequence[int]:
        """All partitions, or the only one."""
        return range(self.shards.partitions) if self._only is None else (self._only,)

    @property
    def acknowledged(self) -> int:
        """What a snapshot must not be older than, so that it shows what was acknowledged here. Of a
        cluster of one partition any snapshot does."""
        if self.shards.partitions < 2:
            return 0
        return max((lane.core.acknowledged for lane in self.made), default=0)

    def reaches(self, known: Known, key: bytes) -> bool:
        """Whether a packed key is not of a partition that this database does not talk to."""
        return self._only is None or known.placement.partition_of(key) in (EVERYWHERE, self._only)

    @property
    def is_divided(self) -> bool:
        """Whether there are several."""
        return len(self.partitions) > 1

    @property
    def made(self) -> list[Lane[LinkT]]:
        """Those that are there so far."""
        with self._lock:
            return list(self._lanes.values())

    def closing(self) -> list[Lane[LinkT]]:
        """The same, and there will be no other ones: whoever asks is told that it is closed."""
        self._refusal = self._refusal or "the database is closed; connect again"
        return self.made

    def of(self, partition: int) -> Lane[LinkT]:
        """The way to a partition; EVERYWHERE: to any, one that is well if there is one. Closed if
        the database is."""
        self._check_open()
        if partition == EVERYWHERE:
            return next((lane for lane in self.made if lane.core.ready), self.first)
        lane = self._lanes.get(partition)
        if lane is not None:
            return lane
        if self._only is not None:
            raise Rejected(
                f"it belongs to partition {partition}, and this database was connected to partition"
                f" {self._only} only; leave out partition= of connect"
            )
        with self._lock:
            if partition not in self._lanes:
                self._check_open()
                self._lanes[partition] = self._make(partition, self.shards)
            return self._lanes[partition]

    def _check_open(self) -> None:
        if self._refusal:
            raise Closed(self._refusal)

    def described(self, name: str) -> list[Any] | None:
        """A table by its name, as some server has described it: of several partitions each has the
        same number for it. So partition 0 is only asked for new ones."""
        if self.is_divided:
            for lane in self.made:
                about = lane.core.about
                if about is not None and name in about.tables:
                    return about.tables[name]
        return None

    def preparation(self, known: Known) -> tuple[Any, ...]:
        """What to ask a partition for, so that it has a table."""
        if self.stay:
            return Operation.OPEN_TABLE, known.name
        return Operation.CREATE_TABLE, *describe(known.table)

    def touched(self, known: Known, low: bytes, high: bytes) -> Sequence[int]:
        """The partitions that may have keys of a range; of the only one, what it has."""
        if self._only is not None:
            return (self._only,)
        return known.placement.touched(low, high)

    # --- which one ----------------------------------------------------------------------

    def checked(self, partition: int | None) -> int | None:
        """What a user has given as a partition. SchemaError if there is none of that number."""
        if partition is None:
            return None
        if type(partition) is not int or partition not in self.partitions:
            raise SchemaError(
                f"there is no partition {shown(partition)}; give one from 0 to"
                f" {self.shards.partitions - 1}"
            )
        return partition

    def chosen(self, partitions: Iterable[int] | None) -> Sequence[int]:
        """Those that a user has named, or all. SchemaError if there is one not."""
        if partitions is None:
            return self.partitions
        wanted = list(partitions)
        for each in wanted:
            self.checked(each)
        if not wanted:
            raise SchemaError("a snapshot of no partition has nothing to read; name one")
        return wanted

    def given(self, partition: int | None, what: str) -> int:
        """The same, where one has to be given if there are several."""
        if self.checked(partition) is None and self.is_divided:
            raise SchemaError(
                f"{what}: there are {len(self.partitions)} partitions; give partition="
            )
        return self.first.partition if partition is None else partition

    def of_key(self, known: Known, key: bytes, *, writes: bool) -> Lane[LinkT]:
        """The way to the partition of a packed key."""
        partition = known.placement.partition_of(key)
        if writes and partition == EVERYWHERE:
            raise everywhere(known)
        return self.of(partition)

    def of_writes(self, writes: Iterable[tuple[Known, list[Any]]]) -> tuple[Lane[LinkT], bool]:
        """The way to the partition that commits them, and whether it has all of them."""
        wanted = []
        for known, (_, _, key, _) in writes:
            partition = known.placement.partition_of(key)
            if partition == EVERYWHERE:
                raise everywhere(known)
            wanted.append(partition)
        home, is_one = together(None, wanted)
        for partition in dict.fromkeys(wanted):
            self.of(partition)  # Rejected, if this database is of another one alone.
        return self.first if home is None else self.of(home), is_one

    def of_procedure(
        self, procedure: Any, arguments: Sequence[int], partition: int | None
    ) -> Lane[LinkT]:
        """The way to the partition that runs a procedure: the one that is given, or its home."""
        if self.checked(partition) is not None or not self.is_divided:
            return self.of(self.first.partition if partition is None else partition)
        about = self.first.core.about
        assert about is not None, "whoever asks has waited for it"
        name = procedure if isinstance(procedure, str) else getattr(procedure, "name", "")
        known = about.procedures.get(name)
        home = about.homes.get(name)
        if known is None or len(known[1]) < len(arguments):
            return self.first  # Which says what is wrong.
        if home is None:
            raise SchemaError(
                f"procedure {name}: it does not say which of {len(self.partitions)} partitions runs"
                " it; declare home= with it, or give partition="
            )
        placement = self.shards.of(home.table)
        check_home(home, placement, name)
        if any(field.argument >= len(arguments) for field in home.fields):
            return self.first
        return self.of(placement.partition_of(home.key(arguments)))


def everywhere(known: Known) -> Rejected:
    """The error of a write to a table that all partitions have."""
    return Rejected(
        f"table {known.name} is in every partition, and is only written as a whole: use load()"
    )


def together(home: int | None, wanted: Iterable[int]) -> tuple[int | None, bool]:
    """The home of a transaction that has begun at `home`, or nowhere yet, and now touches the
    partitions `wanted`; and whether all of it is there."""
    is_one = True
    for partition in wanted:
        if partition == EVERYWHERE:
            continue
        if home is None:
            home = partition
        is_one = is_one and partition == home
    return home, is_one
