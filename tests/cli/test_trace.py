"""`mako trace`: what is made of the answers of a cluster's processes, and who is asked for what."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mako.cli.app import main
from mako.cli.columns import columns, duration
from mako.server.trace_schema import (
    Asker,
    Before,
    Count,
    Found,
    Lag,
    PartitionTrace,
    PartitionWaits,
    ProcessTrace,
    ProcessWaits,
    Recovered,
    RowTrace,
    Through,
    Waiting,
    to_json,
)

#: 11:30:00.123 UTC.
T = 1_795_865_400_123 << 20
MS = 1 << 20


def lag(partition: int, behind_ms: float, watermark: int = T - 900 * MS) -> Lag:
    passed = behind_ms == 0
    return Lag(partition=partition, watermark=watermark, passed=passed, behind_ms=behind_ms)


def waiting(count: int, *lags: Lag, mask: tuple[int, ...] = (0, 1), **more: Any) -> Waiting:
    known: dict[str, Any] = {"state": "waiting", "writes": 1, "asked_by": None, "age_ms": 15}
    return Waiting(timestamp=T + count, mask=[*mask], waits_for=[*lags], **known | more)


def of_partition(partition: int, *oldest: Waiting, **more: Any) -> PartitionWaits:
    known: dict[str, Any] = {
        "node": 1, "role": "leader", "epoch": 2, "stable": T - MS, "watermarks": [],
        "waiting": len(oldest), "waiting_for": [], "left_out": 0, "bytes_left_out": 0,
        "recoveries": [],
    }  # fmt: skip
    return PartitionWaits(partition=partition, oldest=list(oldest), **known | more)


def process(name: str, *partitions: PartitionWaits) -> ProcessWaits:
    return ProcessWaits(process=name, cluster="mako", partitions=list(partitions))


BUSY = of_partition(
    0,
    waiting(0, lag(1, 82.866), asked_by=Asker(connection=1, request=8, name="move"), age_ms=1959),
    waiting(
        5, lag(1, 1040.0), lag(2, 7.0, watermark=0), mask=(0, 1, 2), writes=12, age_ms=900,
        asked_by=Asker(connection=3, request=0, name="put", early=True),
    ),
    waiting(
        9, lag(1, 1040.0), mask=(), writes=0,
        asked_by=Asker(connection=3, request=0, name="session"),
    ),
    waiting(10, state="discarded", writes=0),
    waiting(11, mask=(0,)),
    waiting=812,
    waiting_for=[Count(partition=0, transactions=3), Count(partition=1, transactions=812)],
    left_out=807,
    bytes_left_out=4096,
    recoveries=[
        Recovered(partition=0, epoch=2, final=T, versions=0),
        Recovered(partition=1, epoch=5, final=T - MS, versions=91),
    ],
)  # fmt: skip


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers is a thread of this process, and may have to wait for a processor."""
    monkeypatch.setattr("mako.cli.asking.ASK_SECONDS", 120.0)


class Said(BaseHTTPRequestHandler):
    """The HTTP port of a process that says what a test has it say."""

    answers: Mapping[str, tuple[int, bytes]] = {}

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, b"there is nothing here\n"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def cluster(
    folder: Path, path: str, *said: ProcessWaits | ProcessTrace | tuple[int, bytes] | None
) -> Iterator[str]:
    """The configuration of processes p0, p1, ... of a partition each, that say this at `path`;
    None: nobody listens there."""
    with ExitStack() as stack:
        ports = {}
        for at, answer in enumerate(said):
            if answer is None:  # Its port stays taken, or somebody else might answer there.
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", 0))
                ports[f"p{at}"] = taken.getsockname()[1]
                continue
            if isinstance(answer, ProcessWaits | ProcessTrace):
                answer = 200, json.dumps(to_json(answer)).encode()
            handler = type("Handler", (Said,), {"answers": {path: answer}})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            ports[f"p{at}"] = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        count = range(len(said))
        document = {
            "site": {"server": [[f"s{at}:{99 + at}"] for at in count]},
            "process": {f"s{at}": f"p{at}" for at in count},
            "host": dict.fromkeys(ports, "127.0.0.1"),
            "http": ports,
        }
        file = folder / "cluster.yml"
        file.write_text(json.dumps(document))
        yield str(file)


def lines(text: str) -> str:
    return dedent(text).strip() + "\n"


# --- All that wait -------------------------------------------------------------------------------


