"""The folder of `--report`: intervals.jsonl while the run goes on, the rest when it has ended.

A folder that cannot be written must be found out before a run of an hour, not after it: it is
created and tried when the command line is checked. The report of an earlier run stays until there
is something of the new one, its first interval. A disk that is full later costs files, no figures.
"""

from contextlib import suppress
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
        self._begun = self._lost = False
        #: Bytes of whole lines.
        self._size = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Kept open and without a buffer: a run that is killed leaves what it has measured,
            # and what the disk did not take is not tried again.
            self._intervals = (folder / INTERVALS).open("ab", buffering=0)
        except OSError as error:
            raise BadInput(
                f"--report: cannot write to {folder} ({_reason(error)});"
                " name a folder that can be written"
            ) from error

    def append(self, interval: Interval) -> str:
        """Add one line, and hand it to the operating system.

        Why that is not possible any more, the first time that it is not; else "".
        """
        if self._lost:
            return ""
        try:
            if not self._begun:
                self._begin()
            line = interval_text(interval).encode()
            rest = line
            while rest:  # A disk with little room takes a part first, and says why then.
                rest = rest[self._intervals.write(rest) :]
            self._size += len(line)
        except OSError as error:
            self._lost = True
            with suppress(OSError):  # Half a line would make the others unreadable.
                self._intervals.truncate(self._size)
            return (
                f"--report: cannot write to {self._folder} ({_reason(error)}): {INTERVALS} ends"
                f" before t={interval.end_s:.1f}"
            )
        return ""

    def _begin(self) -> None:
        """From now on the folder has the new run, and nothing of an earlier one."""
        self._begun = True
        self._intervals.truncate(0)
        for name in (SUMMARY, PAGE):
            (self._folder / name).unlink(missing_ok=True)

    def finish(self, report: RunReport) -> Path:
        """Write the summary and the page; return the path of the page.

        Each is there whole or not at all. BadInput if they cannot be written.
        """
        try:
            if not self._begun:
                self._begin()
            self._replace(SUMMARY, summary_text(report))
            return self._replace(PAGE, page(report)).resolve()
        except OSError as error:
            raise BadInput(
                f"--report: cannot write to {self._folder} ({_reason(error)}); the figures are"
                " in what was printed only"
            ) from error

    def _replace(self, name: str, text: str) -> Path:
        file = self._folder / name
        part = file.with_name(f"{name}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(file)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return file

    def close(self) -> None:
        """Let go of the files, whatever has happened."""
        with suppress(OSError):  # Some file systems say only now that the disk is full.
            self._intervals.close()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
