"""A database for each test, small and soon gone."""

from collections.abc import Iterator

import pytest

import mako
from mako.client import transaction


@pytest.fixture(autouse=True)
def ageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction does not become too old because its thread waits for a processor."""
    monkeypatch.setattr(transaction, "AGE_MAX", 3600.0)


@pytest.fixture
def db() -> Iterator[mako.Database]:
    with mako.open(":memory:", memory="64MiB", sessions=8) as opened:
        yield opened
