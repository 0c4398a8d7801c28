"""Whoever settles sees what was committed before, also while somebody else is closing."""

import threading
from collections.abc import Iterator

import pytest

from mako.engine.closing import next_timestamp, set_word
from mako.engine.engine import Engine
from mako.engine.layout import CLOSING

pytestmark = pytest.mark.interpreted

PATIENCE = 120.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(16 << 20)
    yield made
    made.close()


def test_who_began_to_close_before_it_is_waited_for(engine: Engine) -> None:
    """A keeper that has read the clock and lost its processor closes what was before that."""
    set_word(engine.base + CLOSING, 1)
    timestamp = next_timestamp(engine.base)
    found: list[int] = []
    settling = threading.Thread(target=lambda: found.append(engine.settle()))
    settling.start()
    settling.join(0.05)
    assert not found
    set_word(engine.base + CLOSING, 0)
    settling.join(PATIENCE)
    assert found
    assert found[0] >= timestamp
    assert engine.closed == found[0]
