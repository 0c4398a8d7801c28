"""The programs of both datacenters: servers, the one that delays packets, and clients.

Of each that is left running, `<data>/<name>.pid` has its number, and `<data>/<name>.log` what it
says. Only a program that is still what the file says is ended.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.datacenters.delay import open_tun
from bench.datacenters.network import inside
from mako.errors import ConfigError

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "config" / "datacenters.yml"
#: Name of the program that delays packets. Servers have other ones.
LINK: Final = "link"
#: Seconds for the servers to lead and to reach each other; procedures may have to be compiled.
START_SECONDS: Final = 400.0
#: Seconds that a program has for ending before it is killed: a handover takes three.
END_SECONDS: Final = 20.0

_DELAY: Final = "bench.datacenters.delay"
_MEASURE: Final = "bench.datacenters.measure"


def keep_priority(process: int) -> None:
    """Give a session that was just begun the niceness of this program, where the scheduler takes
    each session for a group: niceness counts only inside one, and `nice` would do nothing."""
    with contextlib.suppress(OSError):  # It has no such groups; or the process has ended.
        Path(f"/proc/{process}/autogroup").write_text(str(os.nice(0)))


class Programs:
    """See the module. `folder` is the data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- Starting ------------------------------------------------------------------------------

    def _start(self, name: str, command: Sequence[str], files: Sequence[int] = ()) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=files,
            )
        keep_priority(process.pid)
        (self.folder / f"{name}.pid").write_text(f"{process.pid}\n")

    def start_server(self, name: str) -> None:
        """A process of the configuration, in the side of its name."""
        server = [sys.executable, "-m", "mako", "server", "--process", name, "-f", str(FILE)]
        # The folder of this run, wherever `up` was called.
        self._start(name, inside(name[0], [*server, "--data", str(self.folder)]))

    def start_link(self, devices: Sequence[str], one_way_ms: float) -> None:
        """TUN devices of these names, here, and a program that hands packets over. ConfigError."""
        files: list[int] = []
        try:
            for name in devices:
                files.append(open_tun(name))  # noqa: PERF401 - what is open is closed below
            numbers = [str(file) for file in files]
            command = [sys.executable, "-m", _DELAY, *numbers, f"{one_way_ms:g}"]
            self._start(LINK, command, files)
        except OSError as error:
            raise ConfigError(f"no TUN device can be made: {error}") from error
        finally:
            for file in files:
                os.close(file)

    # --- Looking -------------------------------------------------------------------------------

    def running(self, name: str) -> int | None:
        """The number of a program, if it is still that one."""
        try:
            number = int((self.folder / f"{name}.pid").read_text())
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        wanted = [_DELAY] if name == LINK else ["server", name]
        # `ip` becomes the server, a moment after it was started.
        return number if all(word.encode() in words for word in wanted) else None

    def check(self, names: Sequence[str]) -> None:
        """ConfigError: a program that was started has ended."""
        for name in names:
            if (self.folder / f"{name}.pid").exists() and self.running(name) is None:
                log = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
                raise ConfigError(f"{name} has ended: {log[-1] if log else 'it said nothing'}")

    def attend(self, words: Sequence[str], names: Sequence[str], seconds: float) -> None:
        """Run a client in the first side to its end, which shows what it finds. ConfigError:
        a program of these names ends before that, it takes too long, or it fails."""
        command = inside("a", [sys.executable, "-m", _MEASURE, *words])
        deadline = time.monotonic() + seconds
        client = subprocess.Popen(command, start_new_session=True)
        keep_priority(client.pid)
        try:
            while (status := client.poll()) is None:
                self.check(names)
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"the datacenters do not answer within {seconds:g} s; look into the logs"
                        f" in {self.folder}"
                    )
                time.sleep(0.1)
        finally:
            if client.poll() is None:
                client.terminate()
                client.wait()
        if status:
            raise ConfigError("the client has failed; see above")

    # --- Ending --------------------------------------------------------------------------------

    def end(self, names: Sequence[str]) -> list[str]:
        """End those of these names that run, together; which ones."""
        there = {name: number for name in names if (number := self.running(name)) is not None}
        for number in there.values():
            os.kill(number, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while any(self._goes_on(name) for name in there) and time.monotonic() < deadline:
            time.sleep(0.05)
        for name in there:
            if self._goes_on(name):
                os.kill(there[name], signal.SIGKILL)
        for name in names:
            (self.folder / f"{name}.pid").unlink(missing_ok=True)
        return list(there)

    def _goes_on(self, name: str) -> bool:
        number = self.running(name)
        if number is None:
            return False
        try:  # One that this program has started is its to wait for.
            return os.waitpid(number, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return True
