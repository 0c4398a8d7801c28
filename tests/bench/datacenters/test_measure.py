"""What is made of measured times."""

import pytest

from bench.datacenters.__main__ import parse
from bench.datacenters.deployed import BLOCK
from bench.datacenters.measure import FILE, LEADERS, Times, percentile, table
from mako.config import load


def test_percentiles_are_measured_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (50, 99)
    assert (percentile([3.0], 0.5), percentile([3.0], 0.99)) == (3, 3)


def test_the_table_has_milliseconds_and_round_trips() -> None:
    lines = table([Times("one", [1.0, 2.0, 3.0], [75.0, 100.0, 400.0])], round_trip_ms=50)
    assert lines[-1].split() == ["one", "2.00", "3.00", "100.00", "400.00", "0.04", "2.00"]
    assert len({len(line) for line in lines[1:]}) == 1, "columns are below each other"


def test_a_majority_of_each_shard_needs_both_datacenters() -> None:
    config = load([FILE])
    for sites, leader in zip(config.partitions, LEADERS, strict=True):
        assert sites[0].process == leader, "the first site should lead"
        beside = [site.process for site in sites if site.process[0] == leader[0]]
        assert beside == [leader]
        assert len(sites) == 3


def test_accounts_are_where_the_procedures_say() -> None:
    placement = load([FILE]).shards.of("account")
    found = [placement.partition_of(number.to_bytes(8, "big")) for number in (BLOCK - 1, BLOCK)]
    assert found == [0, 1]


@pytest.mark.parametrize("words", [["bench", "--count", "0"], ["up", "--round-trip-ms", "-1"]])
def test_what_cannot_be_measured_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert f"{words[1]}: {words[2]} is too small; give at least" in capsys.readouterr().err
