"""Fixtures of several tests of the benchmarks."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from bench import session
from bench.runner import Runner
from tests.bench.fakes import FakeBenchmark, FakeClock, FakeDatabase


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeBenchmark], FakeDatabase]:
    """Runs go to a benchmark and a database of cardboard, on a clock of their own."""

    def install(benchmark: FakeBenchmark) -> FakeDatabase:
        clock = FakeClock()
        database = FakeDatabase(clock)

        class ClockedRunner(Runner):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, clock=clock, **options)

        monkeypatch.setattr(session, "Runner", ClockedRunner)
        monkeypatch.setattr(session, "create", lambda _name, _options: benchmark)
        monkeypatch.setattr(session, "database_of", lambda _request, _config: cast("Any", database))
        return database

    return install
