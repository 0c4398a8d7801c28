"""`bash bash/cluster.sh`: a cluster on this host begun, looked at and ended by a command each."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.server.processes import PATIENCE, free_ports
from tests.server.scripts import Scripts

pytestmark = pytest.mark.slow

NAMES = ("localhost", "p1", "p2")
FILE = "config/1c1s3r1p_cluster_test.yml"
#: What `down` says when it has nothing to do.
DOWN_ALREADY = "nothing runs that `up --detach` has started\n"


@pytest.fixture
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    """With the shipped configuration, at ports that are free here."""
    made = Scripts(tmp_path_factory.mktemp("installed"))
    file = made.folder / FILE
    ports = free_ports(6)
    text = file.read_text()
    for shipped, free in zip(("7001", "7101", "7201"), ports[:3], strict=True):
        assert text.count(shipped) == 1
        text = text.replace(shipped, str(free))
    http = dict(zip(NAMES, ports[3:], strict=True))
    file.write_text(f"{text}http: {json.dumps(http)}\nmemory: 128MiB\n")
    try:
        yield made
    finally:
        for number in numbers(made.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def numbers(folder: Path) -> list[int]:
    """The processes that were left running."""
    return [int(file.read_text()) for file in sorted((folder / "data").glob("*.pid"))]


def runs(number: int) -> bool:
    """Whether there is such a process; one that nobody has waited for yet is none."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except OSError:
        return False


def status(scripts: Scripts, good: Callable[[str], bool], *options: str) -> str:
    """What `status` prints, once one leads and it is good; the lead may move at any moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = scripts.run("cluster.sh", "status", "-f", FILE, *options)
        if done.returncode == 0 and good(done.stdout):
            return done.stdout
        logs = [file.read_text() for file in (scripts.folder / "data").glob("*.log")]
        assert time.monotonic() < deadline, "\n".join([done.stdout, *logs])


def is_settled(text: str) -> bool:
    """Whether all have answered, one as the leader and the others as its followers."""
    rows = json.loads(text)["replicas"]
    return sorted(row.get("role", "") for row in rows) == ["follower", "follower", "leader"]


def test_a_cluster_comes_up_is_looked_at_and_goes_down(scripts: Scripts) -> None:
    up = scripts.run("cluster.sh", "up", "--detach", "-f", FILE)
    assert (up.returncode, up.stderr) == (0, "")
    *begun, leads = up.stdout.splitlines()
    assert [line.partition(":")[0] for line in begun] == list(NAMES)
    assert leads in [f"{name} leads" for name in NAMES]
    left = numbers(scripts.folder)
    assert len(left) == 3

    rows = json.loads(status(scripts, is_settled, "-o", "json"))["replicas"]
    assert sorted(row["process"] for row in rows) == sorted(NAMES)
    table = status(scripts, lambda text: "does not answer" not in text)
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(NAMES)

    again = scripts.run("cluster.sh", "up", "--detach", "-f", FILE)
    assert again.returncode == 2
    assert again.stdout == ""
    assert again.stderr == "mako: process localhost runs already; end it first with `down`\n"
    assert numbers(scripts.folder) == left
    assert all(map(runs, left)), "those that ran still do"

    down = scripts.run("cluster.sh", "down", "-f", FILE)
    assert (down.returncode, down.stderr) == (0, "")
    assert down.stdout.splitlines() == [f"{name}: ended" for name in NAMES]
    assert not any(map(runs, left))
    assert numbers(scripts.folder) == []

    nothing = scripts.run("cluster.sh", "down", "-f", FILE)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, DOWN_ALREADY, "")


def test_a_process_that_cannot_start_is_told_of(scripts: Scripts) -> None:
    config = yaml.safe_load((scripts.folder / FILE).read_text())
    with socket.create_server(("127.0.0.1", config["http"]["p1"])):
        up = scripts.run("cluster.sh", "up", "--detach", "-f", FILE)
    assert up.returncode == 1
    (line,) = up.stderr.splitlines()
    assert line.startswith("p1 has ended: ")
    assert str(config["http"]["p1"]) in line
    assert line.endswith("; end the others with `down`")
    down = scripts.run("cluster.sh", "down", "-f", FILE)
    assert down.returncode == 0
    assert set(down.stdout.splitlines()) <= {f"{name}: ended" for name in NAMES}
    assert numbers(scripts.folder) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: bash bash/cluster.sh"),
        (("sideways", "-f", FILE), "sideways is unknown; usage: bash bash/cluster.sh"),
        (("up",), "--config is missing; see cluster.sh up --help"),
        (("down", "--detach", "-f", FILE), "there is no option --detach; see cluster.sh down"),
        (("up", "-f", "none.yml"), "none.yml"),
        (("status", "-f", "none.yml"), "none.yml"),
    ],
)
def test_wrong_use_is_one_line(scripts: Scripts, arguments: tuple[str, ...], said: str) -> None:
    done = scripts.run("cluster.sh", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mako: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
