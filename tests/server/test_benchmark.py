"""`mako bench … -f` on real processes: by terminals while the leader is killed, and by workers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mako.cli.app import main
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    procedures = ["bench.tpcc.deployed", "bench.tpca.deployed"]
    made = Cluster(tmp_path_factory.mktemp("cluster"), procedures=procedures, log="memory")
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def arguments(cluster: Cluster, options: str) -> list[str]:
    return ["bench", *options.split(), "-f", str(cluster.file)]


class Benchmark:
    """A run in a process of its own, and what it says."""

    def __init__(self, cluster: Cluster, folder: Path, options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "mako", *arguments(cluster, options)]
        self.process = subprocess.Popen(
            [*command, "--report", str(folder)], stdout=subprocess.PIPE, text=True
        )

    def line(self, *wanted: str) -> dict[str, str]:
        """The fields of the next line that contains all of these."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if all(word in line for word in wanted):
                return dict(field.split("=", 1) for field in line.split() if "=" in field)
        pytest.fail(f"it ended without saying {wanted}")

    def end(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def summary(self) -> Any:
        return json.loads((self.folder / "summary.json").read_text())


def test_terminals_go_on_when_the_leader_is_killed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "tpcc run --scale tiny --clients 8 --seconds 300 --warmup 0"
    run = Benchmark(cluster, tmp_path, options)
    try:
        leader = run.line("measure", "leader=")["leader"]
        cluster.end(leader, signal.SIGKILL)
        others = [name for name in NAMES if name != leader]
        while (fields := run.line("measure"))["leader"] not in others or fields["txn/s"] == "0":
            pass
        assert run.end() == 130
    finally:
        run.close()
    found = run.summary()
    assert found["result"] == "PASS"
    assert set(found["consistency"].values()) == {"PASS"}
    assert "acknowledged" in found["consistency"]
    assert found["endings"]["unknown"] > 0, "eight of them waited when it was killed"
    leaders = found["cluster"]["leaders"]
    assert [leaders[0]["process"], leaders[-1]["process"]] == [leader, fields["leader"]]
    assert found["cluster"]["leader_changes"] == len(leaders) - 1 >= 1
    processes = found["cluster"]["processes"]
    assert processes[leader]["role"] == "silent"
    assert all(process["cpu_seconds"] > 0 for process in processes.values())
    assert processes[leader]["worker_cpu_seconds"]["0"] > 0
    assert found["cluster"]["replication_bytes_per_txn"] > 0
    for kind in (*found["types"].values(), found["all"]):
        assert kind["p50_us"] < kind["durable_p50_us"] <= kind["durable_max_us"]
    assert f">{fields['leader']} leads</text>" in (tmp_path / "report.html").read_text()

    # A second run is told what is there.
    assert main(arguments(cluster, "tpcc run --scale tiny")) == 2
    assert "the tables of this cluster have rows already" in capsys.readouterr().err


def test_workers_of_the_leader_and_what_they_cost(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    # A rate, as the memory of the test is small and who is fast fills it with history.
    options = "tpca run --accounts 500 --branches 2 --seconds 1 --rate 20000 --warmup 0 -o json"
    assert main(arguments(cluster, options)) == 0
    found = json.loads(capsys.readouterr().out)
    assert "endings" not in found
    debit = found["types"]["debit_credit"]
    assert 0 < debit["p50_us"] < debit["durable_p50_us"]
    (leader,) = found["cluster"]["leaders"]
    processes = found["cluster"]["processes"]
    assert processes[leader["process"]]["role"] == "leader"
    assert found["cluster"]["replication_bytes_per_s"] > 0
