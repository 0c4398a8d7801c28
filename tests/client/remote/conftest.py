"""One server for the tests of a module, a database of each, and time that tests can rely on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

import mako
from mako.client.remote import async_database, async_link, core, database, link, submitted
from mako.client.remote.core import Core
from mako.server import sessions
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

#: More than anything that a client waits for.
_FAR: Final = 1e6


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(["tests.server.procedures"], workers=2) as made:
        yield made


@pytest.fixture
def remote(server: Loopback) -> Iterator[mako.RemoteDatabase]:
    with mako.connect(server.address) as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are threads of this process, and may have to wait for a processor: none is silent,
    no call is late, and no transaction too old, for that reason."""
    for module in (core, async_link):
        monkeypatch.setattr(module, "PATIENCE", PATIENCE)
    monkeypatch.setattr(core, "SILENCE_MAX", 3 * PATIENCE)
    monkeypatch.setattr(sessions, "AGE_MAX", 3 * PATIENCE)
    monkeypatch.setattr(sessions.Session, "idle_max", 3 * PATIENCE)
    for make in (database.connect, async_database.aconnect):
        assert make.__kwdefaults__ is not None
        monkeypatch.setitem(make.__kwdefaults__, "timeout", PATIENCE)


class Clock:
    """What clients take for the time: as it is, and further ahead whenever a test says so."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def jump(self) -> None:
        """Whatever is under way has had its time. Any thread may call it."""
        self._ahead += _FAR

    @contextmanager
    def jumps_after(self, method: str) -> Iterator[None]:
        """Meanwhile it jumps whenever a core has done `method`: so what happens in vain happens,
        but nobody has to wait for it to happen in vain again and again."""
        act = getattr(Core, method)

        def acted(*given: Any, **more: Any) -> None:
            act(*given, **more)
            self.jump()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Core, method, acted)
            yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have clients look at this clock."""
    made = Clock()
    for module in (async_database, async_link, database, link, submitted):
        monkeypatch.setattr(module, "time", made)
    return made
