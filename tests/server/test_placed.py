"""A folder knows where its rows are, and a start that would look elsewhere is refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from mako.config.schema import ShardsSection
from mako.config.shards import shard_map
from mako.errors import ConfigError
from mako.placement import UNDIVIDED, ShardMap, by_hash
from mako.replication.contract import ProcessMustEnd
from mako.server.folder import Folder, FolderState
from mako.server.placed import Placed, check_rules, check_same, fingerprint_of, rule_of, rules_of
from mako.storage.errors import DiskFailed, DiskFull
from mako.storage.memory_disk import MemoryDisk

CUT = {"range": ["g", "p"]}
BLOCKS = {"blocks": 4, "bits": 16, "first": 1}


def mapped(partitions: int = 3, default: Any = "hash", **tables: Any) -> ShardMap:
    def error(keys: tuple[str, ...], problem: str) -> ConfigError:
        raise AssertionError(problem)

    return shard_map(ShardsSection(default=default, tables=tables), partitions, error)


def engines(*names: str) -> Any:
    tables = {
        number: SimpleNamespace(table=SimpleNamespace(name=n)) for number, n in enumerate(names)
    }
    return [SimpleNamespace(tables=tables)]


class Noted:
    """A folder that is written to, as often as it takes it."""

    def __init__(self) -> None:
        self.state = FolderState(9, 1, formed=True)
        self.folder = Folder(MemoryDisk(), "p1")
        self.error: Exception | None = None
        self.writes = 0

    def write(self, state: FolderState) -> None:
        self.writes += 1
        if self.error is not None:
            raise self.error
        self.folder.write(state)

    def started(self, shards: ShardMap) -> Placed:
        """A process with this configuration, on what was written."""
        self.state = self.folder.load() or self.state
        placed = Placed(shards, self.state, self.write, "data/p1", ("mako.requests",))
        self.state.partitions = shards.partitions
        self.write(self.state)
        self.writes = 0
        return placed


def test_rules_as_text() -> None:
    shards = mapped(words=CUT, stock=BLOCKS, item="everywhere", same="hash")
    assert rules_of(shards) == {
        "": "hash",
        "words": "range 0x67 0x70",
        "stock": "range 0x0005000000000000 0x0009000000000000",
        "item": "everywhere",
    }
    assert {
        rule_of(each) for each in mapped(1, item="everywhere", words={"range": []}).tables.values()
    } == {"hash"}


def test_maps_that_mean_the_same_have_the_same_fingerprint() -> None:
    assert fingerprint_of(mapped(a="everywhere", b=CUT)) == fingerprint_of(
        mapped(b=CUT, a="everywhere", c="hash")
    )
    others = [
        UNDIVIDED,
        by_hash(2),
        by_hash(3),
        mapped(a=CUT),
        mapped(b=CUT),
        mapped(a="everywhere"),
        mapped(default=CUT),
    ]
    assert len({fingerprint_of(each) for each in others}) == len(others)
    assert all(0 < fingerprint_of(each) < 1 << 64 for each in others)
    assert fingerprint_of(by_hash(2)) == 0xB4D9AAC47BC023F3, "as others have it"


def test_the_number_of_partitions_stays() -> None:
    noted = Noted()
    noted.started(by_hash(2))
    noted.started(by_hash(2))
    with pytest.raises(ConfigError) as refused:
        noted.started(by_hash(3))
    assert str(refused.value) == (
        "data/p1 is of a cluster of 2 partitions, and the configuration has 3; their number stays:"
        " correct the configuration, or load the data into a new cluster"
    )


@pytest.mark.parametrize(
    "later", [mapped(), mapped(words="everywhere"), mapped(words={"range": ["g", "q"]})]
)
def test_the_rule_of_a_table_that_is_there_stays(later: ShardMap) -> None:
    noted = Noted()
    noted.started(mapped(words=CUT)).note(engines("words", "raw"))
    with pytest.raises(
        ConfigError, match=r"table words of data/p1 is placed by range 0x67 0x70, and by"
    ) as refused:
        noted.started(later)
    assert "\n" not in str(refused.value)
    noted.started(mapped(words=CUT))


def test_a_table_without_a_rule_gets_none_later() -> None:
    noted = Noted()
    noted.started(mapped()).note(engines("raw"))
    with pytest.raises(
        ConfigError, match="table raw of data/p1 is placed by hash, and by everywhere in"
    ):
        noted.started(mapped(raw="everywhere"))
    with pytest.raises(
        ConfigError, match="table raw of data/p1 is placed by hash, and by range 0x67"
    ):
        noted.started(mapped(default=CUT))


def test_a_table_that_is_not_there_yet_gets_any_rule() -> None:
    noted = Noted()
    noted.started(mapped(words="everywhere")).note(engines("raw"))
    noted.started(mapped(words=CUT)).note(engines("raw", "words"))
    assert noted.state.rules == {"raw": "hash", "words": "range 0x67 0x70"}


def test_tables_of_each_partition_are_not_placed() -> None:
    noted = Noted()
    noted.started(mapped()).note(engines("mako.requests"))
    assert not noted.writes
    noted.started(mapped(default=CUT))


def test_only_new_tables_are_written() -> None:
    noted = Noted()
    placed = noted.started(mapped())
    for _ in range(3):
        placed.note(engines("raw"))
    assert noted.writes == 1
    placed.note(engines("raw", "words"))
    assert noted.writes == 2
    again = noted.started(mapped())
    again.note(engines("raw", "words"))
    assert not noted.writes


def test_a_full_disk_is_asked_again_and_a_failed_one_ends_the_process() -> None:
    noted = Noted()
    placed = noted.started(mapped())
    noted.error = DiskFull("full")
    placed.note(engines("raw"))
    assert not noted.state.rules
    noted.error = None
    placed.note(engines("raw"))
    assert noted.state.rules == {"raw": "hash"}
    noted.error = DiskFailed("input/output error")
    with pytest.raises(ProcessMustEnd, match="input/output error"):
        placed.note(engines("raw", "words"))


def test_a_configuration_is_that_of_the_cluster() -> None:
    check_same(mapped(words=CUT), mapped(words=CUT, raw="hash"))
    with pytest.raises(ConfigError, match="give the configuration with which its processes"):
        check_same(mapped(words=CUT), mapped())


def test_a_backup_is_restored_with_its_own_rules() -> None:
    check_rules({}, mapped(words=CUT))  # Of a version that did not note them.
    check_rules(rules_of(mapped(words=CUT)), mapped(words=CUT, raw="hash"))
    for there, here, what in (
        (mapped(words=CUT), mapped(), "see words: range 0x67 0x70 in the backup, hash here;"),
        (mapped(), mapped(item="everywhere"), "see item: hash in the backup, everywhere here;"),
        (mapped(), mapped(default=CUT), "see default: hash in the backup, range 0x67 0x70 here;"),
    ):
        with pytest.raises(ConfigError, match=what):
            check_rules(rules_of(there), here)
