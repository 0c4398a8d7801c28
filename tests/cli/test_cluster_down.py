"""`cluster.sh down` ends what `up --detach` has left running, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mako.cli import cluster
from mako.cli.app import run

FILE = Path(__file__).parents[2] / "config" / "1c1s3r1p_cluster_test.yml"
NOTHING = "nothing runs that `up --detach` has started\n"
#: Says that it is there, and ends when it is told to, or not even then.
WAITS = """
import signal, sys
how = signal.SIG_IGN if sys.argv[1] == "stubborn" else signal.SIG_DFL
signal.signal(signal.SIGTERM, how)
print("here", flush=True)
signal.pause()
"""


class Left:
    """A folder with the numbers of processes."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, name: str, *words: str, how: str = "") -> subprocess.Popen[str]:
        """A process with these words in its command line, of which the file says that it is
        process `name`."""
        made = subprocess.Popen(
            [sys.executable, "-c", WAITS, how, *words], stdout=subprocess.PIPE, text=True
        )
        self.begun.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == "here\n"
        self.write(name, f"{made.pid}\n")
        return made

    def write(self, name: str, text: str) -> None:
        (self.data / f"{name}.pid").write_text(text)

    @property
    def names(self) -> list[str]:
        return sorted(file.stem for file in self.data.glob("*.pid"))

    def close(self) -> None:
        for each in self.begun:
            each.kill()
            each.communicate()


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Left]:
    monkeypatch.chdir(tmp_path)
    made = Left(tmp_path)
    try:
        yield made
    finally:
        made.close()


def down() -> int:
    return run(cluster.cluster, "cluster.sh", ["down", "-f", str(FILE)])


def test_those_that_the_files_name_are_ended(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = [left.begin(name, "server", "--process", name) for name in ("p1", "localhost")]
    assert down() == 0
    assert capsys.readouterr().out == "localhost: ended\np1: ended\n"
    assert [each.wait() for each in ended] == [-15, -15]
    assert left.names == []


@pytest.mark.parametrize(
    "words", [(), ("p1",), ("server", "--process", "p2"), ("server", "--process", "p11")]
)
def test_a_process_that_was_given_the_number_of_one_is_left_alone(
    left: Left, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """The one that the file names has ended long ago, as when the host was restarted."""
    stranger = left.begin("p1", *words)
    assert down() == 0
    assert capsys.readouterr().out == NOTHING
    assert stranger.poll() is None
    assert left.names == [], "the file says nothing any more"


@pytest.mark.parametrize("text", ["", "p1", "-1", "0", f"{1 << 30}\n"])
def test_a_file_that_names_no_process_is_removed(
    left: Left, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    left.write("p1", text)
    assert down() == 0
    assert capsys.readouterr().out == NOTHING
    assert left.names == []


def test_one_that_does_not_end_is_told_of_and_known_on(
    left: Left, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_END_SECONDS", 0.0)
    stubborn = left.begin("p1", "server", "--process", "p1", how="stubborn")
    assert down() == 1
    said = capsys.readouterr()
    assert said.err == f"p1: process {stubborn.pid} does not end; it was sent SIGTERM\n"
    assert "ended" not in said.out
    assert stubborn.poll() is None
    assert left.names == ["p1"]
