from collections.abc import Iterator

import pytest

from tests.bench.tpcc.worlds import World, world


@pytest.fixture
def one() -> Iterator[World]:
    """One warehouse, just loaded."""
    with world(1) as loaded:
        yield loaded


@pytest.fixture
def two() -> Iterator[World]:
    """Two warehouses, just loaded."""
    with world(2) as loaded:
        yield loaded
