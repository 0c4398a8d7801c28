"""A snapshot of several partitions at one timestamp.

    SNAPSHOT at each ──▶ their timestamps ──▶ T, the highest ──▶ MOVE_SNAPSHOT to T of the others

A timestamp that snapshots read at is stable: up to it everything is durable in all partitions, and
no failover undoes it. So what is stable at one replica is stable at all of them, only later, and
those that are behind T need not be asked again: they answer when they have come to it. Until then
they keep what they are pinned at, which lies below T, so nothing is missing at T either.

    S1  All that is read is read at T: nobody reads before all are there.
    S2  A session that is lost before that is opened again, and then T may be later.
    S3  Whatever was opened is closed if the whole cannot be; what answers later, too.

Where it is of some partitions only, each is told of which: another one that stalls then holds none
of them back, and what waits for that one is Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from mako.client.remote.asking import Asking, Known
from mako.client.remote.calls import Call, State
from mako.client.remote.lanes import Lane, Lanes
from mako.errors import (
    ConnectionLost,
    Error,
    SchemaError,
    TooStale,
    TransactionTooOld,
    Unknown,
)
from mako.placement import EVERYWHERE
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.async_database import AsyncDatabase
    from mako.client.remote.async_link import AsyncLink
    from mako.client.remote.database import RemoteDatabase
    from mako.client.remote.link import Link


PartT = TypeVar("PartT")


class Step(NamedTuple):
    """What a partition is asked for next; `bound`: the connection that it belongs to, or 0."""

    partition: int
    operation: Operation
    arguments: tuple[int, ...]
    bound: int = 0


class Opened(NamedTuple):
    """A session at a partition: its number and connection, what it reads at, and how many
    milliseconds old that was there."""

    number: int
    connection: int
    timestamp: int
    age: int


class Parts(dict[int, PartT]):
    """The sessions of a snapshot, by their partitions."""

    def __missing__(self, partition: int) -> PartT:
        raise SchemaError(
            f"the snapshot is not of partition {partition}; name it in `partitions` as it is opened"
        )


class Moment:
    """What is opened at which partition. Whoever opens it does `steps` until there are none, all of
    them at a time, and gives each answer to `take`; then it calls `finish`."""

    def __init__(
        self,
        partitions: Iterable[int],
        max_staleness: float | None,
        least: int = 0,
        total: int = 0,
    ) -> None:
        """`least`: T is not below it. Acknowledged is what a transaction depends on, and snapshots
        read what is durable in all partitions; so without it a client could miss its own writes.
        `total`: how many partitions the cluster has."""
        self._least: Final = least
        self._partitions: Final = tuple(dict.fromkeys(partitions))
        oldest = -1 if max_staleness is None else int(1000 * max_staleness)
        over = sum(1 << each for each in self._partitions)
        self._oldest: Final = oldest
        self._wanted: Final = (oldest, over) if len(self._partitions) < total else (oldest,)
        self.opened: dict[int, Opened] = {}

    @property
    def timestamp(self) -> int:
        """T; 0 if there is nothing to read."""
        if not self.opened:
            return 0
        return max(self._least, *(each.timestamp for each in self.opened.values()))

    @property
    def staleness(self) -> float:
        """Seconds that it was old, at the partition where it was the oldest."""
        return max((each.age for each in self.opened.values()), default=0) / 1000

    def steps(self) -> list[Step]:
        """What to ask for now; nothing: it is open."""
        missing = [each for each in self._partitions if each not in self.opened]
        if missing:
            return [Step(each, Operation.SNAPSHOT, self._wanted) for each in missing]
        highest = self.timestamp
        return [
            Step(partition, Operation.MOVE_SNAPSHOT, (each.number, highest), each.connection)
            for partition, each in self.opened.items()
            if each.timestamp < highest
        ]

    def take(self, step: Step, call: Call, trouble: str = "") -> None:
        """A step has ended; `trouble` is why its connection was lost. Raises its error, if there is
        nothing more to be done about it."""
        partition = step.partition
        if call.error is not None:
            self.failed(step, call.error, trouble)
        elif step.operation is Operation.SNAPSHOT:
            number, age = call.value
            self.opened[partition] = Opened(number, call.connection, call.timestamp, age)
        else:
            moved = self.opened[partition]._replace(timestamp=call.timestamp, age=int(call.value))
            self.opened[partition] = moved

    def failed(self, step: Step, error: Exception, trouble: str = "") -> None:
        """A step has failed. Raises the error, unless another session does as well (S2)."""
        partition = step.partition
        if step.operation is Operation.MOVE_SNAPSHOT:
            if isinstance(error, ConnectionLost | TransactionTooOld):
                del self.opened[partition]
                return
            if isinstance(error, TimeoutError | Unknown):  # It was sent and not answered.
                raise TimeoutError(
                    f"partition {partition} has not come to the moment of the others in time; look"
                    " with `mako status` whether it hears of them, and try again"
                ) from None
        told = f" ({trouble})" if trouble and isinstance(error, ConnectionLost) else ""
        if len(self._partitions) > 1:
            raise type(error)(f"partition {partition}: {error}{told}") from None
        if told:
            raise type(error)(f"{error}{told}") from None
        raise error

    def finish(self) -> None:
        """All are there. TooStale if it took so long that the moment is too old."""
        for partition, each in self.opened.items():
            if 0 <= self._oldest < each.age:
                raise TooStale(
                    f"partition {partition} came to the moment of all {each.age} ms after it, and"
                    f" {self._oldest} ms were asked for; try again, or ask the leaders"
                )


def places_of(lanes: Lanes[Any], known: Known, first: Any, end: Any) -> Sequence[int]:
    """The partitions that a scan of a table asks."""
    low, high, last = known.bounds(first, end)
    found = [*lanes.touched(known, low, high)]
    if last and lanes.reaches(known, high):
        found.append(known.placement.partition_of(high))
    return [lanes.of(EVERYWHERE).partition if each == EVERYWHERE else each for each in found]


# --- For threads and for tasks -----------------------------------------------------------------


def open_moment(db: RemoteDatabase, moment: Moment) -> None:
    """Open it. The error of the first partition that cannot, named if there are several."""
    deadline = db._deadline()
    asked: list[tuple[Step, Lane[Link], Call]] = []
    try:
        while steps := moment.steps():
            asked = []
            for step in steps:
                lane = db._lanes.of(step.partition)
                with lane.link.lock:
                    call = _ask(moment, lane.asking, step, deadline)
                    lane.link.send()
                if call is not None:
                    asked.append((step, lane, call))
            for step, lane, call in asked:
                with lane.link.lock:
                    db._ended(call, lane)
                moment.take(step, call, lane.core.trouble)
        moment.finish()
    except BaseException:
        for step, lane, call in asked:
            with lane.link.lock:
                _abandon(moment, lane, step, call)
        for lane in (db._lanes.of(partition) for partition in moment.opened):
            with lane.link.lock:
                _leave(moment, lane, db._deadline())
                lane.link.send()
        raise


async def open_moment_of_task(db: AsyncDatabase, moment: Moment) -> None:
    """The same for tasks."""
    deadline = db._deadline()
    asked: list[tuple[Step, Lane[AsyncLink], Call]] = []
    try:
        while steps := moment.steps():
            asked = []
            for step in steps:
                lane = db._lanes.of(step.partition)
                call = _ask(moment, lane.asking, step, deadline)
                if call is not None:
                    asked.append((step, lane, call))
            for _, lane, _ in asked:
                await lane.link.send()
            for step, lane, call in asked:
                await lane.link.wait(call, lambda call=call: call.ended)  # type: ignore[misc]
                moment.take(step, call, lane.core.trouble)
        moment.finish()
    except BaseException:
        for step, lane, call in asked:
            _abandon(moment, lane, step, call)
        for lane in [db._lanes.of(partition) for partition in moment.opened]:
            _leave(moment, lane, db._deadline())
            await lane.link.send()
        raise


def _ask(moment: Moment, asking: Asking, step: Step, deadline: float) -> Call | None:
    """The call of a step; None: the connection of its session is gone."""
    try:
        return asking.request(step.operation, *step.arguments, deadline=deadline, bound=step.bound)
    except ConnectionLost as error:
        moment.failed(step, error)
        return None


def _abandon(moment: Moment, lane: Lane[Any], step: Step, call: Call) -> None:
    """Nobody waits for a step any more (S3)."""
    if call.ended:
        if call.error is None and step.operation is Operation.SNAPSHOT:
            moment.take(step, call)  # So it is closed with the others.
        return
    if call.state is State.QUEUED or step.operation is not Operation.SNAPSHOT:
        lane.core.give_up(call)
        return

    def answered() -> None:
        if call.ended and call.error is None:
            _close(lane.asking, call.value[0], call.connection, call.deadline)

    call.on_change = answered


def _leave(moment: Moment, lane: Lane[Any], deadline: float) -> None:
    """Have a session closed without waiting for it."""
    opened = moment.opened[lane.partition]
    _close(lane.asking, opened.number, opened.connection, deadline)


def _close(asking: Asking, number: int, connection: int, deadline: float) -> None:
    with suppress(Error):  # The server finds out by itself.
        asking.request(Operation.CLOSE, number, deadline=deadline, bound=connection)
