"""`mako status -f`: what is made of the answers of a cluster's processes."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from rich.console import Console

from mako.cli import watching
from mako.cli.app import main
from mako.cli.watching import Answer
from mako.config import ClusterConfig, Process, load

WATERMARK = 1_795_858_200_123 << 20


def answer(process: str, **facts: Any) -> Answer:
    known = {
        "partition": 0,
        "role": "follower",
        "epoch": 2,
        "term": 3,
        "commit": 41,
        "applied": 40,
        "watermark": WATERMARK,
        "watermark_lag_ms": 7,
        "log_bytes": 3 << 19,
        "snapshot_bytes": 0,
    }
    return Answer(process, 0, "127.0.0.1:1", known | facts)


def silent(process: str) -> Answer:
    return Answer(process, 0, "127.0.0.1:1", error="no connection")


def printed(answers: list[Answer]) -> list[list[str]]:
    stream = StringIO()
    Console(file=stream, width=160).print(watching.as_table(answers))
    return [line.split() for line in stream.getvalue().splitlines()]


def test_a_row_for_each_replica_and_one_that_says_who_is_silent() -> None:
    rows = printed(
        [
            answer("p1", role="leader"),
            answer("p2", role="learner", snapshot_bytes=2 << 30),
            silent("p3"),
        ]
    )
    time = watching.moment(WATERMARK)
    assert time.endswith(".123")
    assert rows[1:] == [
        ["p1", "0", "leader", "2", "3", "41", "40", time, "7", "ms", "1.5", "MiB", "-"],
        ["p2", "0", "learner", "2", "3", "41", "40", time, "7", "ms", "1.5", "MiB", "2.0", "GiB"],
        ["p3", "0", "does", "not", "answer"],
    ]


def test_nothing_applied_yet_is_not_1970() -> None:
    assert watching.moment(0) == "none yet"


def test_one_leader_and_a_silent_follower_are_no_problem() -> None:
    assert watching.problems([answer("p1", role="leader"), answer("p2"), silent("p3")]) == []


def test_no_leader_is_one_for_each_partition() -> None:
    other = answer("p1", role="leader")
    other.partition = 1
    found = watching.problems([answer("p1"), silent("p2"), other])
    assert found == ["partition 0 has no leader"]


def test_hashes_count_only_at_the_same_timestamp() -> None:
    leader = answer("p1", role="leader", timestamp=5, hash="aa")
    assert watching.problems([leader, answer("p2", timestamp=6, hash="bb")]) == []
    assert watching.problems([leader, answer("p2", timestamp=5, hash="aa")]) == []
    assert watching.problems([leader, answer("p2", timestamp=5, hash="bb")]) == [
        "replicas of partition 0 differ at the same timestamp"
    ]


@pytest.mark.parametrize("output", ["json", "table"])
def test_watch_looks_again_until_it_is_interrupted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
) -> None:
    """Each look is a line of JSON, or a table with what is wrong below it."""
    looks = iter([[answer("p1", role="leader")], [answer("p1")]])

    def ask(*_: object, **__: object) -> list[Answer]:
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(watching, "ask_all", ask)
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0)
    with hashing(tmp_path, "aa"):
        status = main(["status", "--watch", "-o", output, "-f", str(tmp_path / "cluster.yml")])
    out = capsys.readouterr().out
    assert status == 130
    if output == "json":
        found = [json.loads(line) for line in out.splitlines()]
        assert [len(each["problems"]) for each in found] == [0, 1]
    else:  # No terminal: each look is printed as it is made.
        assert [line.split()[0] for line in out.splitlines() if line.strip()] == [
            *("process", "p1"),
            *("process", "p1", "partition"),
        ]
        assert out.count("snapshot") == 2
        assert "partition 0 has no leader" in out


def test_watch_changes_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()

    def terminal() -> Console:
        return Console(file=stream, force_terminal=True, width=160)

    def ask(*_: object, **__: object) -> list[Answer]:
        if "has no leader" in stream.getvalue():
            raise KeyboardInterrupt
        return [answer("p1")]

    monkeypatch.setattr(watching, "_console", terminal)
    monkeypatch.setattr(watching, "ask_all", ask)
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        watching._watch(cast("ClusterConfig", None), output="table", hashes=False)
    assert "\x1b[?25l" in stream.getvalue()  # The cursor was hidden meanwhile.


class Replica(BaseHTTPRequestHandler):
    """The HTTP port of a process whose rows hash to `hashed`; empty: they do not."""

    hashed = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        timestamp = int(self.path.rpartition("=")[2])
        body = json.dumps({"timestamp": timestamp, "hash": self.hashed}).encode()
        if not self.hashed:
            body = b"the watermark stands still\n"
        self.send_response(200 if self.hashed else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hashing(tmp_path: Path, *hashes: str) -> Iterator[tuple[ClusterConfig, list[str]]]:
    """A configuration whose processes answer /hash, and the paths that they are asked for."""
    asked: list[str] = []
    with ExitStack() as stack:
        ports = {}
        for at, hashed in enumerate(hashes):
            handler = type("Handler", (Replica,), {"hashed": hashed, "asked": asked})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            ports[f"p{at}"] = server.server_port
        file = tmp_path / "cluster.yml"
        document = {
            "site": {"server": [[f"s{at}:{at + 1}" for at in range(len(hashes))]]},
            "process": {f"s{at}": f"p{at}" for at in range(len(hashes))},
            "host": dict.fromkeys(ports, "127.0.0.1"),
            "http": ports,
        }
        file.write_text(json.dumps(document))
        yield load([file]), asked


def seen_by(monkeypatch: pytest.MonkeyPatch, lags: list[int]) -> None:
    """The processes answer, with watermarks so many ms ago, however long that takes."""
    monkeypatch.setattr(watching, "HASH_SECONDS", 120.0)

    def ask(process: Process, partition: int, cluster: int) -> Answer:
        del partition, cluster
        at = int(process.name[1:])
        role = "follower" if at else "leader"
        return answer(process.name, role=role, watermark=WATERMARK - (lags[at] << 20))

    monkeypatch.setattr(watching, "_ask", ask)


def test_all_are_asked_for_their_hash_at_one_timestamp_that_none_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by(monkeypatch, [0, 3, 70])
    with hashing(tmp_path, "aa", "aa", "bb") as (config, asked):
        found = watching.ask_all(config, hashes=True)
    wanted = WATERMARK + (watching.HASH_AHEAD_MS << 20)
    assert asked == [f"/hash?partition=0&at={wanted}"] * 3
    assert watching.problems(found) == ["replicas of partition 0 differ at the same timestamp"]
    assert [row[-1] for row in printed(found)[1:]] == ["aa", "aa", "bb"]


def test_who_cannot_hash_says_why_and_the_others_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by(monkeypatch, [0, 0, 0])
    with hashing(tmp_path, "aa", "", "aa") as (config, _):
        found = watching.ask_all(config, hashes=True)
    assert watching.problems(found) == []
    assert found[1].facts["hash_error"] == "the watermark stands still"
    assert "hash" not in found[1].facts
    assert "none:" in printed(found)[2]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Three processes at ports that are taken, but where nobody listens."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        sites = [f"s{at}:{each.getsockname()[1]}" for at, each in enumerate(taken)]
        file = tmp_path / "cluster.yml"
        document = {
            "site": {"server": [sites]},
            "process": {f"s{at}": f"p{at}" for at in range(3)},
            "host": {f"p{at}": "127.0.0.1" for at in range(3)},
            "http": {f"p{at}": 0 for at in range(3)},
        }
        file.write_text(json.dumps(document))
        yield file


def test_a_cluster_that_is_down_is_told_and_the_status_is_1(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.2)
    assert main(["status", "-f", str(config)]) == 1
    out = capsys.readouterr().out
    assert out.count("does not answer") == 3
    assert "partition 0 has no leader" in out


def test_json_says_why_somebody_is_silent(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.2)
    assert main(["status", "-f", str(config), "-w", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["process"] for row in found["replicas"]] == ["p0", "p1", "p2"]
    assert not any(row["answers"] for row in found["replicas"])
    assert all(row["error"] for row in found["replicas"])
    assert found["problems"] == ["partition 0 has no leader"]


@pytest.mark.parametrize("option", ["--watch", "--hash"])
def test_options_of_a_cluster_need_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", option]) == 2
    assert "need -f" in capsys.readouterr().err


def test_a_missing_configuration_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "-f", str(tmp_path / "none.yml")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "none.yml" in err
