"""A seed is a run: the same everywhere, and independent of what runs beside it."""

import os
import subprocess
import sys

import pytest

from mako.sim.clock import Chances
from mako.sim.cluster import Cluster, Mode, Outcome, run_seed
from mako.sim.history import History
from mako.sim.serial import ClientHistory

_PRINT = "from mako.sim.cluster import *; print(run_seed({seed}, mode={mode}).digest)"


def _digest_in_a_process(seed: int, hash_seed: str, mode: Mode = Mode.MODEL) -> int:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    result = subprocess.run(
        [sys.executable, "-c", _PRINT.format(seed=seed, mode=mode)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


def test_a_seed_gives_the_same_trace_in_processes_with_other_hash_seeds() -> None:
    seed = 3
    assert _digest_in_a_process(seed, "1") == _digest_in_a_process(seed, "2") != 0


def test_a_seed_with_clients_gives_the_same_trace_in_other_processes() -> None:
    found = {_digest_in_a_process(2, hash_seed, Mode.CLIENTS) for hash_seed in "12"}
    assert found == {run_seed(2, mode=Mode.CLIENTS).digest}


def test_a_seed_of_several_partitions_gives_the_same_trace_in_other_processes() -> None:
    assert _digest_in_a_process(2, "1", Mode.SHARDS) == run_seed(2, mode=Mode.SHARDS).digest != 0


@pytest.mark.parametrize("mode", [Mode.MODEL, Mode.CLIENTS, Mode.SHARDS])
def test_what_clients_saw_is_in_the_digest(mode: Mode) -> None:
    clusters = [Cluster(1, mode=mode) for _ in range(2)]
    said = clusters[1].workload.history
    if isinstance(said, History):
        said.refused(999)
    elif isinstance(said, ClientHistory):
        said.saw((0,), (0,), 0)
    else:
        said.begin(1, "nothing", 0)
    outcomes = [Outcome(1) for _ in clusters]
    for cluster, outcome in zip(clusters, outcomes, strict=True):
        cluster._fill(outcome)
        for process in cluster.processes:
            process.close()
    assert outcomes[0].digest != outcomes[1].digest


def test_a_seed_gives_the_same_trace_after_other_seeds() -> None:
    before = run_seed(5)
    run_seed(6)
    assert run_seed(5).digest == before.digest


def test_a_trace_changes_nothing() -> None:
    lines: list[str] = []
    outcome = run_seed(5, trace=lambda now, process, what, detail: lines.append(what))
    assert outcome.digest == run_seed(5).digest
    assert "fault" in lines


def test_other_seeds_give_other_traces() -> None:
    assert run_seed(5).digest != run_seed(6).digest


def test_a_new_purpose_leaves_the_others_their_chances() -> None:
    alone, beside = Chances(1), Chances(1)
    beside.of("another purpose").random()
    assert alone.of("network").random() == beside.of("network").random()
    assert alone.of("network") is alone.of("network")
