"""Messages between partitions that find no room: they are sent later, and nothing is lost by it.

Channels of a megabyte are hardly ever full. Here any of them is at any moment.
"""

import random
from collections import Counter

import pytest

from mako.engine import channel, fetching, lookups, participant, preparing, rounds
from tests.engine.test_partitions import run_in_any_order

SENDERS = (fetching, lookups, participant, preparing, rounds)


@pytest.mark.parametrize("pumped", [False, True], ids=["here", "between processes"])
def test_what_finds_no_room_is_sent_later(
    monkeypatch: pytest.MonkeyPatch, seed: int, *, pumped: bool
) -> None:
    chance = random.Random(seed)
    refused: Counter[str] = Counter()
    right = channel.room

    for module in SENDERS:

        def room(place: int, size: int, sender: str = module.__name__) -> int:
            if chance.random() < 0.3:
                refused[sender] += 1
                return 0
            return int(right(place, size))

        assert module.room is right
        monkeypatch.setattr(module, "room", room)
    run_in_any_order(seed, pumped=pumped)
    assert min(refused[module.__name__] for module in SENDERS) > 10, refused
