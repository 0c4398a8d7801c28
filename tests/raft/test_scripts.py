"""Scenarios with their whole traces, in testdata/. The name of a file is its claim."""

from pathlib import Path

import pytest

from tests.raft.script import run_script

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, *, rewrite: bool) -> None:
    run_script(path, rewrite=rewrite)


def test_a_difference_is_shown_with_its_place(tmp_path: Path) -> None:
    script = tmp_path / "wrong.txt"
    script.write_text("# Comment.\ncluster 1\n----\nnot this\n")
    with pytest.raises(AssertionError, match=r"wrong.txt:2: cluster 1"):
        run_script(script, rewrite=False)
    run_script(script, rewrite=True)
    assert script.read_text() == "# Comment.\ncluster 1\n----\nok\n"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 8
