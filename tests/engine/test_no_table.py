"""Tables that not all partitions have, as while processes are updated one by one."""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine.engine import Engine
from mako.engine.maps import place
from mako.ids import Outcome
from mako.placement import blocks
from mako.procedure import Procedure
from tests.engine.partitioned import ACCOUNT, LANES, Cluster, change, put

pytestmark = pytest.mark.interpreted

WORDS = mako.Table("new", id=9, key={"place": 8, "number": 32}, row={"v": "i8"})
PAIRS = mako.Table("newer", id=10, key={"place": 64, "number": 64}, row={"v": "i8"})
TABLES = (WORDS, PAIRS)
WIDER = mako.Table("new", id=9, key={"place": 8, "number": 32}, row={"v": "i8", "w": "i8"})


def procedures(table: mako.Table) -> dict[str, Procedure]:
    """What touches a row of a table, in each of the ways."""

    @mako.procedure
    def find(tx: Any, where: int, number: int) -> int:
        found, _ = tx.find(table, (where, number))
        return int(found)

    @mako.procedure
    def walk(tx: Any, where: int, number: int) -> int:
        return int(tx.scan(table, (where, 0), (where, number + 1), 4).count)

    @mako.procedure
    def write(tx: Any, where: int, number: int) -> int:
        tx.put(table, (where, number)).v = 5
        return 0

    @mako.procedure
    def remove(tx: Any, where: int, number: int) -> int:
        found, _ = tx.find(table, (where, number))
        if found:
            tx.delete(table, (where, number))
        return 0

    return {"find": find, "walk": walk, "write": write, "remove": remove}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], partitions=2)
    for table in TABLES:
        create(made.engines[0], table)
    yield made
    made.close()


def create(engine: Engine, table: mako.Table) -> None:
    bits = table.key_fields[0].bits
    place(engine, engine.create_table(table), blocks(2, size=1, bits=bits))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
@pytest.mark.parametrize("how", ["find", "walk", "write", "remove"])
def test_what_touches_it_is_unavailable_until_it_is_there(
    cluster: Cluster, table: mako.Table, how: str
) -> None:
    """Its number names no tree: to look there anyhow ends the process."""
    procedure = procedures(table)[how]
    assert cluster.run(0, procedure, 1, 3).outcome is Outcome.UNAVAILABLE
    # Nothing of it stays, and what needs other tables goes on.
    assert cluster.run(0, put, 1, 3, 8).outcome is Outcome.COMMITTED
    assert cluster.run(1, change, 1, 3).outcome is Outcome.COMMITTED
    create(cluster.engines[1], table)
    assert cluster.run(0, procedure, 1, 3).outcome is Outcome.COMMITTED


@mako.procedure
def answer(tx: Any, where: int, number: int) -> int:
    tx.put(ACCOUNT, (where, number)).v = 1
    return 77


def test_it_has_no_result_of_whoever_was_in_its_place_before(cluster: Cluster) -> None:
    for _ in range(2 * LANES):
        for partition in (0, 1):
            assert cluster.run(0, answer, partition, 3).value == 77
    for table in TABLES:
        for how, procedure in procedures(table).items():
            done = cluster.run(0, procedure, 1, 3)
            assert (done.outcome, done.value) == (Outcome.UNAVAILABLE, 0), how


@mako.procedure
def fill(tx: Any, where: int, number: int) -> int:
    """There, with a field that the others do not know."""
    row = tx.put(WIDER, (where, number))
    row.v, row.w = 1, 2
    return 0


def test_a_row_of_another_size_is_neither_installed_nor_shown(cluster: Cluster) -> None:
    """Or fields would be read, and written, that are somebody else's memory."""
    create(cluster.engines[1], WIDER)
    made = procedures(WORDS)
    assert cluster.run(0, made["write"], 1, 3).outcome is Outcome.UNAVAILABLE
    assert cluster.run(0, made["find"], 1, 3).value == 0
    assert cluster.run(1, fill, 1, 3).outcome is Outcome.COMMITTED
    for how in ("find", "walk", "remove"):
        assert cluster.run(0, made[how], 1, 3).outcome is Outcome.UNAVAILABLE, how


def test_keys_of_another_kind_name_no_row(cluster: Cluster) -> None:
    create(cluster.engines[1], mako.Table("new", id=9, key={"a": 64, "b": 64}, row={"v": "i8"}))
    for how, procedure in procedures(WORDS).items():
        assert cluster.run(0, procedure, 1, 3).outcome is Outcome.UNAVAILABLE, how
