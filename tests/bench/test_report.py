"""Golden tests of every text that a run leaves, and what must hold of all of them."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from bench.report import lines
from bench.report.live import LiveState, live_view
from bench.report.model import RunReport
from bench.report.page import page
from bench.report.summary import interval_text, summary, summary_text
from bench.report.table import closing, figures
from bench.stats import Interval
from bench.workload import AuditResult, CheckResult, Status
from tests.bench.fakes import PER_MINUTE, FakeBenchmark, FakeClock, FakeWatch
from tests.bench.golden import check_golden
from tests.bench.runs import SETTING, FakeRun, cluster_run, parted_run


@pytest.fixture(scope="module")
def report() -> RunReport:
    return FakeRun().run()


@pytest.fixture(scope="module")
def of_cluster() -> RunReport:
    return cluster_run().run()


@pytest.fixture(scope="module")
def parted() -> RunReport:
    return parted_run().run()


def rendered(what: RenderableType, *, width: int = 100, colour: bool = False) -> str:
    console = Console(
        width=width,
        file=StringIO(),
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )
    console.print(what, highlight=False)
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_lines(report: RunReport, *, rewrite: bool) -> None:
    text = "\n".join(
        [
            lines.format_setting(SETTING),
            lines.format_event("load", "stock 2,000 of 2,000"),
            *map(lines.format_interval, report.intervals),
        ]
    )
    check_golden("lines.txt", text, rewrite=rewrite)


def test_closing_tables(report: RunReport, *, rewrite: bool) -> None:
    check_golden("closing.txt", rendered(closing(report)), rewrite=rewrite)


def test_a_cluster_in_lines_tables_and_json(of_cluster: RunReport, *, rewrite: bool) -> None:
    text = "\n".join(
        [
            lines.format_setting(of_cluster.setting),
            lines.format_interval(of_cluster.intervals[-1]),
            "",
            rendered(closing(of_cluster), width=110),
            "",
            interval_text(of_cluster.intervals[-1]),
            summary_text(of_cluster),
        ]
    )
    check_golden("cluster.txt", text, rewrite=rewrite)


def test_sides_in_lines_tables_and_json(parted: RunReport, *, rewrite: bool) -> None:
    found = summary(parted)
    names = ("local", "cross_shard")
    text = "\n".join(
        [
            lines.format_interval(parted.intervals[-1]),
            "",
            rendered(closing(parted), width=110),
            "",
            json.dumps({name: found[name] for name in names}, indent=2),
            json.dumps({name: found["cluster"][name] for name in ("distributed", "cascades")}),
        ]
    )
    check_golden("sides.txt", text, rewrite=rewrite)
    record = json.loads(interval_text(parted.intervals[-1]))
    assert set(names) <= set(record)


def test_sides_live_and_on_the_page(parted: RunReport, of_cluster: RunReport) -> None:
    state = LiveState(parted.setting, phase="measure", elapsed_s=3.25, total_s=5.0)
    state.intervals = list(parted.intervals)
    text = " ".join(rendered(live_view(state, width=100)).split())
    assert "by side 1,746 local (0.29 % aborted), 308 cross-shard (0.65 % aborted)" in text
    document = page(parted)
    assert document.count("Local and cross-shard") == 1
    for plot in ("Throughput by side", "Aborted attempts by side", "cross-shard, latency"):
        assert plot in document
    assert "shard 0 took back 12 versions because of shard 1" in document
    assert "Local and cross-shard" not in page(of_cluster)


def test_workers_of_several_partitions_are_named(parted: RunReport) -> None:
    workers = replace(parted.setting, clients=0, workers=2)
    assert workers.who == "2 workers in each of 2 shards"


def test_a_cluster_live(of_cluster: RunReport) -> None:
    state = LiveState(of_cluster.setting, phase="measure", elapsed_s=3.25, total_s=5.0)
    state.intervals = list(of_cluster.intervals)
    text = " ".join(rendered(live_view(state, width=100)).split())
    assert "durable in p50 4.03 ms, p99 9.70 ms" in text
    assert "leader two" in text
    assert "told 5 retried, 2 unknown" in text


def test_live_view(report: RunReport, *, rewrite: bool) -> None:
    state = LiveState(SETTING, phase="measure", elapsed_s=3.25, total_s=5.0)
    state.intervals = list(report.intervals[:5])
    check_golden("live.txt", rendered(live_view(state, width=90), width=90), rewrite=rewrite)


def test_live_view_before_the_first_second() -> None:
    text = rendered(live_view(LiveState(SETTING, total_s=5.0)))
    assert "warm-up" in text


def test_summary(report: RunReport, *, rewrite: bool) -> None:
    check_golden("summary.json", summary_text(report), rewrite=rewrite)


def test_interval_records(report: RunReport, *, rewrite: bool) -> None:
    text = "".join(map(interval_text, report.intervals))
    check_golden("intervals.jsonl", text, rewrite=rewrite)


def test_summary_has_the_fields_that_were_promised(report: RunReport) -> None:
    fields = summary(report)
    promised = "workload workers warehouses seconds txn_per_s new_orders_per_minute types aborts"
    promised += " log_bytes_per_txn memory_bytes watermark_lag_ms consistency audit machine version"
    assert set(promised.split()) <= set(fields)
    kinds = ["new_order", "payment", "order_status", "delivery", "stock_level"]
    assert list(fields["types"]) == kinds
    for kind in fields["types"].values():
        assert {"count", "per_s", "p50_us", "p90_us", "p99_us", "max_us"} <= set(kind)
    assert fields["consistency"] == {f"3.3.2.{clause}": "PASS" for clause in range(1, 13)}


def test_summary_is_valid_json_even_of_an_endless_value(report: RunReport) -> None:
    audit = AuditResult("odd", "odd", float("inf"), 0, 1, Status.FAIL)
    fields = json.loads(summary_text(replace(report, audits=(audit,))))
    assert fields["audit"]["odd"]["value"] is None
    assert fields["result"] == "FAIL"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "PASS: 12 consistency conditions, 1 audit (1 skipped)"),
        ({"checks": ()}, "1 audit (1 skipped), not checked"),
        ({"checks": (), "audits": ()}, "not checked"),
        ({"broken": True, "stopped": "the engine stopped: dead"}, "FAIL: the engine stopped: dead"),
        (
            {"checks": (CheckResult("3.3.2.4", "", Status.FAIL),), "audits": ()},
            "FAIL: 3.3.2.4",
        ),
        (
            {"checks": (CheckResult("1", "", Status.SKIP), CheckResult("2", "", Status.PASS))},
            "PASS: 1 consistency condition (1 skipped), 1 audit (1 skipped)",
        ),
    ],
)
def test_verdict(report: RunReport, changes: dict[str, Any], verdict: str) -> None:
    changed = replace(report, **changes)
    assert changed.verdict == verdict
    assert changed.failed == verdict.startswith("FAIL")


def test_the_result_is_coloured_on_a_terminal(report: RunReport) -> None:
    passed = rendered(closing(report), colour=True)
    assert "\x1b[1;32mPASS" in passed
    failed = FakeRun(benchmark=FakeBenchmark(failing=("3.3.2.7",))).run()
    assert "\x1b[1;31mFAIL: 3.3.2.7" in rendered(closing(failed), colour=True)


# --- The page ----------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Checks that tags close in order, and collects what refers to the outside."""

    VOID = ("meta", "link", "br", "img", "hr", "input", "path", "rect", "circle")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [
            str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline_of(document: str) -> Outline:
    outline = Outline()
    outline.feed(document)
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_is_whole_and_needs_nothing_else(report: RunReport) -> None:
    document = page(report)
    outline = outline_of(document)
    assert outline.references == []
    assert "://" not in document
    assert "@import" not in document
    assert "url(" not in document
    # Throughput twice, for wide and narrow screens, six latencies, three of the engine.
    assert outline.tags.count("svg") == 11
    assert outline.tags.count("style") == 1


def test_the_page_of_a_cluster(of_cluster: RunReport) -> None:
    document = page(of_cluster)
    outline = outline_of(document)
    assert outline.references == []
    # As of a database in this process, and replication and processors.
    assert outline.tags.count("svg") == 13
    # All of them but the narrow twin say who took over.
    assert document.count(">two leads</text>") == 13
    assert ">one leads</text>" not in document, "it led from the start"
    text = " ".join(outline.text)
    assert "one leads; two leads from 2.5 s on" in text
    assert "until executed" in text
    assert "until durable" in text
    assert "16 terminals, 2 connections" in text
    assert "10 unknown; 25 retried" in text
    assert "nothing was seen of three" in text


class Table(HTMLParser):
    """Counts the columns of each row, those of cells that span several included."""

    def __init__(self) -> None:
        super().__init__()
        #: Of each table its rows' columns; cells that reach into the next row count there, too.
        self.tables: list[list[int]] = []
        self._below = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        span = {name: int(value or 1) for name, value in attrs if name.endswith("span")}
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(self._below)
            self._below = 0
        elif tag in ("td", "th"):
            columns = span.get("colspan", 1)
            self.tables[-1][-1] += columns
            if span.get("rowspan", 1) == 2:
                self._below += columns


def test_rows_of_a_table_have_its_columns(of_cluster: RunReport, report: RunReport) -> None:
    for each, types in ((of_cluster, 13), (report, 9)):
        parser = Table()
        parser.feed(page(each))
        assert all(len(set(rows)) == 1 for rows in parser.tables), parser.tables
        assert types in [rows[0] for rows in parser.tables]


def test_a_mark_outside_of_the_plot_is_left_out(of_cluster: RunReport) -> None:
    later = replace(of_cluster.leaderships[1], at_s=99.0)
    document = page(replace(of_cluster, leaderships=(of_cluster.leaderships[0], later)))
    assert 'class="mark"' not in document


def test_json_has_the_notes_and_the_phase(of_cluster: RunReport) -> None:
    assert summary(of_cluster)["notes"] == list(of_cluster.notes) != []
    assert summary(of_cluster)["phase"] == "measure"
    cut = FakeRun(warmup_s=20.0, drive={"memory_limit": 400 << 20}).run()
    assert summary(cut)["phase"] == "warmup"
    assert summary(cut)["notes"] == [
        "the run ended before the measurement: the figures are of the warm-up"
    ]


def test_interrupted_checks_are_no_pass(report: RunReport) -> None:
    cut = replace(report, checks=report.checks[10:11], interrupted=True, incomplete=True)
    assert summary(cut)["result"] == "INTERRUPTED"
    assert "\x1b[1;33mINTERRUPTED" in rendered(closing(cut), colour=True)
    assert '<p class="verdict skip">INTERRUPTED' in page(cut)


def test_what_nobody_was_seen_to_count_is_no_zero() -> None:
    unseen = parted_run(watch=FakeWatch(FakeClock(), parted=True, silent=True)).run()
    found = json.loads(summary_text(unseen))
    for each in (found, found["local"], found["cross_shard"]):
        assert (each["aborts"], each["abort_pct"]) == (None, None)
    assert (found["local"]["parked"], found["local"]["inherited"]) == (None, None)
    cluster = found["cluster"]
    assert (cluster["replication_bytes_per_s"], cluster["leader_changes"]) == (None, None)
    assert cluster["processes"]["one"]["cpu_seconds"] is None
    then = json.loads(interval_text(unseen.intervals[-1]))
    assert (then["aborts"], then["replication_bytes_per_s"]) == (None, None)
    assert set(then["cores"].values()) == {None}
    line = lines.format_interval(unseen.intervals[-1])
    assert " abort/s=- " in line
    assert " sent_b_s=- " in line
    table = dict(figures(unseen))
    for name in ("aborts", "replication", "over shards", "cascades"):
        assert table[name] == "unknown, as nobody was seen who counts it"
    text = " ".join(outline_of(page(unseen)).text)
    assert "aborted attempts unknown nobody was seen who counts them" in text
    assert "replication unknown nobody was seen who counts it" in text
    state = LiveState(unseen.setting, intervals=list(unseen.intervals))
    live = " ".join(rendered(live_view(state, width=110)).split())
    assert "aborts unknown, as nobody was seen" in live
    assert "cross-shard (" not in live
    rows = rendered(closing(unseen), width=110)
    assert re.search(r"^cross-shard( +–){7}$", rows, re.MULTILINE), rows


def test_the_page_says_what_the_tables_say(report: RunReport) -> None:
    text = " ".join(outline_of(page(report)).text)
    assert SETTING.title in text
    assert SETTING.command in text
    assert report.verdict in text
    assert "An <odd> CPU & more" in text  # Escaped, and so readable.
    for check in report.checks:
        assert check.clause in text
    assert PER_MINUTE in text
    assert "tpmC" not in text
    assert "payments for a customer of another warehouse" in text


def test_the_page_warns_of_a_run_that_ended_early() -> None:
    report = FakeRun(drive={"memory_limit": 400 << 20}).run()
    text = " ".join(outline_of(page(report)).text)
    assert "Ended early: memory is nearly full" in text


def test_a_run_without_intervals_or_checks_has_a_page(report: RunReport) -> None:
    none: tuple[Interval, ...] = ()
    document = page(replace(report, intervals=none, checks=(), audits=(), extras=()))
    outline = outline_of(document)
    assert "svg" not in outline.tags
    assert "Consistency conditions" not in outline.text
