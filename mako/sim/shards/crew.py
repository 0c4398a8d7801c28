"""Workers of a partition among several: between two requests they take a turn for the others.

    step ──▶ turn: what other partitions sent, lanes that can go on ──▶ the oldest request

Nothing waits: a request for which there is no room stays the oldest one. What other partitions are
told is pumped by whoever called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mako.engine import layout
from mako.engine.closing import close
from mako.engine.mesh import turn
from mako.engine.reclaim import reclaim_some_at_rest
from mako.engine.worker import oldest_request, serve_oldest
from mako.sim.shards.contexts import Contexts
from mako.sim.workers import Committed, SimCrew, SimWorker

if TYPE_CHECKING:
    from mako.engine.engine import Engine

#: Requests that a worker runs in one step, at most.
_REQUESTS_MAX: Final = 4


class ShardCrew(SimCrew):
    """See the module, and mako.server.serving.Crew. `contexts` looks at what has run."""

    def __init__(
        self,
        engine: "Engine",
        now_ns: Callable[[], int],
        committed: Committed,
        contexts: Contexts,
    ) -> None:
        super().__init__(engine, now_ns, committed)
        self._contexts = contexts

    def go_on(self, worker: SimWorker) -> bool:
        """Its transactions are whole: it is never in the middle of one."""
        return False

    def has_requests(self, worker: SimWorker) -> bool:
        return bool(oldest_request(worker.context) != 0)

    def step(self, worker: SimWorker, now: int, requests: int) -> int:
        """A turn, and then up to so many requests, at `now`, monotonic ns; how much was done."""
        engine, context = self.engine, worker.context
        wall = self._now_ns()
        engine.set_word(context + layout.K_OFFSET, wall - now)
        done = 0
        if engine.word(context + layout.C_MESH):
            done += turn(context, now)
        engine.tick(wall // 1_000_000)
        for _ in range(min(requests, _REQUESTS_MAX)):
            if not self.has_requests(worker) or not serve_oldest(context, wall):
                break
            done += 1
            self._contexts.ran(engine, context)
        self._look(worker)
        close(engine.base)
        reclaim_some_at_rest(context)
        return done
