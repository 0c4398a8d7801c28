"""The folder of `--report`: intervals.jsonl while the run goes on, the rest when it has ended.

A folder that cannot be written must be found out before a run of an hour, not after it: it is
created and tried when the command line is checked. Files of an earlier run are replaced.
"""

from pathlib import Path
from typing import Final

from bench.parameters import BadInput
from bench.report.model import RunReport
from bench.report.page import page
from bench.report.summary import interval_text, summary_text
from bench.stats import Interval

INTERVALS: Final = "intervals.jsonl"
SUMMARY: Final = "summary.json"
PAGE: Final = "report.html"


class ResultsFolder:
    """Where a run leaves its results."""

    def __init__(self, folder: Path) -> None:
        """Make the folder ready. BadInput if nothing can be written there."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (SUMMARY, PAGE):
                (folder / name).unlink(missing_ok=True)
            # Kept open: a run that is killed leaves what it has measured.
            self._intervals = (folder / INTERVALS).open("w", encoding="utf-8")
        except OSError as error:
            raise BadInput(
                f"--report: cannot write to {folder} ({(error.strerror or str(error)).lower()});"
                " name a folder that can be written"
            ) from error

    def append(self, interval: Interval) -> None:
        """Add one line, and hand it to the operating system."""
        self._intervals.write(interval_text(interval))
        self._intervals.flush()

    def finish(self, report: RunReport) -> Path:
        """Write the summary and the page; return the path of the page."""
        self._intervals.close()
        (self._folder / SUMMARY).write_text(summary_text(report), encoding="utf-8")
        file = self._folder / PAGE
        file.write_text(page(report), encoding="utf-8")
        return file.resolve()

    def close(self) -> None:
        """Let go of the files, whatever has happened."""
        self._intervals.close()
