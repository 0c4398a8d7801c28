"""What a configuration asks for that the way between workers of several partitions cannot do."""

from pathlib import Path

import pytest

from mako.config import load
from mako.engine import lane, pumped
from mako.errors import ConfigError
from mako.server import plan
from mako.server.planning import plan_of


def planned(folder: Path, partitions: int, workers: int, threads: int | None = None) -> int:
    file = folder / "c.yml"
    sites = "".join(f"    - ['s{n}:{7000 + n}']\n" for n in range(partitions))
    processes = "".join(f"  s{n}: a\n" for n in range(partitions))
    file.write_text(
        f"site:\n  server:\n{sites}process:\n{processes}host: {{a: 127.0.0.1}}\n"
        f"workers: {workers}\n"
    )
    return plan_of(load([file]), "a", workers=threads).workers


def test_the_limits_are_those_of_the_engine() -> None:
    assert (plan.ASKERS, plan.PORTS_MAX) == (pumped.ASKERS, lane.PORTS_MAX)


def test_a_partition_alone_may_have_many_workers(tmp_path: Path) -> None:
    assert planned(tmp_path, 1, 64) == 64


@pytest.mark.parametrize("threads", [None, 13], ids=["file", "option"])
def test_workers_that_others_could_not_reach(tmp_path: Path, threads: int | None) -> None:
    assert planned(tmp_path, 2, 12) == 12
    with pytest.raises(ConfigError, match=r"13 workers are too many .* give at most 12"):
        planned(tmp_path, 2, 12 if threads else 13, threads)


@pytest.mark.parametrize(("workers", "most"), [(1, 16), (2, 29), (4, 52)])
def test_partitions_that_a_worker_has_no_ports_for(tmp_path: Path, workers: int, most: int) -> None:
    planned(tmp_path, most, workers)
    with pytest.raises(ConfigError, match=rf"{most + 1} partitions are too .* at most {most},"):
        planned(tmp_path, most + 1, workers)
