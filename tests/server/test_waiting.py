"""Who waits for whom, found in the log of a leader."""

import pytest

from mako.replication.kept import Recovery, Taken
from mako.server.waiting import Counted, Look, Write, in_entry, partitions_of
from tests.server.traced import at, entry, facts, logged, mask, write

BOTH = mask(0, 1)


def waiting(**known: object) -> list[int]:
    return [one.timestamp for one in Look(facts(**known)).waiting().waiting]


def test_an_entry_is_taken_apart() -> None:
    rows = [
        Write(7, b"", deleted=False),
        Write(9, b"key" * 100, deleted=True),
        Write(32766, b"\0", deleted=False),
    ]
    data = entry(logged(at(9), 0, *rows[:1]), logged(at(8), mask(0, 63), *rows), logged(at(7)))
    found = list(in_entry(data, 1))
    assert [(each.timestamp, each.mask, each.rows) for each in found] == [
        (at(9), 1, 1),
        (at(8), 1 | 1 << 63, 3),
        (at(7), 1, 0),
    ]
    assert [list(each.writes()) for each in found] == [rows[:1], rows, []]
    assert partitions_of(found[1].mask) == [0, 63]


def test_a_transaction_waits_until_all_of_its_mask_have_passed_it() -> None:
    entries = [
        (at(450), entry(logged(at(490), mask(0, 2), write()), logged(at(480), BOTH, write()))),
        (at(4), entry(logged(at(4), 0, write()))),
    ]
    assert waiting(entries=entries) == [at(480), at(4)]
    reached = {0: Counted(3, at(4)), 1: Counted(8, at(480)), 2: Counted(1, at(5))}
    assert waiting(entries=entries, watermarks=reached) == [], "at it is past it"


def test_what_is_in_no_entry_yet_waits_too() -> None:
    unlogged = [logged(at(3), 0, write()), logged(at(2), BOTH, write()), logged(at(6))]
    assert waiting(unlogged=unlogged) == [at(3), at(2)]


def test_an_entry_that_is_there_twice_counts_once() -> None:
    data = entry(logged(at(20), BOTH, write()))
    assert waiting(entries=[(at(10), data), (at(10), bytes(data))]) == [at(20)]


def test_what_a_discard_took_does_not_wait_and_what_came_behind_it_does() -> None:
    some = [(at(90), entry(logged(at(95), BOTH, write()), logged(at(94), mask(0, 2), write())))]
    some.append((at(70), entry(logged(at(75), BOTH, write()))))
    behind = {0: Counted(3, at(5)), 1: Counted(8, at(500)), 2: Counted(1, at(500))}
    taken = [Taken(1, at(100), 41, (), ())]
    assert waiting(entries=some, first=40, taken=taken, watermarks=behind) == [at(94), at(75)]
    later = [Taken(1, at(95), 41, (), ())]
    kept = [at(95), at(94), at(75)]
    assert waiting(entries=some, first=40, taken=later, watermarks=behind) == kept, "F stays"


def test_what_the_leader_before_had_not_closed_does_not_wait() -> None:
    some = [(at(20), entry(logged(at(40), BOTH, write()), logged(at(20), BOTH, write())))]
    assert waiting(entries=some, leads=[(at(50), at(30))]) == [at(20)]
    assert waiting(entries=some, leads=[(at(10), at(9)), (at(50), at(30))]) == [at(20)]


def test_a_look_ends_and_says_what_it_left_out() -> None:
    some = [(at(90 - i), entry(logged(at(90 - i), BOTH, write()))) for i in range(5)]
    looked = Look(facts(entries=some, unlogged=[logged(at(2), BOTH)]), most=3).waiting()
    assert [one.timestamp for one in looked.waiting] == [at(90), at(89), at(88)]
    left = sum(len(data) for _, data in some[3:]) + len(logged(at(2), BOTH))
    assert looked.bytes_left_out == left


# --- One of them ---------------------------------------------------------------------------------


def test_one_is_found_where_it_is() -> None:
    some = [(at(30), entry(logged(at(31), BOTH, write(b"a"), write(b"b")), logged(at(30))))]
    look = Look(facts(entries=some, unlogged=[logged(at(2), 0, write(b"c"))]))
    ((one, cause),) = look.find(at(31))
    assert ([each.key for each in one.writes()], cause) == ([b"a", b"b"], "")
    assert [one.mask for one, _ in look.find(at(2))] == [1]
    assert look.find(at(29)) == []


def test_one_that_was_discarded_is_found_with_the_recovery_that_did_it() -> None:
    gone = entry(logged(at(95), BOTH, write()), logged(at(94), 0, write()))
    taken = [Taken(1, at(100), 41, (gone,), (logged(at(93), BOTH), logged(at(92), 0)))]
    by = f"by epoch 9 of partition 1, which keeps up to {at(100)}"
    known = [Recovery(1, 9, at(100), 3), Recovery(1, 10, at(100), 0)]
    look = Look(facts(taken=taken, recoveries=known, entries=[(at(90), gone)], first=40))
    assert [cause for _, cause in look.find(at(95))] == [by]
    assert [cause for _, cause in look.find(at(93))] == [by]
    assert [cause for _, cause in look.find(at(94))] == [""], "it does not depend on 1"
    assert look.find(at(92)) == []
    forgotten = Look(facts(taken=taken, recoveries=known, stable=at(50)))
    assert [cause for _, cause in forgotten.find(at(95))] == [by], "though it is forgotten else"
    assert forgotten.verdict(at(94))[0] == "past"


@pytest.mark.parametrize(
    ("timestamp", "verdict"),
    [
        (at(-1), "future"),
        (at(60_050), "lost"),
        (at(60_100), "before"),
        (at(60_000), "lost"),
        (at(59_999), "past"),
        (at(60_101), "before"),
        (at(90_001), "lost"),
        (at(90_101), "before"),
        (at(500), "past"),
        (at(499), "none"),
        (at(0), "none"),
    ],
)
def test_what_nobody_has_is_told_apart(timestamp: int, verdict: str) -> None:
    found, why = Look(facts()).verdict(timestamp)
    assert found == verdict
    assert why


def test_what_was_not_kept_is_not_denied() -> None:
    nothing = "no transaction with this timestamp wrote anything here, or waits here"
    assert Look(facts()).verdict(at(9)) == ("none", nothing)
    assert Look(facts(since=at(9))).verdict(at(9))[1] != nothing
    assert Look(facts(is_whole=False)).verdict(at(9))[1] != nothing
    taken = [Taken(1, at(700), 41, (), (), is_whole=False)]
    assert Look(facts(taken=taken)).verdict(at(600))[0] == "before"
    assert Look(facts(taken=taken)).verdict(at(700))[0] == "past"
