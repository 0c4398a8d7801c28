"""What a user sees while a run goes on: a live table on a terminal, plain lines in a pipe.

The only part of the reports that writes to a terminal. What it writes comes from the pure
functions of `bench.report`.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.report import lines
from bench.report.live import LiveState, live_view
from bench.report.model import Setting
from bench.stats import Interval, Phase

#: Seconds between two refreshes. One costs about 3 ms of a core that the workers also want.
REFRESH_S: Final = 0.25
#: Seconds between two lines about the same step of a load, in a pipe.
LOAD_LINE_S: Final = 2.0
#: A wider table is harder to read, not easier.
LIVE_COLUMNS_MAX: Final = 108


class View(Protocol):
    """Told everything that happens, in order; free to show only some of it."""

    def start(self, setting: Setting) -> None:
        """The first call: what runs."""

    def event(self, label: str, text: str) -> None:
        """A step of the run begins or has a result, such as "check", "3.3.2.11 PASS"."""

    def load(self, done: int, total: int, what: str) -> None:
        """Rows are being loaded; comes often."""

    def begin(self, phase: Phase, total_s: float) -> None:
        """The warm-up or the measurement begins."""

    def tick(self, elapsed_s: float) -> None:
        """A fraction of a second of the phase has passed."""

    def interval(self, interval: Interval) -> None:
        """A second of the phase is complete."""

    def end(self) -> None:
        """The drive has stopped; only events follow."""

    def warn(self, text: str) -> None:
        """Something the user must know, as why the run ends early."""


class PlainView:
    """One stable line per event and per second, flushed at once."""

    def __init__(self, *, to_stderr: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._to_stderr = to_stderr
        self._now = now
        self._what = ""
        self._shown_at = 0.0

    def _print(self, line: str) -> None:
        click.echo(line, err=self._to_stderr)

    def start(self, setting: Setting) -> None:
        self._print(lines.format_setting(setting))

    def event(self, label: str, text: str) -> None:
        self._print(lines.format_event(label, text))

    def load(self, done: int, total: int, what: str) -> None:
        now = self._now()
        if done < total and what == self._what and now - self._shown_at < LOAD_LINE_S:
            return
        if done < total and what != self._what:
            # The first call of a step only starts the clock: a short step gets one line.
            self._what, self._shown_at = what, now
            return
        self._what, self._shown_at = what, now
        self._print(lines.format_event("load", f"{what} {done:,} of {total:,}"))

    def begin(self, phase: Phase, total_s: float) -> None:
        pass

    def tick(self, elapsed_s: float) -> None:
        pass

    def interval(self, interval: Interval) -> None:
        self._print(lines.format_interval(interval))

    def end(self) -> None:
        pass

    def warn(self, text: str) -> None:
        click.echo(f"mako: {text}", err=True)


class LiveView:
    """A progress bar for the load and a table for the drive, refreshed by hand.

    rich would refresh from a thread of its own, which competes with the workers for a core
    at moments that we do not choose.
    """

    def __init__(self, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._progress: Progress | None = None
        self._task_of: dict[str, int] = {}
        self._live: Live | None = None
        self._state: LiveState | None = None
        self._refreshed_at = 0.0

    def start(self, setting: Setting) -> None:
        self._state = LiveState(setting)
        text = lines.format_setting(setting)
        self._console.print(text, style="dim", markup=False, highlight=False)

    def event(self, label: str, text: str) -> None:
        self._close_progress()
        # Paths may have brackets.
        self._console.print(f"[cyan]{label:<8}[/] {escape(text)}", highlight=False)

    def load(self, done: int, total: int, what: str) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("[cyan]load[/]     {task.description:<14}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._progress.start()
        if what not in self._task_of:
            self._task_of[what] = self._progress.add_task(what)
        # rich's TaskID is an int of a name of its own.
        task = self._progress.task_ids[self._task_of[what]]
        self._progress.update(task, completed=done, total=total)
        if done >= total or self._due():
            self._progress.refresh()

    def begin(self, phase: Phase, total_s: float) -> None:
        self._close_progress()
        assert self._state is not None, "start() comes first"
        self._state.phase, self._state.total_s, self._state.elapsed_s = phase, total_s, 0.0
        self._show()

    def tick(self, elapsed_s: float) -> None:
        assert self._state is not None
        self._state.elapsed_s = elapsed_s
        if self._due():
            self._show()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            return
        # The first time, or below a warning.
        self._live = Live(
            self._picture(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def interval(self, interval: Interval) -> None:
        assert self._state is not None
        self._state.intervals.append(interval)

    def end(self) -> None:
        self._close_progress()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def warn(self, text: str) -> None:
        self.end()
        click.echo(f"mako: {text}", err=True)

    def _picture(self) -> RenderableType:
        assert self._state is not None, "start() comes first"
        # A terminal echoes ^C behind the last character: without room for it the line would
        # wrap, and the next refresh would start one line too low.
        width = min(LIVE_COLUMNS_MAX, self._console.width - 3)
        return live_view(self._state, width=width)

    def _due(self) -> bool:
        now = self._now()
        if now - self._refreshed_at < REFRESH_S:
            return False
        self._refreshed_at = now
        return True

    def _close_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._task_of.clear()
