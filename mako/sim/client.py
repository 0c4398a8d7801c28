"""A simulated client: the core of the remote client, its connection, and tasks that use it.

A task is a generator. It yields what it waits for, virtual nanoseconds or a call and when that is
enough, and goes on then:

    call = client.asking.procedure("append", ..., deadline=client.deadline)
    yield call, lambda: call.ended
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from mako.client.remote.asking import Asking
from mako.client.remote.calls import Call
from mako.client.remote.core import Core
from mako.client.remote.link import SLEEP_MAX
from mako.sim.clock import MS, SECOND
from mako.sim.plan import CLUSTER_ID
from mako.sim.streams import CLIENTS_FROM, Stream
from mako.wire.errors import WireError

if TYPE_CHECKING:
    from mako.sim.cluster import Cluster

Wait = int | tuple[Call, Callable[[], bool]]
Task = Generator[Wait, None, None]

#: A dial over a cut link is given up after this.
_DIAL: Final = SECOND // 2


class SimClient:
    """See the module. With `stay` it talks to any replica, leader or not. It knows one
    partition."""

    def __init__(self, cluster: "Cluster", number: int, *, stay: bool, partition: int = 0) -> None:
        self.partition = partition
        self.number = CLIENTS_FROM + number
        chance = cluster.chances.of(f"client {number}")
        addresses = [f"p{process.number}:1" for process in cluster.processes]
        chance.shuffle(addresses)
        self.core = Core(
            addresses,
            chance=chance,
            cluster=CLUSTER_ID,
            stay=stay,
            partition=partition,
            silence_max=cluster.plan.clients_plan.silence,
        )
        self.asking = Asking(self.core, once=False)
        self.stays = stay
        self.stream: Stream | None = None
        self._cluster = cluster
        self._loop = cluster.loop
        self._chance = chance
        self._dialling = False
        self._wake_at = 0
        # Since when somebody who waits for an answer has listened; None: nobody does.
        self._listens_since: float | None = None

    @property
    def seconds(self) -> float:
        return self._loop.now / SECOND

    @property
    def process(self) -> int:
        """The process it is connected to; 0: none."""
        return 0 if self.stream is None else self.stream.process

    # --- Tasks ---------------------------------------------------------------------------------

    def run(self, task: Task) -> None:
        """Begin, or go on with, a task."""
        wait = next(task, None)
        if isinstance(wait, int):
            self._loop.after(wait, self.run, task)
        elif wait is not None:
            self._wait(task, *wait)
        self.pump()

    def _wait(self, task: Task, call: Call, over: Callable[[], bool]) -> None:
        def changed() -> None:
            if over():
                call.on_change = None
                self._loop.after(0, self.run, task)

        call.on_change = changed
        changed()

    # --- The connection ------------------------------------------------------------------------

    def pump(self) -> None:
        """Let the core do what it is time for, as `mako.client.remote.link` does."""
        core, now = self.core, self.seconds
        self._note_silence(now)
        core.expire(now)
        if core.leaves(now):
            if core.ready:
                self._cluster.reach("silent_server_left")
            self._close()
            core.left(now)
        address = None if self._dialling else core.dial(now)
        if address is not None:
            self._dial(int(address[1:].partition(":")[0]))
        data = core.take(now)
        if data and self.stream is not None:
            self.stream.to_process.send(data)
        when = core.next_time()
        if self.stream is not None and not core.idle:
            self._listens_since = now
            # As often as a link looks, and often enough to ask before it leaves.
            sleep = min(SLEEP_MAX, self._cluster.plan.clients_plan.silence / 4)
            when = now + sleep if when is None else min(when, now + sleep)
        if when is not None and not self._dialling:
            self._wake(max(round(when * SECOND), self._loop.now) + 1)

    def _note_silence(self, now: float) -> None:
        """Somebody may have listened, in vain: who has heard something says so in `_take`."""
        since, self._listens_since = self._listens_since, None
        if since is not None:
            self.core.quiet(min(now - since, SLEEP_MAX))

    def _wake(self, at: int) -> None:
        if not self._loop.now < self._wake_at <= at:
            self._wake_at = at
            self._loop.at(at, self._woken, at)

    def _woken(self, at: int) -> None:
        if at == self._wake_at:
            self._wake_at = 0
            self.pump()

    def _dial(self, number: int) -> None:
        self._dialling = True
        network = self._cluster.network
        cut = network.is_cut((self.number, number)) or network.is_cut((number, self.number))
        delay = _DIAL if cut else int(self._chance.expovariate(1.0 / MS))
        self._loop.after(delay, self._dialled, number, cut)

    def _dialled(self, number: int, cut: bool) -> None:  # noqa: FBT001
        self._dialling = False
        cluster = self._cluster
        stream = Stream(
            self._loop,
            cluster.network,
            self._chance,
            cluster.plan.clients_plan.stream,
            self.number,
            number,
            self.partition,
        )
        if cut or not cluster.processes[number - 1].accept(stream):
            self.core.lost(self.seconds, "nobody listens")
        else:
            self.stream = stream
            stream.to_client.take = lambda data: self._take(stream, data)
            self.core.connected(self.seconds)
        self.pump()

    def _take(self, stream: Stream, data: bytes) -> None:
        if stream is not self.stream:
            return
        self._listens_since = None
        try:
            if data:
                self.core.feed(data, self.seconds)
            else:
                self.lose("the server closed the connection")
        except WireError as error:
            self.lose(str(error))
        self.pump()

    def lose(self, trouble: str) -> None:
        """The connection is lost."""
        if self.stream is not None:
            self._close()
            self.core.lost(self.seconds, trouble)

    def on_process_end(self, number: int) -> None:
        """The process at the other end died: the client hears of it, soon or late."""
        stream = self.stream
        if stream is not None and stream.process == number:
            late = self._chance.random() < 0.5
            delay = int(self._chance.expovariate(1.0 / (200 * MS if late else MS)))
            self._loop.after(delay, self._heard, stream)

    def _heard(self, stream: Stream) -> None:
        if stream is self.stream:
            self.lose("connection reset")
            self.pump()

    def _close(self) -> None:
        assert self.stream is not None
        self.stream.to_process.close()
        self.stream.to_client.cut()
        self.stream = None
