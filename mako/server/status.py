"""What a process says of itself at /status: the schema, as values and as JSON.

    ProcessStatus ─┬─ PartitionStatus ─┬─ Members
                   │                   └─ StateHash
                   └─ …

A server makes these values and a reader (`mako status`) gets them back from the JSON; the reader
refuses what is missing or of another type, and ignores keys that it does not know, so that an
older `mako status` can look at newer servers. This module imports neither trio nor the engine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHash:
    """The hash of all rows at a timestamp: equal timestamps, equal hashes on every replica."""

    timestamp: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Node ids of the group; `outgoing` only while a change of the voters is under way."""

    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """One replica. Indexes are of its log; timestamps are those of `mako.ids`."""

    partition: int
    node: int
    #: follower, pre-candidate, candidate, leader, learner; starting before it has a Raft node.
    role: str
    #: Name of the leader's process, and its address for clients; empty while nobody knows.
    leader: str
    leader_address: str
    epoch: int
    term: int
    commit: int
    applied: int
    last: int
    #: Entries in the log.
    log_entries: int
    watermark: int
    watermark_lag_ms: int
    closed: int
    stable: int
    memory_bytes: int
    snapshot_index: int
    snapshot_bytes: int
    #: It lost its disk and does not vote yet.
    returning: bool
    #: The last one that somebody asked for.
    state_hash: StateHash | None
    members: Members


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process and its replicas."""

    process: str
    cluster: str
    cluster_id: int
    version: str
    uptime_s: float
    connections: int
    #: Of the log that all its replicas share.
    log_bytes: int
    #: The disk has no room: growth is refused.
    log_full: bool
    partitions: tuple[PartitionStatus, ...]


def to_json(status: ProcessStatus) -> dict[str, Any]:
    """Plain values, for `json.dumps`."""
    return asdict(status)


def of_json(found: object) -> ProcessStatus:
    """The status that a server sent. ValueError: it is none."""
    values = _checked(ProcessStatus, found, ("partitions",))
    listed = values.get("partitions")
    if not isinstance(listed, list):
        raise ValueError("partitions is not a list")
    values["partitions"] = tuple(map(_partition, listed))
    return ProcessStatus(**values)


def _partition(found: object) -> PartitionStatus:
    values = _checked(PartitionStatus, found, ("state_hash", "members"))
    hashed = values.get("state_hash")
    values["state_hash"] = None if hashed is None else hash_of_json(hashed)
    members = values.get("members")
    if not isinstance(members, Mapping):
        raise ValueError("members is not an object")
    values["members"] = Members(
        **{each.name: _nodes(members, each.name) for each in fields(Members)}
    )
    return PartitionStatus(**values)


def hash_of_json(found: object) -> StateHash:
    """The answer to /hash. ValueError: it is none."""
    return StateHash(**_checked(StateHash, found))


def _nodes(members: Mapping[Any, Any], name: str) -> tuple[int, ...]:
    nodes = members.get(name)
    if not isinstance(nodes, list) or not all(type(node) is int for node in nodes):
        raise ValueError(f"members.{name} is not a list of node ids")
    return tuple(nodes)


def _checked(kind: type, found: object, later: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of `kind` in `found`, their types checked except for those of `later`."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{kind.__name__} is not an object")
    values = {}
    for each in fields(kind):
        if each.name not in found:
            raise ValueError(f"{each.name} is missing")
        value = values[each.name] = found[each.name]
        if each.name in later:
            continue
        if each.type is float and type(value) is int:
            value = values[each.name] = float(value)
        if type(value) is not each.type:
            raise ValueError(f"{each.name} is {value!r:.40}")
    return values
