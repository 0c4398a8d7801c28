"""`cluster.sh up` leaves no process behind, and holds none up. No servers are started here."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from mako.cli import cluster
from mako.cli.app import run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "1c1s3r1p_cluster_test.yml"
NAMES = ("localhost", "p1", "p2")
#: Seconds for what takes none.
PATIENCE = 60.0

#: `cluster.sh up` with other processes than it would have. Which signals are ignored is not up to
#: whoever runs the tests: SIGINT is in the background of a script, SIGHUP by `nohup`.
UP = """
import os, signal, sys
from mako.cli import cluster
from mako.cli.app import run
code, interrupted, file, ignored = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
def command(name, files):
    if name == interrupted:
        print(open("begun").read(), file=sys.stderr)
        os.kill(os.getpid(), signal.SIGINT)
    return [sys.executable, "-c", code]
cluster._command = command
raise SystemExit(run(cluster.cluster, "cluster.sh", ["up", "-f", file]))
"""
#: Says its number, and waits until it is told to end.
WAITS = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(os.getpid(), flush=True)
signal.pause()
"""
#: The same, and has always something to say.
TALKS = WAITS.replace("signal.pause()", "while True: print('it goes on', flush=True)")
#: The same, and whoever has opened the pipe `begun` is told its number, too.
TELLS = WAITS.replace("signal.pause", "open('begun', 'w').write(str(os.getpid())); signal.pause")
#: Says more than a pipe holds, and ends.
ENDS = "print('a line\\n' * 100_000)"


class Up:
    """`up`, which runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun: list[int] = []
        self.process: subprocess.Popen[str] | None = None

    def start(
        self,
        code: str,
        interrupted: str = "",
        *,
        ignored: str = "",
        stdout: IO[str] | int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, code, interrupted, str(FILE), ignored],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process

    def read(self, count: int) -> None:
        """What they show, until so many have said their number."""
        assert self.process is not None
        assert self.process.stdout is not None
        while len(self.begun) < count:
            word = self.process.stdout.readline().split()[-1]
            if word.isdigit():
                self.begun.append(int(word))

    def end(self) -> None:
        """Whatever is left of it, and of those that it did not tell of."""
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        for number in self.begun:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    made = Up(tmp_path)
    try:
        yield made
    finally:
        made.end()


def runs(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_in_order(up: Up, told: signal.Signals) -> None:
    process = up.start(WAITS)
    up.read(3)
    process.send_signal(told)
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (0, "")
    assert not any(map(runs, up.begun))


def test_who_has_been_started_when_it_is_interrupted_ends_too(up: Up) -> None:
    os.mkfifo(up.folder / "begun")
    process = up.start(TELLS, NAMES[1])
    shown, said = process.communicate(timeout=PATIENCE)
    up.begun.append(int(said.split()[0]))
    assert not runs(up.begun[0])
    assert NAMES[0] in shown
    assert NAMES[2] not in shown, "no more are started"


def test_a_signal_that_is_ignored_stays_so(up: Up) -> None:
    """As by `nohup`."""
    process = up.start(WAITS, ignored="SIGHUP")
    up.read(3)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert all(map(runs, up.begun))


def test_all_end_when_nobody_reads_what_they_say(up: Up) -> None:
    process = up.start(TALKS)
    up.read(3)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert not any(map(runs, up.begun))


def test_what_cannot_be_shown_is_taken_all_the_same(up: Up) -> None:
    with Path("/dev/full").open("w") as full:
        process = up.start(ENDS, stdout=full)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 1), "some may still have talked when the first one ended"
    wanted = "mako: what processes say cannot be shown any more: No space left on device"
    assert set(said.splitlines()) == {wanted}


def test_a_process_that_ends_as_it_is_told_to_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was still there when it was looked for."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    looks = iter([gone.pid, None, None])
    monkeypatch.setattr(cluster, "_running", lambda file, name: next(looks, None))
    monkeypatch.chdir(tmp_path)
    assert run(cluster.cluster, "cluster.sh", ["down", "-f", str(FILE)]) == 0
    assert capsys.readouterr().out == f"{NAMES[0]}: ended\n"