def test_what_waits_and_who_waits_for_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    follower = of_partition(0, role="follower", epoch=9)
    said = process("p0", BUSY), process("p1", follower, of_partition(1)), None
    with cluster(tmp_path, "/trace?limit=20", *said) as file:
        assert main(["trace", "-f", file]) == 1
        out = capsys.readouterr().out
    *shown, silent, missing = out.splitlines(keepends=True)
    assert (
        "".join(shown)
        == lines(
            f"""
        Partition 0, led by p0, epoch 2: 812 transactions wait, the oldest for 1.96 s

          timestamp                age  mask   waits for                 rows  asked by
          {T}   1.96 s  0,1    1 (82.9 ms)                  1  move, call 8 of connection 1
          {T + 5}   900 ms  0,1,2  1 (1.04 s), 2 (none yet)    12  put, connection 3, told early
          {T + 9}  15.0 ms         1 (1.04 s)                      session, connection 3
          {T + 10}  15.0 ms  0,1    discarded
          {T + 11}  15.0 ms  0      its turn                     1
          807 more; --limit shows more of them
          and 4096 bytes of the log that were not looked at

        Partition 1, led by p1, epoch 2: nobody waits

        Who waits for whom

                for 0  for 1  for 2
          at 0      3    812      -
          at 1      -      -      -

        Recoveries

          at  versions  taken back by           which keeps up to
          0         91  epoch 5 of partition 1  {T - MS}

        """
        )
        + "\n"
    )
    assert silent.startswith("p2 does not answer at 127.0.0.1:")
    assert silent.endswith(": Connection refused\n")
    assert missing == "partition 2: no leader answers\n"


def test_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = process("p0", BUSY, of_partition(1))
    with cluster(tmp_path, "/trace?limit=3", said, process("p1")) as file:
        assert main(["trace", "-f", file, "-w", "json", "--limit", "3"]) == 0
        found = json.loads(capsys.readouterr().out)
    first, second = found.pop("partitions")
    assert first == {"process": "p0", **to_json(BUSY)}
    assert second["waiting"] == 0
    assert found == {
        "waits": [
            {"at": 0, "partition": 0, "transactions": 3},
            {"at": 0, "partition": 1, "transactions": 812},
        ],
        "problems": [],
    }


def test_one_that_waits_is_not_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = of_partition(0, waiting(0, lag(0, 3.0), mask=(0,), writes=0))
    with cluster(tmp_path, "/trace?limit=20", process("p0", one)) as file:
        assert main(["trace", "-f", file]) == 0
    assert capsys.readouterr().out == lines(
        f"""
        Partition 0, led by p0, epoch 2: 1 transaction waits, the oldest for 15.0 ms

          timestamp                age  mask  waits for
          {T}  15.0 ms  0     0 (3.0 ms)
        """
    )


def test_of_two_that_take_themselves_for_the_leader_the_later_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late, deposed = of_partition(0, epoch=3), of_partition(0, waiting(0, lag(1, 1.0)), epoch=2)
    with cluster(tmp_path, "/trace?limit=20", process("p0", deposed), process("p1", late)) as file:
        assert main(["trace", "-f", file]) == 1
    assert capsys.readouterr().out == lines(
        """
        Partition 0, led by p1, epoch 3: nobody waits

        partition 1: no leader answers
        """
    )


# --- One transaction -----------------------------------------------------------------------------


def found(*lags: Lag, how: Mapping[int, str] | None = None, **more: Any) -> Found:
    known: dict[str, Any] = {
        "state": "waiting", "why": "for somebody", "age_ms": 1489,
        "mask": [each.partition for each in lags], "writes": 0, "rows": [], "rows_left_out": 0,
        "asked_by": None,
    }  # fmt: skip
    through = [Through(partition=p, how=text) for p, text in (how or {}).items()]
    return Found(partitions=[*lags], through=through, **known | more)


def at(partition: int, *some: Found, verdict: str = "", why: str = "") -> PartitionTrace:
    return PartitionTrace(
        partition=partition, node=1, epoch=2, found=[*some], verdict=verdict, why=why
    )


def traced(name: str, *partitions: PartitionTrace) -> ProcessTrace:
    return ProcessTrace(process=name, cluster="mako", timestamp=T, partitions=[*partitions])


def row(key: str, before: Before | None, **more: Any) -> RowTrace:
    known: dict[str, Any] = {
        "table": "stock", "deleted": False, "first": None, "versions": 0, "note": "",
    }  # fmt: skip
    return RowTrace(key=key, before=before, **known | more)


OVER = Before(timestamp=T - 9 * MS, mask=[0, 1], carries=[1], passed=[0])
OLD = Before(timestamp=T - 99 * MS, mask=[0], carries=[], passed=[0])
LAGS = lag(0, 0), lag(1, 900.0), lag(2, 33.0)


