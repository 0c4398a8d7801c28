"""What a procedure raises, in words."""

from typing import Any

import pytest

import mako
from mako import Database
from tests.client import procedures as p
from tests.client.test_submit import PATIENCE


class Unspeakable(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise IndexError("in __str__")


@mako.procedure
def raises_what_has_no_text(tx: Any, key: int) -> int:
    if key > 0:
        raise Unspeakable
    return key


@mako.procedure
def raises_with_a_number(tx: Any, key: int) -> int:
    if key > 1:
        raise KeyError(key)
    if key > 0:
        raise ValueError("bad", key, 7)
    return key


@pytest.mark.interpreted
def test_an_exception_without_a_text_is_told_by_its_name(db: Database) -> None:
    with pytest.raises(mako.ProcedureError, match=r"raised Unspeakable; the tr") as caught:
        db.run(raises_what_has_no_text, 1)
    assert isinstance(caught.value.__cause__, Unspeakable)
    assert db.run(raises_what_has_no_text, 0) == 0


def test_an_exception_without_a_text_ends_its_own_request_only(db: Database) -> None:
    db.create(p.COUNTER)
    failing = db.submit(raises_what_has_no_text, 1)
    following = db.submit(p.add, 1, 5)
    for _ in range(2):
        with pytest.raises(mako.ProcedureError, match="raised Unspeakable; the transaction"):
            failing.result(timeout=PATIENCE)
        assert following.result(timeout=PATIENCE) == 5
    db.stop_workers()


def test_a_value_that_is_not_kept_is_not_made_up(db: Database) -> None:
    for _ in range(2):
        with pytest.raises(mako.ProcedureError, match=r"\('bad', <value not kept>, 7\)"):
            db.run(raises_with_a_number, 1)
        with pytest.raises(mako.ProcedureError, match="KeyError: <value not kept>; the tr"):
            db.submit(raises_with_a_number, 2).result(timeout=PATIENCE)
