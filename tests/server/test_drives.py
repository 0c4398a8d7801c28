"""Drives of a replica: when they start, and what is wrong with them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako.engine.engine import Engine
from mako.engine.station import Conflicts
from mako.ids import Status
from mako.server import driving
from mako.server.asking import Asking, Job
from mako.server.backend import LoneBackend
from mako.server.clients import ClientConnection
from mako.server.drive import Drive
from mako.server.sessions import Refused
from mako.server.workers import Crew, WorkerThread
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import ClientKind, Operation, frame, pack_requests, unpack_replies

COUNTER: Final = mako.Table("counter", id=1, key={"worker": 8}, row={"value": "i8"})
STATE: Final = mako.Row({"worker": "i8"}, name="state")


@mako.function
def draw(random: Any, state: Any) -> int:
    return 0


@mako.function
def count(tx: Any, state: Any) -> None:
    counter = tx.put(COUNTER, (state.worker,))
    counter.value = 1


COUNT: Final = mako.Workload("count", kinds=("count",), state=STATE, generate=draw, execute=count)
STATES: Final = [STATE.pack({"worker": 1})]


class Backend(LoneBackend):
    """A replica that leads as long as the test says so."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew, {}, workloads={COUNT.name: COUNT})
        self.leads = True
        for part in (COUNT.generate, COUNT.execute):
            for table in part.tables():
                self.engine.create_table(table)


@pytest.fixture
def backend() -> Iterator[Backend]:
    engine = Engine(32 << 20, contexts=6)
    crew = Crew(engine, 5.0)
    made = Backend(crew)
    yield made
    made.close()
    crew.close()
    engine.close()


def job_of(asking: Asking, rate: float = 0.0, states: int = 1) -> Job:
    _, job, _ = asking.do(Operation.DRIVE, [COUNT.name, STATES * states, 1, rate], 0.0)
    assert isinstance(job, Job)
    job.run()
    return job


def test_workers_start_when_the_loop_hears_that_the_workload_is_compiled(backend: Backend) -> None:
    asking = Asking(backend)
    job = job_of(asking)
    assert not backend.drives.active, "nothing runs before"
    job.ended()
    assert job.error is None
    assert backend.drives.active
    asking.close()
    assert not backend.drives.active


def test_none_starts_when_the_leadership_has_ended_meanwhile(backend: Backend) -> None:
    job = job_of(Asking(backend))
    backend.leads = False
    backend.drives.stop()  # As a replica does that rests.
    job.ended()
    assert isinstance(job.error, Refused)
    assert job.error.status == Status.NOT_LEADER
    assert not backend.drives.active


def test_none_starts_for_a_connection_that_has_ended_meanwhile(backend: Backend) -> None:
    asking = Asking(backend)
    job = job_of(asking)
    asking.close()
    job.ended()
    assert isinstance(job.error, Refused)
    assert not backend.drives.active


def test_who_has_no_leader_any_more_is_told_where_it_is(backend: Backend) -> None:
    """The text of NOT_LEADER is an address: the client goes there."""
    job = job_of(Asking(backend))
    backend.leads, backend.leader = False, "elsewhere:1"
    job.ended()
    assert str(job.error) == "elsewhere:1"


@pytest.mark.parametrize(
    "operation", [Operation.DRIVE_SAMPLE, Operation.DRIVE_RESET, Operation.DRIVE_STOP]
)
def test_a_drive_is_of_the_connection_that_started_it(
    backend: Backend, operation: Operation
) -> None:
    mine, other = Asking(backend), Asking(backend)
    job = job_of(mine)
    job.ended()
    for number in (job.value, [job.value], None):
        with pytest.raises(Refused) as error:
            other.do(operation, [number], 0.0)
        assert error.value.status == Status.NO_SESSION
    other.close()
    mine.do(operation, [job.value], 0.0)
    mine.close()
    assert not backend.drives.active


def test_what_is_stopped_is_no_drive_of_anybody(backend: Backend) -> None:
    asking = Asking(backend)
    job = job_of(asking)
    job.ended()
    asking.do(Operation.DRIVE_STOP, [job.value], 0.0)
    with pytest.raises(Refused, match="not started such a drive"):
        asking.do(Operation.DRIVE_STOP, [job.value], 0.0)
    asking.close()


def test_a_drive_that_is_cancelled_does_not_begin_or_ends(backend: Backend) -> None:
    sent: list[bytes] = []
    client = ClientConnection(backend, sent.append, 0.0)
    client.receive(b"".join(hello_parts(Hello(0, Role.CLIENT, PROCESS_NONE, "t", 1, "t"))), 0.0)
    sent.clear()

    def ask(*request: Any) -> Any:
        client.receive(frame(ClientKind.REQUEST, pack_requests([list(request)])), 0.0)
        return unpack_replies(sent.pop()[8:])[0] if sent else None

    for cancelled, then in (([6], [False]), ([7], [True, False]), ([[7]], [False])):
        assert ask(7, int(Operation.DRIVE), COUNT.name, STATES, 1, 0.0) is None
        [(number, job)] = client.take_jobs()
        job.run()
        assert [ask(8, int(Operation.CANCEL), *cancelled).value] == then[:1]
        client.job_done(number, job)
        [reply] = unpack_replies(sent.pop()[8:])
        assert reply.status == (Status.TIMED_OUT if then[0] else 0)
        assert backend.drives.active != then[0]
        assert ask(9, int(Operation.CANCEL), 7).value != then[0], "what runs is ended"
        assert not backend.drives.active
    client.close()


