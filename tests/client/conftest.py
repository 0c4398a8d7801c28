"""A database for each test, small and soon gone."""

from collections.abc import Iterator

import pytest

import mako


@pytest.fixture
def db() -> Iterator[mako.Database]:
    with mako.open(":memory:", memory="64MiB", sessions=8) as opened:
        yield opened
