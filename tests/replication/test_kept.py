"""What a replica remembers for those who ask what waits, and what was discarded."""

from collections.abc import Iterator

import pytest

from mako.engine.layout import C_TIMESTAMP
from mako.log_format import FOOTER_BYTES, HEADER_BYTES, TRANSACTION
from mako.recovery.history import EpochStart
from mako.replication import kept
from mako.replication.kept import Kept, Recoveries, Recovery, unlogged_in
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from tests.replication.test_across import (
    ALL,
    TABLE,
    commit,
    drain,
    fail,
    hear_all,
    lead,
    put,
)
from tests.replication.test_partition import Log, follow

pytestmark = pytest.mark.interpreted


@pytest.fixture
def machines() -> Iterator[tuple[Partition, Partition]]:
    """Two replicas; the first one leads."""
    made = []
    for _ in range(2):
        settings = PartitionSettings(partitions=ALL, memory_bytes=16 << 20, ring_bytes=256 << 10)
        made.append(Partition(settings, [TABLE], lambda: 1_000, transact=put))
    yield made[0], made[1]
    for machine in made:
        machine.close()


def execute(machine: Partition, request: bytes) -> int:
    machine.execute(request)
    assert machine._ahead is not None
    return machine.engine.word(machine._ahead._context + C_TIMESTAMP)


def of(machine: Partition) -> Kept:
    assert machine.across.kept is not None
    return machine.across.kept


def in_entries(entries: tuple[bytes, ...]) -> list[int]:
    """The first transaction of each."""
    return [TRANSACTION.unpack_from(entry, HEADER_BYTES)[0] for entry in entries]


def test_entries_are_numbered_and_forgotten_when_all_is_stable(
    machines: tuple[Partition, Partition],
) -> None:
    leader, _ = machines
    log = Log()
    lead(leader, log, 1)
    first, before = of(leader).entries
    times = []
    for request in (b"\x02ax", b"\x02ay"):
        times.append(execute(leader, request))
        commit(leader, log, 1)
    number, entries = of(leader).entries
    assert number == first
    new = [entry for closed, entry in entries[len(before) :] if len(entry) > 60 and closed]
    assert in_entries(tuple(new)) == times
    hear_all(leader, leader.watermark)
    assert of(leader).entries == (first + len(entries), [])


def test_what_is_in_no_entry_is_read_from_the_rings(
    machines: tuple[Partition, Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, _ = machines
    log = Log()
    lead(leader, log, 1)
    times = [execute(leader, request) for request in (b"\x02ax", b"\x00by", b"\x04cz")]
    found, whole = unlogged_in(leader.engine)
    assert [TRANSACTION.unpack_from(data)[0] for data in found] == times
    assert whole
    monkeypatch.setattr(kept, "RING_BYTES_MAX", len(found[0]) + 1)
    assert unlogged_in(leader.engine) == (found[:1], False)
    drain(leader, log, 1)
    assert unlogged_in(leader.engine) == ([], True)


def test_what_a_discard_took_is_kept_on_every_replica(
    machines: tuple[Partition, Partition],
) -> None:
    leader, follower = machines
    log = Log()
    lead(leader, log, 1)
    logged = execute(leader, b"\x02ax")
    commit(leader, log, 1)
    unlogged = execute(leader, b"\x02by")
    start = EpochStart(1, 1, logged - 1)
    leader.catch_up(fail(start))
    (taken,) = of(leader).taken
    assert (taken.partition, taken.final, taken.is_whole) == (1, logged - 1, True)
    assert logged in in_entries(taken.entries)
    assert [TRANSACTION.unpack_from(data)[0] for data in taken.unlogged] == [unlogged]
    assert taken.number == sum(map(len, (of(leader).entries[1],))) + of(leader).entries[0]
    known = list(leader.across.recoveries)
    assert known[-1] == Recovery(1, 1, logged - 1, 2)
    commit(leader, log, 1)
    assert list(leader.across.recoveries) == known, "its own entry takes nothing more"
    follow(follower, log.entries)
    (taken,) = of(follower).taken
    assert (taken.partition, taken.unlogged) == (1, ())
    assert logged in in_entries(taken.entries)
    assert list(follower.across.recoveries)[-1] == Recovery(1, 1, logged - 1, 1)


def test_a_recovery_that_took_nothing_keeps_nothing(
    machines: tuple[Partition, Partition],
) -> None:
    leader, _ = machines
    log = Log()
    lead(leader, log, 1)
    execute(leader, b"\x04ax")
    leader.catch_up(fail((1, 1, 0)))
    assert of(leader).taken == []
    own, other = leader.across.recoveries
    assert (own, other) == (Recovery(0, 1, 0, 0), Recovery(1, 1, 0, 0))


def test_an_own_epoch_is_a_recovery_too(machines: tuple[Partition, Partition]) -> None:
    leader, _ = machines
    log = Log()
    lead(leader, log, 1)
    execute(leader, b"\x00ax")
    leader.step_down()
    final = leader.watermark
    lead(leader, log, 2)
    assert list(leader.across.recoveries) == [Recovery(0, 1, 0, 0), Recovery(0, 2, final, 1)]


def test_what_is_kept_of_discards_is_bounded(
    machines: tuple[Partition, Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, _ = machines
    log = Log()
    lead(leader, log, 1)
    sizes = []
    for epoch in (1, 2, 3):
        at = execute(leader, b"\x02a" + b"x" * 100)
        (entry,) = (one.data for one in commit(leader, log, 1) if len(one.data) > 100)
        sizes.append(len(entry))
        if epoch == 3:
            break
        leader.catch_up(fail(*[(1, each, at - 1) for each in range(1, epoch + 1)][-1:]))
        commit(leader, log, 1)
    assert [taken.partition for taken in of(leader).taken] == [1, 1]
    monkeypatch.setattr(kept, "DISCARDED_BYTES_MAX", sizes[2] + HEADER_BYTES + FOOTER_BYTES)
    leader.catch_up(fail((1, 3, at - 1)))
    (taken,) = of(leader).taken
    assert (in_entries(taken.entries), taken.is_whole) == ([at], True)


def test_of_a_discard_that_is_too_large_the_beginning_is_kept() -> None:
    taken = kept.Taken(1, 5, 9, (b"x" * 10, b"y" * 10), (b"z" * 10,))
    assert kept._within(taken, 30) == taken
    for limit, entries in ((29, 2), (19, 1), (9, 0)):
        cut = kept._within(taken, limit)
        assert (cut.entries, cut.unlogged) == (taken.entries[:entries], ())
        assert not cut.is_whole


def test_the_last_recoveries_are_remembered_each_once() -> None:
    known = Recoveries()
    for epoch in range(1, 21):
        known.note(EpochStart(2, epoch, 10 * epoch), 1)
    known.note(EpochStart(2, 20, 200), 2)
    assert list(known) == [
        *(Recovery(2, epoch, 10 * epoch, 1) for epoch in range(5, 20)),
        Recovery(2, 20, 200, 3),
    ]
