"""`mako bench … -f` on real processes of two shards: by workers of both leaders, by terminals."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mako.cli.app import main
from tests.server.processes import NAMES, Cluster
from tests.server.test_benchmark import RAFT, Benchmark, arguments, be_patient

pytestmark = pytest.mark.slow

_PLACED = {
    # TPC-C, two warehouses in each.
    "default": {"blocks": 2, "bits": 16, "first": 1},
    "tables": {
        **dict.fromkeys(("item", "terminal", "terminal_delivery", "terminal_stock"), "everywhere"),
        # The profile spec of TPC-A, which is deployed, too.
        **dict.fromkeys(("branch", "teller", "account", "account_history"), "hash"),
        **{f"janus_{name}": {"blocks": 500, "bits": 48} for name in ("branch", "teller")},
        "janus_customer": {"blocks": 500, "bits": 48},
        "record": {"blocks": 1000, "bits": 48},
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    modules = ["bench.tpcc.deployed", "bench.tpca.deployed", "bench.micro.deployed"]
    made = Cluster(
        tmp_path_factory.mktemp("shards"),
        shards=2,
        procedures=modules,
        log="memory",
        raft=RAFT,
        memory="512MiB",  # Who is fast fills less with history before a run is over.
    )
    made.write(NAMES, shards=_PLACED)  # `shards` of the class is their number.
    try:
        for name in NAMES:
            made.start(name)
        made.line("a", " leads partition=0")
        made.line("b", " leads partition=1")
        yield made
    finally:
        made.close()


def run(cluster: Cluster, capsys: pytest.CaptureFixture[str], options: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        assert main(arguments(cluster, f"{options} --seconds 4 --warmup 0 -o json")) == 0
    return json.loads(capsys.readouterr().out)


def check_sides(found: Any) -> None:
    """Both have done something, and all together is what they did."""
    sides = [found["local"], found["cross_shard"]]
    assert all(side["count"] > 0 for side in sides)
    assert sum(side["count"] for side in sides) == found["all"]["count"]
    for side in sides:
        assert 0 < side["p50_us"] < side["durable_p50_us"] <= side["durable_max_us"]
        assert side["inherited"] >= 0
        assert side["parked"] >= 0
        assert 0 <= side["abort_pct"] < 100
    assert found["cluster"]["distributed"]["committed"] > 0
    assert found["cluster"]["cascades"] == []
    assert set(found["consistency"].values()) == {"PASS"}
    assert "FAIL" not in {audit["status"] for audit in found["audit"].values()}


def test_micro_by_workers_of_both_leaders(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "micro run --keys 2000 --ops 2 --read-pct 20 --cross-shard-pct 40"
    found = run(cluster, capsys, options)
    check_sides(found)
    assert found["cross_shard_pct"] == 40
    assert 0.2 < found["cross_shard"]["count"] / found["all"]["count"] < 0.6
    assert set(found["types"]) == {"read", "read_modify_write"}
    assert "cross_shard_pct" in found["audit"]


def test_tpcc_by_workers_of_both_leaders(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "tpcc run --scale tiny --warehouses-per-worker 2 --workers 1"
    found = run(cluster, capsys, f"{options} --remote-item-pct 5 --remote-payment-pct 50")
    check_sides(found)
    assert (found["warehouses"], found["remote_payment_pct"]) == (4, 50)
    assert len(found["consistency"]) == 12
    assert len(found["types"]) == 5


def test_a_cluster_with_other_blocks_is_refused(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(cluster, "tpcc run --scale tiny --warehouses-per-worker 3")) == 2
    assert "6 warehouses: `shards` of the configuration has 2 in each" in capsys.readouterr().err
    assert main(arguments(cluster, "tpca run")) == 2
    assert "add --profile janus" in capsys.readouterr().err


def test_terminals_of_janus_go_on_when_a_leader_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    options = "tpca run --profile janus --accounts 1000 --clients 8 --seconds 300 --warmup 0"
    benchmark = Benchmark(cluster, tmp_path, options)
    counts: Counter[str] = Counter()
    try:
        assert set(benchmark.line("measure", "leader=a,b")["leader"].split(",")) == {"a", "b"}
        cluster.end("b", signal.SIGKILL)
        while True:
            fields = benchmark.line("measure")
            leaders = fields["leader"].split(",")
            counts.update({side: int(fields[f"{side}/s"]) for side in ("local", "cross_shard")})
            # Who is slow has hardly asked for anything by then.
            is_enough = counts["cross_shard"] > counts["local"] + 50
            goes_on = "b" not in leaders and fields["cross_shard/s"] != "0"
            if len(leaders) == 2 and goes_on and is_enough:
                break
        assert benchmark.end() == 130
    finally:
        benchmark.close()
    found = benchmark.summary()
    assert found["result"] == "PASS"
    assert found["cluster"]["leader_changes"] >= 1
    sides = found["local"], found["cross_shard"]
    assert sum(side["count"] for side in sides) == found["all"]["count"]
    assert sides[1]["count"] > sides[0]["count"], "three of four are over both"
    for how, count in found["endings"].items():
        assert sum(side.get("endings", {}).get(how, 0) for side in sides) == count
    assert "Local and cross-shard" in (tmp_path / "report.html").read_text()
