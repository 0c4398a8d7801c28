"""What an operator may ask for, with arguments that are none."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mako.server.administration import Administration
from mako.server.sessions import Refused

GOOD = [9, "p9", "10.0.0.9", 7000]


class Raft:
    """Takes whom it is to prefer for what it is told."""

    def __init__(self) -> None:
        self.group = 1
        self.preferred: Any = 0

    def prefer(self, node: Any) -> None:
        self.preferred = node


class Asked:
    """A process that knows itself alone."""

    def __init__(self) -> None:
        self.plan = SimpleNamespace(process=1, names={1: "p1"}, addresses={}, process_of={})
        self.met: list[tuple[int, str, tuple[str, int]]] = []
        self.node = Raft()
        server = SimpleNamespace(plan=self.plan, log=lambda *_, **__: None)
        self.administration = Administration(
            cast(Any, server),
            cast(Any, SimpleNamespace(node=self.node)),
            lambda *told: self.met.append(told),
        )


def test_a_process_is_met() -> None:
    asked = Asked()
    asked.administration.meet(cast(Any, [GOOD]), cast(Any, [[0, 4, 9]]))
    assert asked.met == [(9, "p9", ("10.0.0.9", 7000))]
    assert asked.plan.addresses == {9: ("10.0.0.9", 7000)}
    assert asked.plan.process_of == {(1, 4): 9}


@pytest.mark.parametrize(
    ("processes", "places"),
    [
        ([["x", "p", "h", 1]], []),
        ([[-1, "p", "h", 1]], []),
        ([[1 << 31, "p", "h", 1]], []),
        ([[99, 5, "h", 1]], []),
        ([[99, "p", 5, 7000]], []),
        ([[99, "p", "", 7000]], []),
        ([[99, "p", "h" * 256, 7000]], []),
        ([[99, "p\n", "h", 7000]], []),
        ([[99, "p", "h", "7000"]], []),
        ([[99, "p", "h", 0]], []),
        ([[99, "p", "h", 65_536]], []),
        ([[99, "p", "h", True]], []),
        ([[99, "p", "h"]], []),
        ([], [["x", 4, 9]]),
        ([], [[64, 4, 9]]),
        ([], [[0, [], 9]]),
        ([], [[0, 4, None]]),
    ],
)
def test_what_is_no_process_and_no_place_is_refused_before_anything_is_known(
    processes: list[Any], places: list[Any]
) -> None:
    asked = Asked()
    with pytest.raises((Refused, TypeError)):
        asked.administration.meet([cast(Any, GOOD), *processes], places)
    assert asked.met == []
    assert asked.plan.addresses == {}
    assert asked.plan.process_of == {}


@pytest.mark.parametrize("node", [[], "x", -1, 1 << 31, None])
def test_only_a_node_is_preferred(node: Any) -> None:
    """Each tick of Raft would look it up."""
    asked = Asked()
    with pytest.raises(Refused):
        asked.administration.prefer(node)
    assert asked.node.preferred == 0
    asked.administration.prefer(3)
    assert asked.node.preferred == 3


@pytest.mark.parametrize("offset", [-1, "x", 1 << 63])
def test_a_snapshot_is_read_at_places_that_are_some(offset: Any) -> None:
    with pytest.raises(Refused, match="is the number of no place"):
        Asked().administration.read_snapshot([1, 1, 10, b"d"], offset)
