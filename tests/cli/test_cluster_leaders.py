"""`mako cluster up` returns when partitions are led by those who go on leading them."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from mako.cli import cluster
from mako.config import load

CONFIG = load([Path(__file__).parents[2] / "config" / "1c1s3r1p_cluster_test.yml"])
ADDRESS = {one.name: f"{one.host}:{one.ports[0]}" for one in CONFIG.processes if one.sites}


def wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, leaders: list[str]) -> tuple[str, float]:
    """Who leads is looked at as often as `leaders` has names, and then it stays; what is returned,
    and after how many seconds."""
    clock = SimpleNamespace(now=0.0)
    looks = itertools.chain(leaders, itertools.repeat(leaders[-1]))
    replicas = len(CONFIG.partitions[0])
    seen = itertools.chain.from_iterable([name] * replicas for name in looks)

    def look(process: object, partition: int) -> str:
        name = next(seen)
        if not name:
            raise TimeoutError
        return ADDRESS[name]

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(cluster, "_leader_address", look)
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(cluster, "time", time)
    (leader,) = cluster._wait_for_leaders(CONFIG, {}, tmp_path)
    return leader, clock.now


def test_the_preferred_one_may_be_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leader, after = wait(monkeypatch, tmp_path, ["p1"] * 12 + ["localhost"])
    assert leader == "localhost"
    assert 1 < after < cluster._SETTLE_SECONDS


def test_who_leads_already_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert wait(monkeypatch, tmp_path, ["localhost"]) == ("localhost", 0)


def test_if_it_does_not_come_another_one_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leader, after = wait(monkeypatch, tmp_path, ["p2"])
    assert leader == "p2"
    assert cluster._SETTLE_SECONDS <= after < 2 * cluster._SETTLE_SECONDS
