"""What a transaction of a client depends on when it ends without an effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

import mako
from mako.engine.engine import Engine, TableHandle
from mako.engine.layout import C_MASK, STALLED
from mako.schema import BytesTable
from mako.server.sessions import ServedTransaction

TABLE: Final = 50
#: The partition of the engine, and another one.
OWN, OTHER = 0b01, 0b10


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Row `far` waits for the other partition, row `near` for its own only."""
    made = Engine(32 << 20, contexts=8)
    handle = made.create_table(BytesTable("table", id=TABLE))
    for key, mask in ((b"far", OTHER), (b"near", 0)):
        writer = ServedTransaction(made, 0.0)
        writer.put(handle, key, b"1", replace=True)
        made.set_word(writer._context + C_MASK, mask)
        writer.commit()
    yield made
    made.close()


@pytest.fixture
def table(engine: Engine) -> TableHandle:
    return engine.tables[TABLE]


def put(engine: Engine, table: TableHandle, key: bytes) -> ServedTransaction:
    """Somebody who has written a row, and will commit."""
    made = ServedTransaction(engine, 0.0)
    made.put(table, key, b"2", replace=True)
    return made


@pytest.mark.parametrize("key", [b"far", b"near"])
def test_a_commit_that_fails_depends_on_no_more_than_its_transaction(
    engine: Engine, table: TableHandle, key: bytes
) -> None:
    reader = put(engine, table, b"mine")
    assert reader.get(table, key) == b"1"
    put(engine, table, key).commit()
    with pytest.raises(mako.Conflict) as failed:
        reader.commit()
    assert failed.value.depends_on is not None, "it would wait for all partitions"
    assert failed.value.depends_on & ~(OWN | OTHER) == 0
    assert engine.sessions == 0


def test_who_was_refused_has_ended_though_the_other_partition_moves_again(
    engine: Engine, table: TableHandle
) -> None:
    stalled = engine.base + STALLED
    engine.set_word(stalled, OTHER)
    writer = put(engine, table, b"mine")
    with pytest.raises(mako.Unavailable):
        writer.put(table, b"far", b"2", replace=False)
    engine.set_word(stalled, 0)
    with pytest.raises(mako.Unavailable):
        writer.commit()
    reader = ServedTransaction(engine, 0.0)
    assert reader.get(table, b"mine") is None
    reader.abort()


def test_what_it_sees_of_this_partition_is_told_while_another_one_stalls(
    engine: Engine, table: TableHandle
) -> None:
    engine.set_word(engine.base + STALLED, OTHER)
    writer = put(engine, table, b"mine")
    with pytest.raises(mako.Exists) as failed:
        writer.put(table, b"near", b"2", replace=False)
    assert failed.value.depends_on == OWN
    writer.commit()
    assert writer.mask == OWN
