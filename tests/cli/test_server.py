"""`mako server --check`: what a configuration means for a process, or what is wrong with it."""

import json
from pathlib import Path

import pytest

from mako.cli.app import main
from mako.errors import ConfigError
from mako.replication.contract import ProcessMustEnd
from mako.server import running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "cluster.yml"
    document = {
        "site": {"server": [["s1:7001"]]},
        "process": {"s1": "a"},
        "host": {"a": "127.0.0.1"},
    }
    made.write_text(json.dumps(document))
    return made


def check(*files: Path) -> int:
    options = [word for each in files for word in ("-f", str(each))]
    return main(["server", "--process", "a", *options, "--check"])


def test_what_a_process_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(file) == 0
    out = capsys.readouterr().out
    assert "process a, number 1 of cluster" in out
    assert "listens at 127.0.0.1:7001; in data/a" in out
    assert "partition 0: node 1, voter" in out


def test_a_replica_that_came_later_is_said_to(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more.yml"
    document = {
        "site": {"server": [["s1:7001", "s2:7002", "s3:7003", "s4:7004"]]},
        "process": {"s1": "b", "s2": "a", "s3": "c", "s4": "d"},
        "host": dict.fromkeys(("a", "b", "c", "d"), "127.0.0.1"),
        "learner": ["d"],
        "joined": ["s2", "s4"],
    }
    more.write_text(json.dumps(document))
    for process, wanted in (
        ("a", "node 2, voter, once it has joined"),
        ("b", "node 1, voter\n"),
        ("d", "node 4, learner, once it has joined"),
    ):
        options = ["--process", process, "-f", str(file), "-f", str(more), "--check"]
        assert main(["server", *options]) == 0
        assert wanted in capsys.readouterr().out


def test_modules_with_procedures_are_no_problem(file: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.yml"
    more.write_text("procedures: [tests.server.procedures]\n")
    assert check(file, more) == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("procedures: [no.such.module]", "procedures: module 'no.such.module' cannot be imported"),
        ("procedures: [json]", "procedures: module 'json' has no procedure"),
        ("http_host: ''", "http_host: '' is no name and no IP address"),
        ("cluster: {name: ''}", "cluster.name: it is empty"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, wanted: str
) -> None:
    more = tmp_path / "more.yml"
    more.write_text(f"{text}\n")
    assert check(file, more) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"mako: {more}: {wanted}")
    assert err.count("\n") == 1


def test_a_failed_disk_is_status_3_and_what_can_be_corrected_2(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks after it starts it again, or calls somebody: by the status alone."""
    errors = [ProcessMustEnd("input/output error"), ConfigError("port 7001 is in use")]

    def run(plan: object, log: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(running, "run", run)
    command = ["server", "--process", "a", "-f", str(file)]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(' a must end reason="input/output error"')
    assert main(command) == 2
    logged, said = capsys.readouterr().err.splitlines()
    assert logged.endswith(' a cannot run reason="port 7001 is in use"')
    assert said == "mako: port 7001 is in use"
