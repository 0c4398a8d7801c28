"""Channels between processes: what is moved, and what is refused."""

import errno
import os
import random
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mako.engine import channel, lane, pump, shared
from mako.engine.channel import CHANNEL_BYTES, CHANNEL_SIZE, H_DATA
from mako.engine.closing import get_word, set_word
from mako.engine.parking import PARKED_DOUBLINGS, PARKED_NS, PARKED_NS_MAX
from mako.engine.pumped import BadMail
from mako.engine.rounds import interrupt
from mako.engine.shared import OLD_SECONDS, SharedRegion, parts_of, sweep
from mako.ids import Outcome
from tests.engine.partitioned import ACCOUNT, Cluster, put
from tests.engine.pumping import PumpedMesh
from tests.engine.test_partitions import transfer

pytestmark = pytest.mark.interpreted


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT], pumped=True)
    yield made
    made.close()


def network_of(cluster: Cluster) -> PumpedMesh:
    assert cluster.network is not None
    return cluster.network


def gathered(cluster: Cluster) -> bytes:
    """What partition 0 sends partition 1 for a row that it asks for."""
    cluster.run(0, put, 0, 1, 50)
    cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    cluster.turn(0)
    (pieces,) = network_of(cluster).pumped[0].gather(1)
    return pieces


def test_a_transfer_goes_through_the_pump(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 50)
    cluster.run(1, put, 1, 2, 7)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED


def test_what_was_gathered_is_not_gathered_again_unless_it_may_be_lost(cluster: Cluster) -> None:
    pieces = gathered(cluster)
    pumped = network_of(cluster).pumped[0]
    assert pumped.gather(1) == []
    assert pumped.waits(1)
    pumped.rewind(1)
    assert pumped.gather(1) == [pieces]


def test_what_has_come_already_is_only_said_to_have_come(cluster: Cluster) -> None:
    pieces = gathered(cluster)
    network = network_of(cluster)
    other = network.pumped[1]
    other.scatter(0, pieces, lambda number: None)
    cluster.turn(1)
    (answer,) = other.gather(0)
    assert len(answer) > pump.PIECE_BYTES
    assert other.gather(0) == []
    other.scatter(0, pieces, lambda number: None)  # As if the answer was lost.
    cluster.turn(1)
    (again,) = other.gather(0)
    assert len(again) == pump.PIECE_BYTES, "nothing was done twice"
    network.pumped[0].scatter(1, again, lambda number: None)
    assert not network.pumped[0].waits(1), "it says that the request was taken"
    assert other.gather(0) == network.pumped[0].gather(1) == []


def send(out: int, size: int, word: int) -> None:
    """Send a message of so many bytes that ends with this word."""
    message = channel.room(out, size)
    assert message
    set_word(message + size - 8, word)
    channel.send(out, message, size)


def asking_of(cluster: Cluster) -> int:
    """The channel of partition 0 for what it asks partition 1."""
    pumped = network_of(cluster).pumped[0]
    return pumped.station.port_word(pumped.pairs[1].asking[0], lane.P_ASK)


def asked_of(cluster: Cluster) -> int:
    """What of it partition 1 has."""
    pumped = network_of(cluster).pumped[1]
    return pumped.station.port_word(pumped.pairs[0].asked[0], lane.P_ASKED)


def test_what_ends_with_the_ring_is_a_piece_of_its_own(cluster: Cluster) -> None:
    """What follows lies at its beginning."""
    out, asked = asking_of(cluster), asked_of(cluster)
    size = 2 * channel.TURN_BACK_AT
    for each in (out, asked):
        set_word(each + channel.H_HEAD, CHANNEL_BYTES - size)
        set_word(each + channel.H_TAIL, CHANNEL_BYTES - size)
    send(out, size, 3)
    send(out, 1 << 10, 8)
    (pieces,) = network_of(cluster).pumped[0].gather(1)
    assert len(pieces) == 2 * pump.PIECE_BYTES + size + (1 << 10)
    network_of(cluster).pumped[1].scatter(0, pieces, lambda number: None)
    assert get_word(asked + channel.H_HEAD) == CHANNEL_BYTES + (1 << 10)
    assert get_word(asked + H_DATA + CHANNEL_BYTES - 8) == 3
    assert get_word(asked + H_DATA + (1 << 10) - 8) == 8


