"""Sending a snapshot: whatever the network does, the receiver ends with the very same bytes."""

import random
from collections import deque
from collections.abc import Callable

import pytest

from mako.errors import ConfigError
from mako.storage.snapshot_stream import (
    InstallSnapshot,
    ReadChunk,
    SnapshotChunk,
    SnapshotDone,
    SnapshotName,
    SnapshotOffer,
    SnapshotReceiver,
    SnapshotSender,
    SnapshotWanted,
    StreamSettings,
    WriteChunk,
    chunk_digest,
)
from mako.storage.token_bucket import TokenBucket

Message = SnapshotOffer | SnapshotChunk | SnapshotWanted | SnapshotDone
SETTINGS = StreamSettings(chunk_bytes=100, window_bytes=400, timeout_ms=50, timeouts_max=5)
DATA = random.Random(1).randbytes(2345)
NAME = SnapshotName(1, 50, 2, len(DATA), b"d" * 32)


class Link:
    """A sender and a receiver joined without a wire; time is counted in ms."""

    def __init__(self, rng: random.Random, rate: int = 1 << 40, loss: float = 0.0) -> None:
        self.rng = rng
        self.loss = loss
        self.now_ms = 0
        self.bucket = TokenBucket(rate, 100, 0)
        self.sender = SnapshotSender(NAME, self.bucket, SETTINGS, 0)
        self.file = bytearray()
        self.receiver = self.restarted()
        self.to_receiver: deque[Message] = deque()
        self.to_sender: deque[Message] = deque()
        self.sent_bytes = 0
        self.installed = False

    def restarted(self) -> SnapshotReceiver:
        return SnapshotReceiver(1, 10, lambda _: len(self.file))

    def put(self, queue: deque[Message], message: Message) -> None:
        """Lose, repeat or overtake, as chance has it."""
        if self.rng.random() < self.loss:
            return
        queue.append(message)
        if self.loss and self.rng.random() < 0.1:
            queue.append(message)
        if self.loss and self.rng.random() < 0.2:
            queue.rotate(1)

    def tick(self) -> None:
        self.now_ms += 1
        while (wanted := self.sender.poll(self.now_ms)) is not None:
            if isinstance(wanted, ReadChunk):
                data = DATA[wanted.offset : wanted.offset + wanted.length]
                self.sent_bytes += len(data)
                self.put(self.to_receiver, self.sender.chunk(wanted, data))
            else:
                self.put(self.to_receiver, wanted)
        while self.to_receiver:
            message = self.to_receiver.popleft()
            assert isinstance(message, SnapshotOffer | SnapshotChunk)
            self.act(message)
        while self.to_sender:
            answer = self.to_sender.popleft()
            if isinstance(answer, SnapshotWanted):
                self.sender.on_wanted(answer, self.now_ms)
            elif isinstance(answer, SnapshotDone):
                self.sender.on_done(answer)

    def act(self, message: SnapshotOffer | SnapshotChunk) -> None:
        actions = deque(self.receiver.step(message))
        while actions:
            action = actions.popleft()
            if isinstance(action, WriteChunk):
                assert action.offset <= len(self.file), "chunks come in order"
                self.file[action.offset : action.offset + len(action.data)] = action.data
            elif isinstance(action, InstallSnapshot):
                self.installed = bytes(self.file) == DATA
                actions += self.receiver.installed(good=self.installed)
            else:
                self.put(self.to_sender, action)

    def run(self, ticks: int) -> None:
        while ticks and not (self.sender.done or self.sender.failed):
            self.tick()
            ticks -= 1