def test_one_transaction_is_put_together_from_what_all_leaders_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = found(
        *LAGS,
        how={1: "overwrote", 2: "unrecorded"},
        writes=4,
        rows=[
            row("w_id=1", OVER, first=OLD, versions=3),
            row("w_id=2", OLD, deleted=True),
            row("w_id=3", None),
        ],
        rows_left_out=1,
        asked_by=Asker(connection=1, request=8, name="new_order"),
    )
    there = found(
        *LAGS, how={1: "here", 2: "unrecorded"}, writes=1, rows=[row("w_id=9", None, note="busy")]
    )
    said = traced("p0", at(0, here)), traced("p1", at(1, there))
    nothing = traced("p2", at(2, verdict="none", why="nobody has it"))
    with cluster(tmp_path, f"/trace/{T}?limit=20", *said, nothing) as file:
        assert main(["trace", "-f", file, str(T)]) == 0
        out = capsys.readouterr().out
        assert main(["trace", "-f", file, str(T), "-w", "json"]) == 0
        plain = json.loads(capsys.readouterr().out)
    asked = "asked by new_order, call 8 of connection 1"
    through = "it wrote there; through versions that it wrote over"
    assert out == lines(
        f"""
        Transaction {T}, 11:30:00.123 UTC: waiting for partition 1 and partition 2

        Partition 0, led by p0, epoch 2: waiting, 1.49 s old, wrote 4 rows, {asked}

          depends on   watermark
          partition 0  11:29:59.223  has passed
          partition 1  11:29:59.223  900 ms behind   {through}
          partition 2  11:29:59.223  33.0 ms behind  through a read; not recorded

          wrote            key     over                 of mask  hands on  since
          stock            w_id=1  {T - 9 * MS}  0,1      1         {T - 99 * MS}, 3 versions
          stock (deleted)  w_id=2  {T - 99 * MS}  0        -
          stock            w_id=3  nothing: it is new
          1 more row; --limit shows more of them

        Partition 1, led by p1, epoch 2: waiting, 1.49 s old, wrote 1 row

          depends on   watermark
          partition 0  11:29:59.223  has passed
          partition 1  11:29:59.223  900 ms behind   its own log has not committed it yet
          partition 2  11:29:59.223  33.0 ms behind  through a read; not recorded

          wrote  key     over
          stock  w_id=9  busy

        Partition 2, led by p2, epoch 2
          not here: nobody has it
        """
    )
    assert (plain["state"], plain["why"]) == ("waiting", "for partition 1 and partition 2")
    assert [each["process"] for each in plain["partitions"]] == ["p0", "p1", "p2"]
    (one,) = plain["partitions"][0]["found"]
    assert one["through"] == [
        {"partition": 1, "how": "it wrote there; through versions that it wrote over"},
        {"partition": 2, "how": "through a read; not recorded"},
    ]
    assert one["rows"][0]["before"]["timestamp"] == OVER.timestamp


def how(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: Any, known: str) -> str:
    """How it came to depend on partition 1, if its leader says `there`."""
    here = found(lag(0, 0), lag(1, 900.0), how={1: known}, writes=1, rows=[row("k", OLD)])
    said = traced("p0", at(0, here)), there
    with cluster(tmp_path, f"/trace/{T}?limit=20", *said) as file:
        main(["trace", "-f", file, str(T)])
    line = next(line for line in capsys.readouterr().out.splitlines() if "900 ms" in line)
    return line.partition(" behind")[2].strip()


def test_what_is_not_recorded_is_not_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = "through a read; not recorded"
    none, past = (traced("p1", at(1, verdict=each)) for each in ("none", "past"))
    other = traced("p1", at(1, found(lag(0, 0), lag(1, 1.0), lag(2, 1.0), writes=1)))
    waits = traced("p1", at(1, found(lag(0, 0), lag(1, 900.0))))
    assert how(tmp_path, capsys, none, "unrecorded") == read
    assert how(tmp_path, capsys, waits, "unrecorded") == read, "it wrote nothing there"
    assert how(tmp_path, capsys, other, "unrecorded") == read, "another one of that timestamp"
    assert how(tmp_path, capsys, past, "unrecorded") == f"it took part there, or {read}"
    assert how(tmp_path, capsys, None, "unrecorded").endswith("its leader does not answer")
    assert how(tmp_path, capsys, none, "overwrote") == "through versions that it wrote over"
    assert how(tmp_path, capsys, none, "perhaps").startswith("perhaps through versions")
    assert how(tmp_path, capsys, none, "unseen").startswith("not found: not all rows")


