"""Requests that are no calls: tables that do not stay yet, and reads that wait for nothing."""

from collections.abc import Callable, Iterator

import pytest

from mako.engine.engine import Engine, TableHandle
from mako.ids import Status
from mako.server.asking import Asking
from mako.server.backend import LoneBackend
from mako.server.sessions import Refused
from mako.server.workers import Crew
from mako.wire.requests import LATEST, Operation


class Backend(LoneBackend):
    """A replica: tables stay when the test says so, and it leads as long as the test says so."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew, {})
        self.leads = True
        self.leader = "b:2"
        #: Tables that whoever leads next has, too.
        self.lasting: set[str] = set()

    def is_lasting(self, table: TableHandle) -> bool:
        return table.table.name in self.lasting


@pytest.fixture
def backend() -> Iterator[Backend]:
    engine = Engine(16 << 20, contexts=4)
    crew = Crew(engine, 5.0)
    made = Backend(crew)
    yield made
    made.close()
    crew.close()
    engine.close()


@pytest.fixture
def open_table(backend: Backend) -> Callable[[str], tuple[int, int, int]]:
    """The number of a table, the timestamp that the answer has, and whether it waits for that."""
    asking = Asking(backend)

    def ask(name: str) -> tuple[int, int, int]:
        timestamp, about, waits = asking.do(Operation.OPEN_TABLE, [name], 0.0)
        return about[0], timestamp, waits

    return ask


def tables_of(backend: Backend) -> list[str]:
    _, about, _ = Asking(backend).do(Operation.DESCRIBE, [], 0.0)
    return [name for *_, name in about["tables"]]


def test_a_new_table_is_told_of_when_it_stays(
    backend: Backend, open_table: Callable[[str], tuple[int, int, int]]
) -> None:
    clock = backend.engine.clock
    number, timestamp, waits = open_table("named")
    assert waits
    assert timestamp > clock, "it is in the log before anything of that time"
    assert tables_of(backend) == []
    backend.lasting.add("named")
    assert open_table("named") == (number, 0, False)
    assert tables_of(backend) == ["named"]


def test_who_does_not_lead_creates_none(
    backend: Backend, open_table: Callable[[str], tuple[int, int, int]]
) -> None:
    backend.leads = False
    with pytest.raises(Refused, match="b:2") as refused:
        open_table("named")
    assert refused.value.status == Status.NOT_LEADER
    assert backend.engine.table_named("named") is None


def test_a_deposed_leader_does_not_tell_of_what_goes_with_its_leadership(
    backend: Backend, open_table: Callable[[str], tuple[int, int, int]]
) -> None:
    """The next leader may give its number to another table (seed 307 of the simulation)."""
    open_table("named")
    backend.leads = False
    with pytest.raises(Refused, match="b:2") as refused:
        open_table("named")
    assert refused.value.status == Status.NOT_LEADER
    assert tables_of(backend) == []


def test_who_does_not_lead_tells_of_what_stays(
    backend: Backend, open_table: Callable[[str], tuple[int, int, int]]
) -> None:
    number, _, _ = open_table("named")
    backend.lasting.add("named")
    backend.leads = False
    assert open_table("named") == (number, 0, False)
    assert tables_of(backend) == ["named"]


def test_the_newest_is_told_at_once_and_leaves_nothing_open(backend: Backend) -> None:
    asking = Asking(backend)
    number = asking.do(Operation.OPEN_TABLE, ["rows"], 0.0)[1][0]
    writes = [["put", number, b"a%d" % i, b"v%d" % i] for i in range(3)]
    committed, _, waits = asking.do(Operation.WRITE, [writes, 0, 1, 0], 0.0)
    assert committed > 0
    assert waits
    keys = [b"a2", b"none", b"a0"]
    found = [b"v2", None, b"v0"]
    assert asking.do(Operation.GET, [LATEST, number, keys], 0.0) == (0, found, False)
    timestamp, values, waits = asking.do(Operation.GET, [0, number, keys], 0.0)
    assert timestamp >= committed
    assert (values, waits) == (found, 1 << backend.partition), "a transaction of its own"
    rows, more = asking.do(Operation.SCAN, [LATEST, number, b"a", b"a2", 9, False], 0.0)[1]
    assert (rows, more) == ([(b"a0", b"v0"), (b"a1", b"v1")], False)
    last = asking.do(Operation.SCAN, [LATEST, number, b"a", b"b", 1, True], 0.0)
    assert last == (0, ([(b"a2", b"v2")], True), False)
    assert len(asking.sessions) == 0
    assert backend.engine.sessions == 0
