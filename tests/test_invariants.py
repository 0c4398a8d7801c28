"""The invariants that comments cite are those that docs/invariants.md defines, file by file."""

import re
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parent.parent
_ROW: Final = re.compile(r"^\| ([A-Z]\d+) \| .+ \| (.+) \|$", re.MULTILINE)
_CITED: Final = re.compile(r"`(\w+)`")


def defined(document: str) -> dict[str, set[str]]:
    """Each id of the document's tables, and the modules that its row names."""
    rows = _ROW.findall(document)
    assert len({name for name, _ in rows}) == len(rows), "an id is defined twice"
    return {name: set(_CITED.findall(modules)) for name, modules in rows}


def cited(folder: Path, families: str) -> dict[str, set[str]]:
    """Each id of the families of letters, and the modules below `folder` that cite it."""
    found: dict[str, set[str]] = {}
    for file in sorted(folder.rglob("*.py")):
        for name in re.findall(rf"\b[{families}]\d+\b", file.read_text()):
            found.setdefault(name, set()).add(file.stem)
    return found


def test_every_cited_invariant_is_defined_and_every_defined_one_is_cited() -> None:
    rows = defined((REPOSITORY / "docs/invariants.md").read_text())
    families = "".join(sorted({name[0] for name in rows}))
    assert families == "ELMTX"
    found = cited(REPOSITORY / "mako", families)
    assert found == rows, "docs/invariants.md and the comments in mako/ differ"


@pytest.mark.parametrize(
    ("comment", "row"),
    [
        ("# T1 and T2", "| T1 | text | `a` |"),
        ("# T1", "| T1 | text | `a` |\n| T2 | text | `a` |"),
        ("# T1", "| T1 | text | `b` |"),
        ("# T1", "| T1 | text | `a`, `b` |"),
    ],
)
def test_a_difference_is_found(tmp_path: Path, comment: str, row: str) -> None:
    (tmp_path / "a.py").write_text(comment)
    assert cited(tmp_path, "T") != defined(row)


def test_an_id_defined_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="defined twice"):
        defined("| T1 | one | `a` |\n| T1 | other | `a` |")


def test_every_cited_section_of_the_design_is_there() -> None:
    sections = set(re.findall(r"(?m)^## §(\d+) ", (REPOSITORY / "docs/design.md").read_text()))
    for folder in ("mako", "tests", "docs"):
        for file in sorted((REPOSITORY / folder).rglob("*.[pm][yd]")):
            for numbers in re.findall(r"DESIGN((?:,? (?:and |to )?§\d+)+)", file.read_text()):
                missing = set(re.findall(r"\d+", numbers)) - sections
                assert not missing, f"{file} cites DESIGN §{missing}, which docs/design.md lacks"
