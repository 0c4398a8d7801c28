"""Whoever is told that a transaction failed, or rolled back, is told what was true at one point in
time: what it has read, to find that out, is validated like that of a commit.

A row moves from one key to another, so nobody may ever have seen it under both.
"""

from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.engine.commit import finish
from mako.engine.engine import Engine
from mako.engine.interactive import (
    session_begin,
    session_commit,
    session_delete,
    session_get,
    session_put,
    session_rest,
)
from mako.engine.layout import C_ARGUMENTS, C_OUTCOME
from mako.ids import Outcome
from mako.schema import BytesTable
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.pumping import PumpedMesh
from tests.engine.test_partitions import move

pytestmark = pytest.mark.interpreted

FAILURES = [Outcome.NOT_FOUND, Outcome.EXISTS, Outcome.ROLLED_BACK, Outcome.RAISED]


@mako.procedure
def refuse_both(tx: Any, p: int, n: int, q: int, m: int) -> int:
    """Roll back if both rows are there; the first one has to be."""
    tx.read(ACCOUNT, (p, n))
    found, _ = tx.find(ACCOUNT, (q, m))
    if found:
        tx.rollback()
    return 0


# --- one partition --------------------------------------------------------------------------------


class Sessions:
    """Two contexts of one engine, and calls with keys."""

    def __init__(self) -> None:
        self.engine = Engine(16 << 20, contexts=3, ring_bytes=1 << 14)
        self.table = self.engine.create_table(BytesTable("t", id=1)).address
        self.one, self.other = (self.engine.take_context() for _ in range(2))
        for context in (self.one, self.other):
            session_begin(context)

    def _key(self, context: int, key: bytes) -> int:
        self.engine.write(context + C_ARGUMENTS, key)
        return len(key)

    def sees(self, context: int, key: bytes) -> bool:
        return bool(session_get(context, self.table, self._key(context, key)) >= 0)

    def put(self, context: int, key: bytes) -> None:
        assert session_put(context, self.table, self._key(context, key), 8, 1) > 0

    def delete(self, context: int, key: bytes) -> None:
        assert session_delete(context, self.table, self._key(context, key)) == 1

    def commit(self, context: int) -> None:
        assert session_commit(context) == Outcome.COMMITTED
        session_begin(context)

    def fail(self, context: int, outcome: Outcome) -> Outcome:
        """How a procedure ends that could not go on, or did not want to."""
        self.engine.set_word(context + C_OUTCOME, int(outcome))
        ended = Outcome(finish(context))
        session_rest(context)
        return ended


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    made = Sessions()
    made.put(made.one, b"before")
    made.commit(made.one)
    yield made
    made.engine.close()


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_because_of_what_is_not_true_any_more_is_a_conflict(
    sessions: Sessions, outcome: Outcome
) -> None:
    one, other = sessions.one, sessions.other
    assert sessions.sees(one, b"before")
    sessions.delete(other, b"before")
    sessions.put(other, b"after")
    sessions.commit(other)
    assert sessions.sees(one, b"after"), "as well, which there never was"
    assert sessions.fail(one, outcome) is Outcome.CHANGED


@pytest.mark.parametrize("outcome", FAILURES)
def test_what_was_read_to_be_written_is_validated_too(sessions: Sessions, outcome: Outcome) -> None:
    sessions.delete(sessions.one, b"before")
    sessions.put(sessions.other, b"before")
    sessions.commit(sessions.other)
    assert sessions.fail(sessions.one, outcome) is Outcome.CHANGED


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_because_of_what_is_true_is_told(sessions: Sessions, outcome: Outcome) -> None:
    assert sessions.sees(sessions.one, b"before")
    sessions.delete(sessions.one, b"before")
    sessions.put(sessions.other, b"elsewhere")
    sessions.commit(sessions.other)
    assert sessions.fail(sessions.one, outcome) is outcome


# --- several --------------------------------------------------------------------------------------


def test_what_was_read_elsewhere_is_validated_there() -> None:
    """Between its two looks at the other partition the row moves there."""
    cluster = Cluster([ACCOUNT], partitions=2)
    try:
        cluster.run(1, put, 1, 1, 50)
        number = cluster.post(0, refuse_both, 1, 1, 1, 2)
        cluster.serve(0)
        cluster.turn(1)  # The first row.
        cluster.turn(0)
        moved = cluster.post(1, move, 1, 1, 1, 2)
        cluster.serve(1)
        cluster.turn(1)  # The second one.
        assert [done.number for done in cluster.done()] == [moved]
        assert cluster.finish(number).outcome is Outcome.NOT_FOUND
    finally:
        cluster.close()


def test_an_own_row_that_another_partition_has_prepared_is_validated() -> None:
    """The row has moved to another partition, which shows it; here that is not heard yet."""
    cluster = Cluster([ACCOUNT], partitions=3, pumped=True)
    mesh = cluster.mesh
    assert isinstance(mesh, PumpedMesh)
    try:
        cluster.run(0, put, 0, 1, 50)
        moved = cluster.post(2, move, 0, 1, 1, 1)
        cluster.serve(2)
        while moved not in [done.number for done in cluster.done()]:
            mesh.carry()
            for partition in (0, 1, 2):
                cluster.turn(partition)
        mesh.carry_but(2, 0)  # What has been decided.
        cluster.turn(1)
        number = cluster.post(0, refuse_both, 0, 1, 1, 1)
        cluster.serve(0)
        for _ in range(4):
            for partition in (0, 1):
                mesh.carry_but(2, 0)
                cluster.turn(partition)
            assert cluster.done() == [], "it waits for who has prepared the row"
        assert cluster.finish(number).outcome is Outcome.NOT_FOUND
    finally:
        cluster.close()
