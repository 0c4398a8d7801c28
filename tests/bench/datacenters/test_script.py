"""`bash bash/datacenters.sh`: wrong use, and where the machine can do it, a whole round."""

import os
import re
import shutil
from pathlib import Path

import pytest

from bench.datacenters import network
from tests.server.scripts import Scripts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("installed"))


def missing() -> str:
    """Why there can be no datacenters here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs the command `ip`"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun, or netem"
    if network.existing():
        return "there are datacenters already"
    return ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: bash bash/datacenters.sh up|bench|status|down"),
        (("sideways",), "sideways is unknown; usage: bash bash/datacenters.sh"),
    ],
)
def test_wrong_use_is_one_line(scripts: Scripts, arguments: tuple[str, ...], said: str) -> None:
    done = scripts.run("datacenters.sh", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mako: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["bench", "status"])
def test_what_is_not_up_cannot_be_asked(scripts: Scripts, command: str) -> None:
    done = scripts.run("datacenters.sh", command)
    if network.existing():
        pytest.skip("there are datacenters already")
    wanted = "first with `up`" if not missing() else "mako: "
    assert (done.returncode, done.stdout) == (2, "")
    assert wanted in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(
    not os.environ.get("MAKO_DATACENTERS"), reason="by hand, as root: MAKO_DATACENTERS=1"
)
def test_datacenters_come_up_are_measured_and_leave_nothing(scripts: Scripts) -> None:
    up = scripts.run("datacenters.sh", "up", "--round-trip-ms", "20")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        assert "packets take 10 ms each way" in up.stdout
        assert "a1 leads shard 0, b1 leads shard 1" in up.stdout

        again = scripts.run("datacenters.sh", "up")
        assert again.returncode == 2
        assert "end them first with `down`" in again.stderr

        status = scripts.run("datacenters.sh", "status")
        assert status.returncode == 0, status.stdout + status.stderr
        assert len(re.findall(r"\b(?:leader|follower)\b", status.stdout)) == 6

        bench = scripts.run("datacenters.sh", "bench", "--count", "5")
        assert bench.returncode == 0, bench.stdout + bench.stderr
        rows = [line for line in bench.stdout.splitlines() if ", " in line and "led" in line]
        assert len(rows) == 2
    finally:
        down = scripts.run("datacenters.sh", "down")
    assert down.returncode == 0
    servers = [f"{name}: ended" for name in ("a1", "a2", "b1", "b2")]
    assert down.stdout.splitlines()[:4] == servers
    assert network.existing() == []
    assert list((scripts.folder / "data" / "datacenters").glob("*.pid")) == []