def test_what_has_no_room_in_one_mail_is_in_the_next(cluster: Cluster) -> None:
    out, asked = asking_of(cluster), asked_of(cluster)
    sizes = [CHANNEL_BYTES // 4] * 3
    for word, size in enumerate(sizes):
        send(out, size, word)
    mails = network_of(cluster).pumped[0].gather(1)
    assert [len(mail) - pump.PIECE_BYTES for mail in mails] == [sum(sizes[:2]), sizes[2]]
    for mail in mails:
        network_of(cluster).pumped[1].scatter(0, mail, lambda number: None)
    assert get_word(asked + channel.H_HEAD) == sum(sizes)
    assert [get_word(asked + H_DATA + sum(sizes[:n]) - 8) for n in (1, 2, 3)] == [0, 1, 2]


def test_what_was_taken_before_it_was_sent_again_is_not_looked_at(cluster: Cluster) -> None:
    """Its place in the ring may have been written over."""
    pumped = network_of(cluster).pumped[0]
    out = asking_of(cluster)
    while get_word(out + channel.H_HEAD) <= channel.TURN_BACK_AT:
        send(out, 1 << 10, 3)
    (first,) = pumped.gather(1)
    pumped.rewind(1)
    # Only now does the other side say that it has taken all of it.
    set_word(out + channel.H_TAIL, get_word(out + channel.H_HEAD))
    send(out, 4 << 10, 8)
    assert get_word(out + channel.H_HEAD) == channel.CHANNEL_BYTES + (4 << 10), "it turned back"
    (pieces,) = pumped.gather(1)
    assert len(first) > len(pieces) == pump.PIECE_BYTES + (4 << 10)
    assert struct.unpack_from("<q", pieces, pump.Z_FROM) == (channel.CHANNEL_BYTES,)


def put_word(pieces: bytes, at: int, value: int) -> bytes:
    changed = bytearray(pieces)
    struct.pack_into("<q", changed, at, value)
    return bytes(changed)


def placed(pieces: bytes, behind: int, first: int) -> bytes:
    """The same messages, said to be elsewhere in their channel."""
    size = len(pieces) - pump.PIECE_BYTES
    for at, value in ((pump.Z_BEHIND, behind), (pump.Z_FROM, first), (pump.Z_TO, first + size)):
        pieces = put_word(pieces, at, value)
    return pieces


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (pump.Z_INDEX, -1),
        (pump.Z_INDEX, 2),
        (pump.Z_WHICH, 2),
        (pump.Z_BEHIND, -8),
        (pump.Z_FROM, 4),
        (pump.Z_FROM, -8),
        (pump.Z_TO, 1 << 40),
        (pump.Z_TAKEN, 8),
        (pump.Z_SIZE, 1 << 40),
        (pump.Z_SIZE, 8),
        (pump.PIECE_BYTES, 24),  # The size of a message.
        (pump.PIECE_BYTES, 1 << 40),
    ],
)
def test_pieces_that_are_none_are_refused(cluster: Cluster, at: int, value: int) -> None:
    pieces = put_word(gathered(cluster), at, value)
    other = network_of(cluster).pumped[1]
    with pytest.raises(BadMail, match="channels to partition 0"):
        other.scatter(0, pieces, lambda number: None)
    cluster.turn(1)
    assert other.gather(0) == []


def test_a_piece_that_is_cut_off_is_refused(cluster: Cluster) -> None:
    pieces = gathered(cluster)
    other = network_of(cluster).pumped[1]
    for size in range(1, len(pieces)):
        with pytest.raises(BadMail):
            other.scatter(0, pieces[:size], lambda number: None)


