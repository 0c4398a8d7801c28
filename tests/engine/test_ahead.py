"""Prefetched rows are found without a descent, and never in a node that was used again."""

from typing import Any

import pytest

import mako

pytestmark = pytest.mark.interpreted

OLD = mako.Table("ahead_old", id=1, key={"k": 32}, row={"v": "i8"})
NEW = mako.Table("ahead_new", id=2, key={"k": 32}, row={"v": "i8"})
KEYS = 200
PROBE = 150


@mako.procedure
def fill_old(tx: Any, first: int, end: int) -> None:
    for key in range(first, end):
        row = tx.put(OLD, (key,))
        row.v = key


@mako.procedure
def fill_new(tx: Any, first: int, end: int) -> None:
    for key in range(first, end):
        row = tx.put(NEW, (key,))
        row.v = -1


@mako.procedure
def empty_old(tx: Any, first: int, end: int) -> None:
    for key in range(first, end):
        tx.delete(OLD, (key,))


@mako.procedure
def ask(tx: Any, key: int) -> None:
    tx.prefetch(OLD, (key,))


@mako.procedure
def ask_for_others_and_find(tx: Any, key: int) -> int:
    """Prefetch enough others that the chain of `key` moves on, then look for it."""
    for other in range(12):
        tx.prefetch(OLD, (other,))
    found, row = tx.find(OLD, (key,))
    return row.v if found else 0


def test_a_prefetched_row_is_found() -> None:
    with mako.open(memory="32MiB", sessions=4) as db:
        db.create(OLD)
        db.run(fill_old, 0, KEYS)
        db.run(ask, PROBE)
        assert db.run(ask_for_others_and_find, PROBE) == PROBE


def test_a_chain_does_not_go_on_in_a_leaf_that_became_another_table_s() -> None:
    with mako.open(memory="32MiB", sessions=4) as db:
        db.create(OLD, NEW)
        db.run(fill_old, 0, KEYS)
        db.run(ask, PROBE)  # Goes down to the leaf of PROBE, and no further.
        db.run(empty_old, 120, 180)
        for _ in range(8):  # The leaf is emptied, leaves the tree, and becomes free.
            db.run(fill_old, 0, 1)
        db.run(fill_new, 90, 210)  # The second leaf begins at PROBE, in the freed node.
        assert db.run(ask_for_others_and_find, PROBE) == 0
