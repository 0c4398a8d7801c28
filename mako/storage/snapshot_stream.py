"""The way of a snapshot from one replica to another, in chunks. Pure: no disk, no network.

    sender                                     receiver
      │ SnapshotOffer ─────────────────────────▶ │  has 3 chunks of it from before
      │ ◀────────────── SnapshotWanted(offset 3M) │
      │ SnapshotChunk(3M), (4M), … ────────────▶ │  each checked by its hash, then written
      │ ◀────────────── SnapshotWanted(offset 5M) │
      │                     …                     │
      │ ◀─────────────────────── SnapshotDone ─── │  whole hash right, installed

The receiver says what it wants next, and takes nothing else: what is lost, repeated or late is
cured by its answer and by the sender's timeout, after which it goes back to what was asked
for last. The sender bounds what is under way in bytes, and its rate by a token bucket. It gives up
after some time-outs without progress: who answers, and has no room for what comes, gets no further.

Both sides hold at most one snapshot per group; a newer offer replaces the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import ClassVar, Final

from mako.errors import ConfigError
from mako.storage.token_bucket import TokenBucket

CHUNK_BYTES: Final = 1 << 20
CHUNK_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """Which snapshot: `digest` is the hash at its end, so equal names are equal files."""

    group: int
    index: int
    term: int
    size: int
    digest: bytes


@dataclass(slots=True)
class SnapshotOffer:
    """I have this one for you."""

    name: SnapshotName


@dataclass(slots=True)
class SnapshotChunk:
    """Bytes of it, from `offset` on."""

    name: SnapshotName
    offset: int
    data: bytes
    #: See `chunk_digest`.
    digest: bytes


@dataclass(slots=True)
class SnapshotWanted:
    """Everything before `offset` is here; go on from there."""

    name: SnapshotName
    offset: int


@dataclass(slots=True)
class SnapshotDone:
    """It is installed, or a newer one is (`accepted`); or it is not wanted."""

    name: SnapshotName
    accepted: bool


def chunk_digest(name: SnapshotName, offset: int, data: bytes) -> bytes:
    """Hash of a chunk at its place in its snapshot."""
    head = name.digest + offset.to_bytes(8, "little")
    return blake2b(head + data, digest_size=CHUNK_DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How fast, and how patient. Raises ConfigError where nothing would ever be sent."""

    chunk_bytes: int = CHUNK_BYTES
    #: Sent and not yet asked beyond.
    window_bytes: int = 4 * CHUNK_BYTES
    #: Without an answer for this long, the sender begins again where it was asked to.
    timeout_ms: int = 2_000
    #: Timeouts without progress before the sender gives up; then the leader may try anew, later.
    timeouts_max: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(
                    f"snapshot stream: {field.name} must be at least 1,"
                    f" got {getattr(self, field.name)}"
                )
        if self.window_bytes < self.chunk_bytes:
            raise ConfigError(
                f"snapshot stream: window_bytes ({self.window_bytes}) must be at least"
                f" chunk_bytes ({self.chunk_bytes}), or nothing is ever sent"
            )


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """Read these bytes of the snapshot and send what `SnapshotSender.chunk` makes of them."""

    offset: int
    length: int


