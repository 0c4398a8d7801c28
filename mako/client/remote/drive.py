"""A workload that the leader's workers run, as its client sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from mako.client.remote.calls import Call
from mako.histogram import BUCKETS
from mako.procedure import Workload
from mako.server.drive import KindSample, Sample
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase
    from mako.client.remote.lanes import Lane
    from mako.client.remote.link import Link


class RemoteDrive:
    """See `mako.server.drive.Drive`. It ends with the connection, and when the leader rests."""

    def __init__(
        self,
        db: RemoteDatabase,
        lane: Lane[Link],
        workload: Workload,
        states: Sequence[Mapping[str, Any]],
        seed: int,
        rate: float,
        timeout: float,
    ) -> None:
        self._db = db
        self._lane = lane
        self._row = workload.state
        self._final: Sample | None = None
        packed = [workload.state.pack(state) for state in states]
        given = (workload.name, packed, seed, rate)
        call = db._ask(Operation.DRIVE, *given, lane=lane, timeout=timeout, safe=False)
        self._number = call.value
        self._states: list[dict[str, Any]] | None = None

    def _ask(self, operation: Operation) -> Call:
        return self._db._ask(operation, self._number, lane=self._lane, safe=False)

    def sample(self) -> Sample:
        """Counts and latencies so far."""
        if self._final is not None:
            return self._final
        return sample_of(self._ask(Operation.DRIVE_SAMPLE).value)

    def reset(self) -> None:
        """Forget counts and latencies: the warm-up is over."""
        self._ask(Operation.DRIVE_RESET)

    def stop(self) -> None:
        """Stop the workers and take their last states."""
        if self._final is None:
            call = self._ask(Operation.DRIVE_STOP)
            sample, states = call.value
            self._final = sample_of(sample)
            self._states = [self._row.unpack(state) for state in states]

    def states(self) -> list[dict[str, Any]]:
        """The last state of each worker, once it is stopped."""
        assert self._states is not None, "stop it first"
        return self._states

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def sample_of(plain: dict[str, Any]) -> Sample:
    """The sample that `mako.server.driving.sample_of` made plain."""
    kinds = tuple(
        KindSample(
            kind["name"],
            kind["committed"],
            kind["rolled_back"],
            _histogram(kind["histogram"]),
            _histogram(kind["durable"]) if kind["durable"] else [],
        )
        for kind in plain["kinds"]
    )
    return Sample(**{**plain, "kinds": kinds})


def _histogram(buckets: list[list[int]]) -> list[int]:
    counts = [0] * BUCKETS
    for place, count in buckets:
        counts[place] = count
    return counts
