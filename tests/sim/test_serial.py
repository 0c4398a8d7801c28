"""The checker of what clients saw, on histories that are wrong in one way each."""

from collections.abc import Callable

import pytest

from mako.sim.checkers import Violation
from mako.sim.checking import Outcome
from mako.sim.lives import check_age
from mako.sim.serial import Append, ClientHistory

Change = Callable[[ClientHistory], None]

#: Two lists as all replicas have them in the end.
VALUES = {0: [1, 2, 3], 1: [1, 3]}


def good() -> ClientHistory:
    history = ClientHistory()
    one = Append(1, (0, 1), history.floor)
    history.appended(one, (1, 1), 10, exact=True)
    history.read((0, 1), (1, 1), 15, history.floor)
    history.appended(Append(2, (0,), history.floor), (2,), 20, exact=True)
    history.appended(Append(3, (1, 0), history.floor), (2, 3), 30, exact=False)
    history.saw((0,), (2,), 25)  # A snapshot, which may be old.
    history.gone(Append(4, (0,), history.floor), "refused")
    history.lost(Append(5, (0, 1), history.floor))
    history.hashed(15, "a")
    history.scanned(1, [1], 15)
    write(history, "x", 40)
    read(history, "x", 41)
    return history


def write(history: ClientHistory, value: str | None, timestamp: int, *, exact: bool = True) -> None:
    """The register is written, or deleted, and that is acknowledged."""
    one = history.registers.begin(1, timestamp)
    one.write("r", value)
    history.over_registers(one, timestamp, timestamp, history.floor, exact=exact)


def fail(history: ClientHistory, value: str | None, outcome: Outcome) -> None:
    """It is written at time 42, and something else comes of that."""
    one = history.registers.begin(1, 42)
    one.write("r", value)
    history.failed_over_registers(one, 43, outcome)


def read(history: ClientHistory, value: str | None, timestamp: int) -> None:
    one = history.registers.begin(2, timestamp)
    one.saw("r", value)
    history.over_registers(one, timestamp, timestamp, history.floor, exact=True)


def check(
    history: ClientHistory,
    values: dict[int, list[int]] = VALUES,
    register: str | None = "x",
) -> None:
    assert history.check_end(values.__getitem__, sorted(values), {"r": register}, 1000) == []


def test_a_good_history_passes() -> None:
    history = good()
    check(history)
    assert (history.acknowledged, history.failed, history.unknown) == (5, 1, 1)


AT_ONCE: dict[str, tuple[str, Change]] = {
    "an append below an acknowledged one": (
        "real time",
        lambda h: h.appended(Append(6, (0,), h.floor), (4,), 35, exact=True),
    ),
    "a read that is too old": ("real time", lambda h: h.read((0,), (3,), 35, h.floor)),
    "a write of the past": (
        "real time",
        lambda h: write(h, "y", 35),
    ),
    "two hashes": ("equal states", lambda h: h.hashed(15, "b")),
}


@pytest.mark.parametrize("name", sorted(AT_ONCE))
def test_an_answer_that_cannot_be(name: str) -> None:
    rule, change = AT_ONCE[name]
    history = good()
    with pytest.raises(Violation) as caught:
        change(history)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("age", "oldest", "between"),
    [(11, 10, (11, 11)), (3, -1, (4, 6)), (7, -1, (4, 6)), (11, 10, None)],
    ids=["older than allowed", "older than said", "younger than said", "nothing to compare with"],
)
def test_the_age_of_a_snapshot(age: int, oldest: int, between: tuple[int, int] | None) -> None:
    check_age(5, 10, (4, 6))
    check_age(5, -1, None)
    with pytest.raises(Violation) as caught:
        check_age(age, oldest, between)
    assert caught.value.rule == "staleness"


