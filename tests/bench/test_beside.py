"""The log's syncs beside a snapshot: every way is measured, and nothing is left behind."""

from pathlib import Path

from bench.beside import WAYS, measure


def test_every_way_is_measured(tmp_path: Path) -> None:
    found = measure(tmp_path, mib=2, rate=1e9, rounds=2)
    assert [way["sync_after_mib"] for way in found] == list(WAYS)
    for way in found:
        assert way["syncs"] >= 2
        assert 0 < way["p50_ms"] <= way["p99_ms"] <= way["max_ms"]
    assert [file.name for file in tmp_path.iterdir()] == ["log"]
