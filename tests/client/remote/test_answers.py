"""Random leaders that lose answers and leads: what a call ends with is true of what lasts.

The leader that is played runs a call, or finds the row of an earlier run of it. Each run is durable
or is discarded in the end, whether its answer arrives or not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

import mako
from mako.call_format import BATCH_BYTES, CALL_EARLY, IS_EARLY, IS_NOTICE
from mako.ids import Status
from mako.wire.requests import ClientKind
from tests.client.remote.scripted import Played, about, redirect, result


class Leader:
    """Whoever leads. `lasts` has the ids of the calls that have a lasting effect."""

    def __init__(self, played: Played, chance: random.Random) -> None:
        self.played = played
        self.lasts: set[int] = set()
        self._chance = chance

    def sent(self) -> Iterator[tuple[int, bool]]:
        """(id, whether an early result is wanted) of the calls that are sent now."""
        for kind, body in self.played.sent():
            if kind == ClientKind.REQUEST:  # It was listened to, and has news.
                self.played.feed(about(leads=True))
            while kind == ClientKind.CALL and len(body) > BATCH_BYTES:
                size, _, flags, _, number = struct.unpack_from("<IBBHQ", body, BATCH_BYTES)
                yield number, bool(flags & CALL_EARLY)
                body = body[:BATCH_BYTES] + body[BATCH_BYTES + size :]

    def answer(self, number: int, *, early: bool) -> None:
        """Run a call, or not, and answer it, or lose the connection before or between."""
        chance, feed = self._chance, self.played.feed
        what = chance.random()
        if what < 0.1:
            feed(result(number, chance.choice([Status.BUSY, Status.NO_TABLE])))
        elif what < 0.2:
            feed(redirect("b:2"), result(number, Status.NOT_LEADER))
        else:
            durable = chance.random() < 0.5
            if durable:
                self.lasts.add(number)
            if self._loses():
                return
            if early:
                feed(result(number, flags=IS_EARLY))
                if self._loses():
                    return
            if chance.random() < 0.1:
                feed(result(number, Status.UNKNOWN))
            elif durable:
                feed(result(number, flags=IS_NOTICE if early else 0))
            else:
                feed(result(number, Status.DISCARDED))

    def _loses(self) -> bool:
        lost = self._chance.random() < 0.3
        if lost:
            self.played.lose()
        return lost


@pytest.mark.parametrize("once", [False, True])
def test_what_a_call_ends_with_is_true(seed: int, *, once: bool) -> None:
    chance = random.Random(seed)
    played = Played(seed=chance.randrange(1 << 30), once=once)
    leader = Leader(played, chance)
    calls = []
    for _ in range(400):
        if not played.core.connection:
            played.serve()
        if played.core.ready and chance.random() < 0.6:
            early, limit = chance.random() < 0.5, chance.choice([0.1, 20])
            calls.append(played.run(early=early, limit=limit))
        for number, early in leader.sent():
            if not played.core.connection:
                break
            leader.answer(number, early=early)
        if chance.random() < 0.01:
            played.core.fail(mako.Rejected("refused"))
        played.wait(chance.uniform(0, 0.2))
    played.core.close()
    for call in calls:
        assert call.ended
        if call.error is None:
            assert call.id in leader.lasts
        elif not isinstance(call.error, mako.Unknown):
            assert call.id not in leader.lasts, f"{call.error!r}"
    assert {type(call.error) for call in calls} >= {type(None), mako.Unknown, mako.SchemaError}
