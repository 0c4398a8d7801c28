"""The versions of rows, read beside whoever writes them."""

from collections.abc import Iterator

import pytest

from mako.engine.layout import C_ACTIVE, NONE
from mako.replication.partition import Partition
from mako.replication.settings import PartitionSettings
from mako.server import chains
from mako.server.chains import Chain, Version, chains_of
from mako.server.waiting import Write
from tests.replication.test_across import ALL, TABLE, lead, put
from tests.replication.test_kept import execute
from tests.replication.test_partition import Log

pytestmark = pytest.mark.interpreted


@pytest.fixture
def leader() -> Iterator[Partition]:
    settings = PartitionSettings(partitions=ALL, memory_bytes=16 << 20, ring_bytes=256 << 10)
    machine = Partition(settings, [TABLE], lambda: 1_000, transact=put)
    lead(machine, Log(), 1)
    yield machine
    machine.close()


def row(key: bytes = b"a", table: int = 1) -> Write:
    return Write(table, key, deleted=False)


def chain(machine: Partition, key: bytes = b"a", stable: int = 0) -> Chain:
    (found,) = chains_of(machine.engine, [row(key)], stable)
    return found


def test_versions_come_newest_first_with_their_masks(leader: Partition) -> None:
    at = [execute(leader, request) for request in (b"\x00ax", b"\x02ay", b"\x04a", b"\x00az")]
    masks = [0b001, 0b011, 0b111, 0b111]
    versions = [Version(*each) for each in zip(at, masks, strict=True)]
    assert chain(leader) == Chain(tuple(versions[::-1]))
    assert chain(leader, stable=at[1]) == Chain(tuple(versions[:0:-1])), "down to a stable one"
    assert chain(leader, stable=at[1] - 1) == Chain(tuple(versions[::-1]))


def test_reading_leaves_nothing_behind(leader: Partition) -> None:
    execute(leader, b"\x02ax")
    before = leader.engine.outcomes(), len(leader.engine._free_contexts)
    for _ in range(3):
        assert len(chain(leader).versions) == 1
    assert (leader.engine.outcomes(), len(leader.engine._free_contexts)) == before
    context = leader.engine.take_context()
    assert leader.engine.word(context + C_ACTIVE) == NONE, "nothing is pinned"
    leader.engine.give_context(context)


def test_what_cannot_be_read_says_why(leader: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    at = execute(leader, b"\x02ax")
    assert chain(leader, b"b").note.startswith("the row is not there any more")
    (found,) = chains_of(leader.engine, [row(table=99)], 0)
    assert found.note == "its table is not there any more"
    monkeypatch.setattr(chains, "VERSIONS_MAX", 1)
    execute(leader, b"\x02ay")
    assert len(chain(leader).versions) == 1
    monkeypatch.undo()
    taken = list(leader.engine._free_contexts)
    leader.engine._free_contexts.clear()
    both = chains_of(leader.engine, [row(), row()], 0)
    assert [each.note.endswith("ask again") for each in both] == [True, True]
    leader.engine._free_contexts += taken
    assert chain(leader).versions[-1].timestamp == at
