"""Transactions over partitions with workers that really run side by side."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import mako
from bench.shards import cluster, micro, processes, tpca, tpcc
from bench.shards.__main__ import main
from bench.shards.cluster import Measured, Partitions
from bench.tpca import janus
from bench.tpcc.scale import SCALES
from mako.engine.partitions import Mesh
from mako.server.drive import Drive
from tests.engine.running import until

#: Reserved, and taken only as far as it is used.
MEMORY = 1 << 30
SECONDS = 0.3


class Enough:
    """Has workers measured until they have done enough to be looked at, instead of for SECONDS:
    in those a fast machine fills its memory, and a slow one may do nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rolled_back = 0
        self._drives: list[Drive] = []
        self._meshes: list[Mesh] = []
        made = SimpleNamespace(sleep=self._sleep, monotonic=time.monotonic)
        monkeypatch.setattr(cluster, "time", made)
        monkeypatch.setattr(cluster, "Drive", self._drive)
        monkeypatch.setattr(cluster, "Mesh", self._mesh)
        monkeypatch.setattr(cluster, "DRAIN_SECONDS", 600.0)

    def _drive(self, *given: Any, **more: Any) -> Drive:
        self._drives.append(Drive(*given, **more))
        return self._drives[-1]

    def _mesh(self, *given: Any) -> Mesh:
        self._meshes.append(Mesh(*given))
        return self._meshes[-1]

    def _sleep(self, seconds: float) -> None:
        if seconds in (SECONDS, cluster.WARMUP_SECONDS):
            before = self._others()
            until(lambda: self._is_enough(before))

    def _others(self) -> tuple[int, int]:
        """Transactions over partitions, and reads for others."""
        (mesh,) = self._meshes
        counts = [mesh.counts(partition) for partition in mesh.stations]
        return sum(c.distributed for c in counts), sum(c.read_for_others for c in counts)

    def _is_enough(self, before: tuple[int, int]) -> bool:
        samples = [drive.sample() for drive in self._drives]
        assert not any(sample.stopped for sample in samples), samples
        kinds = [kind for sample in samples for kind in sample.kinds]
        return (
            all(now - then > 20 for now, then in zip(self._others(), before, strict=True))
            and sum(kind.committed for kind in kinds) > 200
            and sum(kind.rolled_back for kind in kinds) >= self.rolled_back
        )


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> Enough:
    return Enough(monkeypatch)


@pytest.mark.parametrize(("count", "keys"), [(2, 4), (3, 1000)])
def test_transfers_of_workers_side_by_side_lose_nothing(count: int, keys: int) -> None:
    """With four accounts nearly every transaction is in the way of another one."""
    with Partitions(count, MEMORY) as partitions:
        measured = micro.run(partitions, keys, 60, SECONDS)
    assert measured.committed > 100
    assert measured.counts["distributed"] > 10
    assert measured.counts["read_for_others"] > 10
    assert 0 <= measured.aborted_over <= measured.aborted


def test_tpca_of_two_partitions_adds_up() -> None:
    with Partitions(2, MEMORY) as partitions:
        measured = tpca.run(partitions, 500, SECONDS)
    drawn = sum(state["n_transactions"] for state in measured.states)
    over = sum(state["n_cross"] for state in measured.states)
    assert 0 < over < drawn
    assert measured.committed > 0
    assert measured.counts["distributed"] > 0


def test_sums_of_tpca_that_differ_are_noticed() -> None:
    @mako.procedure
    def steal(tx: Any) -> None:
        tx.write(janus.TELLER, (0,)).t_balance -= 1

    with Partitions(2, MEMORY) as partitions:

        def drive(*given: Any, **more: Any) -> Measured:
            partitions.run(0, steal)
            return Measured(1.0, 1, 0, 0, {}, ())

        partitions.drive = drive  # type: ignore[method-assign]
        with pytest.raises(mako.Error, match="the tables add up to 0, -1, 0; all should be equal"):
            tpca.run(partitions, 6, SECONDS)


def test_tpcc_over_two_partitions_takes_in_what_is_paid(enough: Enough) -> None:
    enough.rolled_back = 1  # One new order in a hundred is.
    with Partitions(2, MEMORY) as partitions:
        measured = tpcc.run(partitions, SCALES["tiny"], 1, tpcc.Shares(1, 15), SECONDS)
    assert measured.counts["distributed"] > 10
    assert measured.rolled_back > 0
    assert {state["home_first"] for state in measured.states} == {1, 2}


