"""Old rows of requests are swept by who leads, for as long as it does."""

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from mako.server import hub
from mako.server.hub import SWEEP_SECONDS, Hub


class Backend:
    """Leads until it has swept once."""

    engine = None
    leads = True


def test_nothing_is_deleted_any_more_once_it_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in no log: this replica would have other rows than the others."""
    backend, places = Backend(), list[bytes]()

    def sweep(engine: object, first: bytes, now_ms: int) -> bytes | None:
        places.append(first)
        if len(places) == 3:
            backend.leads = False
        return b"there is more"

    monkeypatch.setattr(hub, "sweep", sweep)

    async def main() -> None:
        with trio.move_on_after(3 * SWEEP_SECONDS):
            await Hub(cast(Any, backend), cast(Any, object()))._sweep()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert places == [b"", b"there is more", b"there is more"]
