"""Hello: who each side of a connection is, before anything else is said.

    who connects                       who listens
      │ HELLO ──────────────────────────▶ │  check_hello
      │ ◀────────── HELLO_REPLY, or GOODBYE│
      │ check_hello                        │

Both bodies have the same fields, which stay where they are for ever; later versions append to
them. So two processes of any two versions can at least tell each other why they cannot talk.

A connection of a client is about one partition, which its hello names; the reply names it, too.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mako.ids import PARTITIONS_MAX
from mako.wire.errors import WireError, bad
from mako.wire.frame import HELLO_BODY_MAX, Buffer, FrameKind, frame_parts

MAGIC: Final = b"MAKOWIRE"
#: Versions of the protocol that this software speaks.
VERSION_MIN: Final = 1
VERSION_MAX: Final = 1
#: The process number of somebody who is not a process of the cluster.
PROCESS_NONE: Final = 0xFFFF_FFFF
TEXT_BYTES_MAX: Final = 255
#: Seconds from a connection to a complete hello.
HELLO_TIMEOUT_S: Final = 5.0

_HISTORY: Final = 1  # in the flags; the others are for later versions
_MEMORY: Final = 2
_SHARDS: Final = 4
#: magic, version min, version max, role, flags, partition, cluster, boot, process, bytes of name,
#: bytes of software. The two texts follow.
_FIXED: Final = struct.Struct("<8sHHBBHQQIHH")
#: Behind the texts, if the flags say so: what memory, and then which shards.
_NUMBER: Final = struct.Struct("<Q")


class Role(IntEnum):
    """What somebody wants."""

    PEER = 1  #: a process of the cluster
    CLIENT = 2  #: transactions
    ADMIN = 3  #: operations


@dataclass(frozen=True, slots=True)
class Hello:
    """One side of a connection."""

    cluster: int
    role: Role
    #: Number and name of the process; PROCESS_NONE and any name for one outside.
    process: int
    name: str
    #: Random for every start of a process, so that a restart is noticed.
    boot: int
    software: str
    #: Whether a replica of the process has ever taken part in an election (mako.server.forming).
    has_history: bool = False
    version_min: int = VERSION_MIN
    version_max: int = VERSION_MAX
    #: What a client asks about, and a server answers for; between processes 0.
    partition: int = 0
    #: What memory the process can share: the same number as that of another process if, and only
    #: if, both can open the same files in it. 0: it shares none, or does not say.
    memory: int = 0
    #: Which partition has a key, as the sender knows it: the same number as that of another process
    #: if, and only if, both look for all keys in the same places. 0: it does not say.
    shards: int = 0


def encode_hello(hello: Hello) -> bytes:
    """The body. Texts over 255 bytes are cut."""
    name = hello.name.encode()[:TEXT_BYTES_MAX]
    software = hello.software.encode()[:TEXT_BYTES_MAX]
    fixed = _FIXED.pack(
        MAGIC,
        hello.version_min,
        hello.version_max,
        hello.role,
        (_HISTORY if hello.has_history else 0)
        | (_MEMORY if hello.memory else 0)
        | (_SHARDS if hello.shards else 0),
        hello.partition,
        hello.cluster,
        hello.boot,
        hello.process,
        len(name),
        len(software),
    )
    numbers = [_NUMBER.pack(number) for number in (hello.memory, hello.shards) if number]
    return fixed + name + software + b"".join(numbers)


def decode_hello(body: Buffer) -> Hello:
    """Raises WireError, which says what is wrong in one line."""
    if len(body) > HELLO_BODY_MAX:
        raise bad(f"hello of {len(body)} bytes, at most {HELLO_BODY_MAX}", 0)
    if bytes(body[: len(MAGIC)]) != MAGIC:
        raise bad("no hello of a mako process", 0)
    if len(body) < _FIXED.size:
        raise bad(f"hello ends, {_FIXED.size} bytes expected,", len(body))
    fixed = _FIXED.unpack_from(body)
    _, low, high, role, flags, partition, cluster, boot, process, name_bytes, software_bytes = fixed
    if not 1 <= low <= high:
        raise bad(f"hello with versions {low} to {high}", 8)
    try:
        known_role = Role(role)
    except ValueError:
        raise bad(f"hello with unknown role {role}", 12) from None
    if partition >= PARTITIONS_MAX:
        raise bad(f"hello about partition {partition}, there are {PARTITIONS_MAX} at most,", 14)
    name, end = _text(body, _FIXED.size, name_bytes)
    software, end = _text(body, end, software_bytes)
    memory, end = _number(body, end, flags & _MEMORY, "memory")
    shards, end = _number(body, end, flags & _SHARDS, "shards")
    return Hello(
        cluster,
        known_role,
        process,
        name,
        boot,
        software,
        bool(flags & _HISTORY),
        low,
        high,
        partition,
        memory,
        shards,
    )


def _text(body: Buffer, start: int, length: int) -> tuple[str, int]:
    end = start + length
    if length > TEXT_BYTES_MAX or end > len(body):
        raise bad(f"hello with a text of {length} bytes", start)
    try:
        text = bytes(body[start:end]).decode()
    except UnicodeDecodeError as error:
        raise bad("hello with a text that is no UTF-8", start + error.start) from None
    if not text.isprintable():
        raise bad("hello with a text that is not printable", start)
    return text, end


def _number(body: Buffer, start: int, is_there: int, what: str) -> tuple[int, int]:
    if not is_there:
        return 0, start
    end = start + _NUMBER.size
    if end > len(body):
        raise bad(f"hello ends in the number of its {what},", len(body))
    return _NUMBER.unpack_from(body, start)[0], end


def hello_parts(hello: Hello, *, reply: bool = False) -> list[Buffer]:
    """The first frame of a connection."""
    kind = FrameKind.HELLO_REPLY if reply else FrameKind.HELLO
    return frame_parts(kind, [encode_hello(hello)])


def expect_hello(kind: int, body: Buffer, *, reply: bool = False) -> Hello:
    """The hello in a first frame. Raises WireError if it is something else."""
    wanted = FrameKind.HELLO_REPLY if reply else FrameKind.HELLO
    if kind != wanted:
        raise WireError(f"the first frame has kind {kind}, not {wanted.value} ({wanted.name})")
    return decode_hello(body)


def version_of(mine: Hello, theirs: Hello) -> int:
    """The version that both sides speak from now on, the highest common one; 0: none."""
    version = min(mine.version_max, theirs.version_max)
    return version if version >= max(mine.version_min, theirs.version_min) else 0


def check_hello(
    mine: Hello, theirs: Hello, processes: Mapping[int, str] | None = None
) -> str | None:
    """None if the two may talk; else one line for the log here and for the other side.

    `processes` are the names of the processes of the cluster; without it any number will do.
    """
    if theirs.cluster != mine.cluster:
        return (
            f"this is cluster {mine.cluster}, you are of cluster {theirs.cluster}; correct the"
            " address or the cluster id in the configuration"
        )
    if not version_of(mine, theirs):
        return (
            f"{mine.name} speaks versions {mine.version_min} to {mine.version_max} of the protocol"
            f" ({mine.software}), {theirs.name} {theirs.version_min} to {theirs.version_max}"
            f" ({theirs.software}); update the older one"
        )
    if theirs.role is not Role.PEER:
        return None
    if theirs.process == mine.process:
        return (
            f"this is process {mine.process} ({mine.name}), and you say that you are it, too; start"
            " each process once, with its own name"
        )
    if mine.shards != theirs.shards and mine.shards and theirs.shards:
        return (
            f"{mine.name} and {theirs.name} would look for the same key in different partitions;"
            " give both the same sites and the same `shards` in the configuration"
        )
    if processes is None:
        return None
    if theirs.process not in processes:
        return (
            f"no process {theirs.process} ({theirs.name}) is in the configuration of {mine.name};"
            " give both the same configuration"
        )
    if theirs.name != processes[theirs.process]:
        return (
            f"process {theirs.process} is {processes[theirs.process]} in the configuration of"
            f" {mine.name}, you are {theirs.name}; give both the same configuration"
        )
    return None
