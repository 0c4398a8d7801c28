"""What one side of a connection puts up with. All of it can be set; the defaults have reasons."""

from dataclasses import dataclass, fields
from typing import Final

from mako.errors import ConfigError
from mako.wire.frame import PEER_BODY_MAX
from mako.wire.hello import HELLO_TIMEOUT_S

#: Bytes of one receive: half a large append. The kernel seldom has more ready.
RECEIVE_BYTES: Final = 256 << 10
#: Buffers of one sendmsg; Linux takes 1,024.
BUFFERS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. Raises ConfigError where nothing would ever work."""

    #: From an accepted or dialled connection to a complete hello.
    hello_s: float = HELLO_TIMEOUT_S
    #: To take the first byte of what is sent: beyond it the reader is stuck.
    write_stall_s: float = 10.0
    #: From the first byte of a frame to its last.
    partial_frame_s: float = 10.0
    #: A link sends an empty batch this often, unless something had to wait for its writer ...
    keepalive_s: float = 3.0
    #: ... so that one which hears nothing for this long knows that the other host is gone.
    silence_s: float = 10.0
    #: Waiting for one peer: a second of a fast disk's log. Beyond it messages are dropped.
    queue_bytes_max: int = 64 << 20
    peer_body_max: int = PEER_BODY_MAX
    #: A client may rest for as long as it likes; after so many whole seconds its host is asked, by
    #: TCP, whether it is there, and again, a few times, before the connection counts as lost.
    keepalive_idle_s: int = 60
    keepalive_again_s: int = 10
    keepalive_count: int = 3
    #: Connections of clients to a listener. Of each peer there is one, which they do not shut out.
    connections_max: int = 1_000
    #: Those that have not said yet who they are.
    strangers_max: int = 64
    #: Waits between attempts to dial: doubled from the first to the last, and jittered.
    dial_first_s: float = 0.05
    dial_last_s: float = 2.0
    #: To establish a TCP connection.
    dial_s: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"limits of connections: {field.name} must be above 0: {value}")
        if self.silence_s <= self.keepalive_s:
            raise ConfigError(
                f"limits of connections: silence_s ({self.silence_s}) must be above keepalive_s"
                f" ({self.keepalive_s}), or every quiet link is cut"
            )


DEFAULT_LIMITS: Final = Limits()
