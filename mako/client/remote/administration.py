"""What an operator asks of a cluster; `mako replica` and `mako backup` are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mako.client.remote.database import RemoteDatabase, connect
from mako.placement import ShardMap
from mako.wire.requests import Operation


@dataclass(frozen=True, slots=True)
class Follower:
    """A member as the leader sees it."""

    #: What it has on disk of the leader's log.
    match: int
    answers: bool
    #: It lost its disk and does not count yet.
    returning: bool


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in a group, as the process that was asked knows it."""

    node: int
    leads: bool
    voters: frozenset[int]
    learners: frozenset[int]
    #: Whether no change is under way.
    settled: bool
    commit: int
    #: What a leader knows of the others.
    progress: dict[int, Follower]

    @property
    def all(self) -> frozenset[int]:
        return self.voters | self.learners


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot that a replica has: where its log goes on, and what the file must come to."""

    index: int
    term: int
    size: int
    digest: bytes


class Administrator:
    """A partition, to its operator. The errors are those of any other request."""

    def __init__(self, db: RemoteDatabase) -> None:
        self.db = db

    @classmethod
    def connect(
        cls,
        addresses: str,
        *,
        cluster: int,
        partition: int,
        timeout: float,
        replica: bool = False,
    ) -> Self:
        """To whoever leads a partition; with `replica` to the process that answers first."""
        return cls(
            connect(
                addresses, timeout=timeout, replica=replica, cluster=cluster, partition=partition
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    @property
    def shards(self) -> ShardMap:
        """Where the cluster looks for keys."""
        return self.db._lanes.shards

    def tables(self) -> list[str]:
        """The names of the tables that are there, whoever leads."""
        return [about[3] for about in self._ask(Operation.DESCRIBE)["tables"]]

    def _ask(self, operation: Operation, *arguments: Any) -> Any:
        return self.db._ask(operation, *arguments).value

    # --- Members -------------------------------------------------------------------------------

    def meet(
        self,
        processes: Iterable[tuple[int, str, str, int]],
        places: Iterable[tuple[int, int, int]],
    ) -> None:
        """Tell a process of others: number, name, host and port, and the nodes that they have."""
        self._ask(Operation.MEET, [*map(list, processes)], [*map(list, places)])

    def members(self) -> Members:
        found = self._ask(Operation.MEMBERS)
        return Members(
            found["node"],
            found["leads"],
            frozenset(found["voters"]),
            frozenset(found["learners"]),
            found["committed"] and not found["outgoing"],
            found["commit"],
            {node: Follower(*facts) for node, *facts in found["progress"]},
        )

    def change_members(self, voters: Iterable[int], learners: Iterable[int]) -> None:
        """Begin to make these the members. Rejected if it would lose the quorum."""
        self._ask(Operation.CHANGE_MEMBERS, sorted(voters), sorted(learners))

    def prefer(self, node: int) -> None:
        """Another node should lead. To be said to every process."""
        self._ask(Operation.PREFER, node)

    def hand_over(self, node: int) -> None:
        """Begin to hand the leadership over."""
        self._ask(Operation.HAND_OVER, node)

    # --- A copy of the data --------------------------------------------------------------------

    def take_snapshot(self) -> int:
        """Have one taken; the index it will have at least."""
        return int(self._ask(Operation.TAKE_SNAPSHOT))

    def newest_snapshot(self) -> SnapshotFile:
        """Index 0: there is none."""
        return SnapshotFile(*self._ask(Operation.NEWEST_SNAPSHOT))

    def read_snapshot(self, file: SnapshotFile, offset: int) -> bytes:
        """The next part. NoSession if a newer one has taken its place."""
        name = [file.index, file.term, file.size, file.digest]
        return bytes(self._ask(Operation.READ_SNAPSHOT, name, offset))

    def read_log(self, after: int) -> Sequence[Sequence[Any]]:
        """Some committed entries behind `after`: term, index, kind, data. None: that is all."""
        found: Sequence[Sequence[Any]] = self._ask(Operation.READ_LOG, after)
        return found
