"""`mako sim`: what it prints, and its exit status."""

import json
import re
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from mako.cli import sim as cli_sim
from mako.cli.sim import sim
from mako.sim import batch, cluster
from mako.sim.batch import Summary, find_planted, run_batch
from mako.sim.cluster import Mode, Outcome
from mako.sim.coverage import BATCH_SEEDS_MIN, GAVE_UP, REQUIRED, REQUIRED_SERVED, Coverage
from mako.sim.sharing import Lost


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(sim, arguments)
    return result.exit_code, result.stdout


def test_a_batch_ends_with_one_line_of_totals() -> None:
    status, text = run("--seeds", "2", "--first-seed", "5", "--jobs", "1")
    assert status == 0
    (line,) = text.splitlines()
    assert line.startswith("2 seeds, 2 counted")
    for part in ("0 violations", "acknowledged transactions", "leader changes", "faults ("):
        assert part in line


def test_a_batch_in_json_has_the_totals_by_name() -> None:
    status, text = run("--seeds", "1", "--jobs", "1", "--output", "json")
    found = json.loads(text)
    assert status == 0
    assert (found["seeds"], found["violations"], found["missing"]) == (1, [], [])
    assert found["acknowledged"] >= 200
    assert sum(found["faults"].values()) >= 3
    assert found["situations"]["leader_changed"] > 0


def test_jobs_share_the_seeds_and_change_nothing() -> None:
    alone, shared = run_batch(1, 3), run_batch(1, 3, jobs=2)
    assert alone.as_dict() | {"seconds": 0} == shared.as_dict() | {"seconds": 0}


def test_a_violation_gives_status_1_the_seed_and_how_to_replay_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        batch, "run_seed", lambda seed, mode: Outcome(seed, problem="one vote: twice")
    )
    status, text = run("--seeds", "1", "--first-seed", "17", "--jobs", "1")
    assert status == 1
    assert "seed 17: one vote: twice" in text
    assert "mako sim --seed 17 --trace\n" in text
    _, text = run("--seeds", "1", "--first-seed", "17", "--jobs", "1", "--model")
    assert "mako sim --seed 17 --trace --model\n" in text
    _, text = run("--seeds", "1", "--first-seed", "17", "--jobs", "1", "--clients")
    assert "mako sim --seed 17 --trace --clients\n" in text
    _, text = run("--seeds", "1", "--first-seed", "17", "--jobs", "1", "--shards")
    assert "mako sim --seed 17 --trace --shards\n" in text


@pytest.mark.parametrize("modes", [("--model", "--shards"), ("--clients", "--shards")])
def test_modes_exclude_each_other(modes: tuple[str, str]) -> None:
    result = CliRunner().invoke(sim, ["--seed", "1", *modes])
    assert result.exit_code == 2
    assert "give --" in result.stderr


def test_in_a_pipe_a_seed_that_fails_is_told_at_once_and_progress_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli_sim, "_SAY_SECONDS", 0.0)
    monkeypatch.setattr(
        batch, "run_seed", lambda seed, mode: Outcome(seed, problem="twice" if seed == 2 else "")
    )
    result = CliRunner().invoke(sim, ["--seeds", "3", "--jobs", "1"])
    said = [re.sub(r", \d+ a minute$", "", line) for line in result.stderr.splitlines()]
    assert said == [
        "1 of 3 seeds, 0 bad",
        "seed 2: twice",
        "2 of 3 seeds, 1 bad",
        "3 of 3 seeds, 1 bad",
    ]


def test_a_group_is_the_engine_or_lists_or_served_to_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[Mode] = []

    def run_seed(seed: int, *, mode: Mode, trace: object = None) -> Outcome:
        modes.append(mode)
        return Outcome(seed)

    monkeypatch.setattr(batch, "run_seed", run_seed)
    monkeypatch.setattr(cluster, "run_seed", run_seed)
    for option in ("--seeds", "--seed"):
        run(option, "1", "--jobs", "1")
        run(option, "1", "--jobs", "1", "--model")
        run(option, "1", "--jobs", "1", "--clients")
    assert modes == 2 * [Mode.ENGINE, Mode.MODEL, Mode.CLIENTS]


def test_clients_need_the_engine() -> None:
    assert run("--seed", "1", "--model", "--clients")[0] == 2


def test_one_seed_with_clients() -> None:
    status, text = run("--seed", "2", "--clients")
    assert status == 0
    assert text.startswith("seed 2: clean; ")


def test_one_seed_is_replayed_with_a_trace() -> None:
    status, text = run("--seed", "5", "--trace")
    lines = text.splitlines()
    assert status == 0
    assert any(" leads " in line for line in lines)
    assert any(" fault " in line for line in lines)
    assert lines[-1].startswith("seed 5: clean; ")


def test_one_seed_in_json() -> None:
    status, text = run("--seed", "5", "--output", "json")
    found = json.loads(text)
    assert status == 0
    assert (found["seed"], found["problem"], found["counts"]) == (5, "", True)


def test_a_trace_without_a_seed_is_wrong_usage() -> None:
    assert run("--trace")[0] == 2


def test_planted_bugs_are_listed_with_the_seeds_that_it_took() -> None:
    status, text = run("planted", "sent_before_sync", "--jobs", "1", "--output", "json")
    assert status == 0
    (bug,) = json.loads(text)["bugs"]
    assert bug["name"] == "sent_before_sync"
    assert 1 <= bug["seeds"] <= 10


def test_a_planted_bug_is_told_as_soon_as_it_is_found() -> None:
    result = CliRunner().invoke(sim, ["planted", "sent_before_sync", "--jobs", "1"])
    assert result.stderr.splitlines()[0] == "found in 1 seeds: sent_before_sync"


