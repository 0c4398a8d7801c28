"""What a replica shows while another partition is left out, and what it must not show."""

from collections.abc import Iterator
from typing import Final

import pytest

from mako.engine.closing import learn_watermark
from mako.engine.layout import PEERS, WATERMARKS
from mako.errors import Unavailable
from mako.recovery.history import EpochStart, History
from mako.recovery.watermarks import STALLED_MS
from mako.replication.ahead import Ahead
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from tests.replication.test_across import ALL, OTHERS, TABLE, commit, drain, hear_all, lead, put
from tests.replication.test_partition import Log, follow

pytestmark = pytest.mark.interpreted

FAILED, FINE = OTHERS
#: What a snapshot of the own partition names.
OWN_ONLY: Final = 0b001


class Replicas:
    """Two of one partition. Row `a` has the value v everywhere; then X is put there, which waits
    for FAILED. Nobody hears of that one any more."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.first, self.second = self._made(), self._made()
        self.log = Log()
        lead(self.first, self.log, 1)
        self.first.execute(b"\0av")
        commit(self.first, self.log, 1)
        follow(self.second, self.log.entries)
        for each in (self.first, self.second):
            hear_all(each, self.first.watermark)
        self.final = self.first.across.watermarks[FAILED]
        self.first.execute(bytes([1 << FAILED]) + b"ax")
        self.x = self.first.engine.clock

    def _made(self) -> Partition:
        settings = PartitionSettings(partitions=ALL, memory_bytes=16 << 20, ring_bytes=256 << 10)
        return Partition(settings, [TABLE], lambda: self.now_ms, transact=put)

    def go_on(self) -> None:
        """The first one leads, and both have come to the end of its log, behind X."""
        commit(self.first, self.log, 1)
        self.now_ms += 100
        self.first.execute(b"\0bz")
        commit(self.first, self.log, 1)
        follow(self.second, self.log.entries)

    def leave_out(self, *those: Partition) -> None:
        """FAILED stalls, for these; the others have gone on."""
        for each in those:
            each.across.hear(FINE, 0, each.watermark)
            each.across.stable_over(OWN_ONLY)
        self.now_ms += 2 * STALLED_MS

    def failed(self) -> History:
        return History([EpochStart(FAILED, 1, self.final)])


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    made = Replicas()
    yield made
    for each in (made.first, made.second):
        each.close()


def read(machine: Partition, timestamp: int) -> bytes | None:
    """Row `a`; Unavailable if it is not shown."""
    with Ahead(machine.engine, at=timestamp, table=1) as tx:
        value: bytes | None = tx.get(b"a")
        return value


def test_what_waits_for_who_is_left_out_is_shown_by_nobody(replicas: Replicas) -> None:
    first, second = replicas.first, replicas.second
    replicas.go_on()
    replicas.leave_out(first, second)
    for each in (first, second):
        at = each.across.stable_over(OWN_ONLY)
        assert at >= replicas.x > each.stable
        with pytest.raises(Unavailable):
            read(each, at)
        assert read(each, each.stable) == b"v"
        assert each.across.stable_over(OWN_ONLY | 1 << FAILED) == each.stable


def test_a_deposed_leader_does_not_show_what_only_it_had_discarded(replicas: Replicas) -> None:
    """Its workers have heard that FAILED goes on in its next epoch, which its log does not know."""
    old, new, log = replicas.first, replicas.second, replicas.log
    drain(old, log, 1)  # On its way to the other one.
    old.catch_up(replicas.failed())
    old.engine.set_word(old.engine.base + PEERS, 0b111)
    learn_watermark(old.engine.base, FAILED, replicas.x + (50 << 20))
    old.step_down()  # What it would have logged is lost.
    lead(new, log, 2)
    follow(old, log.entries)
    replicas.now_ms += 100
    new.execute(b"\0bz")
    commit(new, log, 2)
    follow(old, log.entries)
    replicas.leave_out(old, new)
    at = old.across.stable_over(OWN_ONLY)
    assert at >= replicas.x
    assert old.engine.word(old.engine.base + WATERMARKS + 8 * FAILED) == replicas.final
    for each in (old, new):
        with pytest.raises(Unavailable):
            read(each, at)
    new.catch_up(replicas.failed())
    commit(new, log, 2)
    follow(old, log.entries)
    for each in (old, new):
        assert read(each, at) == b"v"


def test_who_starts_again_shows_what_was_durable(replicas: Replicas) -> None:
    """Nobody tells it of the partition that is down: its own log says how far that was (K4)."""
    durable = replicas.first.stable
    replicas.go_on()
    again = replicas._made()
    lead(again, replicas.log, 2)
    assert again.stable == replicas.first.stable == durable > 0
    assert read(again, durable) == b"v"
    again.across.hear(FINE, 0, again.watermark)
    assert again.stable == durable, "what was written since then waits as it did"
    again.close()
