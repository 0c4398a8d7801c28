"""Workers of a simulated process: contexts whose requests run when the simulation says so.

Each is where one worker thread would be: between two transactions, or in the middle of a commit,
with its locks and its timestamp and nothing in the log yet. Others run meanwhile.
"""

from collections.abc import Callable, Iterable

from mako.engine import layout
from mako.engine.completing import IDLE, STOP
from mako.engine.engine import Engine
from mako.engine.stepping import begin_request, end_request
from mako.ids import Outcome

#: Of what is committed: the timestamp, the number of the call, and its result.
Committed = Callable[[int, int, int], None]


def _nobody_looks(timestamp: int, number: int, result: int) -> None:
    del timestamp, number, result


class SimWorker:
    """One worker of one engine."""

    #: Nobody is ever asleep, so nobody is woken.
    event = -1

    def __init__(self, context: int) -> None:
        self.context = context
        #: Of the commit that it is in the middle of; 0: it is between two transactions.
        self.timestamp = 0
        #: What it has reported up to here was looked at.
        self.seen = 0

    def wake(self) -> None:
        pass


class SimCrew:
    """See mako.server.serving.Crew. `now_ns` is the wall clock of the process; `committed` is
    called for each transaction that is reported as committed."""

    def __init__(
        self, engine: Engine, now_ns: Callable[[], int], committed: Committed = _nobody_looks
    ) -> None:
        self.engine = engine
        self.workers: list[SimWorker] = []
        self._now_ns = now_ns
        self._committed = committed

    def launch(self, context: int, control: int, core: int | None = None) -> SimWorker:
        del control, core
        engine = self.engine
        engine.tick()
        # Whatever would wait inside the kernel gives up instead.
        engine.set_word(context + layout.C_CONTROL, STOP)
        engine.set_word(context + layout.C_STATE, IDLE)
        engine.set_word(context + layout.K_FAILED, int(Outcome.COMMITTED))
        worker = SimWorker(context)
        worker.seen = engine.word(context + layout.K_COMPLETION_HEAD)
        self.workers.append(worker)
        return worker

    def workers_in(self, contexts: Iterable[int]) -> list[SimWorker]:
        wanted = set(contexts)
        return [worker for worker in self.workers if worker.context in wanted]

    def stop(self, workers: Iterable[SimWorker]) -> None:
        """They end what they are in the middle of, as threads do."""
        for worker in list(workers):
            if worker in self.workers:
                self.go_on(worker)
                self.workers.remove(worker)

    def cpu_seconds(self) -> dict[int, float]:
        """They take no time of their own."""
        return {}

    def close(self) -> None:
        self.stop(self.workers)

    def has_work(self, worker: SimWorker) -> bool:
        word = self.engine.word
        context = worker.context
        head, tail = word(context + layout.K_REQUEST_HEAD), word(context + layout.K_REQUEST_TAIL)
        return worker.timestamp != 0 or head != tail

    def go_on(self, worker: SimWorker) -> bool:
        """End the commit that the worker is in the middle of; whether it was."""
        timestamp, worker.timestamp = worker.timestamp, 0
        if timestamp:
            end_request(worker.context, timestamp)
            self._look(worker)
        return timestamp != 0

    def begin(self, worker: SimWorker) -> int:
        """Run the next request up to its commit; what `begin_request` returns."""
        assert worker.timestamp == 0, "it is between two transactions"
        begun: int = begin_request(worker.context, self._now_ns())
        worker.timestamp = max(begun, 0)
        self._look(worker)
        return begun

    def _look(self, worker: SimWorker) -> None:
        """What a worker has reported since."""
        word, context = self.engine.word, worker.context
        ring = word(context + layout.K_COMPLETIONS)
        head = word(context + layout.K_COMPLETION_HEAD)
        while worker.seen < head:
            place = worker.seen % layout.COMPLETION_RING_BYTES
            done = ring + place
            size = word(done + layout.D_SIZE)
            if size == layout.RING_SKIP:
                worker.seen += layout.COMPLETION_RING_BYTES - place
                continue
            assert size > 0, "what lies before the head has been reported"
            worker.seen += size
            if word(done + layout.D_OUTCOME) == Outcome.COMMITTED:
                fields = (layout.D_TIMESTAMP, layout.D_ID, layout.D_RESULT)
                self._committed(*[word(done + field) for field in fields])
