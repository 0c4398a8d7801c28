"""`mako bench … -f` on real processes: by terminals while the leader is killed, and by workers."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bench import session
from bench.cluster import watch
from mako.cli.app import main
from mako.client.remote import database
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow

#: Workers end with the lead of their process: it keeps it, though that one is late by a second.
RAFT: Final = {"election_ticks": 200}
#: Seconds for what may have to be compiled.
COMPILED: Final = 600.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    procedures = ["bench.tpcc.deployed", "bench.tpca.deployed"]
    made = Cluster(
        tmp_path_factory.mktemp("cluster"), procedures=procedures, log="memory", raft=RAFT
    )
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """A run in this process waits for processes that wait for a processor, or compile."""
    patch.setattr(watch, "ANSWER_SECONDS", PATIENCE)
    patch.setattr(session, "CALL_SECONDS", COMPILED)
    patch.setattr(database, "DRIVE_SECONDS", COMPILED)


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

    def wait_for(self, good: Callable[[list[Any]], bool]) -> dict[str, str]:
        """The fields of the first line by which the seconds that it has written are good."""
        while True:
            fields = self.line("measure", "leader=")
            *lines, _ = (self.folder / "intervals.jsonl").read_text().split("\n")
            if fields["leader"] != "-" and good([json.loads(line) for line in lines]):
                return fields

    def end(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=COMPILED)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def summary(self) -> Any:
        return json.loads((self.folder / "summary.json").read_text())


def is_enough(seconds: list[Any]) -> bool:
    """Of each type there are some, and of each process two looks at its counters."""
    done: Counter[str] = Counter()
    for second in seconds:
        done.update({name: kind["count"] for name, kind in second["types"].items()})
    seen = {name for second in seconds for name, cores in second["cores"].items() if cores}
    return min(done.values(), default=0) >= 20 and seen == set(NAMES)


def test_terminals_go_on_when_the_leader_is_killed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "tpcc run --scale tiny --clients 8 --seconds 300 --warmup 0"
    run = Benchmark(cluster, tmp_path, options)
    try:
        leader = run.wait_for(is_enough)["leader"]
        others = [name for name in NAMES if name != leader]
        # It stands still first, until all eight have asked it for something.
        cluster.running[leader].send_signal(signal.SIGSTOP)
        while run.line("measure")["leader"] not in others:
            pass
        cluster.end(leader, signal.SIGKILL)
        for _ in range(2):  # By the second time its silence has been noticed, too.
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
    leaders = [each["process"] for each in found["cluster"]["leaders"]]
    assert leader in leaders[:-1]
    assert leaders[-1] == fields["leader"]
    assert found["cluster"]["leader_changes"] == len(leaders) - 1 >= 1
    processes = found["cluster"]["processes"]
    assert processes[leader]["role"] == "silent"
    assert all(process["cpu_seconds"] > 0 for process in processes.values())
    assert processes[leader]["worker_cpu_seconds"]["0"] > 0
    assert found["cluster"]["replication_bytes_per_txn"] > 0
    # Of a transaction both answers may be read at once, where terminals wait for a processor.
    for kind in found["types"].values():
        assert kind["p50_us"] <= kind["durable_p50_us"] <= kind["durable_max_us"]
    assert found["all"]["p50_us"] < found["all"]["durable_p50_us"] <= found["all"]["durable_max_us"]
    assert f">{fields['leader']} leads</text>" in (tmp_path / "report.html").read_text()

    # A second run is told what is there.
    assert main(arguments(cluster, "tpcc run --scale tiny")) == 2
    assert "the tables of this cluster have rows already" in capsys.readouterr().err


def test_workers_of_the_leader_and_what_they_cost(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch)
    # A rate, as the memory of the test is small and who is fast fills it with history. It is low:
    # who is late begins at once, and latencies of a second have no difference of milliseconds.
    options = "tpca run --accounts 500 --branches 2 --seconds 5 --rate 2000 --warmup 0 -o json"
    assert main(arguments(cluster, options)) == 0
    found = json.loads(capsys.readouterr().out)
    assert "endings" not in found
    debit = found["types"]["debit_credit"]
    assert 0 < debit["p50_us"] < debit["durable_p50_us"]
    (leader,) = found["cluster"]["leaders"]
    processes = found["cluster"]["processes"]
    assert processes[leader["process"]]["role"] == "leader"
    assert found["cluster"]["replication_bytes_per_s"] > 0
