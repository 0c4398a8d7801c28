"""Old rows of requests are swept by who leads, for as long as it does."""

import struct
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest
import trio
from trio.testing import MockClock

from mako.engine.engine import Engine
from mako.ids import TABLE_ID_REQUESTS
from mako.server import hub, sweeping
from mako.server.hub import SWEEP_SECONDS, Hub
from mako.server.serving import REQUESTS_TABLE
from mako.server.sessions import ServedSnapshot, ServedTransaction
from mako.server.sweeping import AGE_MAX_MS, Ages, sweep

NOW_MS: Final = 1_795_858_200_000
OLD_MS: Final = NOW_MS - AGE_MAX_MS
LAST: Final = b"\xff" * 17


class Backend:
    """Leads until it has swept once."""

    engine = None
    leads = True
    epoch = 1


def test_nothing_is_deleted_any_more_once_it_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in no log: this replica would have other rows than the others."""
    backend, places = Backend(), list[bytes]()

    def sweep(engine: object, first: bytes, old_ms: int) -> bytes | None:
        places.append(first)
        if len(places) == 3:
            backend.leads = False
        return b"there is more"

    monkeypatch.setattr(hub, "sweep", sweep)
    monkeypatch.setattr(Ages, "look", lambda *_: OLD_MS)

    async def main() -> None:
        with trio.move_on_after(3 * SWEEP_SECONDS):
            await Hub(cast(Any, backend), cast(Any, object()))._sweep()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert places == [b"", b"there is more", b"there is more"]


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(16 << 20, contexts=4)
    made.create_table(REQUESTS_TABLE)
    yield made
    made.close()


def write(engine: Engine, ages_ms: dict[int, int]) -> None:
    """Rows of requests of client 5, by their numbers: so old are they."""
    transaction = ServedTransaction(engine, 0.0)
    for number, age_ms in ages_ms.items():
        key = (5).to_bytes(8, "big") + number.to_bytes(8, "big")
        row = struct.pack("<qq", 0, NOW_MS - age_ms)
        transaction.put(engine.tables[int(TABLE_ID_REQUESTS)], key, row, replace=True)
    transaction.commit()


def numbers(engine: Engine) -> list[int]:
    """Those whose rows are there."""
    snapshot = ServedSnapshot(engine, 0.0)
    table = engine.tables[int(TABLE_ID_REQUESTS)]
    rows, _ = snapshot.scan(table, b"", LAST, 1000, reverse=False)
    snapshot.close()
    return [int.from_bytes(key[8:], "big") for key, _ in rows]


def test_only_what_nobody_sends_again_is_deleted(engine: Engine) -> None:
    """A request whose row is gone would be run once more when it comes again."""
    write(engine, {1: AGE_MAX_MS, 2: AGE_MAX_MS + 1, 3: 0, 4: 10 * AGE_MAX_MS, 5: -1000})
    engine.settle()
    assert sweep(engine, b"", OLD_MS) is None
    engine.settle()
    assert numbers(engine) == [1, 3, 5]
    assert engine.sessions == 0


def test_it_goes_on_where_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "STEP", 2)
    write(engine, {number: AGE_MAX_MS * (number != 3) + 1 for number in range(1, 6)})
    engine.settle()
    first, steps = sweep(engine, b"", OLD_MS), 1
    while first is not None:
        engine.settle()
        assert numbers(engine) == sorted({3, *range(2 * steps + 1, 6)}), "two at a time"
        first, steps = sweep(engine, first, OLD_MS), steps + 1
    engine.settle()
    assert (numbers(engine), steps) == ([3], 3)


MINUTE: Final = 60.0


def looks(ages: Ages, *dates_ms: int, epoch: int = 1, since: float = 0.0) -> list[int | None]:
    """What is old, one look each minute."""
    return [ages.look(epoch, since + minute * MINUTE, date) for minute, date in enumerate(dates_ms)]


def test_what_is_old_has_been_seen_for_as_long() -> None:
    dates = [NOW_MS + minute * 60_000 for minute in range(13)]
    assert looks(Ages(), *dates) == [None] * 10 + dates[:3]


def test_a_clock_that_is_ahead_of_who_led_before_makes_nothing_old() -> None:
    ages = Ages()
    looks(ages, *[NOW_MS + minute * 60_000 for minute in range(11)])
    later = NOW_MS + 7 * AGE_MAX_MS
    found = looks(ages, *[later + minute * 60_000 for minute in range(11)], epoch=2, since=700.0)
    assert found == [None] * 10 + [later]


def test_a_clock_that_is_set_makes_nothing_old() -> None:
    """What is written after it was set back has dates that were there before."""
    forward = [NOW_MS + minute * 60_000 + 5 * AGE_MAX_MS * (minute > 10) for minute in range(21)]
    assert looks(Ages(), *forward)[11:] == forward[1:11]
    back = [NOW_MS + minute * 60_000 - 5 * AGE_MAX_MS * (minute > 10) for minute in range(21)]
    assert looks(Ages(), *back)[11:] == [back[11]] * 10
