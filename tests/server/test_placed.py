"""A folder knows where its rows are, and a start that would look elsewhere is refused."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mako.config.schema import ShardsSection
from mako.config.shards import shard_map
from mako.errors import ConfigError
from mako.placement import UNDIVIDED, ShardMap, by_hash
from mako.replication.contract import ProcessMustEnd
from mako.server.folder import Folder, FolderState
from mako.server.placed import (
    NOTE_SECONDS,
    OWN,
    Placed,
    check_placed,
    fingerprint_of,
    placed_by,
    rule_of,
)
from mako.server.serving import REQUESTS_TABLE
from mako.storage.errors import DiskFailed, DiskFull
from mako.storage.memory_disk import MemoryDisk

CUT = {"range": ["g", "p"]}
BLOCKS = {"blocks": 4, "bits": 16, "first": 1}
LATER = NOTE_SECONDS


def mapped(partitions: int = 3, default: Any = "hash", **tables: Any) -> ShardMap:
    def error(keys: tuple[str, ...], problem: str) -> ConfigError:
        raise AssertionError(problem)

    return shard_map(ShardsSection(default=default, tables=tables), partitions, error)


def replicas(*names: str) -> Any:
    """Of two partitions that have the tables."""
    return 2 * [SimpleNamespace(described=[SimpleNamespace(name=name) for name in names])]


class Noted:
    """A folder that is written to, as often as it takes it."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.folder = Folder(self.disk, "p1")
        self.folder.write(FolderState(9, 1, formed=True))
        self.error: Exception | None = None
        self.writes = 0

    def write(self, state: FolderState) -> None:
        if self.error is not None:
            raise self.error
        self.folder.write(state)
        self.writes += 1

    def started(self, shards: ShardMap) -> Placed:
        """A process with this configuration, on what was written."""
        self.writes = 0
        return Placed(shards, self.state, self.write, "data/p1")

    @property
    def state(self) -> FolderState:
        found = self.folder.load()
        assert found is not None
        return found


def test_rules_as_text() -> None:
    shards = mapped(words=CUT, stock=BLOCKS, item="everywhere", same="hash")
    assert placed_by(shards, ["words", "stock", "item", "same", "raw", "same"]) == {
        "hash": ["raw", "same"],
        "range 0x67 0x70": ["words"],
        "range 0x0005000000000000 0x0009000000000000": ["stock"],
        "everywhere": ["item"],
    }
    alone = mapped(1, item="everywhere", words={"range": []})
    assert {rule_of(each) for each in alone.tables.values()} == {"hash"}


def test_maps_that_mean_the_same_have_the_same_fingerprint() -> None:
    one = fingerprint_of(mapped(a="everywhere", b=CUT))
    assert one == fingerprint_of(mapped(b=CUT, a="everywhere", c="hash"))
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
    noted.started(by_hash(2)).note(replicas(), 0)
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
    noted.started(mapped(words=CUT)).note(replicas("words", "raw"), 0)
    says = r"^table words of data/p1 is placed by range 0x67 0x70, and by .* correct `shards`"
    with pytest.raises(ConfigError, match=says) as refused:
        noted.started(later)
    assert "\n" not in str(refused.value)
    noted.started(mapped(words=CUT))


def test_a_table_without_a_rule_gets_none_later() -> None:
    noted = Noted()
    noted.started(mapped()).note(replicas("raw"), 0)
    with pytest.raises(ConfigError, match="table raw of data/p1 is placed by hash, and by every"):
        noted.started(mapped(raw="everywhere"))
    with pytest.raises(ConfigError, match="table raw of data/p1 is placed by hash, and by range"):
        noted.started(mapped(default=CUT))


def test_a_table_that_is_not_there_yet_gets_any_rule() -> None:
    noted = Noted()
    noted.started(mapped(words="everywhere")).note(replicas("raw"), 0)
    noted.started(mapped(words=CUT)).note(replicas("raw", "words"), 0)
    assert noted.state.placed == {"hash": ["raw"], "range 0x67 0x70": ["words"]}


def test_the_table_of_each_partition_is_not_placed() -> None:
    assert REQUESTS_TABLE.name == OWN
    noted = Noted()
    noted.started(mapped()).note(replicas(OWN), 0)
    noted.started(mapped(default=CUT))


def test_only_new_tables_are_written_and_once_a_second() -> None:
    noted = Noted()
    placed = noted.started(mapped())
    for turn in range(5):
        placed.note(replicas("raw"), turn * LATER)
    assert noted.writes == 1
    placed.note(replicas("raw", "words"), 4.5 * LATER)
    assert noted.writes == 1
    # One that has taken the place of another one.
    placed.note(replicas("words"), 5 * LATER)
    assert noted.writes == 2
    assert noted.state.placed == {"hash": ["raw", "words"]}
    noted.started(mapped()).note(replicas("raw", "words"), 0)
    assert not noted.writes


def test_a_full_disk_is_asked_again_and_a_failed_one_ends_the_process() -> None:
    noted = Noted()
    placed = noted.started(mapped())
    noted.error = DiskFull("full")
    placed.note(replicas("raw"), 0)
    noted.error = None
    placed.note(replicas("raw"), 0.5 * LATER)
    assert not noted.state.placed, "not in every turn"
    placed.note(replicas("raw"), LATER)
    assert noted.state.placed == {"hash": ["raw"]}
    noted.error = DiskFailed("input/output error")
    with pytest.raises(ProcessMustEnd, match="input/output error"):
        placed.note(replicas("raw", "words"), 2 * LATER)


def test_as_many_tables_as_there_can_be_are_read_again() -> None:
    noted = Noted()
    names = [f"{number:05}" + "x" * 200 for number in range(32_000)]
    noted.started(mapped()).note(replicas(*names), 0)
    assert noted.state.placed == {"hash": names}


def test_what_others_have_placed_is_looked_for_there() -> None:
    check_placed({}, mapped(words=CUT), "it", "go")  # Of a version that did not note them.
    there = placed_by(mapped(words=CUT), ["words", "raw"])
    check_placed(there, mapped(words=CUT, item="everywhere"), "it", "go")
    with pytest.raises(ConfigError, match=r"table words of it is placed by range .* stays: go"):
        check_placed(there, mapped(), "it", "go")
    with pytest.raises(ConfigError, match="table raw of it is placed by hash, and by range"):
        check_placed(there, mapped(words=CUT, raw=CUT), "it", "go")


def test_a_folder_of_a_newer_version_is_not_given_up() -> None:
    noted = Noted()
    assert "placed" not in json.loads(noted.disk.contents("state.json")), "older ones can read it"
    fields = json.loads(noted.disk.contents("state.json"))
    noted.disk.damage("state.json", json.dumps(fields | {"colour": 1}).encode())
    with pytest.raises(ConfigError, match=r"^p1/state.json has 'colour', .* start the version"):
        noted.folder.load()
