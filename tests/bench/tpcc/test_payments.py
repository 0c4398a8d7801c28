"""Conditions 8 and 9 of payments in several partitions, each of which adds up what it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import mako
from bench.tpcc import conditions, consistency
from bench.tpcc.conditions import condition_8, condition_9
from bench.tpcc.consistency import AFTER_RUN, check
from bench.tpcc.scale import SCALES
from bench.tpcc.schema import DISTRICT_YTD, DISTRICTS, HISTORY, WAREHOUSE_YTD
from bench.workload import CheckResult, Status
from tests.bench.tpcc.tables import Tables

WAREHOUSES = 5
#: Rows that a scan returns.
CHUNK = 3


class Parted(Tables):
    """Tables in two partitions. Those with payments are never fetched row by row."""

    partitions = (0, 1)
    timestamp = 7

    def status(self, *, partition: int) -> dict[str, int]:
        assert partition in self.partitions
        return {"watermark": self.timestamp}

    @contextmanager
    def snapshot(self) -> Iterator["Parted"]:
        yield self

    def table(self, table: mako.Table) -> SimpleNamespace:
        assert table in (WAREHOUSE_YTD, DISTRICT_YTD), "few rows, however long a run is"
        return SimpleNamespace(scan=lambda: iter(sorted(self.rows[table].items())))


def paid() -> Parted:
    """Three payments of each district's customers, in warehouses of both partitions."""
    tables = Parted()
    for w_id in range(1, WAREHOUSES + 1):
        tables.rows[WAREHOUSE_YTD][w_id,] = {"w_ytd": 0}
        for d_id in range(1, DISTRICTS + 1):
            tables.rows[DISTRICT_YTD][w_id, d_id] = {"d_ytd": 0}
    for w_id in range(1, WAREHOUSES + 1):
        for d_id in range(1, DISTRICTS + 1):
            for number in range(3):
                h_w_id = (w_id + number) % WAREHOUSES + 1
                amount = 1 + 100 * w_id + 10 * d_id + number
                tables.rows[HISTORY][w_id, d_id, 1, number] = {
                    "h_w_id": h_w_id,
                    "h_d_id": d_id,
                    "h_amount": amount,
                }
                tables.rows[WAREHOUSE_YTD][h_w_id,]["w_ytd"] += amount
                tables.rows[DISTRICT_YTD][h_w_id, d_id]["d_ytd"] += amount
    return tables


@pytest.fixture(params=[2, 727])
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Parted:
    """They are looked at in ranges of so many warehouses."""
    monkeypatch.setattr(conditions, "_CHUNK", CHUNK)
    monkeypatch.setattr(conditions, "PAYEES_MAX", request.param)
    wanted = tuple(each for each in AFTER_RUN if each.procedure in (condition_8, condition_9))
    monkeypatch.setattr(consistency, "AFTER_RUN", wanted)
    return paid()


def failed(tables: Any) -> list[str]:
    """What the two conditions say that fail."""
    results = check(tables, SCALES["tiny"], WAREHOUSES, after_load=False)
    assert [result.clause for result in results] == ["3.3.2.8", "3.3.2.9"]
    return [told(result) for result in results if result.status is Status.FAIL]


def told(result: CheckResult) -> str:
    return f"{result.clause}: {result.detail.partition(',')[0]}"


def test_payments_are_those_of_all_partitions(tables: Parted) -> None:
    assert failed(tables) == []


def test_a_payment_that_is_missing_is_seen_where_it_was_made(tables: Parted) -> None:
    del tables.rows[HISTORY][2, 7, 1, 2]
    assert failed(tables) == ["3.3.2.8: 1 violations", "3.3.2.9: 1 violations"]


def test_a_payment_of_the_wrong_district_is_no_fault_of_the_warehouse(tables: Parted) -> None:
    tables.rows[HISTORY][4, 1, 1, 0]["h_d_id"] = 8
    assert failed(tables) == ["3.3.2.9: 2 violations"]


@pytest.mark.parametrize("nowhere", [0, 11, 31])
def test_a_payment_of_no_district_counts_for_the_warehouse(tables: Parted, nowhere: int) -> None:
    tables.rows[HISTORY][4, 1, 1, 0]["h_d_id"] = nowhere
    assert failed(tables) == ["3.3.2.9: 1 violations"]


def test_a_payment_of_no_warehouse_counts_for_none(tables: Parted) -> None:
    tables.rows[HISTORY][4, 1, 1, 5] = {"h_w_id": WAREHOUSES + 1, "h_d_id": 1, "h_amount": 9}
    assert failed(tables) == []
