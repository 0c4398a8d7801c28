"""What a procedure raises, in words."""

from typing import Any

import pytest

import mako
from mako import Database
from mako.engine import engine
from mako.engine.entries import raised_by
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


@pytest.mark.interpreted
def test_values_that_are_no_constants_are_told(db: Database) -> None:
    for _ in range(2):
        with pytest.raises(mako.ProcedureError, match=r"ValueError: \('bad', 1, 7\)") as caught:
            db.run(raises_with_a_number, 1)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__.args == ("bad", 1, 7)
        with pytest.raises(mako.ProcedureError, match="KeyError: 2; the transaction"):
            db.run(raises_with_a_number, 2)


def test_values_that_are_no_constants_are_told_of_what_a_worker_ran(db: Database) -> None:
    submitted = [db.submit(raises_with_a_number, number) for number in range(2, 100)]
    for number, each in enumerate(submitted, 2):
        with pytest.raises(mako.ProcedureError, match=f"KeyError: {number}; the transaction"):
            each.result(timeout=PATIENCE)


def test_whoever_asks_again_is_told_no_value_that_is_gone(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(engine, "raised_by", told.append)
    with pytest.raises(mako.ProcedureError):
        db.run(raises_with_a_number, 1)
    (address,) = told
    assert str(raised_by(address)) == "('bad', 1, 7)"
    for _ in range(2):
        assert str(raised_by(address)) == "('bad', <value not kept>, 7)"
