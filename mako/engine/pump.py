"""Moving messages between channels of two processes: what one ring has is copied to its twin.

    channel here ──gather──▶ pieces ──network──▶ pieces ──scatter──▶ channel there
         ▲                                                               │
         └───────────── how much was taken, with the pieces of the other direction

A channel (`mako.engine.channel`) exists twice, with the same counts of bytes at both ends. The
sending one holds its messages until the other end says that they were taken there, so there is
room for whatever arrives, and what may be lost is sent again from what was taken: the counts show
what is there already. So messages arrive in order and exactly once.

A piece, eight words and the bytes:

    index | which | behind | from | to | taken | size | 0 | bytes ...

`index` numbers the workers that ask. `which`: 0 requests, 1 answers. The bytes are those from
`from` to `to` of the channel, whole messages; between `behind`, where the piece before it ended,
and `from` the ring was skipped. `taken` is about the channel of the other direction.
"""

from typing import Final

from mako.engine.atomics import ld8, load_acquire, memcpy, st8, store_seq
from mako.engine.channel import CHANNEL_BYTES, H_DATA, H_HEAD, H_TAIL, M_BODY, M_SIZE, SKIP
from mako.engine.jit import compiled, exported
from mako.engine.lane import P_ANSWER, P_ANSWERED, P_ASK, P_ASKED, P_PUMPED, P_TOLD

PIECE_BYTES: Final = 64
Z_INDEX: Final = 0
Z_WHICH: Final = 8
Z_BEHIND: Final = 16
Z_FROM: Final = 24
Z_TO: Final = 32
Z_TAKEN: Final = 40
Z_SIZE: Final = 48

REQUESTS: Final = 0
ANSWERS: Final = 1
#: What `scatter` says of bytes that are none of `gather`.
MALFORMED: Final = -1


@compiled
def _first(channel: int, at: int, head: int) -> int:
    """Where the message is that comes at `at`, or behind what is skipped there."""
    if at < head:
        place = at % CHANNEL_BYTES
        if ld8(channel + H_DATA + place) == SKIP:
            return at + CHANNEL_BYTES - place
    return at


@compiled
def _end(channel: int, first: int, head: int, room: int) -> int:
    """Where the messages end that lie in one piece from `first` on and have `room`."""
    at = first
    while at < head:
        place = at % CHANNEL_BYTES
        if place == 0 and at != first:
            break
        size = ld8(channel + H_DATA + place + M_SIZE)
        if size == SKIP or at + size - first > room:
            break
        at += size
    return at


@compiled
def _gather_port(port: int, index: int, which: int, target: int, room: int) -> int:
    """Write the next piece of a port to `target`; its bytes, 0 if there is nothing to say."""
    out = ld8(port + P_ASK) if which == REQUESTS else ld8(port + P_ANSWER)
    back = ld8(port + P_ANSWERED) if which == REQUESTS else ld8(port + P_ASKED)
    if room < PIECE_BYTES:
        return 0
    head = load_acquire(out + H_HEAD)
    taken = load_acquire(back + H_TAIL)
    # What has been taken since it was to be sent again may have been written over.
    behind = max(ld8(port + P_PUMPED), load_acquire(out + H_TAIL))
    first = _first(out, behind, head)
    end = _end(out, first, head, room - PIECE_BYTES)
    if end == first and (taken == 0 or taken == ld8(port + P_TOLD)):
        return 0
    size = end - first
    st8(target + Z_INDEX, index)
    st8(target + Z_WHICH, which)
    st8(target + Z_BEHIND, behind)
    st8(target + Z_FROM, first if size != 0 else behind)
    st8(target + Z_TO, end if size != 0 else behind)
    st8(target + Z_TAKEN, taken)
    st8(target + Z_SIZE, size)
    st8(target + PIECE_BYTES - 8, 0)
    if size != 0:
        memcpy(target + PIECE_BYTES, out + H_DATA + first % CHANNEL_BYTES, size)
        st8(port + P_PUMPED, end)
    st8(port + P_TOLD, taken)
    return PIECE_BYTES + size


@exported
def gather(ports: int, count: int, which: int, target: int, room: int) -> int:
    """Write what `count` ports, whose addresses lie at `ports`, have to say; bytes written.

    All of them ask (`which` is REQUESTS), or are asked. Less than there is if there is no room.
    """
    used = 0
    for i in range(count):
        port = ld8(ports + 8 * i)
        while True:
            size = _gather_port(port, i, which, target + used, room - used)
            if size == 0:
                break
            used += size
    return used


