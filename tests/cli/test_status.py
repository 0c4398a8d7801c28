"""`mako status`: facts about the installation, for people and for programs."""

import json
import platform
from pathlib import Path

import pytest

from mako.cli import cache, machine, status
from mako.cli.app import main, version_of


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(folder))
    return folder


def test_json_is_one_object_with_documented_names(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    assert main(["status", "--output", "json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    facts = json.loads(out)
    assert list(facts) == [
        "version",
        "python",
        "numba",
        "cores",
        "memory_bytes",
        "memory_available_bytes",
        "cache_folder",
        "cache_warm",
        "servers",
    ]
    assert facts["python"] == platform.python_version()
    assert facts["numba"] == version_of("numba") != ""
    assert facts["cores"] >= 1
    assert 0 < facts["memory_available_bytes"] <= facts["memory_bytes"]
    assert facts["cache_folder"] == str(root)
    assert facts["cache_warm"] is False


def test_looking_creates_nothing(root: Path) -> None:
    assert main(["status"]) == 0
    assert not root.exists()


def test_a_stamp_is_reported(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    cache.make_root(root)
    cache.stamp_file(root, version_of("numba")).touch()
    assert main(["status"]) == 0
    assert "\ncompiled  yes\n" in capsys.readouterr().out


def test_table_is_written_for_a_reader() -> None:
    facts: dict[str, str | int | bool] = {
        "version": "",
        "python": "3.11.9",
        "numba": "0.68.1",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "memory_available_bytes": 5 << 29,
        "cache_folder": "somewhere/mako",
        "cache_warm": False,
        "servers": 3,
    }
    assert status.format_table(facts).splitlines() == [
        "This installation; `mako status -f CONFIG` asks a cluster.",
        "",
        "version   not installed; run `pip install -e .`",
        "python    3.11.9",
        "numba     0.68.1",
        "cores     2",
        "memory    8.0 GiB, 2.5 GiB available",
        "cache     somewhere/mako",
        "compiled  no; run `mako warmup`, or the first use compiles",
        "servers   3 running here",
    ]


def test_output_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAKO_STATUS_OUTPUT", "json")
    assert main(["status"]) == 0
    assert json.loads(capsys.readouterr().out)["servers"] >= 0


def test_servers_are_told_from_other_processes(tmp_path: Path) -> None:
    for number, words in enumerate(
        (
            "python -m mako server --process p1",
            "/x/.venv/bin/python /x/.venv/bin/mako server --process p2",
            "python -m mako status",
            "mako bench server",
            "other server",
            "",
        )
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_text(words.replace(" ", "\0"))
    (tmp_path / "99").mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cmdline").write_text("mako\0server\0")
    assert machine.server_count(tmp_path) == 2
    assert machine.server_count(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_format_bytes(count: int, text: str) -> None:
    assert machine.format_bytes(count) == text


def test_memory_is_the_smaller_of_machine_and_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit, used, meminfo = tmp_path / "max", tmp_path / "current", tmp_path / "meminfo"
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", limit)
    monkeypatch.setattr(machine, "_CGROUP_USED", used)
    monkeypatch.setattr(machine, "_MEMINFO", meminfo)
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:       2000 kB\n")
    machine_total, available = machine.memory_bytes()
    assert available == 2_048_000
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    assert machine.memory_bytes() == (1_000_000, 600_000)
    used.write_text("1000001\n")  # It may be over its limit for a moment.
    assert machine.memory_bytes() == (1_000_000, 0)
    for more_than_there_is in (f"{machine_total + (4 << 20)}\n", "max\n"):
        limit.write_text(more_than_there_is)
        assert machine.memory_bytes() == (machine_total, 2_048_000)
