"""`mako bench engine` measures every part, and says so in a table or in one JSON object."""

import json

import pytest

from bench.engine import index, log, run, sessions
from bench.engine.figures import Figure
from bench.engine.loops import mixed
from mako.cli import main


def test_a_figure_is_a_rate() -> None:
    figure = Figure("g", "s", "what", "mako", count=1000, seconds=0.5, bytes=2_000_000)
    assert (figure.per_second, figure.ns) == (2000, 500_000)
    assert figure.gb_per_second == pytest.approx(0.004)


def test_keys_are_the_same_for_the_engine_and_for_its_rivals() -> None:
    for i in (0, 1, 77, 123_456):
        assert mixed(i) & (1 << 64) - 1 == index.mixed(i)
    assert len({index.mixed(i) for i in range(10_000)}) == 10_000


def test_the_index_is_compared_for_each_kind_of_key() -> None:
    figures = list(index.measure([300]))
    found = {(it.setting.split(",")[0], it.what, it.subject) for it in figures}
    for kind in index.KINDS:
        for what in ("insert", "get"):
            assert {(kind, what, by) for by in ("mako", "dict", "SortedDict")} <= found
        assert {(kind, "scan of 100", by) for by in ("mako", "SortedDict")} <= found


def test_the_log_is_measured_from_encoding_to_replay() -> None:
    figures = list(log.measure(6000))
    assert [it.what for it in figures] == [
        "encode", "seal (CRC)", "parse", "check (CRC and parse)", "insert", "hash the state",
    ]  # fmt: skip
    # Every write that was encoded was checked, replayed and dumped.
    assert {it.count for it in figures} == {6000}


@pytest.mark.parametrize("count", [6001, 6003])
def test_the_log_is_measured_with_any_number_of_writes(count: int) -> None:
    assert len(list(log.measure(count))) == 6


def test_calls_from_python_are_measured() -> None:
    assert len({it.what for it in sessions.measure(50)}) == 5


def test_the_command_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "engine", "--keys", "500", "--only", "python", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["workload"] == "engine"
    assert "--only python" in shown["command"]
    assert all(figure["per_s"] > 0 for figure in shown["figures"])


def test_the_table_has_a_row_for_each_figure_and_cuts_none_off() -> None:
    figures = [
        Figure("Python", "10,000 keys", "read, change a typed row, commit", "calls", 3, 1.0),
        Figure("index", "byte string, 10,000,000 keys", "scan of 100", "SortedDict", 3, 1e-9, 9),
    ]
    text = run.table_of(figures, {"cpu": "one"}, "mako bench engine")
    assert "read, change a typed row, commit" in text
    assert "byte string, 10,000,000 keys" in text
    assert "…" not in text


@pytest.mark.parametrize("bad", [("--keys", "0"), ("--only", "disk"), ("--keys", "many")])
def test_bad_input_is_refused_in_one_line(
    bad: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "engine", *bad]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
