"""Consensus: pure Raft nodes, many of them per process. See docs/raft.md for a first reading.

The core is stepped; it never reaches out: no clock, disk, network or chance of its own.
`RaftNode` is one member of one group, `Host` all members that live in one process.
"""

from mako.raft.host import Host, HostMessage, Turn
from mako.raft.node import LogLost, RaftNode, SnapshotStatus
from mako.raft.ready import Ready, SoftState
from mako.raft.settings import Settings
from mako.raft.state import ReadState, Refusal, Refused, Role
from mako.raft.storage import Compacted, LogStorage, MemoryLogStorage

__all__ = [
    "Compacted",
    "Host",
    "HostMessage",
    "LogLost",
    "LogStorage",
    "MemoryLogStorage",
    "RaftNode",
    "ReadState",
    "Ready",
    "Refusal",
    "Refused",
    "Role",
    "Settings",
    "SnapshotStatus",
    "SoftState",
    "Turn",
]
