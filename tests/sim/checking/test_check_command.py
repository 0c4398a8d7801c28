"""`mako sim check`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mako.cli.app import main
from mako.cli.sim import sim
from mako.sim.checking import History, Record, Transaction
from mako.sim.checking.facts import Closed
from tests.sim.checking.writing import tx


def saved(folder: Path, *transactions: Transaction, name: str = "history") -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(History(list(transactions)).lines()))
    return str(file)


def run(*arguments: str, stdin: str = "") -> tuple[int, list[str]]:
    result = CliRunner().invoke(sim, ["check", *arguments], input=stdin)
    return result.exit_code, result.stdout.splitlines()


def test_a_good_history_is_ok(tmp_path: Path) -> None:
    status, lines = run(saved(tmp_path, tx("x+1 r=2", 0, 1), tx("x[1] r?2", 2, 3)))
    assert status == 0
    assert lines == [
        "strict serializability: ok, 2 looked at",
        "linearizability: ok, 2 looked at",
        "2 transactions: ok",
    ]


def test_a_violation_is_told_with_its_cycle(tmp_path: Path) -> None:
    status, lines = run(saved(tmp_path, tx("x+1", 0, 1), tx("x[]", 2, 3), tx("x[1]", 4, 5)))
    assert status == 1
    assert lines == [
        "strict serializability: violation, 3 looked at",
        "  G-single-realtime: stale read: t0 < t1 < t0",
        "      t0 ended at 1, before t1 began at 2 (real time)",
        "      t1 read 'x' as [], without 1 of t0 (rw)",
        "3 transactions: violation",
    ]


def test_more_of_the_same_is_counted(tmp_path: Path) -> None:
    _, lines = run(saved(tmp_path, *(tx(f"x{n}[7]") for n in range(15))))
    assert "  and 5 more" in lines


def test_nothing_to_look_at_is_unknown(tmp_path: Path) -> None:
    assert run(saved(tmp_path)) == (1, ["0 transactions: unknown"])


@pytest.mark.parametrize("data", [b"\x89PNG\r\n", b'{"tx": "\xff"}', b"[" * 100_000])
def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    """Status 1 would say that the history has a violation."""
    file = tmp_path / "history"
    file.write_bytes(data)
    assert main(["sim", "check", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mako: {file}: ")
    assert error.count("\n") == 1


def test_what_is_no_text_is_found_behind_good_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(saved(tmp_path, *(tx(f"x{n}+1", n) for n in range(1000))))
    file.write_bytes(file.read_bytes() + b"\xff\n")
    assert main(["sim", "check", str(file)]) == 2
    assert ": after line " in capsys.readouterr().err


def test_what_was_given_up_is_told(tmp_path: Path) -> None:
    unknown = [tx("a+=20000000000", 0, outcome="unknown") for _ in range(50)]
    status, lines = run(saved(tmp_path, *unknown, tx("a@30000000000", 5, 6)))
    assert status == 1
    assert lines[1] == "  given up: 50 transactions may or may not be in a read of 'a'"
    assert lines[-1] == "51 transactions: unknown"


def test_json_is_one_object(tmp_path: Path) -> None:
    status, lines = run(saved(tmp_path, tx("x[] x+1"), tx("x[] x+2")), "--output", "json")
    found = json.loads("".join(lines))
    assert (status, found["verdict"]) == (1, "violation")
    (checker,) = found["checkers"]
    assert checker["findings"][0]["rule"] == "G2"
    assert len(checker["findings"][0]["steps"]) == 2


def test_files_are_parts_of_one_history_and_standard_input_is_one(tmp_path: Path) -> None:
    one = saved(tmp_path, tx("x+1", 0, 1), name="one")
    other = Path(saved(tmp_path, tx("x[]", 2, 3), name="other"))
    assert run(one)[0] == 0
    assert run(str(other))[0] == 0
    assert run(one, str(other))[0] == 1
    assert run(one, "-", stdin=other.read_text())[0] == 1


def test_facts_may_be_without_order(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(Record(facts=[Closed(0, 0, 5), Closed(0, 0, 4)]).lines()))
    assert run(str(file)) == (
        1,
        [
            "invariants: violation, 2 looked at",
            "  I4: partition 0 in epoch 0 closed 4 after 5",
            "0 transactions: violation",
        ],
    )
    assert run(str(file), "--unordered")[0] == 0


def test_wrong_input_is_one_line_with_file_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"history": 1}\n{"client": 1}\n')
    assert main(["sim", "check", str(file)]) == 2
    assert capsys.readouterr().err == (f"mako: {file}: line 2 is not a transaction: no 'begin'\n")
    assert main(["sim", "check", str(tmp_path / "nothing")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["sim", "check"]) == 2
