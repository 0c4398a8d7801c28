"""Where compiled code goes, on accounts with and without a home, and when its stamp holds."""

import os
import tempfile
from pathlib import Path

import pytest

from mako.cli import cache
from mako.errors import ConfigError


def test_a_named_folder_comes_before_all_others(tmp_path: Path) -> None:
    environment = {"MAKO_CACHE_DIR": str(tmp_path), "XDG_CACHE_HOME": "x", "HOME": "y"}
    assert cache.cache_root(environment) == tmp_path


def test_a_relative_folder_is_meant_from_here() -> None:
    root = cache.cache_root({"MAKO_CACHE_DIR": "here"})
    assert root == Path.cwd() / "here"


def test_shared_cache_folder_of_the_desktop(tmp_path: Path) -> None:
    environment = {"MAKO_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path), "HOME": "y"}
    assert cache.cache_root(environment) == tmp_path / "mako"


def test_an_empty_home_is_enough(tmp_path: Path) -> None:
    root = cache.cache_root({"HOME": str(tmp_path)})
    assert root == tmp_path / ".cache" / "mako"
    cache.make_root(root)
    assert root.stat().st_mode & 0o077 == 0


def test_without_a_usable_home_a_private_temporary_folder(tmp_path: Path) -> None:
    private = Path(tempfile.gettempdir()) / f"mako-cache-{os.getuid()}"
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    assert cache.cache_root({}) == private
    assert cache.cache_root({"HOME": str(not_a_folder)}) == private


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="set MAKO_CACHE_DIR"):
        cache.make_root(tmp_path / "file" / "below")


def test_a_root_of_another_account_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another account"):
        cache.make_root(tmp_path)


def test_fingerprint_follows_the_sources_of_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "cli").mkdir()
    engine, bottom = tmp_path / "engine" / "tree.py", tmp_path / "schema.py"
    for file in (engine, bottom):
        file.write_text("a = 1\n")
    seen = [cache.fingerprint(tmp_path, "1")]
    engine.write_text("a = 2\n")
    seen.append(cache.fingerprint(tmp_path, "1"))
    bottom.write_text("a = 2\n")
    seen.append(cache.fingerprint(tmp_path, "1"))
    engine.rename(engine.with_name("leaf.py"))
    seen.append(cache.fingerprint(tmp_path, "1"))
    seen.append(cache.fingerprint(tmp_path, "2"))
    assert len(set(seen)) == len(seen)

    (tmp_path / "cli" / "status.py").write_text("a = 1\n")
    assert cache.fingerprint(tmp_path, "2") == seen[-1]
