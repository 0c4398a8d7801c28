"""A workload that the leader's workers run, as its client sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from mako.client.remote.calls import Call
from mako.errors import Error, Unknown
from mako.histogram import BUCKETS
from mako.procedure import Workload
from mako.server.drive import KindSample, Sample
from mako.wire.requests import Operation

if TYPE_CHECKING:
    from mako.client.remote.database import RemoteDatabase
    from mako.client.remote.lanes import Lane
    from mako.client.remote.link import Link


class RemoteDrive:
    """See `mako.server.drive.Drive`. It ends with the connection that started it, and when the
    leader rests: ConnectionLost then, whatever is asked of it."""

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
        call = self._start((workload.name, packed, seed, rate), timeout)
        self._number = call.value
        # Of the connection that answered: over another one its number is nobody's.
        self._bound = call.connection
        self._states: list[dict[str, Any]] | None = None

    def _start(self, given: Sequence[Any], timeout: float) -> Call:
        db, link = self._db, self._lane.link
        deadline = db._deadline(timeout)
        with link.lock:
            call = self._lane.asking.request(Operation.DRIVE, *given, deadline=deadline, safe=False)
            try:
                db._ended(call, self._lane)
            finally:
                if not call.ended or isinstance(call.error, Unknown):
                    self._give_up(call)
        db._raise(call, self._lane)
        return call

    def _give_up(self, call: Call) -> None:
        """Nobody waits for it any more: it is not to begin when its workload is compiled, and not
        to run until the connection ends. The link's lock is held."""
        link = self._lane.link
        link.core.give_up(call)
        if not link.core.connection:  # Nor is there anything that would run.
            return
        with suppress(Error):
            deadline = self._db._deadline()
            self._lane.asking.request(Operation.CANCEL, call.id, deadline=deadline, safe=False)
            link.send_soon()

    def _ask(self, operation: Operation) -> Call:
        return self._db._ask(operation, self._number, lane=self._lane, bound=self._bound)

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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.stop()
        except Error:
            if kind is None:  # Otherwise the block has told of it, or of something else.
                raise


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
