"""`mako restore`: folders of processes are made from the whole of a backup, or there are none."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mako.cli.app import main
from mako.config import load
from mako.errors import ConfigError
from mako.server import restoring
from mako.server.folder import RESTORING, Folder, FolderState
from mako.server.plan import ServerPlan, group_of
from mako.server.planning import plan_of
from mako.storage.backup import Backup, BackupWriter
from mako.storage.disk import Disk
from mako.storage.errors import DiskFull
from mako.storage.memory_disk import MemoryDisk
from mako.storage.os_disk import OsDisk
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.wal import Identity
from tests.storage.building import SMALL, entry, meta, opened
from tests.storage.failing import FailingDisk, Stopped
from tests.storage.test_snapshot import some_rows

ROOT = Path(__file__).parents[2]
CLUSTER = 7
ROWS = some_rows(30, 500)
#: The last entry of each partition.
LAST = 15


def write_backup(disk: Disk, partitions: int, *, last: int = LAST, term: int = 3) -> None:
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
            writer.add_log([entry(index, term) for index in range(11, last + 1)])
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

    def plan(self, partitions: int, name: str) -> ServerPlan:
        plan = plan_of(load([self.file(partitions)]), name, data=str(self.data))
        return replace(plan, wal=SMALL)

    def restore(self, partitions: int, *options: str) -> int:
        return main(self.command(partitions, *options))

    def command(self, partitions: int, *options: str) -> list[str]:
        data = ["--data", str(self.data)]
        file = str(self.file(partitions))
        return ["restore", "-f", file, *data, *options, str(self._backup)]


def saved(*, last: int = LAST, term: int = 3) -> Backup:
    disk = MemoryDisk()
    write_backup(disk, 1, last=last, term=term)
    return Backup(disk)


def what_is_in(disk: Disk, plan: ServerPlan) -> str:
    """As a process that starts sees it: nothing, a restore that did not end, or all."""
    folder = Folder(disk, "here")
    if disk.exists(RESTORING):
        with pytest.raises(ConfigError, match=r"^the restore into here did not end; run it again"):
            folder.read(plan.cluster_id, plan.process)
        return "marked"
    state = folder.read(plan.cluster_id, plan.process)
    if not state.formed:
        assert (disk.list("wal"), disk.list("snapshots")) == ([], [])
        return "nothing"
    wal = opened(disk, plan.wal, Identity(plan.cluster_id, plan.process))
    store = SnapshotStore(disk, "snapshots", plan.cluster_id)
    store.recover({group: wal.storage(group).snapshot_meta() for group in wal.groups()})
    assert wal.groups() == [replica.group for replica in plan.replicas]
    for group in wal.groups():
        assert wal.storage(group).last_index() == LAST
        assert list(store.open(group, wal.storage(group).snapshot_meta()).rows()) == ROWS
    return "all"


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


@pytest.mark.parametrize("again", [False, True])
def test_a_power_cut_at_any_moment_leaves_nothing_that_looks_whole_and_is_not(
    tmp_path: Path, seed: int, *, again: bool
) -> None:
    """Nor does one while it is restored again, after a power cut at the worst of moments."""
    place = Place(tmp_path, 1)
    plan, config = place.plan(1, "p0"), load([place.file(1)])
    backup, later = saved(), saved(last=LAST + 5, term=4)

    def restore(disk: Disk) -> None:
        restoring.mark(disk)
        restoring.fill(disk, backup, config, plan)
        restoring.unmark(disk)

    def disk_before() -> FailingDisk:
        disk = FailingDisk()
        if again:  # With another backup, of which nothing may be left.
            restoring.mark(disk)
            restoring.fill(disk, later, config, plan)
            disk.crash()
            disk.operations.clear()
        return disk

    whole = disk_before()
    restore(whole)
    found = set()
    for stop_at in range(1, len(whole.operations) + 2):
        for chance in (None, random.Random(seed + stop_at)):
            disk = disk_before()
            disk.stop_at = stop_at
            try:
                restore(disk)
            except Stopped:
                pass
            else:
                assert stop_at > len(whole.operations)
            disk.crash(chance)
            disk.stop_at = 0
            found.add(left := what_is_in(disk, plan))
            assert left == "all" or stop_at <= len(whole.operations), "it has ended"
            if left != "all":
                restore(disk)
                disk.crash(chance)
                assert what_is_in(disk, plan) == "all"
    assert found == {"marked", "all"} | ({"nothing"} if not again else set())


def test_a_power_cut_while_a_restore_is_undone_leaves_nothing_either(
    tmp_path: Path, seed: int
) -> None:
    place = Place(tmp_path, 1)
    plan, config = place.plan(1, "p0"), load([place.file(1)])
    backup, found = saved(), list[str]()
    while found[-1:] != ["end"]:
        disk = FailingDisk()
        restoring.mark(disk)
        restoring.fill(disk, backup, config, plan)
        disk.operations.clear()
        disk.stop_at = len(found) + 1
        try:
            restoring.undo(disk)
        except Stopped:
            disk.crash(random.Random(seed + len(found)))
            found.append(what_is_in(disk, plan))
        else:
            disk.crash()
            assert what_is_in(disk, plan) == "nothing"
            found.append("end")
    assert set(found) <= {"marked", "nothing", "end"}
    assert "marked" in found


def test_a_restore_that_was_killed_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first process was complete by then, and the second one nearly."""
    place = Place(tmp_path, 2)
    killed = """
import os, signal, sys
from mako.cli.app import main
from mako.server.folder import Folder
write = Folder.write
def kill(self, state):
    write(self, state)
    if state.process == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Folder.write = kill
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", killed, *place.command(2)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, b"", b"")
    for name in ("p0", "p1"):
        assert what_is_in(OsDisk(place.data / name), place.plan(2, name)) == "marked"

    assert place.restore(2) == 0
    wanted = [f"{name}: restored to {place.data / name}" for name in ("p0", "p1")]
    assert capsys.readouterr().out.splitlines() == wanted
    for name in ("p0", "p1"):
        assert what_is_in(OsDisk(place.data / name), place.plan(2, name)) == "all"
    assert place.restore(2) == 2
    assert f"{place.data / 'p0'} is not empty" in capsys.readouterr().err


def test_a_restore_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, 2)
    write = Folder.write

    def fail(folder: Folder, state: FolderState) -> None:
        if state.process == 2:
            raise DiskFull("no room")
        write(folder, state)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", fail)
        assert place.restore(2) == 2
    assert capsys.readouterr() == ("", "mako: no room\n")
    assert list(place.data.iterdir()) == []
    assert place.restore(2) == 0


def test_what_another_restore_is_at_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, 1)
    folder = place.data / "p0"
    folder.mkdir(parents=True)
    disk = OsDisk(folder, lock=True)
    restoring.mark(disk)
    (folder / "state.json").write_text("half of it")
    assert place.restore(1) == 2
    assert "is used by another process" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {RESTORING, "state.json"}
    disk.close()
    assert place.restore(1) == 0
