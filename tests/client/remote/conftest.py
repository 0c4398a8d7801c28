"""One server for the tests of a module, and a database of each."""

from collections.abc import Iterator

import pytest

import mako
from tests.server.loopback import Loopback


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(["tests.server.procedures"], workers=2) as made:
        yield made


@pytest.fixture
def remote(server: Loopback) -> Iterator[mako.RemoteDatabase]:
    with mako.connect(server.address) as made:
        yield made