class SnapshotSender:
    """Sends one snapshot to one peer. Ask `poll` whenever time has passed or an answer came.

    `now_ms` is a clock that never steps.
    """

    def __init__(
        self, name: SnapshotName, bucket: TokenBucket, settings: StreamSettings, now_ms: int
    ) -> None:
        self.name = name
        self.done = False
        #: The receiver did not want it, or did not answer.
        self.failed = False
        self._bucket = bucket
        self._settings = settings
        #: None until the receiver has said where to begin.
        self._wanted: int | None = None
        self._next = 0
        self._offered = False
        self._heard_ms = now_ms
        # Since the receiver has wanted more than ever before.
        self._timeouts = 0
        self._furthest = -1

    def poll(self, now_ms: int) -> SnapshotOffer | ReadChunk | None:
        """What to send now; None if there is nothing. Call again until None."""
        if self.done or self.failed:
            return None
        if now_ms - self._heard_ms >= self._settings.timeout_ms and not self._timed_out(now_ms):
            return None
        if self._wanted is None:
            if self._offered:
                return None
            self._offered = True
            return SnapshotOffer(self.name)
        length = min(self._settings.chunk_bytes, self.name.size - self._next)
        if length == 0 or self._next + length > self._wanted + self._settings.window_bytes:
            return None
        if not self._bucket.try_take(length, now_ms):
            # Nothing was sent, so that nothing is late.
            self._heard_ms = max(self._heard_ms, now_ms) if self._idle() else self._heard_ms
            return None
        chunk = ReadChunk(self._next, length)
        self._next += length
        return chunk

    def wait_ms(self, now_ms: int) -> int:
        """When `poll` may have something again if nothing is heard, from now; at least 1."""
        late = self._heard_ms + self._settings.timeout_ms - now_ms
        return max(1, min(late, self._bucket.wait_ms(now_ms) or late))

    def chunk(self, read: ReadChunk, data: bytes) -> SnapshotChunk:
        assert len(data) == read.length, "the snapshot has the size that was offered"
        digest = chunk_digest(self.name, read.offset, data)
        return SnapshotChunk(self.name, read.offset, data, digest)

    def on_wanted(self, message: SnapshotWanted, now_ms: int) -> None:
        if message.name != self.name or self.done or self.failed:
            return
        if not 0 <= message.offset <= self.name.size:
            return
        known = self._wanted
        self._heard_ms = now_ms
        if known is not None and message.offset <= known:
            # A late or repeated answer, or a chunk was lost: the timeout decides.
            if message.offset < known:
                self._wanted = self._next = message.offset
            return
        if message.offset > self._furthest:
            self._furthest, self._timeouts = message.offset, 0
        elif known is None and message.offset == self.name.size:
            # It is being checked, however long that takes: the time-out before was none.
            self._timeouts -= 1
        self._wanted = message.offset
        self._next = max(self._next, message.offset) if known is not None else message.offset

    def on_done(self, message: SnapshotDone) -> None:
        if message.name == self.name:
            self.done = message.accepted
            self.failed = not message.accepted

    def _idle(self) -> bool:
        return self._next == self._wanted

    def _timed_out(self, now_ms: int) -> bool:
        """Begin again where the receiver is; False if that was too often."""
        self._timeouts += 1
        self._heard_ms = now_ms
        if self._timeouts > self._settings.timeouts_max:
            self.failed = True
            return False
        # The receiver may have restarted with less than it had: ask it anew.
        self._wanted = None
        self._offered = False
        return True


@dataclass(frozen=True, slots=True)
class WriteChunk:
    """Write these bytes to the partial file of `name`."""

    name: SnapshotName
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """All bytes are written: check the file, install it, tell `SnapshotReceiver.installed`."""

    name: SnapshotName


Action = WriteChunk | InstallSnapshot | SnapshotWanted | SnapshotDone


class SnapshotReceiver:
    """Takes the snapshots of one group. Carry out the actions in the order given.

    `partial` says how many bytes of a snapshot are on disk from an earlier attempt.
    """

    def __init__(self, group: int, index: int, partial: Callable[[SnapshotName], int]) -> None:
        self.group = group
        #: Index of the newest snapshot that is here.
        self.index = index
        self._partial = partial
        self._name: SnapshotName | None = None
        self._next = 0
        self._installing = False

    @property
    def receiving(self) -> SnapshotName | None:
        return self._name

    def step(self, message: SnapshotOffer | SnapshotChunk) -> list[Action]:
        """What to do about a message."""
        return self._HANDLERS[type(message)](self, message)

    def _on_offer(self, message: SnapshotOffer) -> list[Action]:
        name = message.name
        if name.group != self.group or name.size <= 0:
            return [SnapshotDone(name, accepted=False)]
        if name.index <= self.index:
            return [SnapshotDone(name, accepted=True)]
        if self._name is not None and name.index < self._name.index:
            return [SnapshotDone(name, accepted=False)]
        if name != self._name:
            if self._installing:
                return []
            self._name = name
            self._next = min(max(0, self._partial(name)), name.size)
        return self._go_on()

    def _on_chunk(self, message: SnapshotChunk) -> list[Action]:
        name, data = message.name, message.data
        if name != self._name:
            return []
        end = message.offset + len(data)
        if message.offset != self._next or not data or end > name.size or self._installing:
            return [SnapshotWanted(name, self._next)]
        if chunk_digest(name, message.offset, data) != message.digest:
            return [SnapshotWanted(name, self._next)]
        self._next = end
        return [WriteChunk(name, message.offset, data), *self._go_on()]

    def _go_on(self) -> list[Action]:
        assert self._name is not None
        if self._next < self._name.size or self._installing:
            # A check takes its time: the answer says that nothing is lost.
            return [SnapshotWanted(self._name, self._next)]
        self._installing = True
        return [InstallSnapshot(self._name)]

    def installed(self, *, good: bool) -> list[Action]:
        """The end of an InstallSnapshot; not good if the whole was not what was offered."""
        assert self._installing
        assert self._name is not None
        name, self._installing = self._name, False
        self._next = 0
        if not good:
            return [SnapshotWanted(name, 0)]
        self.index = name.index
        self._name = None
        return [SnapshotDone(name, accepted=True)]

    _HANDLERS: ClassVar[dict[type, Callable[..., list[Action]]]] = {
        SnapshotOffer: _on_offer,
        SnapshotChunk: _on_chunk,
    }