AT_END: dict[str, tuple[str, Change]] = {
    "a read that lacks what was before it": ("reads", lambda h: h.saw((0,), (1,), 22)),
    "a read that has what came after it": ("reads", lambda h: h.saw((0,), (2,), 19)),
    "a read that lacks what was asked again": ("reads", lambda h: h.saw((1,), (1,), 30)),
    "a scan of other values": ("reads", lambda h: h.scanned(0, [1, 3], 25)),
    "positions against timestamps": (
        "one order",
        lambda h: h.appended(Append(1, (0,), h.floor), (1,), 60, exact=True),
    ),
    "an append that is not there": (
        "nothing lost",
        lambda h: h.appended(Append(6, (0,), h.floor), (4,), 60, exact=True),
    ),
    "what was refused": ("nothing else", lambda h: h.gone(Append(2, (0,), 0), "refused")),
    "half of a transaction": ("all or nothing", lambda h: h.lost(Append(2, (0, 1), 0))),
}


@pytest.mark.parametrize("name", sorted(AT_END))
def test_a_history_that_cannot_be(name: str) -> None:
    rule, change = AT_END[name]
    history = good()
    change(history)
    with pytest.raises(Violation) as caught:
        check(history)
    assert caught.value.rule == rule


def test_two_appends_at_one_timestamp() -> None:
    """Their order in the list says nothing of who came first, whatever it is."""
    history = good()
    history.appended(Append(6, (0,), 0), (4,), 20, exact=True)
    with pytest.raises(Violation, match="list 0: 2 at 20, 4 at 20") as caught:
        check(history, {0: [1, 2, 3, 6], 1: [1, 3]})
    assert caught.value.rule == "one order"


def test_a_value_that_is_there_twice() -> None:
    with pytest.raises(Violation) as caught:
        check(good(), {0: [1, 2, 3, 5, 5], 1: [1, 3, 5]})
    assert caught.value.rule == "nothing else"


def test_a_value_that_nobody_put_there() -> None:
    with pytest.raises(Violation, match="7, which nobody put there") as caught:
        check(good(), {0: [1, 2, 3, 7], 1: [1, 3]})
    assert caught.value.rule == "nothing else"
    history = good()
    history.lost(Append(6, (0,), 0))
    with pytest.raises(Violation, match="5, which nobody put there"):
        check(history, {0: [1, 2, 3, 6, 5], 1: [1, 3, 5], 2: [5]})


def old_value(history: ClientHistory) -> None:
    write(history, "y", 50)
    read(history, "x", 51)


def discarded_value(history: ClientHistory) -> None:
    fail(history, "y", Outcome.DISCARDED)
    read(history, "y", 50)


def refused_value(history: ClientHistory) -> None:
    fail(history, "y", Outcome.ABORTED)
    read(history, "y", 50)


#: In the end it is x.
REGISTERS: dict[str, tuple[str, Change]] = {
    "another value in the end": ("linearizability", lambda h: write(h, "y", 50)),
    "a lost write that was asked again": (
        "linearizability",
        lambda h: write(h, "y", 50, exact=False),
    ),
    "a lost delete": ("linearizability", lambda h: write(h, None, 50)),
    "an old value": ("linearizability", old_value),
    "no value": ("G-single-realtime", lambda h: read(h, None, 51)),
    "a value from nowhere": ("garbage", lambda h: read(h, "z", 50)),
    "a discarded value": ("G1a", discarded_value),
    "a refused value": ("G1a", refused_value),
}


@pytest.mark.parametrize("name", sorted(REGISTERS))
def test_a_register_that_cannot_be(name: str) -> None:
    rule, change = REGISTERS[name]
    history = good()
    change(history)
    with pytest.raises(Violation) as caught:
        check(history)
    assert caught.value.rule == rule


def test_a_delete_that_nobody_knows_of_excuses_a_missing_value() -> None:
    history = good()
    fail(history, None, Outcome.UNKNOWN)
    read(history, None, 51)
    check(history, register=None)
    assert history.unknown == 2
