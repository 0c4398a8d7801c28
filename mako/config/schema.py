"""What may stand in a configuration; docs/configuration.md explains every key.

msgspec checks types and unknown keys; what depends on several keys is checked in
`mako.config.cluster`.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class ClusterSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose processes these are."""

    name: str = "mako"
    #: Told apart by every process and file; made of the name if it is not given.
    id: Annotated[int, Meta(ge=1, le=1 << 62)] | None = None


class SiteSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Replicas: one list per partition, "name:port" each, in the order of their node ids; "-" keeps
    the place of one that was taken out."""

    server: list[list[str]]


class ModeSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accepted for familiarity: there is one mode."""

    cc: Literal["occ"] = "occ"
    ab: Literal["raft"] = "raft"


class RaftSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times of elections, and limits. See mako.raft.settings."""

    tick_ms: Annotated[int, Meta(ge=1, le=1000)] = 10
    heartbeat_ticks: Positive = 2
    election_ticks: Positive = 30


class SnapshotSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a replica takes a snapshot of itself."""

    bytes: str | int = "1GiB"
    entries: Positive = 1_000_000
    #: Bytes per second to all replicas that need one.
    send_rate: str | int = "64MiB"


class LogSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log on disk."""

    keep_bytes: str | int = "1GiB"
    keep_seconds: Positive = 600
    segment_bytes: str | int = "64MiB"


class CutSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table cut into pieces in the order of its keys: by boundaries, or into blocks of values of
    the first key field."""

    #: The first key of each partition but the first: text, or 0x and hexadecimal digits.
    range: list[str] | None = None
    #: So many values for each partition, from `first` on.
    blocks: Positive | None = None
    #: Width of the first key field.
    bits: Annotated[int, Meta(ge=1, le=64)] | None = None
    first: Annotated[int, Meta(ge=0)] = 0


class ShardsSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which partition has a key. See mako.placement."""

    #: Of tables that are not named: "hash", or a CutSection.
    default: Any = "hash"
    #: The same or "everywhere". Checked in mako.config.shards, which can name the table.
    tables: dict[str, Any] = {}


class Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole configuration."""

    site: SiteSection
    #: Site -> process.
    process: dict[str, str]
    #: Process -> address of its host. Their order numbers the processes.
    host: dict[str, str]
    cluster: ClusterSection = ClusterSection()
    #: Processes whose sites are learners: they have all data and no vote.
    learner: list[str] = field(default_factory=lambda: ["learner"])
    #: Process -> port of its HTTP server; 0: none. Else the lowest port of its sites + 10000.
    http: dict[str, Annotated[int, Meta(ge=0, le=65535)]] = {}
    http_host: str = "127.0.0.1"
    #: Site -> node id, where a replica was replaced: ids are never used again.
    node: dict[str, Positive] = {}
    #: Sites that came to partitions which ran already.
    joined: list[str] = []
    #: Partition -> site that should lead it; the first of its list if it is not given.
    preferred: dict[str, str] = {}
    shards: ShardsSection = ShardsSection()
    mode: ModeSection = ModeSection()
    data: str = "data"
    log: Literal["disk", "memory"] = "disk"
    memory: str | int = "1GiB"
    #: Of it, provided when a process starts: a page that the system must find first costs the
    #: transaction that needs it milliseconds on some machines.
    pretouch: str | int = 0
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_clock_offset_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1
    procedure_seconds: Annotated[float, Meta(gt=0)] = 10.0
    procedures: list[str] = []
    raft: RaftSection = RaftSection()
    snapshot: SnapshotSection = SnapshotSection()
    wal: LogSection = LogSection()
