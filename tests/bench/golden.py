"""Golden outputs: compared with a file in testdata, or with --rewrite written to it.

After a rewrite read the diff, and commit it only if every changed line is meant.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "testdata"


def check_golden(name: str, text: str, *, rewrite: bool) -> None:
    """Compare `text` with the file `name`, trailing blanks of its lines left out."""
    text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    file = FOLDER / name
    if rewrite:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