@pytest.mark.parametrize(
    ("here", "there", "status", "line"),
    [
        (at(0, found(state="durable", why="all have passed it")), at(1, verdict="past"), 0,
         "durable; all have passed it"),
        (at(0, found(state="discarded", why="by epoch 5")), at(1, found(lag(1, 3.0))), 0,
         "discarded by epoch 5"),
        (at(0, found()), at(1, verdict="none"), 0, "waiting for somebody"),
        (at(0, verdict="past"), at(1, verdict="none"), 0,
         "durable; if there was such a transaction; those that are durable are not kept"),
        (at(0, verdict="past"), at(1, verdict="lost", why="gone"), 1,
         "unknown; at partition 1: gone"),
        (at(0, verdict="lost"), at(1, verdict="lost"), 0,
         "discarded wherever it was executed: nothing of that time has survived"),
        (at(0, verdict="before", why="older"), at(1, verdict="past"), 1,
         "unknown; at partition 0: older"),
        (at(0, verdict="future"), at(1, verdict="future"), 1,
         "unknown; there is no such transaction: it would be of a time that has not come"),
        (at(0, verdict="none"), at(1, verdict="none"), 1,
         "unknown; there is no such transaction, or it only read and was answered"),
    ],
)  # fmt: skip
def test_what_became_of_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    here: PartitionTrace,
    there: PartitionTrace,
    status: int,
    line: str,
) -> None:
    said = traced("p0", here), traced("p1", there)
    with cluster(tmp_path, f"/trace/{T}?limit=20", *said) as file:
        assert main(["trace", "-f", file, str(T)]) == status
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"Transaction {T}, 11:30:00.123 UTC: {line}"


# --- What goes wrong -----------------------------------------------------------------------------


def test_who_is_silent_is_a_line_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = traced("p0", at(0, found(lag(0, 3.0)))), None
    with cluster(tmp_path, f"/trace/{T}?limit=20", *said) as file:
        assert main(["trace", "-f", file, str(T)]) == 1
    out = capsys.readouterr().out
    assert "waiting for partition 0" in out
    assert ": Connection refused\npartition 1: no leader answers\n" in out


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ((503, b"two look already\n"), "p0 refuses: two look already"),
        ((404, b"there is nothing here\n"), "p0 is of a version that has no /trace; upgrade it"),
        ((200, b"{}"), "p0 sends what cannot be read: Object missing required field `process`"),
        ((200, b"<p>"), "p0 sends what cannot be read: Expecting value: line 1 column 1 (char 0)"),
        ((200, b""), "p0 sends what cannot be read: Expecting value: line 1 column 1 (char 0)"),
    ],
)  # fmt: skip
def test_answers_that_are_of_no_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: tuple[int, bytes], line: str
) -> None:
    with cluster(tmp_path, "/trace?limit=20", said) as file:
        assert main(["trace", "-f", file]) == 1
        assert capsys.readouterr().out.splitlines() == [line, "partition 0: no leader answers"]


def test_a_process_without_a_port_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yml"
    document = {
        "site": {"server": [["s0:99"]]}, "process": {"s0": "p0"}, "host": {"p0": "127.0.0.1"},
        "http": {"p0": 0},
    }  # fmt: skip
    file.write_text(json.dumps(document))
    assert main(["trace", "-f", str(file), "7"]) == 1
    assert "p0 has no HTTP port; give it one in `http`" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["x", "-5", "1.5", "", "²", str(1 << 63), "18 83"])
def test_what_is_no_timestamp_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "-f", "/nowhere", "--", text]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is no timestamp of a transaction; give a number as `mako trace` lists them" in error


def test_a_configuration_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace"]) == 2
    assert "--config" in capsys.readouterr().err
    assert main(["trace", "-f", "x", "--limit", "0"]) == 2


def test_columns_without_anything_are_left_out() -> None:
    rows = [("a", "", "1"), ("bcd", "", "10")]
    assert columns(("one", "two", "three"), rows, right=["three"]) == [
        "one  three",
        "a        1",
        "bcd     10",
    ]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0.0 ms"), (0.001, "< 0.1 ms"), (0.1, "0.1 ms"), (99.94, "99.9 ms"), (100.4, "100 ms"),
     (1000, "1.00 s"), (61_240, "61.2 s"),
     (100_000, "100 s"), (7_200_000, "2.0 h")],
)  # fmt: skip
def test_times_for_people(ms: float, text: str) -> None:
    assert duration(ms) == text
