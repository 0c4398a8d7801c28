"""Which processes can share memory with this one (`mako.engine.shared`), and under which name.

    process a ── hello: number of its memory ──▶ process b
              ◀── hello: number of its memory ──             equal: they share, else they send mail

Both sides decide by the same two numbers, so they decide alike. That two are on one host says
little: containers have memory of their own, and files of one user are not another's.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from pathlib import Path
from typing import Final

from mako.wire.hello import Hello

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_WORDS: Final = struct.Struct("<3Q")


def memory_number(folder: Path, host: str, user: int, boot_id: Path = _BOOT_ID) -> int:
    """What distinguishes the memory that this process can share, the files of `user` in `folder`,
    from that of all others: a hash of 8 bytes. 0: the system does not say, and nothing is shared.

    Processes that the configuration has on different hosts do not share, whatever they could.
    """
    try:
        boot = boot_id.read_bytes()
        found = folder.stat()
    except OSError:
        return 0
    words = _WORDS.pack(found.st_dev, found.st_ino, user)
    digest = blake2b(words + boot + host.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def own_memory(host: str) -> int:
    """That of this process, which is at `host` by the configuration."""
    from mako.engine.shared import shared_folder

    return memory_number(shared_folder(), host, os.getuid())


def name_between(cluster: int, own: Hello, other: Hello | None) -> str:
    """The name of memory that two processes share, or that one has for itself, without what it is
    for; empty: they share none, or that is not known yet. Both sides find the same.

    Each start of a process has a number of its own, so nobody finds what was left by another.
    """
    if other is None:
        return ""
    if other.process != own.process and (not own.memory or own.memory != other.memory):
        return ""
    boots = {own.process: own.boot, other.process: other.boot}
    return f"{cluster:x}-" + "-".join(f"p{number}.{boots[number]:x}" for number in sorted(boots))
