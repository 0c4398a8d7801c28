from io import StringIO

import pytest
from rich.console import Console

from bench.report.model import RunReport
from bench.view import LiveView, PlainView
from tests.bench.runs import SETTING, FakeRun


@pytest.fixture(scope="module")
def report() -> RunReport:
    return FakeRun().run()


def test_a_short_step_of_a_load_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainView(to_stderr=True)
    for done in range(0, 1001, 10):
        plain.load(done, 1000, "item")
    for done in range(0, 2001, 10):
        plain.load(done, 2000, "stock")
    assert capsys.readouterr().err.splitlines() == [
        "load     item 1,000 of 1,000",
        "load     stock 2,000 of 2,000",
    ]


def test_a_long_step_of_a_load_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter(range(100))
    plain = PlainView(to_stderr=False, now=lambda: float(next(times)))
    for done in range(0, 70, 10):
        plain.load(done, 60, "item")
    assert capsys.readouterr().out.splitlines() == [
        "load     item 20 of 60",
        "load     item 40 of 60",
        "load     item 60 of 60",
    ]


def test_the_live_view_ends_and_leaves_the_events(
    report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter(range(100))
    file = StringIO()
    live = LiveView(
        Console(file=file, force_terminal=True, width=100, height=40),
        now=lambda: float(next(times)),
    )
    live.event("start", "loading the engine")
    live.start(SETTING)
    for done in (0, 500, 1000):
        live.load(done, 1000, "item")
    live.event("load", "1,000 rows in 1 s")
    live.begin("warmup", 2.0)
    live.interval(report.intervals[0])
    live.tick(1.0)
    live.begin("measure", 5.0)
    live.interval(report.intervals[2])
    live.tick(1.0)
    live.warn("memory is nearly full")
    live.end()
    text = file.getvalue()
    assert "1,000 rows in 1 s" in text
    assert "stock level" in text
    assert "measuring" in text
    assert "\x1b[?25h" in text  # The cursor is visible again.
    assert capsys.readouterr().err == "mako: memory is nearly full\n"


@pytest.mark.parametrize("path", ["/tmp/a[bold]b/report.html", "/tmp/a[/]b/report.html"])
def test_brackets_of_a_path_are_no_markup(path: str) -> None:
    file = StringIO()
    LiveView(Console(file=file, force_terminal=True, width=100)).event("report", path)
    assert path in file.getvalue()


def test_the_live_view_goes_on_below_a_warning(
    report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter(range(1, 100))
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=40)
    live = LiveView(console, now=lambda: float(next(times)))
    live.start(SETTING)
    live.begin("measure", 5.0)
    live.interval(report.intervals[2])
    live.warn("a disk is full")
    before = len(file.getvalue())
    live.tick(1.0)
    assert "stock level" in file.getvalue()[before:]
    live.end()
    assert capsys.readouterr().err == "mako: a disk is full\n"


def test_the_live_view_is_refreshed_four_times_a_second_at_most() -> None:
    times = iter(second / 20 for second in range(20, 1000))
    live = LiveView(Console(file=StringIO(), force_terminal=True), now=lambda: next(times))
    refreshes = sum(live._due() for _ in range(100))
    assert refreshes <= 100 / 5 + 1
