"""`mako warmup` with a compiler that is a stand-in: progress, the stamp, and refusals."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mako.cli import cache
from mako.cli.app import main, version_of

UNITS = ("tree of one word", "commit")


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(folder))
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    return folder


class Helper:
    """Stands for a process that compiles meanwhile."""

    started: list["Helper"]
    room = 100

    def __init__(self, command: list[str], env: dict[str, str], **streams: int) -> None:
        assert command == [sys.executable, "-P", "-m", "mako.engine.warmup", str(os.getpid())]
        assert env["PYTHONPATH"].split(os.pathsep)[0] == str(Path(__file__).parents[2])
        assert set(streams.values()) == {subprocess.DEVNULL}
        if len(self.started) == self.room:
            raise BlockingIOError("no process can be made")
        self.calls: list[str] = []
        self.started.append(self)

    def terminate(self) -> None:
        self.calls.append("terminate")

    def wait(self) -> None:
        self.calls.append("wait")


@pytest.fixture(autouse=True)
def helpers(monkeypatch: pytest.MonkeyPatch) -> list[Helper]:
    """Those that were started, on a machine of eight processors."""
    monkeypatch.setattr(Helper, "started", [], raising=False)
    monkeypatch.setattr(subprocess, "Popen", Helper)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    return Helper.started


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands for `mako.engine.warmup`, whose package is not imported either."""
    engine, module = ModuleType("mako.engine"), ModuleType("mako.engine.warmup")

    def warmup(progress: Callable[[str, int, int], None]) -> None:
        for done, unit in enumerate(UNITS):
            progress(unit, done, len(UNITS))
        progress("", len(UNITS), len(UNITS))

    module.warmup = warmup  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mako.engine", engine)
    monkeypatch.setitem(sys.modules, "mako.engine.warmup", module)
    return module


@pytest.mark.usefixtures("compiler")
def test_in_a_pipe_progress_is_one_line_per_unit(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    assert main(["warmup"]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[:2] == [
        "compiling 0/2 tree of one word",
        "compiling 1/2 commit",
    ]
    assert printed.out.startswith("compiled, ready in ")
    assert cache.stamp_file(root, version_of("numba")).is_file()


@pytest.mark.usefixtures("compiler")
def test_on_a_terminal_progress_is_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["warmup"]) == 0
    printed = capsys.readouterr()
    assert "2/2" in printed.err
    assert "\x1b[" in printed.err


@pytest.mark.usefixtures("compiler")
def test_the_first_time_other_processors_help(
    helpers: list[Helper], monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    assert main(["warmup"]) == 0
    assert [each.calls for each in helpers] == [["terminate", "wait"]] * 3
    assert main(["warmup"]) == 0
    assert len(helpers) == 3, "it is compiled"
    cache.stamp_file(root, version_of("numba")).unlink()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    assert main(["warmup"]) == 0
    assert len(helpers) == 3, "there is no other one"


@pytest.mark.usefixtures("compiler")
def test_where_there_is_room_for_one_helper_it_is_one(
    helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Helper, "room", 1)
    assert main(["warmup"]) == 0
    assert [each.calls for each in helpers] == [["terminate", "wait"]]


def test_a_failed_compilation_leaves_no_stamp(
    compiler: ModuleType, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    def fail(_progress: Callable[[str, int, int], None]) -> None:
        raise AssertionError("does not compile")

    monkeypatch.setattr(compiler, "warmup", fail)
    with pytest.raises(AssertionError, match="does not compile"):
        main(["warmup"])
    assert list(root.iterdir()) == []
    assert [each.calls for each in helpers] == [["terminate", "wait"]] * 3


def test_nothing_to_compile_without_the_jit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert main(["warmup"]) == 2
    assert "unset it" in capsys.readouterr().err
