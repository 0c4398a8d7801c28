"""One direction between a worker and a worker of another partition: a ring of messages.

      tail                             head
       v                                v
    +--+--------------------------------+-------------------------------+
    |  | size | kind | transaction | view | ... | size | kind | ...     |
    +--+--------------------------------+-------------------------------+

Head and tail count bytes since the beginning; a place is the count modulo CHANNEL_BYTES. A
message lies in one piece, a multiple of eight bytes; SKIP in place of a size says that the next
one begins at the start of the ring. One thread writes and one reads. Between processes somebody
moves the bytes, and the counts are what is confirmed and what is sent again: so messages arrive in
order and exactly once.

A pair of workers has four of them, two each way: *requests*, of a coordinator to a participant, and
*answers*. To handle a request there must be room for its answer; an answer changes the state of
whoever asked and needs no room. So two that wait for each other's rings do not exist: answers
are always taken.
"""

from typing import Final

from mako.engine.atomics import ld8, load_acquire, st8, store_seq
from mako.engine.jit import compiled
from mako.engine.layout import LINE

CHANNEL_BYTES: Final = 1 << 20
#: From here on a ring that is empty begins again.
TURN_BACK_AT: Final = 64 << 10
#: No message is longer, so that an empty ring has room for it wherever its head is.
MESSAGE_MAX: Final = CHANNEL_BYTES // 2
H_HEAD: Final = 0  # written by the producer
H_TAIL: Final = LINE  # written by the consumer
H_TAIL_SEEN: Final = 2 * LINE  # private to the producer
H_DATA: Final = 4 * LINE
CHANNEL_SIZE: Final = H_DATA + CHANNEL_BYTES

M_SIZE: Final = 0
M_KIND: Final = 8
M_TRANSACTION: Final = 16
M_VIEW: Final = 24  # hash of the vector of epochs of who sends it
M_BODY: Final = 32
SKIP: Final = -1


@compiled
def _is_empty(channel: int, head: int) -> bool:
    st8(channel + H_TAIL_SEEN, load_acquire(channel + H_TAIL))
    return ld8(channel + H_TAIL_SEEN) == head


@compiled
def room(channel: int, size: int) -> int:
    """Where a message of `size` bytes, a multiple of eight, goes; 0 if there is no room now."""
    head = ld8(channel + H_HEAD)
    place = head % CHANNEL_BYTES
    left = CHANNEL_BYTES - place
    begins_again = size > left
    if place >= TURN_BACK_AT and size <= TURN_BACK_AT and _is_empty(channel, head):
        begins_again = True  # What was used last is in the caches.
    needed = left + size if begins_again else size
    if head + needed - ld8(channel + H_TAIL_SEEN) > CHANNEL_BYTES:
        st8(channel + H_TAIL_SEEN, load_acquire(channel + H_TAIL))
        if head + needed - ld8(channel + H_TAIL_SEEN) > CHANNEL_BYTES:
            return 0
    return channel + H_DATA if begins_again else channel + H_DATA + place


@compiled
def send(channel: int, message: int, size: int) -> None:
    """Publish what was written where `room(channel, size)` said, or a shorter one."""
    st8(message + M_SIZE, size)
    head = ld8(channel + H_HEAD)
    place = head % CHANNEL_BYTES
    if message != channel + H_DATA + place:
        st8(channel + H_DATA + place, SKIP)
        head += CHANNEL_BYTES - place
    store_seq(channel + H_HEAD, head + size)


@compiled
def oldest(channel: int) -> int:
    """The oldest message that was not taken, or 0."""
    tail = ld8(channel + H_TAIL)
    head = load_acquire(channel + H_HEAD)
    if head == tail:
        return 0
    place = tail % CHANNEL_BYTES
    if ld8(channel + H_DATA + place) == SKIP:
        tail += CHANNEL_BYTES - place
        store_seq(channel + H_TAIL, tail)
        if head == tail:
            return 0
        place = 0
    return channel + H_DATA + place


@compiled
def take(channel: int, message: int) -> None:
    """The oldest message has been handled; its place is free."""
    store_seq(channel + H_TAIL, ld8(channel + H_TAIL) + ld8(message + M_SIZE))


@compiled
def waiting(channel: int) -> int:
    """Bytes that were sent and not taken."""
    return load_acquire(channel + H_HEAD) - load_acquire(channel + H_TAIL)
