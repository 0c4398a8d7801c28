"""`mako bench`: bad input in one line, and runs of a cardboard benchmark through every output."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import mako
from bench import cli, common, machine, session
from bench.options import Distribution, MicroOptions, TpcaOptions, TpccOptions
from mako.cli import main
from mako.errors import ConfigError, OutOfMemory
from mako.server.plan import DRIVERS
from tests.bench.fakes import FakeBenchmark, FakeDatabase

CONFIG = Path(__file__).parents[2] / "config"
RUN = ("bench", "tpcc", "run", "--scale", "tiny", "--workers", "1", "--seconds", "3")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "core_count", lambda: 2)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[session.Request]:
    """Nothing runs; the requests are kept."""
    requests: list[session.Request] = []

    def run(request: session.Request) -> int:
        requests.append(request)
        return 0

    monkeypatch.setattr(session, "run", run)
    return requests


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "tpcc run --warehose 2",
            "there is no option --warehose; did you mean --warehouses or --warehouses-per-worker?",
        ),
        ("tpcc run --terminals 2", "there is no option --terminals; see mako bench tpcc run"),
        ("tpcc prepare", "no such command 'prepare'; see mako bench tpcc --help"),
        ("tpcd run", "no such command 'tpcd'"),
        ("tpcc run now", "got unexpected extra argument (now); see mako bench tpcc run --help"),
        ("tpcc run --seconds", "option '--seconds' requires an argument"),
        ("tpcc run --warehouses 0", "--warehouses: 0 is too small; give at least 1"),
        ("tpcc run --warehouses -4", "--warehouses: -4 is too small; give at least 1"),
        ("tpcc run --warehouses 70000", "--warehouses: 70000 is too large; give at most 32767"),
        (
            "tpcc run --workers 1 --report=",
            "--report: the name is empty; give a folder, or . for this one",
        ),
        ("tpcc run --workers 0", "--workers: 0 is too small; give at least 1"),
        (
            "tpcc run --workers 64",
            "--workers 64: this machine has 2 cores for this process, and a worker keeps one busy;"
            " give at most 2",
        ),
        ("tpcc run --seconds 0", "--seconds: it must be longer than zero; write 30, 30s"),
        ("tpcc run --seconds -5", "--seconds: '-5' is not a duration; write 30, 30s, 5m or 1h"),
        ("tpcc run --warmup soon", "--warmup: 'soon' is not a duration"),
        ("tpcc run --rate -1", "--rate: -1 is too small; give at least 0"),
        ("tpcc run --seed abc", "--seed: 'abc' is not a whole number; give one such as 0"),
        ("tpcc run --seed 1.5", "--seed: '1.5' is not a whole number"),
        ("tpcc run --memory big", "--memory: 'big' is not a size; write 4GiB or 512MiB"),
        ("tpcc run --memory 1MiB", "--memory: 1MiB is too small for a database; give at least"),
        ("tpcc run --memory 900TiB", "--memory 900 TiB: this machine has"),
        ("tpcc run --mix 45,43", "--mix: '45,43' has 2 weights; give five, new_order,payment,"),
        ("tpcc run --mix 0,0,0,0,0", "--mix: all weights are zero"),
        (
            "tpcc run --mix 4000000000,1,1,1,1",
            "--mix: the weight 4000000000 is too large; give at most 1000000",
        ),
        ("tpcc run --warehouses ٣", "--warehouses: '٣' is not a whole number; give one such as 1"),
        ("tpcc run --warehouses 32768", "--warehouses: 32768 is too large; give at most 32767"),
        ("tpcc run --scale huge", "--scale: 'huge' is not one of 'tiny', 'small', 'spec'"),
        ("tpcc run --output xml", "--output: 'xml' is not one of 'table', 'json'"),
        ("tpcc run --clients 8", "--clients 8: terminals need a cluster that runs; add -f and"),
        ("tpcc run --clients 0", "--clients: 0 is too small; give at least 1"),
        ("tpcc run --clients 8 --workers 2 -f x", "--workers: terminals are served by the cluster"),
        (
            "tpcc run --memory 1GiB -f x",
            "--memory: a cluster has the `memory` of its configuration",
        ),
        ("tpcc run --connections 2", "--connections: only terminals share them; add --clients N"),
        ("tpcc run --clients 8 --connections 65 -f x", "--connections: 65 is too large; give at"),
        (
            "tpcc run --warehouses 2 --warehouses-per-worker 2",
            "--warehouses-per-worker: --warehouses says how many there are in all; leave out one",
        ),
        (
            "tpcc run --workers 2 --warehouses-per-worker 20000",
            "--warehouses-per-worker 20000: that makes 40000 warehouses, and there may be 32767",
        ),
        ("tpcc run --remote-item-pct 101", "--remote-item-pct: 101 is too large; give at most 100"),
        ("tpcc run --remote-payment-pct -1", "--remote-payment-pct: -1 is too small; give at"),
        ("micro run --clients 8", "--clients 8: terminals need a cluster that runs; add -f and"),
        ("micro run --cross-shard-pct 101", "--cross-shard-pct: 101 is too large; give at most"),
        (
            "micro run --cross-shard-pct 50",
            "--cross-shard-pct 50: there is one partition; add -f and the configuration of a",
        ),
        (
            "micro run --cross-shard-pct 50 -f {config}/1c1s1r1p.yml",
            "--cross-shard-pct 50: there is one partition; add -f and the configuration of a",
        ),
        (
            "micro run --cross-shard-pct 1 --ops 1 -f {config}/1c2s1r1p_cluster.yml",
            "--cross-shard-pct 1: one key is in one partition; give --ops 2",
        ),
        ("tpca run --branches 0", "--branches: 0 is too small"),
        ("tpca run --dist zipf:2", "--dist: the skew '2' must be a number above 0 and below 1"),
        ("tpca run --dist zipf:0.9", "--dist zipf:0.9: the spec profile draws accounts as"),
        ("tpca run --profile janus --branches 2", "--branches: the janus profile has three"),
        ("micro run --keys 0", "--keys: 0 is too small"),
        ("micro run --read-pct 101", "--read-pct: 101 is too large; give at most 100"),
        ("micro run --ops 65", "--ops: 65 is too large; give at most 64"),
        ("micro run --keys 3", "--ops 4: a transaction cannot use more than all 3 keys"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], asked: list[session.Request], arguments: str, line: str
) -> None:
    assert main(["bench", *arguments.format(config=CONFIG).split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"mako: {line}")
    assert output.err.count("\n") == 1
    assert output.err.endswith("\n")
    assert not asked


@pytest.mark.parametrize("below", [True, False])
def test_a_report_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, *, below: bool
) -> None:
    file = tmp_path / "taken"
    file.write_text("not a folder")
    folder = file / "report" if below else file
    assert main([*RUN, "--report", str(folder)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"mako: --report: cannot write to {folder} (")
    assert output.err.endswith("); name a folder that can be written\n")
    assert output.err.count("\n") == 1
    assert file.read_text() == "not a folder"


def test_the_line_is_the_same_without_the_outer_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.bench.main(["tpcc", "run", "--seed", "x"], prog_name="bench")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("mako: --seed: 'x' is not a whole number")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("memory=1: too small\nfor this"), "mako: memory=1: too small for this\n"),
        (
            OutOfMemory("memory is full"),
            "mako: --memory 128 MiB is too small for the rows to be loaded; give more, or load"
            " fewer rows\n",
        ),
    ],
)
def test_an_error_of_mako_while_loading_is_one_line(
    capsys: pytest.CaptureFixture[str],
    fakes: Callable[[FakeBenchmark], FakeDatabase],
    error: Exception,
    line: str,
) -> None:
    class Broken(FakeBenchmark):
        def prepare(self, db: object, progress: object) -> None:
            raise error

    database = fakes(Broken())
    assert main([*RUN, "--memory", "128MiB"]) == 2
    assert capsys.readouterr().err == line
    assert database.closed


# --- What is asked for -------------------------------------------------------------------------


def test_defaults(asked: list[session.Request]) -> None:
    assert main(["bench", "tpcc", "run"]) == 0
    request = asked[0]
    assert request.workers == 2
    assert request.options == TpccOptions(workers=2, warehouses=2, scale="spec")
    assert (request.seconds, request.warmup_s, request.rate, request.seed) == (10.0, 2.0, 0, 1)
    assert not request.json
    assert request.check
    assert request.folder is None
    assert request.memory_bytes >= common.MEMORY_BYTES_MIN


def test_terminals_leave_the_workers_to_the_cluster(asked: list[session.Request]) -> None:
    for options in (
        "tpcc run -f a.yml -f b.yml --clients 32 --connections 3",
        "tpca run -f a.yml --clients 5",
        "tpcc run -f a.yml",
    ):
        assert main(["bench", *options.split()]) == 0
    assert [each.config for each in asked] == [("a.yml", "b.yml"), ("a.yml",), ("a.yml",)]
    assert [(each.clients, each.connections) for each in asked] == [(32, 3), (5, 2), (0, 0)]
    assert asked[0].options == TpccOptions(workers=1, warehouses=0)


def test_every_option_of_tpcc(asked: list[session.Request], tmp_path: Path) -> None:
    arguments = "bench tpcc run --scale small --warehouses 3 --mix 1,2,3,4,5 --workers 2"
    arguments += " --seconds 5m --warmup 0 --rate 10000 --seed 9 --memory 64MiB -o json --no-check"
    assert main([*arguments.split(), "--report", str(tmp_path)]) == 0
    assert asked[0] == session.Request(
        name="tpcc",
        options=TpccOptions(workers=2, warehouses=3, scale="small", mix=(1, 2, 3, 4, 5), seed=9),
        workers=2,
        seconds=300.0,
        warmup_s=0.0,
        seed=9,
        rate=10_000,
        memory_bytes=64 << 20,
        json=True,
        folder=tmp_path,
        check=False,
        command=f"mako {arguments} --report {tmp_path}",
    )


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("tpca run --workers 2 --accounts 500", TpcaOptions(2, branches=2, accounts=500)),
        (
            "micro run --workers 1 --cross-shard-pct 40 -f {config}/1c2s1r1p_cluster.yml",
            MicroOptions(1, cross_shard_pct=40),
        ),
        (
            "tpcc run --workers 1 --remote-item-pct 5 --remote-payment-pct 0",
            TpccOptions(1, 1, remote_item_pct=5, remote_payment_pct=0),
        ),
        (
            "tpca run --workers 1 --profile janus --dist zipf:0.5",
            TpcaOptions(1, "janus", 1, 100_000, Distribution("zipf", 0.5)),
        ),
        (
            "micro run --workers 1 --keys 1000 --read-pct 0 --ops 8 --dist zipf:0.99",
            MicroOptions(1, 1000, 0, 8, Distribution("zipf", 0.99)),
        ),
    ],
)
def test_the_other_benchmarks(
    asked: list[session.Request], arguments: str, options: object
) -> None:
    assert main(["bench", *arguments.format(config=CONFIG).split()]) == 0
    assert asked[0].options == options


# --- Runs --------------------------------------------------------------------------------------


def test_plain_lines_and_tables_in_a_pipe(
    capsys: pytest.CaptureFixture[str], fakes: Callable[[FakeBenchmark], FakeDatabase]
) -> None:
    fakes(FakeBenchmark())
    assert main([*RUN]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "\x1b" not in output.out
    lines = output.out.splitlines()
    assert sum(line.startswith("measure  t=") for line in lines) == 3
    assert sum(line.startswith("warmup   t=") for line in lines) == 2
    assert "check    consistency conditions at one snapshot, just loaded" in lines
    assert "check    0 of 11 failed" in lines
    assert lines[-1] == "PASS: 12 consistency conditions, 1 audit (1 skipped)"


def test_json_is_alone_on_stdout(
    capsys: pytest.CaptureFixture[str], fakes: Callable[[FakeBenchmark], FakeDatabase]
) -> None:
    fakes(FakeBenchmark())
    assert main([*RUN, "--output", "json"]) == 0
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert summary["result"] == "PASS"
    assert summary["command"].startswith("mako bench tpcc run --scale tiny")
    assert summary["machine"]["cores"] == 2
    assert "measure  t=3.0" in output.err


SHARDS = ("-f", str(CONFIG / "1c2s1r1p_cluster.yml"))


def test_leaders_of_all_partitions_are_driven(
    capsys: pytest.CaptureFixture[str],
    fakes: Callable[[FakeBenchmark], FakeDatabase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "ClusterWatch", lambda _addresses: nullcontext())
    benchmark = FakeBenchmark()
    database = fakes(benchmark)
    database.partitions = (0, 1)
    assert main([*RUN, *SHARDS, "-o", "json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert benchmark.calls[0] == "over 2"
    assert [asked["partition"] for asked in database.drives_asked] == [0, 1]
    assert [drive.calls[-2:] for drive in database.drives] == [["stop", "states"]] * 2
    one = database.drives[0].sample()
    assert summary["all"]["count"] == 2 * sum(k.committed + k.rolled_back for k in one.kinds)
    assert summary["cross_shard"]["count"] == 0


def test_more_workers_than_leaders_have_room_for_are_refused_before_the_load(
    capsys: pytest.CaptureFixture[str], fakes: Callable[[FakeBenchmark], FakeDatabase]
) -> None:
    benchmark = FakeBenchmark()
    fakes(benchmark)
    assert main([*RUN, "--workers", "5", *SHARDS]) == 2
    assert "mako: --workers 5: a leader of several partitions has room for 4 threads" in (
        capsys.readouterr().err
    )
    assert not benchmark.calls
    assert session.DRIVERS_MAX == DRIVERS


def test_a_database_has_sessions_for_all_workers(
    asked: list[session.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(mako, "open", lambda *_, **options: opened.append(options))
    monkeypatch.setattr(machine, "core_count", lambda: 64)
    for workers in ("2", "60"):
        main([*RUN, "--workers", workers])
        session.database_of(asked[-1], None)
    assert [options["sessions"] for options in opened] == [24, 68]


def test_a_cluster_of_one_partition_is_driven_as_it_was(
    fakes: Callable[[FakeBenchmark], FakeDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ClusterWatch", lambda _addresses: nullcontext())
    benchmark = FakeBenchmark()
    database = fakes(benchmark)
    assert main([*RUN, "-f", str(CONFIG / "1c1s1r1p.yml")]) == 0
    assert "over 1" not in benchmark.calls
    assert "partition" not in database.drives_asked[0]


@pytest.mark.parametrize(
    ("arguments", "warehouses"),
    [
        ("--warehouses-per-worker 3 --workers 2", 6),
        ("--warehouses-per-worker 3 --workers 2 -f {cluster}", 12),
        ("--warehouses-per-worker 3 --clients 8 -f {cluster}", 6),
        ("--workers 2", 2),
        ("--workers 2 -f {cluster}", 0),
        ("--warehouses 5 -f {cluster}", 5),
    ],
)
def test_warehouses_of_each_worker(
    asked: list[session.Request], arguments: str, warehouses: int
) -> None:
    given = arguments.format(cluster=CONFIG / "1c2s1r1p_cluster.yml")
    assert main(["bench", "tpcc", "run", *given.split()]) == 0
    assert isinstance(asked[0].options, TpccOptions)
    assert asked[0].options.warehouses == warehouses


def test_a_report_folder(
    capsys: pytest.CaptureFixture[str],
    fakes: Callable[[FakeBenchmark], FakeDatabase],
    tmp_path: Path,
) -> None:
    fakes(FakeBenchmark())
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("of an earlier run")
    assert main([*RUN, "--report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report   {folder / 'report.html'}"
    records = [json.loads(line) for line in (folder / "intervals.jsonl").read_text().splitlines()]
    assert [record["t"] for record in records] == [-1.0, 0.0, 1.0, 2.0, 3.0]
    assert json.loads((folder / "summary.json").read_text())["workload"] == "tpcc"
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_a_failed_check_is_status_1(
    capsys: pytest.CaptureFixture[str], fakes: Callable[[FakeBenchmark], FakeDatabase]
) -> None:
    fakes(FakeBenchmark(failing=("3.3.2.8",)))
    assert main([*RUN]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "check    3.3.2.8 FAIL W_YTD = sum(H_AMOUNT): 20 districts" in lines
    assert lines[-1] == "FAIL: 3.3.2.8"


def test_an_early_end_is_said_on_stderr(
    capsys: pytest.CaptureFixture[str], fakes: Callable[[FakeBenchmark], FakeDatabase]
) -> None:
    fakes(FakeBenchmark()).drive_options["memory_limit"] = 380 << 20
    assert main([*RUN]) == 0
    assert capsys.readouterr().err.startswith("mako: memory is nearly full (")


def test_the_exit_status_of_an_interrupted_run(
    fakes: Callable[[FakeBenchmark], FakeDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(FakeBenchmark):
        def check(self, *_: object, **__: object) -> Any:
            raise KeyboardInterrupt

    fakes(Interrupted())
    assert main([*RUN]) == 130


def test_help_and_bad_input_import_neither_numba_nor_a_benchmark() -> None:
    program = (
        "import sys; from mako.cli import main;"
        "main(['bench', 'tpcc', 'run', '--help']); main(['bench', 'tpcc', 'run', '--seed', 'x']);"
        "assert not {'numba', 'numpy', 'bench.tpcc', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
