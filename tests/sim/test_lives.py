"""What may go wrong for a client in a run, and what is a bug."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.client.remote.calls import Call
from mako.errors import Aborted, Exists, NotFound, RolledBack, TooStale
from mako.sim.checkers import Violation
from mako.sim.lives import Lives
from mako.sim.shards.traffic import ShardTraffic
from mako.sim.traffic import Traffic

#: Of what a transaction may be aborted with, whatever it does.
ORDINARY = {"Conflict", "LogFull", "TransactionTooOld"}


def ended(error: Exception) -> Call:
    return cast(Call, SimpleNamespace(error=error, name="append"))


def clients(kind: type[Lives]) -> Any:
    """Clients that do nothing: what they say of an error depends on no world."""
    return object.__new__(kind)


def accepted(kind: type[Lives]) -> set[str]:
    found = set()
    for error in Aborted.__subclasses__():
        with suppress(Violation):
            clients(kind)._check(ended(error("why")))
            found.add(error.__name__)
    return found


def test_what_a_client_of_one_group_may_be_told() -> None:
    assert accepted(Traffic) == ORDINARY


def test_what_a_client_of_several_partitions_may_be_told() -> None:
    assert accepted(ShardTraffic) == ORDINARY | {"Unavailable"}


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (NotFound(), "reads"),
        (Exists(), "reads"),
        (RolledBack(), "answers"),
        (TooStale("older"), "answers"),
        (ZeroDivisionError(), "answers"),
    ],
)
def test_what_only_some_may_be_told(error: Exception, rule: str) -> None:
    traffic = clients(ShardTraffic)
    with pytest.raises(Violation, match="append") as caught:
        traffic._check(ended(error))
    assert caught.value.rule == rule
    traffic._check(ended(error), type(error))
    traffic._check(cast(Call, SimpleNamespace(error=None)))
