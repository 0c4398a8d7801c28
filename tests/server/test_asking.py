"""Tables that do not stay yet: whom a replica tells of them, and when."""

from collections.abc import Callable, Iterator

import pytest

from mako.engine.engine import Engine, TableHandle
from mako.ids import Status
from mako.server.asking import Asking
from mako.server.backend import LoneBackend
from mako.server.sessions import Refused
from mako.server.workers import Crew
from mako.wire.requests import Operation


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
def open_table(backend: Backend) -> Callable[[str], tuple[int, int, bool]]:
    """The number of a table, the timestamp that the answer has, and whether it waits for that."""
    asking = Asking(backend)

    def ask(name: str) -> tuple[int, int, bool]:
        timestamp, about, waits = asking.do(Operation.OPEN_TABLE, [name], 0.0)
        return about[0], timestamp, waits

    return ask


def tables_of(backend: Backend) -> list[str]:
    _, about, _ = Asking(backend).do(Operation.DESCRIBE, [], 0.0)
    return [name for *_, name in about["tables"]]


def test_a_new_table_is_told_of_when_it_stays(
    backend: Backend, open_table: Callable[[str], tuple[int, int, bool]]
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
    backend: Backend, open_table: Callable[[str], tuple[int, int, bool]]
) -> None:
    backend.leads = False
    with pytest.raises(Refused, match="b:2") as refused:
        open_table("named")
    assert refused.value.status == Status.NOT_LEADER
    assert backend.engine.table_named("named") is None


def test_a_deposed_leader_does_not_tell_of_what_goes_with_its_leadership(
    backend: Backend, open_table: Callable[[str], tuple[int, int, bool]]
) -> None:
    """The next leader may give its number to another table (seed 307 of the simulation)."""
    open_table("named")
    backend.leads = False
    with pytest.raises(Refused, match="b:2") as refused:
        open_table("named")
    assert refused.value.status == Status.NOT_LEADER
    assert tables_of(backend) == []


def test_who_does_not_lead_tells_of_what_stays(
    backend: Backend, open_table: Callable[[str], tuple[int, int, bool]]
) -> None:
    number, _, _ = open_table("named")
    backend.lasting.add("named")
    backend.leads = False
    assert open_table("named") == (number, 0, False)
    assert tables_of(backend) == ["named"]
