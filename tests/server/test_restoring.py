"""`mako restore`: folders of processes are made from the whole of a backup, or there are none."""

import json
from pathlib import Path

import pytest

from mako.cli.app import main
from mako.server.plan import group_of
from mako.storage.backup import BackupWriter
from mako.storage.disk import Disk
from mako.storage.memory_disk import MemoryDisk
from mako.storage.os_disk import OsDisk
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.snapshot_store import SnapshotStore
from tests.storage.building import entry, meta
from tests.storage.test_snapshot import some_rows

CLUSTER = 7
ROWS = some_rows(30, 500)
#: The last entry of each partition.
LAST = 15


def write_backup(disk: Disk, partitions: int) -> None:
    """Of another cluster: a snapshot, and a log of a few entries behind it."""
    with BackupWriter(disk, CLUSTER) as writer:
        for partition in range(partitions):
            group, taken = group_of(partition), meta(10, 2)
            store = SnapshotStore(MemoryDisk(), "s", CLUSTER)
            store.recover({})
            pending = store.create(SnapshotHeader(CLUSTER, group, taken, 99))
            for block in pack_rows(ROWS):
                pending.writer.add(block)
            store.commit(pending)
            name = store.name_of(group, taken)
            writer.begin(partition, name)
            writer.add_snapshot(0, store.read(name, 0, name.size))
            writer.end_snapshot()
            writer.add_log([entry(index, 3) for index in range(11, LAST + 1)])
            writer.end()
        writer.finish("mako", 1234)


class Place:
    """A folder with a backup, and configurations for it. Partition n is on process pn."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._backup = folder / "backup"
        self._backup.mkdir()
        write_backup(OsDisk(self._backup), partitions)

    def file(self, partitions: int) -> Path:
        made = self.folder / f"{partitions}.yml"
        document = {
            "site": {"server": [[f"s{n}:{7001 + n}"] for n in range(partitions)]},
            "process": {f"s{n}": f"p{n}" for n in range(partitions)},
            "host": {f"p{n}": "127.0.0.1" for n in range(partitions)},
        }
        made.write_text(json.dumps(document))
        return made

    def restore(self, partitions: int, *options: str) -> int:
        data = ["--data", str(self.data)]
        file = str(self.file(partitions))
        return main(["restore", "-f", file, *data, *options, str(self._backup)])


@pytest.mark.parametrize(("there", "here"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("options", [(), ("--process", "p0")])
def test_a_backup_of_more_or_fewer_partitions_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    there: int,
    here: int,
    options: tuple[str, ...],
) -> None:
    place = Place(tmp_path, there)
    assert place.restore(here, *options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"mako: the number of partitions is {there} in the backup and {here} in the configuration;"
        " restore with a configuration that has those of the backup\n"
    )
    assert not place.data.exists()
    assert place.restore(there, *options) == 0