#: Two messages, of sizes that are no multiples of eight; together they are.
_ODD_SIZES = ((pump.PIECE_BYTES, 36), (pump.PIECE_BYTES + 36, -36))


@pytest.mark.parametrize(
    ("head", "tail", "behind", "first"),
    [
        (CHANNEL_BYTES - 8, CHANNEL_BYTES - 8, 0, CHANNEL_BYTES - 8),
        (CHANNEL_BYTES, 0, 0, CHANNEL_BYTES),
        (0, 0, 0, 8),
        (8, 8, 0, 4),
        (8, 8, 8, 0),
    ],
    ids=["over the end of the ring", "no room", "a skip to its middle", "odd", "backwards"],
)
def test_a_piece_that_cannot_be_where_it_says_is_refused(
    cluster: Cluster, head: int, tail: int, behind: int, first: int
) -> None:
    """All of it agrees with itself, so only what the channel is at speaks against it."""
    other = network_of(cluster).pumped[1]
    pieces = placed(gathered(cluster), behind, first)
    asked = asked_of(cluster)
    set_word(asked + channel.H_HEAD, head)
    set_word(asked + channel.H_TAIL, tail)
    with pytest.raises(BadMail, match="channels to partition 0"):
        other.scatter(0, pieces, lambda number: None)
    assert get_word(asked + channel.H_HEAD) == head


def test_a_piece_that_begins_the_ring_again_is_taken(cluster: Cluster) -> None:
    other = network_of(cluster).pumped[1]
    pieces = gathered(cluster)
    asked, at = asked_of(cluster), CHANNEL_BYTES - 8
    set_word(asked + channel.H_HEAD, at)
    set_word(asked + channel.H_TAIL, at)
    other.scatter(0, placed(pieces, at, CHANNEL_BYTES), lambda number: None)
    assert get_word(asked + channel.H_HEAD) == CHANNEL_BYTES + len(pieces) - pump.PIECE_BYTES
    assert get_word(asked + H_DATA + at) == channel.SKIP


def test_messages_of_odd_sizes_are_refused(cluster: Cluster) -> None:
    pieces = gathered(cluster)
    size = len(pieces) - pump.PIECE_BYTES
    for at, length in _ODD_SIZES:
        pieces = put_word(pieces, at, length if length > 0 else size + length)
    with pytest.raises(BadMail, match="channels to partition 0"):
        network_of(cluster).pumped[1].scatter(0, pieces, lambda number: None)


