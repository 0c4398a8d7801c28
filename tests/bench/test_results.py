"""The folder of `--report` on a disk that is full, and figures that such a disk must not cost."""

import errno
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import machine, session
from bench.results import ResultsFolder
from bench.workload import Progress
from mako.cli import main
from mako.errors import ConfigError
from tests.bench.fakes import FakeBenchmark, FakeDatabase
from tests.bench.runs import FakeRun

Fakes = Callable[[FakeBenchmark], FakeDatabase]
RUN = ("bench", "tpcc", "run", "--scale", "tiny", "--workers", "1", "--seconds", "3")
EARLIER = ("intervals.jsonl", "summary.json", "report.html")


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that is asked for the version, and may not write, would leave its lock here."""
    monkeypatch.setattr(machine, "describe", dict)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, as if the disk was full: the error is another one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def earlier_in(folder: Path) -> Path:
    """`folder` with a report of an earlier run."""
    for name in EARLIER:
        (folder / name).write_text(f"earlier {name}")
    return folder


def test_a_full_disk_costs_no_figures(
    capsys: pytest.CaptureFixture[str], fakes: Fakes, tmp_path: Path
) -> None:
    fakes(FakeBenchmark())
    with files_up_to(2000):
        status = main([*RUN, "-o", "json", "--report", str(tmp_path)])
    output = capsys.readouterr()
    assert status == 2
    summary = json.loads(output.out)
    assert summary["result"] == "PASS"
    (note,) = summary["notes"]
    assert note.startswith(f"--report: cannot write to {tmp_path} (file too large): intervals")
    refused = f"mako: --report: cannot write to {tmp_path} (file too large); the figures are in"
    assert output.err.splitlines()[-1].startswith(refused)
    assert "Traceback" not in output.err
    # Whole lines, and nothing else.
    (left,) = tmp_path.iterdir()
    lines = left.read_text().splitlines()
    assert 0 < len(lines) < 5
    assert f"ends before t={json.loads(lines[-1])['t'] + 1:.1f}" in note


def test_a_full_output_costs_no_report(
    capsys: pytest.CaptureFixture[str],
    fakes: Fakes,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fakes(FakeBenchmark())
    monkeypatch.setattr(session, "print_closing", full)
    assert main([*RUN, "--report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "mako: No space left on device\n"
    assert json.loads((tmp_path / "summary.json").read_text())["result"] == "PASS"


def test_a_failed_check_outranks_a_full_disk(fakes: Fakes, tmp_path: Path) -> None:
    fakes(FakeBenchmark(failing=("3.3.2.8",)))
    with files_up_to(2000):
        assert main([*RUN, "--report", str(tmp_path)]) == 1


def test_what_comes_of_closing_a_file_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Unclosable:
        def close(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = ResultsFolder(tmp_path)
    with folder._intervals:
        monkeypatch.setattr(folder, "_intervals", Unclosable())
        folder.close()


class Unloadable(FakeBenchmark):
    """Ends the run while it loads."""

    def prepare(self, db: Any, progress: Progress) -> None:
        raise ConfigError("too small")


def test_the_report_of_an_earlier_run_stays_until_there_is_one_of_this(
    fakes: Fakes, tmp_path: Path
) -> None:
    folder = earlier_in(tmp_path)
    fakes(Unloadable())
    assert main([*RUN, "--report", str(folder)]) == 2
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        name: f"earlier {name}" for name in EARLIER
    }


class Terminated(FakeBenchmark):
    """Is ended by SIGTERM while it loads."""

    def prepare(self, db: Any, progress: Progress) -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "it would end the tests"
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def sigterm_ends() -> Iterator[None]:
    """Whatever whoever runs the tests has made of it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm_ends")
def test_sigterm_before_the_drive_is_an_interrupt(
    capsys: pytest.CaptureFixture[str], fakes: Fakes, tmp_path: Path
) -> None:
    fakes(Terminated())
    assert main([*RUN, "--report", str(earlier_in(tmp_path))]) == 130
    assert capsys.readouterr().err.strip() == "mako: interrupted"
    assert {file.name for file in tmp_path.iterdir()} == set(EARLIER)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_first_interval_of_a_run_ends_the_report_of_an_earlier_one(tmp_path: Path) -> None:
    folder = ResultsFolder(earlier_in(tmp_path))
    for interval in FakeRun().run().intervals[:2]:
        assert folder.append(interval) == ""
    (left,) = tmp_path.iterdir()
    assert [json.loads(line)["t"] for line in left.read_text().splitlines()] == [-1.0, 0.0]
    folder.close()