def test_a_sum_that_is_wrong_is_noticed() -> None:
    @mako.procedure
    def steal(tx: Any) -> None:
        tx.write(micro.ACCOUNT, (0, 1)).value -= 1

    with Partitions(2, MEMORY) as partitions:

        def drive(*given: Any, **more: Any) -> Measured:
            partitions.run(0, steal)
            return Measured(1.0, 1, 0, 0, {}, ())

        partitions.drive = drive  # type: ignore[method-assign]
        with pytest.raises(mako.Error, match="the values add up to 1199, not to 1200"):
            micro.run(partitions, 6, 60, SECONDS)


def test_servers_end_if_one_of_them_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last one cannot start; without an end the others would wait for it for ever."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\n[ "$5" = n0 ] && exec sleep 600\necho no\nexit 1\n')
    program.chmod(0o700)
    monkeypatch.setattr(processes, "sys", SimpleNamespace(executable=str(program)))
    servers = processes.Processes(2, 1, shards={}, modules=[])
    with pytest.raises(mako.Error, match="n1 ended: no"), servers:
        raise AssertionError("it is refused")
    assert [process.poll() for process in servers._running.values()] == [-signal.SIGKILL, 1]
    assert not servers._folder.exists()


def measured(given: Any, *, remote: bool) -> Measured:
    counts = {"parked": 3, "distributed": 5}
    return Measured(2.0, 100 if remote else 200, 0, 1, counts, ())


def test_the_command_prints_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tpcc", "--beside", "--rounds", "2"], measured) == 0
    said = capsys.readouterr().out
    assert "remote: 50 transactions/s, 0.99 % aborted, 0 of them over partitions; 3 parked" in said
    assert "ratio: 0.50 (0.50, 0.50)" in said
    assert main(["micro", "--beside", "--output", "json"], measured) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ratios"] == [0.5]
    assert shown["remote"][0]["committed"] == 100


def test_a_run_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(given: Any, *, remote: bool) -> Measured:
        raise mako.Error("the values add up to 1, not to 2")

    assert main(["micro"], fails) == 1
    assert capsys.readouterr().err == "bench.shards: the values add up to 1, not to 2\n"
    with pytest.raises(SystemExit):
        main(["micro", "--partitions", "1"])
    assert "--partitions: 1 is too small; give at least 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["tpca", "--beside"])
    assert "leave out --beside" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["micro", "--rate", "1000"], measured)
    assert "--rate is of servers; add --processes" in capsys.readouterr().err
    assert main(["micro", "--rate", "1000", "--processes", "1"], measured) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        "micro --seconds nan",
        "micro --seconds inf",
        "micro --seconds 0",
        "micro --seconds soon",
        "micro --partitions 65",
        "micro --rounds 0",
        "micro --keys 1",
        "micro --keys 1.5",
        "micro --cross-shard-pct -5",
        "tpcc --remote-item-pct 1000",
        "tpcc --remote-payment-pct -1",
        "tpcc --warehouses-per-worker 0",
        "tpcc --warehouses-per-worker 20000 --partitions 3",
        "tpcc --processes -1",
        "tpcc --processes 1 --rate nan",
        "tpcc --processes 1 --rate -1",
    ],
)
def test_numbers_that_cannot_be_are_refused(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split(), measured)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_durable_is_told_from_what_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    def kind(durable: list[int]) -> Any:
        return SimpleNamespace(committed=100, rolled_back=2, durable=durable)

    def of(*kinds: Any) -> Measured:
        sample = SimpleNamespace(seconds=2.0, kinds=kinds, aborts={}, aborts_over={}, stopped="")
        return cluster.measured([cast("Any", sample)], {}, [])

    assert of(kind([]), kind([])).durable_per_second is None
    replicated = of(kind([0, 70]), kind([20]))
    assert (replicated.per_second, replicated.durable_per_second) == (102, 45)
    assert main(["tpcc", "--processes", "3"], lambda *_, **__: replicated) == 0
    assert "remote: 102 transactions/s executed, 45/s durable," in capsys.readouterr().out
