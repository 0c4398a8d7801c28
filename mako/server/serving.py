"""The workers that run what clients call, and the board that connects the two.

          frames             rings               rings              frames
    client ----> Connection ------> worker ... worker ----> Serving ----> Connection ----> client
                     post_calls                      collect

One thread posts and collects: the one of the event loop. Workers wake it through an eventfd. It
moves whole batches (`mako.engine.serving`) and does nothing per request. Only when the workers
stop, the results that wait for the watermark are taken out one by one, and kept until they are
judged (`mako.server.held`).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from mako.call_format import GATHERED
from mako.engine.layout import (
    PARTITION,
    WATERMARKS,
)
from mako.errors import ConfigError
from mako.ids import TABLE_ID_REQUESTS, TIMESTAMP_MASK, Status
from mako.schema import BytesTable
from mako.server.deploy import Deployed
from mako.server.held import Held, Judged, Result, refused
from mako.server.rings import Rings
from mako.server.unacknowledged import OPERATION_NAMES, Copied
from mako.wire.errors import WireError
from mako.wire.requests import ClientKind, frame, frame_header

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.engine.pumped import Pumped

#: The rows of requests that clients may send again. The name is in the log, like the number.
REQUESTS_TABLE: Final = BytesTable("mako.requests", id=int(TABLE_ID_REQUESTS))
_WORD: Final = struct.Struct("<q")
#: Results that were held in one frame.
RESULTS_BYTES_MAX: Final = 128 << 10
#: Ranges of rows of requests that wait to be deleted.
DEFERRED_MAX: Final = 1024

Sink = Callable[[bytes], None]


def new_event() -> int:
    """An eventfd for `Serving.event`."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


class WorkerThread(Protocol):
    """A thread inside the engine and the eventfd it sleeps on."""

    @property
    def event(self) -> int: ...

    def wake(self) -> None:
        """Have it go on if it sleeps."""
        ...


class Crew(Protocol):
    """Who starts and stops the threads of an engine (`mako.server.workers.Crew`)."""

    @property
    def engine(self) -> Engine: ...
    def launch(self, context: int, control: int, core: int | None = None) -> Any: ...
    def workers_in(self, contexts: Iterable[int]) -> list[Any]: ...
    def stop(self, workers: Any) -> None: ...
    def cpu_seconds(self) -> dict[int, float]: ...
    def close(self) -> None: ...


