"""All processes of a configuration on this host: `python -m mako.cli.cluster up|down`.

    up              start them, show what they say; end them when this is interrupted, told to end
                    (SIGTERM, SIGHUP), read by nobody any more, or one of them ends
    up --detach     start them, wait until all answer and every partition has a leader, and leave
                    them running
    down            end those that `up --detach` left running

A process that was left running has its number in `<data>/<name>.pid`, and what it says in
`<data>/<name>.log`. Only a process that is still what the file says is ended.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import click

import mako
from mako.cli.app import run
from mako.cli.options import config_files
from mako.config import ClusterConfig, Process, load
from mako.errors import ConfigError

#: Seconds that a process has for handing over and ending.
_END_SECONDS: Final = 20.0
#: Seconds until one of them leads; the first time procedures may have to be compiled.
_LEAD_SECONDS: Final = 180.0
#: Seconds that the preferred leaders have then to take over, which ends what workers drive.
_SETTLE_SECONDS: Final = 5.0
_SIGNALS: Final = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
#: A reason to end, beside these: whoever read what is shown has gone.
_UNREAD: Final = "unread"
_COLORS: Final = ("cyan", "green", "yellow", "magenta", "blue", "red")

_FILES = config_files()


@click.group()
def cluster() -> None:
    """All processes of a configuration on this host."""


@cluster.command()
@_FILES
@click.option("--detach", is_flag=True, help="Return when all answer and are led; all go on.")
def up(files: tuple[str, ...], *, detach: bool) -> int:
    """Start all processes.

    Without --detach they end with this command: by Ctrl-C, SIGTERM, SIGHUP.

    Exit status 1: one of them has ended, or a partition has no leader.
    """
    config = load(files)
    root = Path(config.document.data)
    root.mkdir(parents=True, exist_ok=True)
    for name in _names(config):
        if _running(root / f"{name}.pid", name) is not None:
            raise ConfigError(f"process {name} runs already; end it first with `down`")
    if not detach:
        return _attend(config, files)
    left = _leave(config, files, root)
    try:
        leaders = _wait_for_leaders(config, left, root)
    except TimeoutError as error:
        click.echo(f"{error}; end the others with `down`", err=True)
        return 1
    for partition, leader in enumerate(leaders):
        click.echo(f"{leader} leads" + (f" partition {partition}" if len(leaders) > 1 else ""))
    return 0


@cluster.command()
@_FILES
def down(files: tuple[str, ...]) -> int:
    """End the processes that `up --detach` started.

    Exit status 1: one of them does not end.
    """
    config = load(files)
    root = Path(config.document.data)
    ended = []
    for name in _names(config):
        file = root / f"{name}.pid"
        number = _running(file, name)
        if number is not None:
            with suppress(ProcessLookupError):  # It has just ended by itself.
                os.kill(number, signal.SIGTERM)
            ended.append((name, number, file))
        else:
            file.unlink(missing_ok=True)
    deadline = time.monotonic() + _END_SECONDS
    status = 0
    for name, number, file in ended:
        while _running(file, name) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if _running(file, name) is not None:
            click.echo(f"{name}: process {number} does not end; it was sent SIGTERM", err=True)
            status = 1
            continue
        file.unlink(missing_ok=True)
        click.echo(f"{name}: ended")
    if not ended:
        click.echo("nothing runs that `up --detach` has started")
    return status


def _names(config: ClusterConfig) -> list[str]:
    return [process.name for process in config.processes if process.sites]


def _command(name: str, files: tuple[str, ...]) -> list[str]:
    options = [word for file in files for word in ("-f", file)]
    return [sys.executable, "-m", "mako", "server", "--process", name, *options]


def _leave(
    config: ClusterConfig, files: tuple[str, ...], root: Path
) -> dict[str, subprocess.Popen[bytes]]:
    left = {}
    for name in _names(config):
        with (root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                _command(name, files),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (root / f"{name}.pid").write_text(f"{process.pid}\n")
        click.echo(f"{name}: process {process.pid}, log in {root / name}.log")
        left[name] = process
    return left


def _wait_for_leaders(
    config: ClusterConfig, processes: Mapping[str, subprocess.Popen[bytes]], root: Path
) -> list[str]:
    """The names of the processes that lead, by partition. TimeoutError says what is wrong."""
    served = {f"{one.host}:{one.ports[0]}": one.name for one in config.processes if one.sites}
    sites = [config.preferred(partition) for partition in range(len(config.partitions))]
    deadline = time.monotonic() + _LEAD_SECONDS
    settled = 0.0  # Until then the lead may still go to the preferred ones.
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                said = (root / f"{name}.log").read_text(errors="replace").splitlines()
                raise TimeoutError(f"{name} has ended: {said[-1] if said else 'it said nothing'}")
        leaders = [""] * len(config.partitions)
        try:
            # All of them: one that cannot start ends a little later.
            for one in config.processes:
                for site in one.sites:
                    address = _leader_address(one, site.partition)
                    leaders[site.partition] = served[address]
        except (mako.Error, TimeoutError, LookupError):
            time.sleep(0.1)
        else:
            settled = settled or time.monotonic() + _SETTLE_SECONDS
            pairs = zip(sites, leaders, strict=True)
            led = all(site is None or site.process == leader for site, leader in pairs)
            if led or time.monotonic() >= settled:
                return leaders
            time.sleep(0.1)
    raise TimeoutError(f"not all are led after {_LEAD_SECONDS:g} s; look into the logs")


def _leader_address(process: Process, partition: int) -> str:
    """Where the leader of a partition is, as a process says that has a replica."""
    address = f"{process.host}:{process.ports[0]}"
    with mako.connect(address, replica=True, timeout=1, partition=partition) as db:
        return str(db.status()["leader_address"])


def _running(file: Path, name: str) -> int | None:
    """The process that a file names, if it is still that one."""
    try:
        number = int(file.read_text())
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if b"server" in words and name.encode() in words else None


def _attend(config: ClusterConfig, files: tuple[str, ...]) -> int:
    names = _names(config)
    width = max(map(len, names))
    processes: list[subprocess.Popen[str]] = []
    threads: list[threading.Thread] = []
    with _told_to_end() as told:
        try:
            for name, color in zip(names, _cycle(), strict=False):
                if told:
                    break
                process = _begin(name, files)
                processes.append(process)
                shown = name, color, width, process.stdout, told
                threads.append(threading.Thread(target=_show, args=shown))
                threads[-1].start()
            while not told and all(process.poll() is None for process in processes):
                time.sleep(0.1)
        finally:
            _end(processes)
            for thread in threads:
                thread.join()
    return int(any(process.wait() for process in processes) or _UNREAD in told)


@contextmanager
def _told_to_end() -> Iterator[list[str]]:
    """Why to end, as soon as there is a reason.

    Signals are noted and do not interrupt: a process that is just being started would be known to
    nobody. One that is ignored stays so, as `nohup` wants it.
    """
    told: list[str] = []

    def note(number: int, _frame: object) -> None:
        told.append(signal.Signals(number).name)

    awaited = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, note) for each in awaited}
    try:
        yield told
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _begin(name: str, files: tuple[str, ...]) -> subprocess.Popen[str]:
    """In a session of its own: Ctrl-C reaches this process only, which ends the others in order."""
    return subprocess.Popen(
        _command(name, files),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )


def _end(processes: list[subprocess.Popen[str]]) -> None:
    """Nobody else knows of them, so who does not end is killed."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _END_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _cycle() -> Iterator[str]:
    while True:
        yield from _COLORS


def _show(name: str, color: str, width: int, lines: IO[str], told: list[str]) -> None:
    """Lines are taken to the end, even if they cannot be shown: the process would wait for that."""
    for line in lines:
        try:
            click.echo(click.style(name.ljust(width), fg=color) + " | " + line.rstrip("\n"))
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                told.append(_UNREAD)
            else:  # A full disk is no reason to end a cluster.
                _say(f"mako: what processes say cannot be shown any more: {error.strerror}")
            _show_no_more()


def _say(text: str) -> None:
    with suppress(OSError):  # It may be where the lines should have gone to.
        click.echo(text, err=True)


def _show_no_more() -> None:
    """What is buffered and what comes goes nowhere, also when Python flushes it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    raise SystemExit(run(cluster, "cluster.sh"))
