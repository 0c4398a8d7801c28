import platform
import subprocess
from pathlib import Path

from bench import machine


def test_describe_has_what_a_reader_asks_for() -> None:
    facts = machine.describe()
    assert {"cpu", "cores", "memory_bytes", "kernel", "python", "numba"} <= set(facts)
    assert facts["python"] == platform.python_version()
    assert isinstance(facts["cores"], int)


def test_cpu_model(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t:  A  CPU @ 3 GHz \nmodel name : B\n")
    assert machine.cpu_model(file) == "A CPU @ 3 GHz"
    assert machine.cpu_model(tmp_path / "missing") == platform.machine()


def test_a_container_with_less_memory_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "memory.current").write_text("48576\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n")
    assert machine.memory_bytes(tmp_path) == 1_048_576
    assert machine.memory_available_bytes(meminfo, tmp_path) == 1_000_000


def test_a_container_without_a_limit_does_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("48576\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 4096 kB\n")
    assert machine.memory_bytes(tmp_path) == machine.memory_bytes(tmp_path / "none")
    assert machine.memory_available_bytes(meminfo, tmp_path) == 4 << 20


def test_a_package_that_is_not_there() -> None:
    assert machine.version_of("no-such-distribution-here") == "not installed"


def test_the_commit_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    assert machine.git_commit(tmp_path) == ""
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    assert len(machine.git_commit(tmp_path)) == 12
    below = tmp_path / "below"
    below.mkdir()
    assert machine.git_commit(below) == ""