def test_a_batch_that_is_interrupted_prints_what_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = 9

    def run_seed(seed: int, *, mode: Mode) -> Outcome:
        if seed == 3:
            raise KeyboardInterrupt
        return Outcome(seed, problem="twice" if seed == broken else "")

    monkeypatch.setattr(batch, "run_seed", run_seed)
    order = ("--seeds", "5", "--jobs", "1")
    status, text = run(*order)
    assert status == 130
    assert "interrupted after 2 of 5 seeds" in text
    status, text = run(*order, "--output", "json")
    assert (json.loads(text)["seeds"], json.loads(text)["interrupted"]) == (2, True)
    broken = 2
    assert run(*order)[0] == 1


def test_planted_bugs_are_counted_from_the_first_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_seed(seed: int, planted: frozenset[str] = frozenset(), mode: object = None) -> Outcome:
        return Outcome(seed, problem="found" if planted and seed == 43 else "")

    monkeypatch.setattr(batch, "run_seed", run_seed)
    order = ("planted", "sent_before_sync", "--jobs", "1")
    status, text = run(*order, "--first-seed", "41", "--output", "json")
    assert (status, json.loads(text)) == (0, {"bugs": [{"name": "sent_before_sync", "seeds": 3}]})
    _, text = run(*order, "--first-seed", "41")
    assert text.split()[:3] == ["sent_before_sync", "seed", "43"]
    assert run(*order, "--first-seed", "44")[0] == 1


def test_a_planted_bug_that_is_not_found_is_null_and_gives_status_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "PLANTED_SEEDS_MAX", 1)
    monkeypatch.setattr(batch, "run_seed", lambda seed, planted=None, mode=None: Outcome(seed))
    status, text = run("planted", "sent_before_sync", "--jobs", "1", "--output", "json")
    assert status == 1
    assert json.loads(text) == {"bugs": [{"name": "sent_before_sync", "seeds": None}]}


def test_an_unknown_planted_bug_is_wrong_usage() -> None:
    assert run("planted", "nonsense")[0] == 2


def test_a_seed_that_fails_anyway_finds_no_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PLANTED_SEEDS_MAX", 1)
    monkeypatch.setattr(
        batch,
        "run_seed",
        lambda seed, planted=None, mode=None: Outcome(seed, problem="another bug"),
    )
    assert find_planted(["sent_before_sync"]) == {"sent_before_sync": None}


def test_a_seed_that_hangs_is_a_violation_and_finds_a_planted_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hanging(call: object, work: deque[Any], *_: object, **__: object) -> Iterator[Any]:
        while work:
            task = work.popleft()
            if isinstance(task, int):
                yield task, Lost("it did not end") if task == 2 else Outcome(task)
            else:  # With the bug, it hangs from the third seed on.
                yield task, Lost("it did not end") if task.planted and task.seed > 2 else False

    monkeypatch.setattr(batch, "shared", hanging)
    assert run_batch(1, 3).violations == [(2, "liveness: it did not end")]
    assert find_planted(["vote_not_persisted"]) == {"vote_not_persisted": 3}


def test_a_large_batch_must_reach_every_situation() -> None:
    summary = Summary()
    for seed in range(BATCH_SEEDS_MIN):
        summary.add(Outcome(seed, coverage=Coverage(dict.fromkeys(sorted(REQUIRED)[1:], 1))))
    assert summary.missing() == sorted(REQUIRED)[:1]
    summary.required = REQUIRED_SERVED
    assert summary.missing() == sorted(REQUIRED_SERVED - set(sorted(REQUIRED)[1:]))
    assert Summary(seeds=10).missing() == []


def test_a_seed_counts_with_enough_transactions_and_faults() -> None:
    enough = Counter({"kill": cluster.FAULTS_MIN})
    assert Outcome(1, acknowledged=cluster.ACKNOWLEDGED_MIN, faults=enough).counts
    assert not Outcome(1, acknowledged=cluster.ACKNOWLEDGED_MIN - 1, faults=enough).counts
    assert not Outcome(1, acknowledged=cluster.ACKNOWLEDGED_MIN).counts


def test_a_seed_with_a_check_that_gave_up_does_not_count() -> None:
    enough = Counter({"kill": cluster.FAULTS_MIN})
    coverage = Coverage({GAVE_UP: 1})
    one = Outcome(1, acknowledged=cluster.ACKNOWLEDGED_MIN, faults=enough, coverage=coverage)
    assert one.gave_up
    assert not one.counts
    summary = Summary()
    summary.add(one)
    assert (summary.counted, summary.gave_up) == (0, 1)
    assert "0 counted (0/min), checks gave up in 1," in cli_sim.format_summary(summary)


def test_a_batch_of_which_no_seed_counts_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "run_seed", lambda seed, mode: Outcome(seed))
    status, text = run("--seeds", "2", "--jobs", "1")
    assert (status, text.splitlines()[0][:14]) == (1, "no seed counts")
    assert run("--seeds", "2", "--jobs", "1", "--output", "json")[0] == 1


def test_one_seed_with_a_check_that_gave_up_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = Outcome(7, coverage=Coverage({GAVE_UP: 2}))
    monkeypatch.setattr(cluster, "run_seed", lambda seed, mode, trace: given_up)
    status, text = run("--seed", "7")
    assert (status, text.partition(";")[0]) == (1, "seed 7: unknown, for a check gave up")


def test_the_command_loads_nothing_of_the_simulator_before_it_runs() -> None:
    text = "import mako.cli.sim, sys; print([m for m in sys.modules if m.startswith('mako.sim')])"
    result = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
