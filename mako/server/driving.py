"""Workloads that a client has the leader's workers run: `db.drive` of a remote database.

The workloads are those of the modules that are deployed. A drive belongs to the connection that
started it and to the leadership in which it did; whichever ends first ends the drive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mako.errors import ConfigError
from mako.ids import Status
from mako.procedure import Workload
from mako.server.drive import Drive, KindSample, Sample
from mako.server.sessions import Refused

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.engine.pumped import Pumped
    from mako.engine.station import Conflicts
    from mako.server.serving import Crew, Serving

#: Drives of a process at a time: each worker of one keeps a core busy.
DRIVES_MAX: Final = 4


def deployed_workloads(modules: Iterable[str]) -> dict[str, Workload]:
    """The workloads of `modules` by name. ConfigError if two have the same one."""
    found: dict[str, Workload] = {}
    for name in modules:
        for value in vars(import_module(name)).values():
            if isinstance(value, Workload) and found.setdefault(value.name, value) is not value:
                raise ConfigError(f"procedures: workload {value.name!r} is there twice; rename one")
    return found


class Seats:
    """The places that driven workers have among those that may ask at other partitions."""

    def __init__(self, pumped: Pumped, serving: Serving, workers: int) -> None:
        """ConfigError if there are not so many.

        A driven worker does what a worker of `serving` does, too: it is awake, and otherwise two
        threads would want one processor.
        """
        self._pumped = pumped
        self._serving = serving
        self._guests: dict[int, int] = {}
        self._seats = pumped.free_seats()[:workers]
        if len(self._seats) < workers:
            raise ConfigError(
                f"{workers} workers, and {len(self._seats)} more may drive a workload over"
                " partitions now; give fewer, or stop another drive"
            )

    def attach(self, engine: Engine, context: int, number: int) -> None:
        from mako.engine.layout import C_GUEST

        self._pumped.attach(context, self._seats[number])
        guest = next((n for n in range(self._pumped.workers) if self._pumped.is_free(n)), None)
        if guest is not None:
            self._guests[context] = guest
            engine.set_word(context + C_GUEST, self._serving.lend(guest))
            self._pumped.lent.add(guest)

    def detach(self, engine: Engine, context: int) -> None:
        from mako.engine.layout import C_GUEST

        self._pumped.detach(context)
        engine.set_word(context + C_GUEST, 0)
        guest = self._guests.pop(context, None)
        if guest is not None:
            self._pumped.lent.discard(guest)
            self._serving.take_back(guest)

    def place_of(self, engine: Engine, number: int) -> int:
        # Leaders of other partitions, on the same machine perhaps, take other processors.
        return self._pumped.station.partition * len(self._seats) + number

    def conflicts_of(self, engine: Engine) -> Conflicts:
        return self._pumped.station.conflicts()


class Preparation(NamedTuple):
    """Two steps to a drive."""

    #: Takes long, in any thread: it has nothing to do with the engine, which may go meanwhile.
    compile: Callable[[], None]
    #: Starts the workers; in the thread of the event loop, where leaderships end, too.
    make: Callable[[], Drive]


class Drives:
    """The drives of one engine."""

    def __init__(
        self,
        crew: Crew,
        workloads: Mapping[str, Workload],
        pumped: Callable[[], Pumped | None] = lambda: None,
        serving: Callable[[], Serving] | None = None,
        guests: int | None = None,
    ) -> None:
        """`pumped()`: the way to other partitions, if there is one; `serving()` has its workers.
        `guests`: contexts for driven workers and sessions together; None: no replica needs any."""
        self._serving = serving
        self._guests = guests
        self._sessions = crew.engine.session_limit
        self._crew = crew
        self._workloads = workloads
        self._pumped = pumped
        self._running: dict[int, Drive] = {}
        self._last = 0

    @property
    def active(self) -> bool:
        return bool(self._running)

    def prepare(self, name: str, states: list[bytes], seed: int, rate: float) -> Preparation:
        """A drive that may start once its workload is compiled. Refused, SchemaError."""
        workload = self._workloads.get(name)
        if workload is None:
            known = ", ".join(sorted(self._workloads)) or "none"
            raise Refused(
                Status.NO_PROCEDURE,
                f"there is no workload {name!r}; deployed are: {known}",
            )
        self._check_room()
        size = workload.state.size
        if not states or any(len(state) != size for state in states):
            raise Refused(Status.WRONG_ARGUMENTS, f"{name}: a state has {size} bytes")
        rows = [workload.state.unpack(state) for state in states]

        def compile_it() -> None:
            from mako.engine.entries import workload_entries

            workload_entries(workload)

        def make() -> Drive:
            pumped = self._pumped()
            seats = None
            if pumped is not None and self._serving is not None:
                seats = Seats(pumped, self._serving(), len(rows))
            workers = len(rows)
            self._check_contexts(workers)
            return Drive(
                self._crew,
                workload,
                workers=workers,
                states=rows,
                seed=seed,
                rate=rate,
                mesh=seats,
            )

        return Preparation(compile_it, make)

    def start(self, preparation: Preparation) -> int:
        """Start a drive that was prepared; its number. ConfigError, SchemaError, OutOfMemory,
        Refused."""
        self._check_room()  # Others that were prepared meanwhile may have started.
        try:
            drive = preparation.make()
        except (RuntimeError, OSError) as error:  # From the system, which has no thread for it.
            raise Refused(
                Status.BUSY, f"the workers of a drive could not be started: {error}"
            ) from None
        self._last += 1
        self._running[self._last] = drive
        self._limit_sessions()
        return self._last

    def _check_room(self) -> None:
        if len(self._running) >= DRIVES_MAX:
            raise Refused(Status.LIMIT, f"{DRIVES_MAX} drives run already; stop one")

    def _check_contexts(self, workers: int) -> None:
        if self._guests is None:
            return
        free = max(self._guests - self._driven - self._crew.engine.sessions, 0)
        if workers > free:
            raise ConfigError(
                f"{workers} workers, and {free} more may drive a workload now; give fewer, or end"
                " other drives, transactions or snapshots"
            )

    @property
    def _driven(self) -> int:
        return sum(drive.workers for drive in self._running.values())

    def _limit_sessions(self) -> None:
        """What drives have taken of their contexts, sessions cannot have."""
        if self._guests is not None:
            left = self._guests - self._driven
            self._crew.engine.session_limit = min(self._sessions, left)

    def find(self, number: object) -> Drive:
        drive = self._running.get(number) if type(number) is int else None
        if drive is None:
            raise Refused(
                Status.NO_SESSION, "the drive has ended, as its leader rests or restarted"
            )
        return drive

    def end(self, number: object) -> Drive | None:
        """Stop a drive, if it is still there."""
        drive = self._running.pop(number, None) if type(number) is int else None
        if drive is not None:
            try:
                drive.stop()
            finally:
                self._limit_sessions()
        return drive

    def pause(self) -> None:
        for drive in self._running.values():
            drive.pause()

    def resume(self) -> None:
        for drive in self._running.values():
            drive.resume()

    def stop(self) -> None:
        """The leadership ends."""
        for number in list(self._running):
            self.end(number)


def sample_of(drive: Drive) -> dict[str, Any]:
    """A sample in plain values. Histograms are sent as the buckets that are not empty.

    It is asked for while the leader is busy: 22,000 numbers one by one would take some ms.
    """
    sample = drive.sparse_sample()
    plain = _fields(sample)
    plain["kinds"] = [_fields(kind) for kind in sample.kinds]
    return plain


def _fields(sample: Sample | KindSample) -> dict[str, Any]:
    return {field.name: getattr(sample, field.name) for field in fields(sample)}
