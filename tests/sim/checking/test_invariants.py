"""I1 to I4: each breach is found in facts made by hand, and what keeps them is not."""

from collections.abc import Iterable
from typing import Any

import pytest

from mako.sim.checking import Report, Verdict
from mako.sim.checking.facts import (
    Announced,
    Closed,
    Discarded,
    Fact,
    FinalWatermark,
    Installed,
    Told,
)
from mako.sim.checking.invariants import check_invariants


def installed(partition: int, transaction: str, timestamp: int, **more: Any) -> Installed:
    more.setdefault("mask", frozenset({0, 1}))
    more.setdefault("epochs", dict.fromkeys(more["mask"], 0))
    return Installed(partition, transaction, timestamp, **more)


def everywhere(transaction: str, timestamp: int, **more: Any) -> list[Fact]:
    """Coordinated by partition 0, installed on 0 and then on 1."""
    more |= {"coordinator": 0, "participants": frozenset({0, 1})}
    return [installed(partition, transaction, timestamp, **more) for partition in (0, 1)]


#: A run in which all goes well: one transaction becomes durable, one is lost with partition 1.
GOOD: list[Fact] = [
    *everywhere("a", 10),
    Closed(0, 0, 10),
    Closed(1, 0, 12, {"b": 13}),
    Announced(0, 0, 10),
    Announced(1, 0, 12),
    Told("a"),
    *everywhere("b", 13, behind=frozenset({"a"})),
    *everywhere("c", 14, behind=frozenset({"b"})),
    installed(0, "d", 15, mask=frozenset({0})),
    Closed(0, 0, 20),
    Announced(0, 0, 20),
    FinalWatermark(1, 1, 12),
    Discarded(1, "b"),
    Discarded(1, "c"),
    Discarded(0, "c"),
    Discarded(0, "b"),
    *everywhere("e", 30, epochs={0: 0, 1: 1}, behind=frozenset({"a", "d"})),
    Closed(0, 0, 31),
    Closed(1, 1, 31),
    Announced(1, 1, 31),
]


def check(facts: Iterable[Fact], **more: bool) -> Report:
    return check_invariants(facts, **more)


def test_a_good_run_keeps_them() -> None:
    report = check(GOOD)
    assert (report.verdict, report.findings) == (Verdict.OK, [])
    assert report.looked_at == len(GOOD)


def test_without_facts_nothing_is_known() -> None:
    assert check([]).verdict is Verdict.UNKNOWN


ONE = frozenset({0})

