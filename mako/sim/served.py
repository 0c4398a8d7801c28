"""A simulated process whose one group is served; its workers may stop in the middle of a commit."""

from functools import partial
from typing import TYPE_CHECKING, Final

from mako.engine.stepping import ENDED
from mako.entry import GroupId
from mako.server.deploy import deploy
from mako.server.hosting import Hosted
from mako.sim.clock import MS
from mako.sim.hosting import SOON, HostingProcess
from mako.sim.model import SimMachine
from mako.sim.process import Life
from mako.sim.workers import SimCrew, SimWorker

if TYPE_CHECKING:
    from mako.engine.engine import Engine
    from mako.sim.cluster import Cluster

_MODULES: Final = ("mako.sim.procedures",)


class ServedProcess(HostingProcess):
    """See the module."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        super().__init__(cluster, number)
        # Whether the workers are called soon.
        self._working = False
        self._seen_watermark = 0
        self._crew: SimCrew | None = None

    @property
    def only(self) -> Hosted:
        """Its replica."""
        (hosted,) = self.hosted.values()
        return hosted

    # --- Life ----------------------------------------------------------------------------------

    def _make_machine(self, group: GroupId) -> SimMachine:
        plan = self._server_plan(_MODULES)
        procedures = deploy(_MODULES)

        def make_crew(engine: "Engine") -> SimCrew:
            committed = partial(self._committed, group)
            self._crew = SimCrew(engine, lambda: self.now_ms * MS, committed)
            return self._crew

        return self._host(group, plan, procedures, make_crew, self._between).partition

    def _log(self, event: str, **facts: object) -> None:
        self.cluster.note(self.number, event, "")

    def _end(self) -> None:
        self._working = False
        super()._end()

    def _look_where_shown(self) -> None:
        for hosted in self.hosted.values():
            watermark = hosted.partition.watermark
            if hosted.connections.holds or watermark != self._seen_watermark:
                self._seen_watermark = watermark
                self._look_soon(SOON)

    # --- Workers -------------------------------------------------------------------------------

    def _call_workers(self) -> None:
        crew = self._crew
        if crew is not None and not self._working and any(map(crew.has_work, crew.workers)):
            self._working = True
            self.loop.after(self._some(MS // 5), self._work, self.lives)

    def _work(self, lives: int) -> None:
        if lives != self.lives or self.life is Life.DOWN:
            return
        if self._deferred(self._work, lives):
            return
        self._working = False
        self._step_workers(8)
        self._look_soon(SOON)
        self._call_workers()

    def _between(self) -> None:
        """A turn has closed, and has not taken the log yet: workers go on."""
        if self._chance.random() < self.cluster.plan.clients_plan.between:
            self.cluster.reach("worked_between_closing_and_draining")
            self._step_workers(2)

    def _step_workers(self, most: int) -> None:
        """Workers run some requests, and may stop in the middle of the last one."""
        crew = self._crew
        if crew is None:
            return
        for worker in list(crew.workers):
            for _ in range(self._chance.randint(1, most)):
                if not self._step(crew, worker):
                    break

    def _step(self, crew: SimCrew, worker: SimWorker) -> bool:
        """Whether the worker can go on at once."""
        if crew.go_on(worker):
            return True
        begun = crew.begin(worker)
        if begun > 0 and self._chance.random() < self.cluster.plan.clients_plan.halfway:
            self.cluster.reach("stopped_in_a_commit")
            return False
        crew.go_on(worker)
        return begun > 0 or begun == ENDED
