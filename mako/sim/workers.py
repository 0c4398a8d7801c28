"""Workers of a simulated process: contexts whose requests run when the simulation says so.

Each is where one worker thread would be: between two transactions, or in the middle of a commit,
with its locks and its timestamp and nothing in the log yet. Others run meanwhile.
"""

from collections.abc import Callable, Iterable

from mako.engine import layout
from mako.engine.engine import Engine
from mako.engine.stepping import begin_request, end_request
from mako.engine.worker import IDLE, STOP
from mako.ids import Outcome


class SimWorker:
    """One worker of one engine."""

    #: Nobody is ever asleep, so nobody is woken.
    event = -1

    def __init__(self, context: int) -> None:
        self.context = context
        #: Of the commit that it is in the middle of; 0: it is between two transactions.
        self.timestamp = 0

    def wake(self) -> None:
        pass


class SimCrew:
    """See mako.server.serving.Crew. `now_ns` is the wall clock of the process."""

    def __init__(self, engine: Engine, now_ns: Callable[[], int]) -> None:
        self.engine = engine
        self.workers: list[SimWorker] = []
        self._now_ns = now_ns

    def launch(self, context: int, control: int, core: int | None = None) -> SimWorker:
        del control, core
        engine = self.engine
        engine.tick()
        # Whatever would wait inside the kernel gives up instead.
        engine.set_word(context + layout.C_CONTROL, STOP)
        engine.set_word(context + layout.C_STATE, IDLE)
        engine.set_word(context + layout.K_FAILED, int(Outcome.COMMITTED))
        worker = SimWorker(context)
        self.workers.append(worker)
        return worker

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
        return timestamp != 0

    def begin(self, worker: SimWorker) -> int:
        """Run the next request up to its commit; what `begin_request` returns."""
        assert worker.timestamp == 0, "it is between two transactions"
        begun: int = begin_request(worker.context, self._now_ns())
        worker.timestamp = max(begun, 0)
        return begun