class Serving:
    """Workers that serve, and the connections that they serve. For one thread."""

    def __init__(
        self,
        crew: Crew,
        procedures: Mapping[str, Deployed],
        *,
        workers: int = 1,
        limit: Callable[[], int] = lambda: TIMESTAMP_MASK,
        gate: Callable[[], int] | None = None,
        stalled: Callable[[], int] = lambda: 0,
        event: int | None = None,
    ) -> None:
        """`workers` 0: `start` is called later. `event`: an eventfd that outlives this object.

        `limit()` is the greatest timestamp whose time has come for sure: the present less the
        most that clocks may differ (DESIGN §6). The watermark is looked up beside it. Below
        `gate()`, in addition, everything is durable in all partitions: results that are held wait
        for it, as their masks are of an epoch that is over. `stalled()` is the mask of the
        partitions that stand still: what depends on them holds nobody else up.
        """
        from mako.engine import serving
        from mako.engine.region import Region

        if not 0 <= workers <= serving.WORKERS_MAX:
            raise ConfigError(f"{workers} workers; give 1 to {serving.WORKERS_MAX}")
        if len(procedures) > serving.PROCEDURES_MAX:
            raise ConfigError(f"more than {serving.PROCEDURES_MAX} procedures; deploy fewer")
        self.engine = crew.engine
        self.limit = limit
        self.gate = gate
        self._stalled = stalled
        self._crew = crew
        self._procedures = procedures
        self._calls = serving
        self._board = Region(serving.BOARD_BYTES)
        self._sinks: dict[int, Sink] = {}
        self._leaving: set[int] = set()
        self._free = list(range(serving.CONNECTIONS_MAX - 1, 0, -1))
        self._workers: list[Rings] = []
        self._deferred: list[tuple[int, int, int]] = []
        self._pumped: Pumped | None = None
        self._held = Held(1 << crew.engine.word(crew.engine.base + PARTITION))
        # Of workers that have stopped.
        self._seen_before = 0
        #: Workers, and whoever moves the watermark, write it when there is something to collect.
        self.event = new_event() if event is None else event
        self._owns_event = event is None
        self.engine.create_table(REQUESTS_TABLE)
        self._fill_board(procedures)
        if workers:
            self.start(workers)

    def _fill_board(self, procedures: Mapping[str, Deployed]) -> None:
        from mako.engine import builtin, gathered

        s = self._calls
        self._set(s.B_ENGINE, self.engine.base)
        for operation, entry in builtin.OPERATIONS.items():
            self._set(s.B_OPERATIONS + 8 * operation, builtin.address_of(entry))
        commit = builtin.address_of(gathered.gathered)
        self._set(s.B_OPERATIONS + 8 * GATHERED, commit)
        self._set(s.B_ONCE, builtin.address_of(builtin.once))
        self._forget = builtin.address_of(builtin.forget)
        for number, procedure, at_snapshot in procedures.values():
            place = s.B_PROCEDURE_LIST + number * s.PROCEDURE_BYTES
            if at_snapshot:
                self._set(place + 8, -1)  # No call has so many arguments.
                continue
            self._set(place, self.engine.entry(procedure).address)
            self._set(place + 8, len(procedure.parameters))
        self._set(s.B_PROCEDURES, len(procedures))

    # --- workers ------------------------------------------------------------------------

    def start(self, workers: int, pumped: Pumped | None = None) -> None:
        """Have `workers` workers, when there are none; with `pumped` their transactions may go
        over partitions."""
        assert not self._workers, "they are stopped first"
        self._pumped = pumped
        try:
            for number in range(workers):
                worker = Rings(self._crew, self.event, number, pumped)
                self._workers.append(worker)
                self._set(self._calls.B_WORKER_LIST + 8 * number, worker.context)
        except BaseException:
            self.stop(Status.BUSY)
            raise
        self._set(self._calls.B_WORKERS, len(self._workers))
        self._set(self._calls.B_TURN, 0)

    def stop(self, status: Status) -> None:
        """Stop the workers. What they did not get to is answered with `status`.

        What they completed and the watermark has passed is handed out; the rest is held until
        `judge` is called.
        """
        self._crew.stop([worker.thread for worker in self._workers])
        if self._pumped is not None:
            results = [refused(each, status) for each in self._pumped.station.abandon()]
            self._send([each for each in results if each.connection in self._sinks])
            for result in results:
                if result.connection not in self._sinks:
                    self._landed(result.connection, 1)
        for number, worker in enumerate(self._workers):
            self._exhaust(self._calls.collect, number, self.limit(), 0)
            self._exhaust(self._calls.give_up_requests, number, int(status))
            self._hold(worker.completed())
        self._held.reopen()
        self._set(self._calls.B_WORKERS, 0)
        self._seen_before = self.seen
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.give_back(self._pumped)
        self._pumped = None

    def pause(self) -> None:
        """Stop the workers for a while: their requests and results stay where they are."""
        self._crew.stop([worker.thread for worker in self._workers])

    def resume(self) -> None:
        for worker in self._workers:
            worker.go_on()

    def lend(self, number: int) -> int:
        """Have somebody else do what a worker does, in a thread that exists anyway; its context."""
        return self._workers[number].lend()

    def take_back(self, number: int) -> None:
        """Nobody does so any more."""
        if number < len(self._workers):
            self._workers[number].take_back()

    def wake_worker(self, number: int) -> None:
        """Have a worker look for what has come from other partitions. It may have ended."""
        if number < len(self._workers):
            self._workers[number].thread.wake()

    def lost(self, partition: int, final: int, status: Status = Status.DISCARDED) -> int:
        """What depends on a partition above its final watermark is discarded, and so are results
        that say otherwise; how many. No worker runs, and there is none if the status is another."""
        assert status is Status.DISCARDED or not self._workers
        ended = self._held.lost(partition, final, status)
        self._send(ended)
        marked = sum(worker.mark_lost(partition, final) for worker in self._workers)
        return marked + len(ended)

    def set_masks(self, mask: int) -> None:
        """A planted bug: results are said to depend on these partitions only."""
        for worker in self._workers:
            worker.set_masks(mask)

    def _hold(self, results: Iterable[Result]) -> None:
        known: list[Result] = []
        for result in results:
            if not result.packed or result.connection not in self._sinks:
                self._landed(result.connection, 1)  # There is nothing to say, or nobody listens.
            elif result.is_discarded:  # Another partition's failure has judged it.
                known.append(result)
            else:
                self._held.add(result)
        self._send(known)

    @property
    def holds(self) -> bool:
        """Whether there are results that wait for `judge`."""
        return self._held.open

    def judge(self, final: int, lost: Status) -> Judged:
        """The epoch of what is held is over: above `final` it is answered `lost`, at once; at or
        below it is durable, and the result is handed out when physical time has passed it."""
        judged, ended = self._held.judge(final, lost)
        self._send(ended)
        self._send_due()
        return judged

    def _send_due(self) -> None:
        limit = self.limit()
        self._send(self._held.take_due(limit, limit if self.gate is None else self.gate()))

    def _send(self, results: list[Result]) -> None:
        """Hand out results that were held, those of a connection in as few frames as may be."""
        by_connection: dict[int, list[Result]] = {}
        for result in results:
            by_connection.setdefault(result.connection, []).append(result)
        for number, some in by_connection.items():
            self._landed(number, len(some))
            packed: list[bytes] = []
            size = 0
            for result in some:
                if size + len(result.packed) > RESULTS_BYTES_MAX:
                    self._sinks[number](frame(ClientKind.RESULT, b"".join(packed)))
                    packed, size = [], 0
                packed.append(result.packed)
                size += len(result.packed)
            self._sinks[number](frame(ClientKind.RESULT, b"".join(packed)))

    def _landed(self, number: int, count: int) -> None:
        place = self._place(number) + self._calls.N_FLYING
        self._set(place, self._get(place) - count)

    def _exhaust(self, call: Callable[..., int], *arguments: int) -> int:
        """Call until no buffer is full on the way."""
        while (left := call(self._board.base, *arguments)) < 0:
            self._flush()
        self._flush()
        return left

    @property
    def watermark(self) -> int:
        """The own watermark: what is at or below it is durable."""
        return int(self._calls.own_watermark(self.engine.base))

    # --- connections --------------------------------------------------------------------

    def open(self, sink: Sink) -> int | None:
        """A number for a connection whose frames go to `sink`; None if there are too many."""
        if not self._free:
            return None
        number = self._free.pop()
        s = self._calls
        place = self._place(number)
        self._set(place + s.N_USED, 0)
        self._set(place + s.N_FLYING, 0)
        buffer = self._board.base + s.B_BUFFERS + number * s.BUFFER_BYTES
        self._set(place + s.N_BUFFER, buffer)
        self._sinks[number] = sink
        return number

    def leave(self, number: int) -> None:
        """Nobody listens at a connection any more. What it asked for goes on."""
        del self._sinks[number]
        self._set(self._place(number) + self._calls.N_BUFFER, 0)
        self._leaving.add(number)
        self._landed(number, self._held.drop(number))
        self._reuse()

    def flying(self, number: int) -> int:
        """Calls of a connection that are not answered yet."""
        return self._get(self._place(number) + self._calls.N_FLYING)

    def _reuse(self) -> None:
        for number in [number for number in self._leaving if self.flying(number) == 0]:
            self._leaving.remove(number)
            self._free.append(number)

    # --- calls --------------------------------------------------------------------------

    def post(self, number: int, client: int, calls: memoryview, status: int = 0) -> int:
        """Give packed calls to workers, or refuse them all with `status`; bytes taken.

        Fewer than all: there is no room; try again after the next `collect`. WireError if
        they are malformed: the connection is to be closed.
        """
        from mako.engine.buffers import addressed

        signed = client - (1 << 64) if client >> 63 else client
        begun = 0
        with addressed(calls) as (address, size):
            while begun < size:
                taken, wake = self._calls.post_calls(
                    self._board.base, number, signed, address + begun, size - begun, status
                )
                while wake:
                    lowest = wake & -wake
                    os.eventfd_write(self._workers[lowest.bit_length() - 1].thread.event, 1)
                    wake ^= lowest
                full = self._get(self._calls.B_DIRTY) > 0
                self._flush()
                if taken < 0:
                    at = begun - 1 - taken
                    raise WireError(f"a call is malformed at byte {at} of a batch", at)
                begun += taken
                if not full:  # It was something else that stopped it.
                    break
        return begun

    def forget(self, client: int, first: int, end: int) -> None:
        """Delete the rows of the requests of `client` from `first` to before `end`, some time; if
        too many wait for that they stay until they are swept (`mako.server.sweeping`)."""
        if len(self._deferred) >= DEFERRED_MAX:
            return
        signed = client - (1 << 64) if client >> 63 else client
        self._deferred.append((signed, first, end))
        self._forget_some()

    def _forget_some(self) -> None:
        while self._deferred and self._workers:
            words = struct.pack("<3q", *self._deferred[0])
            if not self._workers[0].post(self._forget, words):
                return
            self._set(self._place(0) + self._calls.N_FLYING, self.flying(0) + 1)
            self._deferred.pop(0)

    def collect(self) -> bool:
        """Hand out every result that may be; whether some have to wait for the watermark."""
        waiting = 0
        for number, worker in enumerate(self._workers):
            waits = self._exhaust(self._calls.collect, number, self.limit(), 0)
            if waits and self._set_aside(worker):
                waits = self._exhaust(self._calls.collect, number, self.limit(), 0)
            waiting += waits
        if self._held.aside:
            limit = self.limit()
            passed = self._held.take_aside(lambda at, mask: at <= limit and self._reached(mask, at))
            self._send(passed)
        if self._held.due:
            self._send_due()
        if self._leaving:
            self._reuse()
        if self._deferred:
            self._forget_some()
        return waiting > 0 or self._held.due

    def _set_aside(self, worker: Rings) -> bool:
        """Take results that wait for a partition that stands still out of the way of others;
        whether there were some at the front."""
        stalled = self._stalled()
        if not stalled:
            return False
        found = worker.set_aside(lambda at, mask: self._reached(mask & stalled, at))
        at_once = []
        for result in found:
            if result.connection not in self._sinks:
                continue
            self._landed(result.connection, -1)  # `collect` takes it for answered.
            if result.says_nothing:
                at_once.append(result)
            elif not self._held.set_aside(result):
                at_once.append(result.busy())
        self._send(at_once)
        return bool(found)

    def _reached(self, mask: int, timestamp: int) -> bool:
        """Whether the watermarks of the partitions of a mask have reached a timestamp."""
        engine, watermarks = self.engine, self.engine.base + WATERMARKS
        while mask:
            lowest = mask & -mask
            if engine.word(watermarks + 8 * (lowest.bit_length() - 1)) < timestamp:
                return False
            mask ^= lowest
        return True

    def count_aside(self, partition: int) -> int:
        """Results that wait for a partition which stands still."""
        return self._held.count_aside(partition)

    @property
    def seen(self) -> int:
        """Another number whenever `collect` has found results that it had not found before."""
        return self._seen_before + sum(worker.seen for worker in self._workers)

    def rings(self) -> list[Copied]:
        """Copies of what workers have completed and nobody was told yet."""
        return [worker.copied() for worker in self._workers]

    def those_aside(self) -> list[Result]:
        """Those of the rest that were set aside, as they wait for a partition that stands still."""
        return self._held.those_aside()

    def entry_names(self) -> dict[int, str]:
        """What requests run, by its address: procedures, and operations on a key."""
        s = self._calls
        names = {self._get(s.B_OPERATIONS + 8 * n): name for n, name in OPERATION_NAMES.items()}
        for name, (number, _, at_snapshot) in self._procedures.items():
            if not at_snapshot:
                names[self._get(s.B_PROCEDURE_LIST + number * s.PROCEDURE_BYTES)] = name
        return names

    def listen(self) -> bool:
        """Ask to be woken through the eventfd; False if something has come meanwhile."""
        for worker in self._workers:
            worker.listen()
        return not any(worker.has_news for worker in self._workers)

    def heard(self) -> None:
        """Whoever waited for the eventfd is awake: it can be written anew."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event)

    def wake(self) -> None:
        """Have the collector look: the watermark has moved. Any thread may call it."""
        os.eventfd_write(self.event, 1)

    def _flush(self) -> None:
        """Give what is in the buffers to the connections."""
        s, board = self._calls, self._board
        for i in range(self._get(s.B_DIRTY)):
            number = self._get(s.B_DIRTY_LIST + 8 * i)
            place = self._place(number)
            used = self._get(place + s.N_USED)
            self._set(place + s.N_USED, 0)
            sink = self._sinks.get(number)
            if sink is not None:
                start = s.B_BUFFERS + number * s.BUFFER_BYTES
                header = frame_header(ClientKind.RESULT, used - s.HEADER_ROOM)
                board.view[start : start + s.HEADER_ROOM] = header
                sink(bytes(board.view[start : start + used]))
        self._set(s.B_DIRTY, 0)

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Stop everything; what is not durable is answered UNKNOWN."""
        if self._workers:
            self.stop(Status.BUSY)
        self.judge(0, Status.UNKNOWN)
        self._board.close()
        if self._owns_event:
            os.close(self.event)

    def _place(self, number: int) -> int:
        return int(self._calls.B_CONNECTIONS + number * self._calls.CONNECTION_BYTES)

    def _get(self, offset: int) -> int:
        value: int = _WORD.unpack_from(self._board.view, offset)[0]
        return value

    def _set(self, offset: int, value: int) -> None:
        _WORD.pack_into(self._board.view, offset, value)