@compiled
def _accept(channel: int, piece: int) -> bool:
    """Copy what is new of a piece to its channel; False if it cannot be what it says it is."""
    behind = ld8(piece + Z_BEHIND)
    first = ld8(piece + Z_FROM)
    end = ld8(piece + Z_TO)
    head = ld8(channel + H_HEAD)
    if end <= head or behind > head:
        return True  # It is here already; or something before it was lost, and comes again.
    if first % CHANNEL_BYTES + end - first > CHANNEL_BYTES:
        return False
    if end - load_acquire(channel + H_TAIL) > CHANNEL_BYTES:
        return False  # Nobody has room for more than that.
    if head < first:
        if first % CHANNEL_BYTES != 0 or first - head >= CHANNEL_BYTES:
            return False
        st8(channel + H_DATA + head % CHANNEL_BYTES, SKIP)
        head = first
    source = piece + PIECE_BYTES + head - first
    memcpy(channel + H_DATA + head % CHANNEL_BYTES, source, end - head)
    store_seq(channel + H_HEAD, end)
    return True


@compiled
def _are_messages(at: int, size: int) -> bool:
    """Whether `size` bytes are whole messages, one after the other."""
    end = at + size
    while at < end:
        length = ld8(at + M_SIZE)
        if length < M_BODY or length & 7 != 0 or length > end - at:
            return False
        at += length
    return at == end


@exported
def scatter(
    asking: int, asking_count: int, asked: int, asked_count: int, source: int, size: int
) -> int:
    """Take in `size` bytes of the other side's `gather`: bits of the indexes whose channels have
    something new, those of who is asked 31 bits higher; or MALFORMED.

    `asking` and `asked` are where the addresses of ports lie.
    """
    at = 0
    found = 0
    while at < size:
        piece = source + at
        if size - at < PIECE_BYTES:
            return MALFORMED
        index = ld8(piece + Z_INDEX)
        which = ld8(piece + Z_WHICH)
        length = ld8(piece + Z_SIZE)
        if which != REQUESTS and which != ANSWERS:
            return MALFORMED
        if index < 0 or index >= (asked_count if which == REQUESTS else asking_count):
            return MALFORMED
        if length < 0 or length > size - at - PIECE_BYTES or length & 7 != 0:
            return MALFORMED
        if length != ld8(piece + Z_TO) - ld8(piece + Z_FROM) or ld8(piece + Z_BEHIND) < 0:
            return MALFORMED
        if ld8(piece + Z_FROM) < ld8(piece + Z_BEHIND) or ld8(piece + Z_FROM) & 7 != 0:
            return MALFORMED
        if not _are_messages(piece + PIECE_BYTES, length):
            return MALFORMED
        if which == REQUESTS:
            port = ld8(asked + 8 * index)
            channel = ld8(port + P_ASKED)
            back = ld8(port + P_ANSWER)
            bit = 1 << (index + 31)
        else:
            port = ld8(asking + 8 * index)
            channel = ld8(port + P_ANSWERED)
            back = ld8(port + P_ASK)
            bit = 1 << index
        taken = ld8(piece + Z_TAKEN)
        if taken > load_acquire(back + H_HEAD):
            return MALFORMED
        if length != 0:
            head = ld8(channel + H_HEAD)
            if not _accept(channel, piece):
                return MALFORMED
            if ld8(channel + H_HEAD) == head:
                st8(port + P_TOLD, -1)  # That it was taken may not have been heard: say it again.
            found |= bit
        if taken > ld8(back + H_TAIL):
            store_seq(back + H_TAIL, taken)
            found |= bit  # There is room again.
        at += PIECE_BYTES + length
    return found


@compiled
def rewind(port: int, which: int) -> None:
    """What was sent may be lost: send it again, from what was taken, and say what was taken."""
    out = ld8(port + P_ASK) if which == REQUESTS else ld8(port + P_ANSWER)
    st8(port + P_PUMPED, load_acquire(out + H_TAIL))
    st8(port + P_TOLD, -1)


@compiled
def waits(port: int, which: int) -> bool:
    """Whether something was sent that was not taken."""
    out = ld8(port + P_ASK) if which == REQUESTS else ld8(port + P_ANSWER)
    return ld8(port + P_PUMPED) != load_acquire(out + H_TAIL)