#: Name -> the invariant, words of the finding, facts.
WRONG: dict[str, tuple[str, str, list[Fact]]] = {
    "final watermark below what was announced": (
        "I1",
        "partition 0 announced watermark 7 in epoch 0, and epoch 1 begins with final watermark 6",
        [Announced(0, 0, 7), FinalWatermark(0, 1, 6)],
    ),
    "what was announced too late counts, too": (
        "I1",
        "watermark 7 in epoch 1",
        [FinalWatermark(0, 2, 6), Announced(0, 1, 7)],
    ),
    "final watermark below an earlier one": (
        "I1",
        "announced final watermark 6 of epoch 1, and epoch 2",
        [FinalWatermark(0, 1, 6), FinalWatermark(0, 2, 5)],
    ),
    "two final watermarks of an epoch": (
        "I1",
        "two final watermarks for epoch 1: 0 and 10",
        [FinalWatermark(0, 1, 0), FinalWatermark(0, 1, 10)],
    ),
    "durable and discarded": (
        "I2",
        "the watermarks of its mask passed a at 5",
        [
            *everywhere("a", 5),
            Announced(0, 0, 5),
            Announced(1, 0, 9),
            Discarded(0, "a"),
            Discarded(1, "a"),
        ],
    ),
    "told and discarded": (
        "I2",
        "the client of a at 5 was told",
        [
            *everywhere("a", 5),
            Told("a"),
            FinalWatermark(1, 1, 4),
            Discarded(0, "a"),
            Discarded(1, "a"),
        ],
    ),
    "discarded on one partition only": (
        "I3",
        "a at 5 is discarded on partition 1 and stays on partition 0",
        [*everywhere("a", 5), FinalWatermark(1, 1, 4), Discarded(1, "a")],
    ),
    "discarded for nothing": (
        "I3",
        "no partition of its mask lost it",
        [installed(0, "a", 5, mask=ONE), FinalWatermark(1, 1, 4), Discarded(0, "a")],
    ),
    "discarded at its final watermark": (
        "I3",
        "no partition of its mask lost it",
        [installed(0, "a", 5, mask=ONE), FinalWatermark(0, 1, 5), Discarded(0, "a")],
    ),
    "discarded by an epoch that it was installed in": (
        "I3",
        "no partition of its mask lost it",
        [
            installed(0, "a", 5, mask=ONE, epochs={0: 1}),
            FinalWatermark(0, 1, 4),
            Discarded(0, "a"),
        ],
    ),
    "reader of what was discarded stays": (
        "I3",
        "a is discarded, and b, which read or overwrote it, stays on partition 0",
        [
            installed(0, "a", 5, mask=ONE),
            installed(0, "b", 6, mask=ONE, behind=frozenset({"a"})),
            FinalWatermark(0, 1, 4),
            Discarded(0, "a"),
        ],
    ),
    "mask not inherited": (
        "I3",
        "b on partition 0 is behind a and its mask lacks partition 1",
        [
            *everywhere("a", 5),
            Announced(0, 0, 9),
            installed(0, "b", 6, mask=ONE, behind=frozenset({"a"})),
        ],
    ),
    "bit dropped against the watermark of another epoch": (
        "I3",
        "its mask lacks partition 1",
        [
            *everywhere("a", 5),
            Announced(1, 1, 9),
            installed(0, "b", 6, mask=ONE, behind=frozenset({"a"})),
        ],
    ),
    "two masks for one transaction": (
        "I3",
        "with mask [0] on partition 0 and at 5 with mask [0, 1] on partition 1",
        [installed(0, "a", 5, mask=ONE), installed(1, "a", 5)],
    ),
    "closed over a hold": (
        "I4",
        "closed 5 while a holds 5",
        [Closed(0, 0, 5, {"a": 5})],
    ),
    "closed goes back": ("I4", "closed 4 after 5", [Closed(0, 0, 5), Closed(0, 0, 4)]),
    "closed over what is installed later": (
        "I4",
        "partition 0 closed 5 in epoch 0 before it installed a at 5",
        [Closed(0, 0, 5), installed(0, "a", 5)],
    ),
    "coordinator closes before all have it": (
        "I4",
        "is not installed on partition 1",
        [everywhere("a", 5)[0], Closed(0, 0, 5), everywhere("a", 5)[1]],
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_breach_is_found(name: str) -> None:
    rule, words, facts = WRONG[name]
    report = check(facts)
    assert [str(f) for f in report.findings if words in str(f)], report.findings
    assert report.rules == {rule}


RIGHT: dict[str, list[Fact]] = {
    "a new leader closes from its own beginning": [Closed(0, 0, 5), Closed(0, 1, 4)],
    "a bit is dropped once the watermark has passed": [
        *everywhere("a", 5),
        Announced(1, 0, 5),
        installed(0, "b", 6, mask=ONE, behind=frozenset({"a"})),
    ],
    "or once the final watermark has": [
        *everywhere("a", 5),
        FinalWatermark(1, 1, 5),
        installed(0, "b", 6, mask=ONE, behind=frozenset({"a"})),
    ],
    "a watermark of the participant counts as its answer": [
        everywhere("a", 5)[0],
        Announced(1, 0, 5),
        Closed(0, 0, 5),
    ],
    "so does a dropped commit": [
        everywhere("a", 5)[0],
        FinalWatermark(1, 1, 4),
        Discarded(1, "a"),
        Closed(0, 0, 5),
        Discarded(0, "a"),
    ],
    "so does its own discard": [
        everywhere("a", 5)[0],
        FinalWatermark(1, 1, 4),
        Discarded(0, "a"),
        Closed(0, 0, 5),
    ],
    "below what it coordinates it may close": [everywhere("a", 5)[0], Closed(0, 0, 4)],
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_is_no_breach(name: str) -> None:
    assert check(RIGHT[name]).findings == []


def test_before_all_have_learnt_a_discard_may_be_missing() -> None:
    facts = WRONG["discarded on one partition only"][2]
    assert check(facts, settled=False).verdict is Verdict.OK
    facts = WRONG["reader of what was discarded stays"][2]
    assert check(facts, settled=False).verdict is Verdict.OK


def test_without_an_order_only_what_needs_none_is_checked() -> None:
    for name in ("closed goes back", "closed over what is installed later", "mask not inherited"):
        assert check(WRONG[name][2], ordered=False).verdict is Verdict.OK
    facts = WRONG["discarded on one partition only"][2]
    assert check(reversed(facts), ordered=False).verdict is Verdict.VIOLATION
