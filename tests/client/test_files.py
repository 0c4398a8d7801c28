"""Files that cannot be used are mako errors, and OSErrors, that say which file it is."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mako
from mako import Database

pytestmark = pytest.mark.interpreted


@pytest.mark.parametrize("name", ["no/such/x", ".", "a" * 300, "nul\0"])
@pytest.mark.parametrize("use", [lambda db, path: db.record_log(path), lambda _, p: mako.replay(p)])
def test_a_bad_path_is_refused(
    db: Database, tmp_path: Path, name: str, use: Callable[[Any, Any], Any]
) -> None:
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(mako.FileError, match="name another file") as caught:
            use(db, path)
        assert isinstance(caught.value, mako.Error)
        assert isinstance(caught.value, OSError)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with db.record_log(tmp_path / "log"):
        db[b"a"] = b"1"
    with mako.replay(tmp_path / "log", memory="32MiB") as replayed:
        assert replayed[b"a"] == b"1"


def test_the_number_of_the_error_is_kept(db: Database, tmp_path: Path) -> None:
    with pytest.raises(mako.FileError) as caught:
        db.record_log(tmp_path / "no" / "such")
    assert caught.value.errno == errno.ENOENT
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("file", [None, 7, ["log"]])
def test_what_is_no_file_is_refused(db: Database, file: Any) -> None:
    with pytest.raises(mako.ConfigError, match="neither a path nor a file"):
        db.record_log(file)
    with pytest.raises(mako.ConfigError, match="neither a path nor a file"):
        mako.replay(file)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_said_at_the_end(db: Database) -> None:
    recording = db.record_log("/dev/full")
    db[b"a"] = b"1"
    with pytest.raises(mako.FileError, match=r"/dev/full.*[Nn]o space"):
        recording.close()
    assert db[b"a"] == b"1"
