"""What is shown of who waits for whom, and of one transaction."""

from typing import Any

import msgspec

import mako
from mako.ids import Outcome, Status
from mako.schema import BytesTable
from mako.server.chains import Chain, Version
from mako.server.tracing import (
    Tables,
    found_of,
    found_result,
    found_session,
    waits_of,
    without_writes,
)
from mako.server.waiting import Counted, Facts, Logged, Look, Session, Write
from tests.server.traced import at, entry, facts, logged, mask, result, write

BOTH = mask(0, 1)
STOCK = mako.Table("stock", id=7, key={"w_id": 16, "i_id": 32}, row={"n": "i8"})
TABLES = Tables({7: STOCK, 8: BytesTable("words", id=8)})


def shown(known: Facts, limit: int = 10) -> tuple[Any, ...]:
    waits = waits_of(known, Look(known).waiting().waiting, limit)
    totals = {each.partition: each.transactions for each in waits.waiting_for}
    rows = [
        (one.timestamp, one.state, one.mask, [lag.partition for lag in one.waits_for], one.writes)
        for one in waits.oldest
    ]
    who = [one.asked_by and (one.asked_by.request, one.asked_by.name) for one in waits.oldest]
    return waits.waiting, totals, rows, who


def test_a_transaction_and_the_result_that_waits_for_it_are_one() -> None:
    known = facts(
        entries=[(at(70), entry(logged(at(71), BOTH, write()), logged(at(70), BOTH, write())))],
        results=[
            result(at(71), BOTH),
            result(at(60), mask(0, 1, 2), request=18, name="", is_early=True),
            result(at(4), 1, request=19, outcome=int(Outcome.ROLLED_BACK)),
            result(at(3), BOTH, request=20, outcome=int(Status.DISCARDED)),
            result(at(6), 1, request=21),
        ],
    )
    total, totals, rows, who = shown(known)
    assert (total, totals) == (6, {0: 1, 1: 3})
    assert rows == [
        (at(71), "waiting", [0, 1], [1], 1),
        (at(70), "waiting", [0, 1], [1], 1),
        (at(60), "waiting", [0, 1, 2], [1], 0),
        (at(6), "waiting", [0], [], 0),
        (at(4), "failed", [0], [0], 0),
        (at(3), "discarded", [0, 1], [], 0),
    ]
    assert who == [(17, "move"), None, (18, ""), (21, "move"), (19, "move"), (20, "move")]


def test_who_reads_what_was_written_last_waits_beside_it_with_the_same_timestamp() -> None:
    """The reader's timestamp is the newest drawn, and its mask is what it read."""
    known = facts(
        entries=[(at(70), entry(logged(at(70), BOTH, write())))],
        results=[
            result(at(70), BOTH, request=19, outcome=int(Outcome.ROLLED_BACK)),
            result(at(70), BOTH, request=17),
            result(at(70), BOTH, request=18, name="value_of"),
        ],
    )
    total, totals, rows, who = shown(known)
    assert (total, totals) == (3, {1: 3})
    assert [(state, writes) for _, state, _, _, writes in rows] == [
        ("waiting", 1), ("failed", 0), ("waiting", 0),
    ]  # fmt: skip
    assert who == [(17, "move"), (19, "move"), (18, "value_of")]
    others = without_writes(known.results, {(at(70), BOTH)})
    assert [one.request for one in others] == [19, 18]


def test_a_session_waits_for_its_commit_or_for_all_partitions() -> None:
    known = facts(
        entries=[(at(70), entry(logged(at(71), mask(0, 1), write())))],
        sessions=[Session(at(71), 4), Session(at(4), 5), Session(at(-9), 6)],
    )
    total, totals, rows, who = shown(known)
    assert (total, totals) == (2, {0: 1, 1: 2, 2: 1})
    assert rows == [
        (at(71), "waiting", [0, 1], [1], 1),
        (at(4), "waiting", [], [0, 1, 2], 0),
    ]
    assert who == [(0, "session"), (0, "session")]


def test_the_oldest_are_shown_and_all_are_counted() -> None:
    some = [(at(90 - i), entry(logged(at(90 - i), BOTH, write()))) for i in range(5)]
    total, totals, rows, _ = shown(facts(entries=some), 2)
    assert (total, totals) == (5, {1: 5})
    assert [row[0] for row in rows] == [at(90), at(89)]


# --- One of them ---------------------------------------------------------------------------------


def one_of(*writes: Write, depends: int = BOTH) -> Logged:
    data = entry(logged(at(50), depends, *writes))
    ((one, _),) = Look(facts(entries=[(at(50), data)])).find(at(50))
    return one


def key(*values: int) -> Write:
    return Write(7, STOCK.pack_key(values), deleted=False)


