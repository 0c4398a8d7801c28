"""`mako inspect`: what it says of good files, and that no file makes it crash."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mako.cli.inspect import inspect
from mako.storage.errors import Damaged
from mako.storage.log_check import BadEntry, check_entry
from mako.storage.os_disk import OsDisk
from mako.storage.wal import Identity, Wal
from tests.storage.make_vectors import WAL, files_of, groups, logs, snapshots, torn
from tests.storage.test_formats import mangled

LOG_VECTORS = Path(__file__).resolve().parent.parent / "engine" / "testdata" / "log"
SNAPSHOTS = dict(snapshots())
LOGS = dict(logs())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(inspect, [str(argument) for argument in arguments])


def report(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = run(*arguments, "--output", "json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, json.loads(result.output)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def recorded() -> bytes:
    """A log of all good vectors, those of the lowest closed timestamp first."""
    entries: list[bytes] = [
        bytes.fromhex(file.read_text().replace("\n", ""))
        for file in sorted(LOG_VECTORS.glob("*.hex"))
    ]
    entries.sort(key=lambda data: int.from_bytes(data[-28:-20], "little"))
    return b"".join(entries)


# --- Write-ahead logs --------------------------------------------------------------------------


def test_a_good_log_is_summed_up(tmp_path: Path) -> None:
    status, found = report("wal", written(tmp_path, files_of(groups())))
    assert status == 0
    assert found["good"]
    assert [segment["end"] for segment in found["segments"]] == ["clean"] * 4
    wanted = json.loads((WAL / "groups" / "log.json").read_text())["groups"]
    for group in found["groups"]:
        one = wanted[str(group["group"])]
        assert [group["term"], group["vote"], group["commit"]] == one["hard_state"]
        assert [group["snapshot_index"], group["snapshot_term"]] == one["snapshot"]
        assert group["first_index"] == one["base"][0] + 1
        assert group["last_index"] == one["base"][0] + len(one["entries"])
        assert group["entry_bytes"] == sum(len(entry[3]) // 2 for entry in one["entries"])
    assert len(found["groups"]) == len(wanted)


def test_a_torn_tail_is_no_damage_and_is_left_alone(tmp_path: Path) -> None:
    files = files_of(torn())
    status, found = report("wal", written(tmp_path, files))
    assert status == 0
    assert found["segments"][0]["end"] == "torn"
    assert found["groups"][0]["last_index"] == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_a_segment_longer_than_memory_is_reported_and_not_read(tmp_path: Path) -> None:
    written(tmp_path, files_of(torn()))
    (path,) = tmp_path.iterdir()
    with path.open("r+b") as file:
        file.truncate(1 << 42)
    status, found = report("wal", tmp_path)
    assert status == 1
    assert [problem["reason"] for problem in found["problems"]] == [
        f"it has {1 << 42} bytes and was made with {found['problems'][0]['offset']}"
    ]
    with pytest.raises(Damaged, match="bytes and was made with"):
        Wal(OsDisk(tmp_path), "", Identity(193, 3)).recover()


@pytest.mark.parametrize("name", sorted(name for name in LOGS if name.startswith("bad")))
def test_a_damaged_log_is_reported_with_its_place(tmp_path: Path, name: str) -> None:
    status, found = report("wal", written(tmp_path, LOGS[name]))
    assert status == 1
    assert not found["good"]
    wanted = json.loads((WAL / name / "log.json").read_text())
    assert wanted["file"] in [problem["file"] for problem in found["problems"]]
    text = run("wal", tmp_path)
    assert text.exit_code == 1
    assert "DAMAGED" in text.output


def test_one_segment_can_be_looked_at_alone(tmp_path: Path) -> None:
    written(tmp_path, files_of(groups()))
    status, found = report("wal", tmp_path / "0000000000000002.wal", "--records")
    assert status == 0
    records = found["record_list"]
    assert len(records) == sum(found["segments"][0]["records"].values())
    assert {record["type"] for record in records} <= {"entry", "hard_state", "state", "snapshot"}
    assert found["groups"] == []


def test_an_empty_folder_has_no_log(tmp_path: Path) -> None:
    status, found = report("wal", tmp_path)
    assert status == 1
    assert "no segment" in found["problems"][0]["reason"]


# --- Snapshots ---------------------------------------------------------------------------------


def test_a_good_snapshot_is_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_bytes(SNAPSHOTS["rows"])
    status, found = report("snapshot", file)
    assert status == 0
    assert found["rows"] == 4
    assert found["rows_by_table"] == {"1": 2, "2": 1, "32767": 1}
    assert found["digest"] == SNAPSHOTS["rows"][-32:].hex()
    assert (found["index"], found["term"], found["voters"]) == (40, 3, [1, 2, 3])


@pytest.mark.parametrize("name", sorted(name for name in SNAPSHOTS if name.startswith("bad")))
def test_a_damaged_snapshot_is_reported(tmp_path: Path, name: str) -> None:
    file = tmp_path / "s"
    file.write_bytes(SNAPSHOTS[name])
    status, found = report("snapshot", file)
    assert status == 1
    assert found["problems"][0]["file"] == "s"
    assert run("snapshot", file).exit_code == 1


# --- Logs --------------------------------------------------------------------------------------


def test_the_checks_of_an_entry_are_those_of_the_document() -> None:
    good = sorted(LOG_VECTORS.glob("*.hex"))
    bad = sorted((LOG_VECTORS / "bad").glob("*.hex"))
    assert len(good) > 5
    assert len(bad) > 20
    for file in good:
        check_entry(bytes.fromhex(file.read_text().replace("\n", "")))
    for file in bad:
        wanted = json.loads(file.with_suffix(".json").read_text())
        with pytest.raises(BadEntry) as caught:
            check_entry(bytes.fromhex(file.read_text().replace("\n", "")))
        found = {"check": int(caught.value.check), "offset": caught.value.offset}
        assert found == wanted, file.name


def test_a_good_log_of_entries_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(recorded())
    status, found = report("log", file, "--entries")
    assert status == 0, found["problems"]
    assert found["entries"] == len(list(LOG_VECTORS.glob("*.hex"))) == len(found["entry_list"])
    assert run("log", file, "--entries").exit_code == 0


def test_entries_behind_a_bad_one_are_found(tmp_path: Path) -> None:
    data = recorded()
    count = len(list(LOG_VECTORS.glob("*.hex")))
    for at in (0, 16, 40, 70):
        bad = bytearray(data)
        bad[at] ^= 0x55
        file = tmp_path / "log"
        file.write_bytes(bytes(bad))
        status, found = report("log", file)
        assert status == 1
        assert found["entries"] == count - 1
        assert found["problems"][0]["offset"] < 200


# --- Any file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["wal", "snapshot", "log"])
def test_no_file_makes_it_crash(tmp_path: Path, command: str, seed: int) -> None:
    rng = random.Random(seed)
    originals = [SNAPSHOTS["rows"], recorded(), *files_of(groups()).values(), b"", b"MKOW", b"MKOS"]
    for at in range(60):
        file = tmp_path / f"0000000000000{at:03d}.wal"
        data = rng.choice(originals)
        file.write_bytes(mangled(rng, data) if len(data) > 10 else data)
        status, found = report(command, file)
        assert status in (0, 1)
        assert found["good"] == (status == 0)
        assert run(command, file).exit_code == status
    assert report("wal", tmp_path)[0] == 1


@pytest.mark.parametrize("arguments", [["wal"], ["wal", "no-such-file"], ["what", "x"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_folder_is_no_snapshot(tmp_path: Path) -> None:
    assert run("snapshot", tmp_path).exit_code == 2
    assert run("log", tmp_path).exit_code == 2
