"""Folders that are not opened: in use, somebody else's, of another version, damaged."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

import mako
from mako.errors import ConfigError
from mako.server.folder import Folder, FolderState
from mako.storage.os_disk import OsDisk
from mako.storage.wal_format import SEGMENT_HEADER_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a database with one row."""
    path = tmp_path / "data"
    with mako.open(path, memory="32MiB") as db:
        db.put(b"a", b"1")
    return path


def refused(path: Path, **options: Any) -> str:
    """The one line with which it is refused."""
    with pytest.raises(ConfigError) as caught:
        mako.open(path, memory="32MiB", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opens(path: Path) -> bool:
    with mako.open(path, memory="32MiB") as db:
        return bool(db.get(b"a") == b"1")


def test_a_second_opener_is_refused(folder: Path) -> None:
    with mako.open(folder, memory="32MiB") as db:
        assert refused(folder) == (
            f"{folder} is open already, here or in another process; close it there first"
        )
        assert db.get(b"a") == b"1"
    assert opens(folder)


def test_another_process_is_refused(folder: Path) -> None:
    program = (
        "import mako, sys\n"
        "try:\n"
        "    mako.open(sys.argv[1], memory='32MiB')\n"
        "except mako.ConfigError as error:\n"
        "    print(error)\n"
    )
    with mako.open(folder, memory="32MiB"):
        said = subprocess.run(
            [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
        )
    assert said.stdout == (
        f"{folder} is open already, here or in another process; close it there first\n"
    )


def test_the_folder_of_a_server_is_refused_and_left_alone(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    Folder(disk, str(tmp_path), "").write(FolderState(4711, 2, {"1": 2}, formed=True))
    disk.close()
    before = sorted(tmp_path.rglob("*"))
    line = refused(tmp_path)
    assert line.startswith(f"{tmp_path} belongs to process 2 of cluster 4711; start that with")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_above_those_of_servers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "state.json").write_text("{}")
    line = refused(tmp_path)
    assert "holds the folders of other databases, such as p1; name another folder" in line
    assert [each.name for each in tmp_path.iterdir()] == ["p1"]


def test_a_server_refuses_the_folder_of_an_embedded_database(folder: Path) -> None:
    disk = OsDisk(folder)
    with pytest.raises(ConfigError, match=r"is an embedded database .* open it with mako\.open"):
        Folder(disk, str(folder), "").read(4711, 1)
    disk.close()


def _other_version(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    state["format"] = 99
    (folder / "state.json").write_text(json.dumps(state))


def _other_log_version(folder: Path) -> None:
    header = bytearray(_segment(folder).read_bytes()[:SEGMENT_HEADER_BYTES])
    header[4] = 99
    _change(_segment(folder), 0, header[:-4] + crc32(header[:-4]).to_bytes(4, "little"))


def _segment(folder: Path) -> Path:
    return next(iter(sorted((folder / "wal").glob("*.wal"))))


def _change(file: Path, offset: int, data: bytes | bytearray) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)


def _damaged(folder: Path) -> None:
    """A bit of the first batch flips; what follows it proves that it is no torn end."""
    file = _segment(folder)
    _change(file, 200, bytes([file.read_bytes()[200] ^ 1]))


def _no_log(folder: Path) -> None:
    for file in (folder / "wal").iterdir():
        file.unlink()


def _other_log(folder: Path) -> None:
    other = folder.parent / "other"
    with mako.open(other, memory="32MiB") as db:
        db.put(b"b", b"2")
    _no_log(folder)
    _segment(other).rename(folder / "wal" / _segment(other).name)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another version": (_other_version, r"state\.json cannot be read \(another format\); put a"),
    "another version of the log": (_other_log_version, r"its format version is 99, this program r"),
    "no state.json": (lambda f: (f / "state.json").unlink(), r"has files of a database and no st"),
    "no log": (_no_log, r"the log of .* is gone, and there was one; put a copy of the folder"),
    "another database's log": (_other_log, r"\.wal belongs to cluster \d+, this is cluster"),
    "a damaged segment": (_damaged, r"\.wal is damaged at byte \d+: .*; put a copy of the folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_trusted_is_refused_and_left_as_it_is(folder: Path, name: str) -> None:
    breaks, line = BROKEN[name]
    breaks(folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=line) as caught:
        mako.open(folder, memory="32MiB")
    said = str(caught.value)
    assert "\n" not in said
    assert "learner" not in said
    assert "peers" not in said
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert refused(folder) == said, "and it is not locked"


def test_a_torn_end_is_repaired(folder: Path) -> None:
    with mako.open(folder, memory="32MiB") as db:
        db.put(b"b", b"2")
    # What a power cut leaves of a batch that was never synced: its beginning.
    file = _segment(folder)
    data = file.read_bytes()
    used = len(data.rstrip(b"\0"))
    end = -(-used // 64) * 64
    start = data.rindex(data[256:260], 0, end)
    _change(file, end, data[start : start + 40])
    assert opens(folder)


def test_memory_that_is_too_small_for_what_is_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with mako.open(path, memory="64MiB") as db:
        for number in range(300):
            db.put(b"%d" % number, bytes(100_000))
    with pytest.raises(mako.OutOfMemory, match="more memory"):
        mako.open(path, memory="16MiB")
    with mako.open(path, memory="64MiB") as db:
        assert len(list(db.items())) == 300


@pytest.mark.parametrize("path", ["", None, 3, b"data"])
def test_a_path_is_a_path(path: Any) -> None:
    with pytest.raises(ConfigError, match="give the path of a folder"):
        mako.open(path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(mako.FileError, match="cannot open"):
            mako.open(path)


@pytest.mark.parametrize("size", ["1KiB", 0, "many"])
def test_snapshot_bytes_are_checked(tmp_path: Path, size: Any) -> None:
    refused(tmp_path / "data", snapshot_bytes=size)
    assert not (tmp_path / "data").exists()
