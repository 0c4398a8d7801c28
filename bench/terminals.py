"""Terminals at a distance: they ask the leader of a cluster, as its users would.

    draw ─▶ submit ─▶ … early answer: installed ─▶ … last answer: durable ─▶ draw
                           │                            │
                      latency until             latency until durable
                      it was executed

Each terminal waits for its durable answer before it goes on. Many share a few connections, and all
of them one event loop in a thread, so that what a thousand of them cost is their transactions.
To the runner they are a drive like any other; what is particular is how a transaction may end:

    retried      it was asked again, as a server did not lead or had no room; it also ends otherwise
    unknown      the answer was lost with its server: it may have committed or not
    discarded    it was answered early, and a failover undid it before it was durable
    unanswered   it was under way when the run ended

and others by the name of their error. None of these ends the run.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import mako
from bench.sides import SidedSample, by_type, is_cross, sides_of
from bench.workload import Request, Terminal
from mako import histogram

#: Seconds that a transaction may take, and that a run waits for the first connection.
CALL_SECONDS: Final = 60.0
#: Seconds that terminals have at the end to hear their last answers.
STOP_SECONDS: Final = 10.0
#: Seconds between two looks at a leader's memory and watermark.
LOOK_SECONDS: Final = 0.05
#: Seconds that a terminal rests after an error, so that a cluster that is down is asked seldom.
_REST_SECONDS: Final = 0.02

#: What a transaction may end in while the run goes on; anything else is a fault of the set-up.
_ENDINGS: Final = (
    mako.Aborted,
    mako.Busy,
    mako.ConnectionLost,
    mako.Discarded,
    mako.NotLeader,
    mako.Unknown,
    TimeoutError,
)


class _Counts:
    """What has happened since the start, or since the last reset."""

    def __init__(self, kinds: int, since: float) -> None:
        self.since = since
        self.committed = [0] * kinds
        self.rolled_back = [0] * kinds
        self.early = [histogram.empty() for _ in range(kinds)]
        self.durable = [histogram.empty() for _ in range(kinds)]
        self.endings: Counter[str] = Counter()
        #: Of `endings`: those of transactions over partitions.
        self.endings_over: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class _Look:
    """What the leader of a partition said about itself."""

    at: float
    memory: int
    memory_limit: int
    watermark: int
    lag_ms: float


class TerminalDrive:
    """Terminals that work from its making until `stop`. See `mako.Drive`.

    `addresses` as for `mako.connect`, `kinds` those of the workload, `rate` how many
    transactions begin per second in total; 0: each terminal begins when it has its answer.
    Raises the error of the first connection.
    """

    def __init__(
        self,
        addresses: str,
        terminals: Sequence[Terminal],
        kinds: Sequence[str],
        *,
        connections: int,
        rate: float = 0,
        cluster: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = addresses
        self._terminals = terminals
        self._kinds = kinds
        self._connections = min(connections, len(terminals))
        #: Seconds between two transactions of a terminal.
        self._interval = len(terminals) / rate if rate else 0.0
        self._cluster = cluster
        self._clock = clock
        self._counts = _Counts(len(kinds), clock())
        self._final: SidedSample | None = None
        #: By partition.
        self._looks: dict[int, _Look] = {}
        self._stopped = ""
        self._started = threading.Event()
        self._refused: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._life, name="terminals", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._refused is not None:
            self._thread.join()
            raise self._refused

    # --- The runner's side ---------------------------------------------------------------------

    def sample(self) -> SidedSample:
        """Counts and latencies so far; `committed` counts what is durable."""
        if self._final is not None:
            return self._final
        counts, looks = self._counts, list(self._looks.values())
        # In the other order than they are counted: those over partitions are never more than all.
        endings_over, endings = dict(counts.endings_over), dict(counts.endings)
        kinds = tuple(
            mako.KindSample(
                name,
                counts.committed[k],
                counts.rolled_back[k],
                list(counts.early[k]),
                list(counts.durable[k]),
            )
            for k, name in enumerate(self._kinds)
        )
        now = self._clock()  # After counting, or there were more than it had time for.
        return SidedSample(
            seconds=now - counts.since,
            kinds=by_type(kinds),
            aborts={},
            log_bytes=0,
            log_transactions=0,
            memory_bytes=sum(look.memory for look in looks),
            memory_limit=sum(look.memory_limit for look in looks),
            watermark=min(look.watermark for look in looks),
            watermark_lag_ms=max(_lag_ms(look, now) for look in looks),
            stopped=self._stopped,
            endings=endings,
            endings_over=endings_over,
            sides=sides_of(kinds) if any(map(is_cross, self._kinds)) else (),
            fullest=max(look.memory / max(look.memory_limit, 1) for look in looks),
        )

    def reset(self) -> None:
        """Forget counts and latencies: the warm-up is over."""
        self._counts = _Counts(len(self._kinds), self._clock())

    def stop(self) -> None:
        """No new transactions; wait for the answers of those under way, up to a bound."""
        if self._final is None:
            with suppress(RuntimeError):  # The loop has ended by itself.
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._final = self.sample()

    def states(self) -> list[dict[str, Any]]:
        """What each terminal has drawn, as the state of a worker."""
        return [dict(terminal.state()) for terminal in self._terminals]

    # --- The loop's side -----------------------------------------------------------------------

    def _life(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            if self._started.is_set():
                self._fail(error)
            else:
                self._refused = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        async with AsyncExitStack() as stack:
            databases = []
            for _ in range(self._connections):
                made = mako.aconnect(self._addresses, timeout=CALL_SECONDS, cluster=self._cluster)
                databases.append(await stack.enter_async_context(await made))
            for partition in databases[0].partitions:
                await self._look(databases[0], partition)
            self._counts = _Counts(len(self._kinds), self._clock())
            self._started.set()
            looking = [
                asyncio.create_task(self._keep_looking(databases[0], partition))
                for partition in databases[0].partitions
            ]
            first = self._clock()
            tasks = [
                asyncio.create_task(
                    self._work(
                        databases[number % len(databases)],
                        terminal,
                        first + number * self._interval / len(self._terminals),
                    )
                )
                for number, terminal in enumerate(self._terminals)
            ]
            await self._stop.wait()
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in (*looking, *tasks):
                task.cancel()
            await asyncio.gather(*looking, *tasks, return_exceptions=True)

    async def _keep_looking(self, db: mako.AsyncDatabase, partition: int) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look(db, partition)
            except _ENDINGS:
                continue

    async def _look(self, db: mako.AsyncDatabase, partition: int) -> None:
        says = await db.status(partition=partition)
        self._looks[partition] = _Look(
            self._clock(),
            says.get("memory", 0),
            says.get("memory_limit", 0),
            says.get("watermark", 0),
            says.get("watermark_lag_ms", 0),
        )

    async def _work(self, db: mako.AsyncDatabase, terminal: Terminal, due: float) -> None:
        """One transaction after the other."""
        try:
            while not self._stop.is_set():
                if self._interval and not await self._until(due):
                    return
                request = terminal.draw()
                begun = due if self._interval else self._clock()
                await self._one(db, terminal, request, begun)
                due += self._interval
        except Exception as error:
            self._fail(error)
            self._stop.set()

    async def _until(self, due: float) -> bool:
        """Wait until then; False if the run ends first."""
        left = due - self._clock()
        if left <= 0:
            return True
        try:
            async with asyncio.timeout(left):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    async def _one(
        self, db: mako.AsyncDatabase, terminal: Terminal, request: Request, begun: float
    ) -> None:
        submitted = None
        try:
            submitted = await db.submit(request.procedure, *request.arguments)
            await submitted.result()
            self._note(self._counts.early[request.kind], begun)
            result = await submitted.wait_durable()
        except mako.RolledBack:
            # There is one answer, once what it has seen is durable.
            self._note(self._counts.durable[request.kind], begun)
            self._counts.rolled_back[request.kind] += 1
        except _ENDINGS as error:
            self._end(request, ending_of(error))
            await asyncio.sleep(_REST_SECONDS)
        except asyncio.CancelledError:
            self._end(request, "unanswered")
            raise
        else:
            terminal.told(result)
            self._note(self._counts.durable[request.kind], begun)
            self._counts.committed[request.kind] += 1
        finally:
            if submitted is not None and submitted.retries:
                self._end(request, "retried", submitted.retries)

    def _end(self, request: Request, ending: str, times: int = 1) -> None:
        counts = self._counts
        counts.endings[ending] += times
        if is_cross(self._kinds[request.kind]):
            counts.endings_over[ending] += times

    def _note(self, counts: list[int], begun: float) -> None:
        counts[histogram.bucket_of(max(round(1e9 * (self._clock() - begun)), 0))] += 1

    def _fail(self, error: BaseException) -> None:
        text = " ".join(str(error).split()) or type(error).__name__
        self._stopped = self._stopped or text


def _lag_ms(look: _Look, now: float) -> float:
    """How far the watermark is behind: with the clock as long as nobody answers."""
    return look.lag_ms + 1000 * max(now - look.at - 2 * LOOK_SECONDS, 0.0)


def ending_of(error: Exception) -> str:
    """The name of a transaction that did not end well."""
    if isinstance(error, mako.Unknown | mako.Discarded):
        return type(error).__name__.lower()
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__
