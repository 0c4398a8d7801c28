"""The Python that README.md and docs/python.md show runs as it stands there."""

import re
import runpy
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
_BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str) -> list[str]:
    found = _BLOCK.findall((ROOT / document).read_text())
    assert found
    return found


@pytest.mark.parametrize(
    ("document", "count"),
    [("README.md", 1), ("docs/python.md", 9)],  # README's others need a cluster.
)
def test_what_documents_show_runs(
    document: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "shown.py"  # Procedures are compiled from their source.
    program.write_text("\n".join(blocks(document)[:count]))
    runpy.run_path(str(program))