def test_how_it_came_to_depend_on_whom() -> None:
    behind = [Version(at(51), BOTH), Version(at(52), mask(0, 1, 2)), Version(at(53), 1)]
    rows = [
        (key(2, 6), Chain((Version(at(50), BOTH), Version(at(900), mask(0))))),
        (key(1, 77), Chain((Version(at(9), BOTH), Version(at(50), BOTH), *behind))),
        (Write(8, b"new", deleted=True), Chain((Version(at(50), BOTH),))),
    ]
    found = found_of(
        facts(), one_of(*[row for row, _ in rows], depends=mask(0, 1, 2)), "", rows, TABLES
    )
    assert msgspec.to_builtins(found) == {
        "state": "waiting",
        "why": "for partition 1",
        "age_ms": 50,
        "mask": [0, 1, 2],
        "partitions": [
            {"partition": 0, "watermark": at(5), "passed": True, "behind_ms": 0.0},
            {"partition": 1, "watermark": at(500), "passed": False, "behind_ms": 450.0},
            {"partition": 2, "watermark": at(5), "passed": True, "behind_ms": 0.0},
        ],
        "through": [{"partition": 1, "how": "overwrote"}],
        "writes": 3,
        "rows": [
            {
                "table": "stock",
                "key": "w_id=1 i_id=77",
                "deleted": False,
                "before": {
                    "timestamp": at(51), "mask": [0, 1], "carries": [1], "passed": [0],
                },
                "first": {
                    "timestamp": at(52), "mask": [0, 1, 2], "carries": [1], "passed": [0, 2],
                },
                "versions": 2,
                "note": "",
            },
            {
                "table": "stock",
                "key": "w_id=2 i_id=6",
                "deleted": False,
                "before": {"timestamp": at(900), "mask": [0], "carries": [], "passed": [0]},
                "first": None,
                "versions": 0,
                "note": "",
            },
            {
                "table": "words",
                "key": "'new'",
                "deleted": True,
                "before": None,
                "first": None,
                "versions": 0,
                "note": "",
            },
        ],
        "rows_left_out": 0,
        "asked_by": None,
    }  # fmt: skip


def through(chain: Chain, depends: int = BOTH, **known: Any) -> str:
    one = one_of(key(1, 1), depends=depends)
    found = found_of(facts(**known), one, "", [(key(1, 1), chain)], TABLES)
    return next(each.how for each in found.through if each.partition == 1)


def test_what_no_version_explains_is_not_guessed() -> None:
    own = Version(at(50), BOTH)
    assert through(Chain((own, Version(at(51), 1)))) == "unrecorded"
    assert through(Chain((own, Version(at(600), BOTH)))) == "perhaps", "1 has passed that one"
    assert through(Chain(note="busy")) == "unseen"
    assert through(Chain((Version(at(9), BOTH),))) == "unseen", "its own version is gone"
    one = one_of(key(1, 1), key(1, 2))
    found = found_of(facts(), one, "", [(key(1, 1), Chain((own,)))], TABLES)
    assert [each.how for each in found.through] == ["unseen"]
    assert found.rows_left_out == 1


def test_rows_that_say_something_are_shown_first() -> None:
    dull = Chain((Version(at(50), BOTH), Version(at(51), 1)))
    rows = [(key(1, i), dull) for i in range(30)]
    rows.append((key(1, 99), Chain((Version(at(50), BOTH), Version(at(51), BOTH)))))
    found = found_of(facts(), one_of(*[row for row, _ in rows]), "", rows, TABLES, 3)
    assert [row.key for row in found.rows] == ["w_id=1 i_id=99", "w_id=1 i_id=0", "w_id=1 i_id=1"]
    assert (found.rows_left_out, found.through[0].how) == (28, "overwrote")


def test_the_own_log_may_be_what_it_waits_for() -> None:
    one = one_of(key(1, 1), depends=0)
    behind = {0: Counted(3, at(60)), 1: Counted(8, at(5)), 2: Counted(1, at(5))}
    found = found_of(facts(watermarks=behind), one, "", [], TABLES)
    assert (found.state, [each.how for each in found.through]) == ("waiting", ["here"])


def test_what_is_durable_or_discarded_waits_for_nobody() -> None:
    all_of = dict.fromkeys(range(3), Counted(1, at(50)))
    found = found_of(facts(watermarks=all_of), one_of(key(1, 1)), "", [], TABLES)
    assert (found.state, found.why) == ("durable", "all partitions of its mask have passed it")
    early = facts(watermarks=all_of, limit=at(51))
    assert found_of(early, one_of(key(1, 1)), "", [], TABLES).why.endswith("passed it")
    gone = found_of(facts(), one_of(key(1, 1)), "by epoch 9", [], TABLES)
    assert (gone.state, gone.why, gone.through) == ("discarded", "by epoch 9", [])


def test_what_wrote_nothing_is_known_by_who_waits_for_it() -> None:
    found = found_result(facts(), result(at(50), BOTH))
    assert (found.state, found.writes, found.mask) == ("waiting", 0, [0, 1])
    assert [(each.partition, each.how) for each in found.through] == [(1, "unrecorded")]
    assert found.asked_by is not None
    assert found.asked_by.name == "move"
    failed = found_result(facts(), result(at(50), BOTH, outcome=int(Outcome.EXISTS)))
    assert failed.why.startswith("it failed")
    told = found_result(facts(), result(at(50), BOTH, outcome=int(Status.DISCARDED)))
    assert told.state == "discarded"
    waits = found_session(facts(), Session(at(50), 4))
    assert (waits.state, waits.mask, waits.through) == ("waiting", [], [])
    assert [lag.partition for lag in waits.partitions if not lag.passed] == [1]


def test_keys_for_people() -> None:
    assert TABLES.key(key(3, 4)) == "w_id=3 i_id=4"
    assert TABLES.key(Write(7, b"\xff" * 8, deleted=False)) == "0x" + "ff" * 8
    assert TABLES.key(Write(8, b"it's \\", deleted=False)) == repr("it's \\")
    assert TABLES.key(Write(8, b"\n", deleted=False)) == "0x0a"
    assert TABLES.key(Write(8, b"\xe4", deleted=False)) == "0xe4"
    long = TABLES.key(Write(8, b"x" * 4096, deleted=False))
    assert (len(long), long[-1]) == (80, "…")
    assert TABLES.key(Write(9, b"\1", deleted=False)) == "0x01"
    assert TABLES.name(9) == "number 9"
    described = Tables({7: STOCK}, frozenset({7}))
    assert described.key(key(3, 4)) == "0x" + STOCK.pack_key((3, 4)).hex()
