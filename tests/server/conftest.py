"""What tests of servers leave as they have found it."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A server that runs in the process of a test leaves signals ignored: Ctrl-C would not end the
    tests any more, and the processes of later ones would begin with it."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)