def test_any_bytes_are_taken_or_refused(cluster: Cluster, seed: int) -> None:
    """Whatever is accepted stays within its channel."""
    chance = random.Random(seed)
    pieces = gathered(cluster)
    size = len(pieces) - pump.PIECE_BYTES
    other = network_of(cluster).pumped[1]
    asked = asked_of(cluster)
    places = [0, 8, size, CHANNEL_BYTES - size, CHANNEL_BYTES - 8, CHANNEL_BYTES]
    taken = 0
    for _ in range(600):
        tail = chance.choice(places)
        head = tail + chance.choice([0, 0, 8, size, CHANNEL_BYTES - size, CHANNEL_BYTES])
        set_word(asked + channel.H_HEAD, head)
        set_word(asked + channel.H_TAIL, tail)
        near = [head, head - 4, *places]
        made = placed(pieces, chance.choice([0, *near]), chance.choice(near))
        if chance.random() < 0.5:
            at = 8 * chance.randrange(pump.PIECE_BYTES // 8)
            value = chance.choice([0, 1, 8, 64, 1 << 20, (1 << 20) - 8, 1 << 62, -1, -(1 << 62)])
            made = put_word(made, at, value)
        try:
            other.scatter(0, made, lambda number: None)
        except BadMail:
            assert get_word(asked + channel.H_HEAD) == head
            continue
        found = get_word(asked + channel.H_HEAD)
        assert tail <= found <= tail + CHANNEL_BYTES
        if found != head:
            taken += 1
            (first,) = struct.unpack_from("<q", made, pump.Z_FROM)
            assert found % 8 == 0
            assert first <= head or first % CHANNEL_BYTES == 0, "whoever skips begins again"
            assert (found - 1) % CHANNEL_BYTES + 1 >= min(size, found - head), "in one piece"
    assert taken > 20


# --- Memory that both have ------------------------------------------------------------------


def test_whoever_shares_memory_is_sent_no_mail(cluster: Cluster) -> None:
    network = network_of(cluster)
    network.share()
    cluster.run(0, put, 0, 1, 50)
    cluster.run(1, put, 1, 2, 7)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED
    assert network.under_way == []
    with pytest.raises(BadMail, match="sends mail"):
        network.pumped[1].scatter(0, b"", lambda number: None)


def test_another_epoch_begins_with_channels_of_its_own(cluster: Cluster) -> None:
    network = network_of(cluster)
    network.share()
    for here, there in ((0, 1), (1, 0)):
        network.pumped[here].begin(there, 1)
        assert network.pumped[here].pairs[there].shared is None
    cluster.run(0, put, 0, 1, 50)
    cluster.run(1, put, 1, 2, 7)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED


def test_memory_that_only_one_side_has_opened_is_left_for_mail(cluster: Cluster) -> None:
    """As `mako.server.hosting` does when the other side has no room for it."""
    network = network_of(cluster)
    pumped = network.pumped[0]
    region = pumped.open_memory(1, f"test-{secrets.token_hex(8)}")
    region.come()
    pumped.share(1, region)
    cluster.run(1, put, 1, 2, 7)
    number = cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    cluster.turn(0)  # It has asked there, and nobody will read that.
    pumped.station.interrupt({})
    pumped.begin(1, pumped.pairs[1].epoch)
    assert not region.path.exists()
    for _ in range(20):
        for place in (0, 1):
            cluster.turn(place)
        network.carry()
    assert [each.number for each in cluster.done()] == [number]
    cluster.run(0, put, 0, 1, 50)
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED


def test_what_a_killed_process_has_left_is_swept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a folder of its own: a day from now what other tests share at this moment is old, too.
    monkeypatch.setattr(shared, "shared_folder", lambda: tmp_path)
    region = SharedRegion(f"test-{secrets.token_hex(8)}", 4096, 0)
    left = region.path
    assert left.parent == tmp_path
    sweep(left.stat().st_mtime + OLD_SECONDS - 1)
    assert left.exists()
    sweep(left.stat().st_mtime + OLD_SECONDS + 1)
    assert not left.exists()
    region.close()


def test_memory_has_no_name_once_both_have_it() -> None:
    name = f"test-{secrets.token_hex(8)}"
    one = SharedRegion(name, 4096, 0)
    one.come()
    assert one.path.exists()
    assert not one.met
    other = SharedRegion(name, 4096, 1)
    assert not one.met, "the other one may find that it has no room"
    other.come()
    assert not one.path.exists()
    assert one.met
    assert other.met
    one.close()
    other.close()


def test_memory_without_room_is_an_error_and_tells_the_other_side_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full folder ends whoever touches a page that was not reserved, by SIGBUS."""
    left = 8192

    def reserve(descriptor: int, offset: int, size: int) -> None:
        if offset + size > left:
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    name = f"test-{secrets.token_hex(8)}"
    one, other = SharedRegion(name, 1 << 20, 0), SharedRegion(name, 1 << 20, 1)
    one.come([(0, 4096)])
    with pytest.raises(OSError, match=f"No space left on device.*{name}"):
        other.come()
    assert not one.met
    other.close()
    one.close()
    left = 0
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="No space left on device"):
        SharedRegion(name, 1 << 20, 0)
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert not one.path.exists()


def test_what_both_sides_reserve_holds_all_that_they_use(cluster: Cluster) -> None:
    """Each what it asks, and where it looks for what it is asked."""
    network = network_of(cluster)
    network.share()
    pumped = network.pumped[0]
    pair = pumped.pairs[1]
    region = pair.shared
    assert region is not None
    asking, askers = len(pair.asking), len(pair.asked)
    parts = list(parts_of(0, askers, asking))

    def is_reserved(channel: int, size: int) -> bool:
        offset = channel - region.base
        return any(at <= offset and offset + size <= at + length for at, length in parts)

    for port in pair.asking:
        for field in (lane.P_ASK, lane.P_ANSWERED):
            assert is_reserved(pumped.station.port_word(port, field), CHANNEL_SIZE)
    for port in pair.asked:
        for field in (lane.P_ASKED, lane.P_ANSWER):
            assert is_reserved(pumped.station.port_word(port, field), H_DATA)
    used = sum(length for _, length in parts)
    assert used < 2 * CHANNEL_SIZE * asking + 64 * 1024, "and not much more"


# --- Partitions that are out of reach --------------------------------------------------------


def test_what_needs_a_closed_partition_ends_unavailable(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 50)
    station = network_of(cluster).pumped[0].station
    station.set_closed([1])
    number = cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    cluster.turn(0)
    (done,) = cluster.done()
    assert (done.number, done.outcome) == (number, Outcome.UNAVAILABLE)
    assert station.busy == 0
    assert station.counts().unreached == 1
    station.set_closed([])
    assert cluster.run(0, put, 0, 1, 51).outcome is Outcome.COMMITTED


def test_who_is_prepared_with_a_partition_that_closes_lets_go(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 50)
    cluster.run(1, put, 1, 2, 7)
    network = network_of(cluster)
    number = cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    cluster.turn(0)
    network.carry()
    cluster.turn(1)
    network.carry()
    cluster.turn(0)  # Rows have come; it is prepared here and there.
    assert network.pumped[0].station.waiting_for() == {1: 1}
    network.pumped[0].station.set_closed([1])
    cluster.turn(0)
    (done,) = cluster.done()
    assert (done.number, done.outcome) == (number, Outcome.UNAVAILABLE)
    network.pumped[0].station.set_closed([])
    assert cluster.run(0, transfer, 0, 1, 1, 2, 5).outcome is Outcome.COMMITTED


def test_what_is_in_lanes_is_abandoned_with_the_leadership(cluster: Cluster) -> None:
    cluster.run(0, put, 0, 1, 50)
    network = network_of(cluster)
    number = cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    station = network.pumped[0].station
    (abandoned,) = station.abandon()
    assert abandoned.number == number
    assert station.busy == 0
    assert cluster.done() == []


def test_who_is_refused_from_afar_waits_for_about_as_long_as_it_took(cluster: Cluster) -> None:
    """Or those who are in each other's way are there again before anybody could get through."""
    cluster.run(0, put, 0, 1, 50)
    network = network_of(cluster)
    cluster.post(0, transfer, 0, 1, 1, 2, 5)
    cluster.serve(0)
    station = network.pumped[0].station
    (context,) = station._busy_lanes()
    engine = cluster.engines[0]
    mesh = station.meshes[0]
    waits = ((1_000, PARKED_NS << PARKED_DOUBLINGS), (10_000_000, 40_000_000))
    for attempt_ns, longest in (*waits, (3_600_000_000_000, PARKED_NS_MAX)):
        engine.set_word(context + lane.L_TRIES, 40)  # Enough for the longest pause.
        engine.set_word(context + lane.L_BEGAN, station._get(mesh + lane.H_NOW) - attempt_ns)
        interrupt(context, 0)
        pause = engine.word(context + lane.L_DUE) - station._get(mesh + lane.H_NOW)
        assert longest <= pause < 2 * longest