def test_a_snapshot_arrives_whole(seed: int) -> None:
    link = Link(random.Random(seed))
    link.run(100)
    assert link.sender.done
    assert link.installed
    assert link.sent_bytes == len(DATA), "nothing is sent twice"


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_a_snapshot_arrives_whole_over_a_bad_network(seed: int, loss: float) -> None:
    for run in range(20):
        link = Link(random.Random(seed + run), loss=loss)
        link.run(5000)
        attempts = 1
        while link.sender.failed and attempts < 50:
            # It gave up after many timeouts in a row; a new attempt goes on where it was.
            link.sender = SnapshotSender(NAME, link.bucket, SETTINGS, link.now_ms)
            link.run(5000)
            attempts += 1
        assert link.sender.done, f"run {run}"
        assert bytes(link.file) == DATA


def test_a_receiver_that_restarts_goes_on_where_it_was(seed: int) -> None:
    link = Link(random.Random(seed), rate=10_000)
    while len(link.file) < 1000:
        link.tick()
    link.receiver = link.restarted()
    link.run(5000)
    assert link.sender.done
    assert bytes(link.file) == DATA
    assert link.sent_bytes < len(DATA) + 2 * SETTINGS.window_bytes


def test_a_receiver_that_lost_its_part_begins_again(seed: int) -> None:
    link = Link(random.Random(seed), rate=10_000)
    while len(link.file) < 1000:
        link.tick()
    link.file.clear()
    link.receiver = link.restarted()
    link.run(5000)
    assert link.sender.done
    assert bytes(link.file) == DATA


def test_a_part_that_was_damaged_is_fetched_again(seed: int) -> None:
    link = Link(random.Random(seed))
    link.file = bytearray(b"x" * 1500)
    link.run(5000)
    assert link.sender.done
    assert bytes(link.file) == DATA


def test_the_rate_is_kept(seed: int) -> None:
    link = Link(random.Random(seed), rate=5000)
    link.run(10_000)
    assert link.sender.done
    least_ms = (len(DATA) - 2 * 100) * 1000 // 5000
    assert least_ms <= link.now_ms <= least_ms + 100


def test_a_rate_far_below_a_chunk_per_timeout_still_gets_through(seed: int) -> None:
    link = Link(random.Random(seed), rate=200)
    link.run(60_000)
    assert link.sender.done
    assert link.sent_bytes == len(DATA)


def test_the_window_bounds_what_is_under_way() -> None:
    sender = SnapshotSender(NAME, TokenBucket(1 << 40, 1 << 40, 0), SETTINGS, 0)
    assert isinstance(sender.poll(0), SnapshotOffer)
    assert sender.poll(0) is None
    sender.on_wanted(SnapshotWanted(NAME, 0), 1)
    offsets = []
    while isinstance(read := sender.poll(1), ReadChunk):
        offsets.append(read.offset)
    assert offsets == [0, 100, 200, 300]
    sender.on_wanted(SnapshotWanted(NAME, 100), 2)
    assert sender.poll(2) == ReadChunk(400, 100)


def test_a_peer_that_never_answers_is_given_up() -> None:
    sender = SnapshotSender(NAME, TokenBucket(1 << 40, 1, 0), SETTINGS, 0)
    offers = sum(isinstance(sender.poll(now), SnapshotOffer) for now in range(1000))
    assert sender.failed
    assert offers == 1 + SETTINGS.timeouts_max


def offers_until_given_up(offered: Callable[[int], int], end: int) -> int:
    """To a peer that wants what `offered` says of its n-th offer, takes chunks up to `end`, and is
    silent then."""
    sender = SnapshotSender(NAME, TokenBucket(1 << 40, 1 << 40, 0), SETTINGS, 0)
    offers = 0
    for now_ms in range(50 * SETTINGS.timeout_ms):
        while (todo := sender.poll(now_ms)) is not None:
            if isinstance(todo, SnapshotOffer):
                sender.on_wanted(SnapshotWanted(NAME, offered(offers)), now_ms)
                offers += 1
            elif todo.offset + todo.length <= end:
                sender.on_wanted(SnapshotWanted(NAME, todo.offset + todo.length), now_ms)
    assert sender.failed
    return offers


