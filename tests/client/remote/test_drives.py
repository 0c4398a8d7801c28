"""Drives of a client, and the connection that each belongs to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mako
from mako.server.asking import Asking
from mako.server.driving import Drives, Preparation
from tests.client.remote.conftest import Clock
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE
from tests.server.test_drives import COUNT, COUNTER

pytestmark = pytest.mark.usefixtures("patient")

STATES = [{"worker": 1}]


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    """It has a workload deployed."""
    with Loopback() as made:
        made.engine.create_table(COUNTER)
        made.backend.drives = Drives(made.crew, {COUNT.name: COUNT})
        yield made


def drive(db: mako.RemoteDatabase) -> Any:
    return db.drive(COUNT, workers=1, states=STATES)


def lose(db: mako.RemoteDatabase) -> None:
    link = db._lanes.first.link
    with link.lock:
        link._lose("cut")


def test_what_is_done_until_it_is_stopped(server: Loopback) -> None:
    with mako.connect(server.address) as db, drive(db) as one:
        while one.sample().kinds[0].committed == 0:
            pass
        one.stop()
        one.stop()
        assert one.sample().kinds[0].committed > 0
        assert one.states() == STATES
    assert not server.backend.drives.active


def test_a_drive_ends_with_its_connection_and_says_so_whatever_is_asked(server: Loopback) -> None:
    with mako.connect(server.address) as db:
        one = drive(db)
        lose(db)
        assert db.status(), "there is another connection"
        for ask in (one.sample, one.reset, one.stop, one.stop):
            with pytest.raises(mako.ConnectionLost, match="the drive has ended with it"):
                ask()


def test_a_drive_is_not_taken_for_one_of_a_later_connection(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the server numbers them anew, as one that was restarted does."""

    def restart() -> None:
        monkeypatch.setattr(server.backend, "drives", Drives(server.crew, {COUNT.name: COUNT}))

    restart()
    with mako.connect(server.address) as db:
        one = drive(db)
        lose(db)
        restart()
        two = drive(db)
        assert two._number == one._number
        with pytest.raises(mako.ConnectionLost):
            one.stop()
        two.sample()
        two.stop()


def test_a_drive_that_ended_with_its_leadership_says_so(server: Loopback) -> None:
    with mako.connect(server.address) as db:
        one = drive(db)
        server.call(server.backend.drives.stop)
        with pytest.raises(mako.ConnectionLost, match="leader"):
            one.sample()


def test_the_error_of_a_block_is_the_one_that_is_told(server: Loopback) -> None:
    with mako.connect(server.address) as db:

        def sample_lost() -> None:
            with drive(db) as one:
                lose(db)
                one.sample()

        def fail() -> None:
            with drive(db):
                lose(db)
                raise ZeroDivisionError

        def only_lose() -> None:
            with drive(db):
                lose(db)

        with pytest.raises(mako.ConnectionLost, match="drive sample") as error:
            sample_lost()
        assert error.value.__context__ is None
        with pytest.raises(ZeroDivisionError):
            fail()
        with pytest.raises(mako.ConnectionLost, match="drive stop"):
            only_lose()


def test_a_drive_that_does_not_start_in_time_is_cancelled(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    compiled, cancelled = threading.Event(), threading.Event()
    found: list[bool] = []

    class Slow(Drives):
        def prepare(self, *arguments: Any) -> Preparation:
            prepared = super().prepare(*arguments)

            def compile_late() -> None:
                compiled.wait(PATIENCE)

            clock.jump()  # It has been asked for, and its time is over.
            return prepared._replace(compile=compile_late)

    cancel = Asking.cancel_drive

    def cancel_and_tell(asking: Asking, request: object) -> bool:
        found.append(cancel(asking, request))
        cancelled.set()
        return found[-1]

    monkeypatch.setattr(server.backend, "drives", Slow(server.crew, {COUNT.name: COUNT}))
    monkeypatch.setattr(Asking, "cancel_drive", cancel_and_tell)
    with mako.connect(server.address) as db:
        with pytest.raises(mako.Unknown, match="in time"):
            drive(db)
        assert cancelled.wait(PATIENCE)
        assert found == [True]
        compiled.set()
        assert db.status(), "the connection stays"
    assert not server.backend.drives.active