def test_there_are_no_more_of_those_that_are_compiled_at_the_same_time(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "DRIVES_MAX", 1)
    asking = Asking(backend)
    first, second = job_of(asking), job_of(asking)
    first.ended()
    second.ended()
    assert isinstance(second.error, Refused)
    assert second.error.status == Status.LIMIT
    asking.close()


@pytest.mark.parametrize(
    ("rate", "states", "what"),
    [(-1.0, 1, "rate"), (0.0, 100, "100 workers"), ("x", 1, "rate"), (1e-300, 1, "wrong")],
)
def test_what_is_wrong_with_a_drive_is_told_and_ends_nothing(
    backend: Backend, rate: Any, states: int, what: str
) -> None:
    sent: list[bytes] = []
    client = ClientConnection(backend, sent.append, 0.0)
    hello = Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "test")
    client.receive(b"".join(hello_parts(hello)), 0.0)
    request = [7, int(Operation.DRIVE), COUNT.name, STATES * states, 1, rate]
    client.receive(frame(ClientKind.REQUEST, pack_requests([request])), 0.0)
    sent.clear()
    [(number, job)] = client.take_jobs()
    job.run()
    client.job_done(number, job)
    [reply] = unpack_replies(sent[0][8:])
    assert (reply.id, reply.status) == (7, Status.REFUSED)
    assert what in str(reply.text)
    assert not backend.drives.active
    client.close()


class NoThreads(Crew):
    """The system has no thread for a worker."""

    def launch(self, context: int, control: int, core: int | None = None) -> WorkerThread:
        raise RuntimeError("can't start new thread")


def test_a_drive_for_which_there_are_no_threads_is_refused_and_may_be_asked_for_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(backend)
    with monkeypatch.context() as patch:
        patch.setattr(Crew, "launch", NoThreads.launch)
        job = job_of(asking)
        job.ended()
        assert isinstance(job.error, Refused)
        assert job.error.status == Status.BUSY
        assert "can't start new thread" in str(job.error)
    again = job_of(asking)
    again.ended()
    assert again.error is None
    asking.close()


def test_a_connection_has_only_so_many_drives_compiled(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mako.server.asking.DRIVES_MAX", 1)
    asking = Asking(backend)
    job_of(asking)
    with pytest.raises(Refused) as refused:
        job_of(asking)
    assert refused.value.status == Status.LIMIT
    asking.close()


class ShortCrew(Crew):
    """Has no memory for the second worker that it is asked for."""

    launched = 0

    def launch(self, context: int, control: int, core: int | None = None) -> WorkerThread:
        self.launched += 1
        if self.launched == 2:
            raise mako.OutOfMemory("no memory for another worker")
        return super().launch(context, control, core)


def test_workers_that_cannot_all_start_leave_none_and_can_be_started_later() -> None:
    engine = Engine(32 << 20, contexts=6)
    crew = ShortCrew(engine, 5.0)
    backend = LoneBackend(crew, {}, workers=0)
    try:
        free = len(engine._free_contexts)
        with pytest.raises(mako.OutOfMemory):
            backend.serving.start(2)
        assert len(engine._free_contexts) == free
        backend.serving.start(2)
    finally:
        backend.close()
        crew.close()
        engine.close()


class Seated:
    """A mesh that knows who has taken a seat."""

    def __init__(self) -> None:
        self.seated: list[int] = []

    def attach(self, engine: Engine, context: int, number: int) -> None:
        self.seated.append(context)
        if number == 2:
            raise mako.ConfigError("no seat for a third one")

    def detach(self, engine: Engine, context: int) -> None:
        self.seated.remove(context)

    def place_of(self, engine: Engine, number: int) -> int:
        return number

    def conflicts_of(self, engine: Engine) -> Conflicts:
        return Conflicts(Counter(), Counter(), Counter(), Counter())


@pytest.mark.parametrize(
    ("workers", "rate", "error"),
    [
        (2, 0.0, mako.OutOfMemory),  # The first one runs already.
        (3, 0.0, mako.ConfigError),
        (2, 1e-300, OverflowError),
    ],
)
def test_a_drive_that_does_not_start_gives_everything_back(
    workers: int, rate: float, error: type[Exception]
) -> None:
    engine = Engine(32 << 20, contexts=6)
    crew = ShortCrew(engine, 5.0)
    for table in COUNT.execute.tables():
        engine.create_table(table)
    mesh = Seated()
    try:
        free, memory = len(engine._free_contexts), engine.memory_bytes
        with pytest.raises(error):
            Drive(
                crew,
                COUNT,
                workers=workers,
                states=[{"worker": i} for i in range(workers)],
                seed=1,
                rate=rate,
                mesh=mesh,
            )
        assert not crew.works()
        assert mesh.seated == []
        assert len(engine._free_contexts) == free
        if crew.launched == 0:  # Otherwise there are rows now.
            assert engine.memory_bytes == memory
    finally:
        crew.close()
        engine.close()