def test_a_peer_that_answers_and_gets_no_further_is_given_up() -> None:
    """Its disk may be full: it takes every offer, and not what comes then."""
    most = 1 + SETTINGS.timeouts_max
    assert offers_until_given_up(lambda count: 300, 0) == most
    assert offers_until_given_up(lambda count: 0, 700) == most
    assert offers_until_given_up(lambda count: 0, NAME.size) == most
    assert offers_until_given_up(lambda count: 100 * min(count, 3), 0) == most + 3


def test_a_chunk_with_a_wrong_hash_is_asked_for_again() -> None:
    receiver = SnapshotReceiver(1, 10, lambda _: 0)
    assert receiver.step(SnapshotOffer(NAME)) == [SnapshotWanted(NAME, 0)]
    good = chunk_digest(NAME, 0, b"data")
    bad = SnapshotChunk(NAME, 0, b"dbta", good)
    assert receiver.step(bad) == [SnapshotWanted(NAME, 0)]
    moved = SnapshotChunk(NAME, 0, b"data", chunk_digest(NAME, 4, b"data"))
    assert receiver.step(moved) == [SnapshotWanted(NAME, 0)]
    assert receiver.step(SnapshotChunk(NAME, 0, b"data", good)) == [
        WriteChunk(NAME, 0, b"data"),
        SnapshotWanted(NAME, 4),
    ]


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        (SnapshotName(2, 50, 2, 10, b""), False),
        (SnapshotName(1, 50, 2, 0, b""), False),
        (SnapshotName(1, 10, 2, 10, b""), True),
    ],
)
def test_an_offer_that_is_not_wanted_is_answered(
    name: SnapshotName,
    accepted: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    receiver = SnapshotReceiver(1, 10, lambda _: 0)
    assert receiver.step(SnapshotOffer(name)) == [SnapshotDone(name, accepted)]


def test_a_newer_offer_replaces_the_older_one_and_not_the_other_way() -> None:
    receiver = SnapshotReceiver(1, 10, lambda _: 0)
    newer = SnapshotName(1, 60, 2, 10, b"n")
    receiver.step(SnapshotOffer(NAME))
    assert receiver.step(SnapshotOffer(newer)) == [SnapshotWanted(newer, 0)]
    assert receiver.step(SnapshotOffer(NAME)) == [SnapshotDone(NAME, accepted=False)]
    assert receiver.step(SnapshotChunk(NAME, 0, b"d", b"")) == []
    assert receiver.receiving == newer


def test_chunks_beyond_the_end_are_refused() -> None:
    name = SnapshotName(1, 60, 2, 3, b"n")
    receiver = SnapshotReceiver(1, 10, lambda _: 0)
    receiver.step(SnapshotOffer(name))
    chunk = SnapshotChunk(name, 0, b"four", chunk_digest(name, 0, b"four"))
    assert receiver.step(chunk) == [SnapshotWanted(name, 0)]


def test_a_bucket_pays_its_debts() -> None:
    bucket = TokenBucket(1000, 100, 0)
    assert bucket.try_take(600, 0)
    assert not bucket.try_take(1, 499)
    assert bucket.wait_ms(0) == 2
    assert bucket.try_take(1, 502)


def test_a_bucket_that_rests_saves_up_no_more_than_a_burst() -> None:
    bucket = TokenBucket(1000, 100, 0)
    assert bucket.try_take(100, 60_000)
    assert not bucket.try_take(1, 60_000)
    assert bucket.try_take(1, 60_001)


def test_a_window_that_no_chunk_fits_is_refused() -> None:
    """It would send nothing, ever, and give up after some timeouts."""
    with pytest.raises(ConfigError, match=r"window_bytes \(1000\) must be at least"):
        StreamSettings(chunk_bytes=65536, window_bytes=1000)
    with pytest.raises(ConfigError, match="chunk_bytes must be at least 1"):
        StreamSettings(chunk_bytes=0)
