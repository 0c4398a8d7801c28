"""The cluster that a configuration describes.

partition p    the p-th list of site.server
node           place of a site in its list, from 1, unless `node:` gives a later one
process        place of its name in `host`, from 1
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

import msgspec

from mako.config.reading import Origins, combine, read
from mako.config.schema import Document
from mako.config.shards import shard_map
from mako.errors import ConfigError
from mako.ids import PARTITIONS_MAX
from mako.placement import ShardMap
from mako.size import parse_memory

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PORT: Final = re.compile(r"[0-9]{1,5}")
#: Where the HTTP server of a process is, from the lowest port of its sites.
HTTP_OFFSET: Final = 10_000
#: What stands in the place of a site that is no member any more: node ids are places.
TAKEN_OUT: Final = "-"
MEMORY_MIN: Final = 16 << 20
SIZE_MAX: Final = 64 << 40


@dataclass(frozen=True, slots=True)
class Site:
    """One replica."""

    name: str
    partition: int
    node: int
    process: str
    host: str
    port: int
    is_learner: bool
    #: Its place in the list: the node that the group began with there; 0 if it came later.
    first_node: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process, and what it listens on."""

    number: int
    name: str
    host: str
    sites: tuple[Site, ...]
    #: 0: it has no HTTP server.
    http_port: int

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(sorted({site.port for site in self.sites}))


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything, checked."""

    id: int
    document: Document
    partitions: tuple[tuple[Site, ...], ...]
    processes: tuple[Process, ...]
    memory_bytes: int
    #: Which partition has a key.
    shards: ShardMap
    #: Where its keys came from, for messages about what only a process of it can check.
    origins: Origins = field(default_factory=dict, repr=False, compare=False)
    source: str = field(default="configuration", repr=False, compare=False)

    def error(self, keys: Iterable[str], problem: str) -> ConfigError:
        """A message with the file that has the key, and the key."""
        return _error(self.origins, self.source, keys, problem)

    def process(self, name: str) -> Process:
        for process in self.processes:
            if process.name == name:
                return process
        known = ", ".join(process.name for process in self.processes)
        raise ConfigError(f"there is no process {name!r} in the configuration; it has {known}")

    def preferred(self, partition: int) -> Site | None:
        """The site that leads a partition as soon as it is well; None: whoever is elected."""
        sites = self.partitions[partition]
        wanted = self.document.preferred.get(str(partition))
        leads = [each for each in sites if each.name == wanted] if wanted else list(sites)
        return leads[0] if leads and not leads[0].is_learner else None

    def process_of_shard(self, name: str, shard: int) -> Process:
        """The process `name` if it has a replica of the shard, else the one called `name-shard`."""
        called = [f"{name}-{shard}", name]
        for process in self.processes:
            if process.name in called and any(site.partition == shard for site in process.sites):
                return process
        if shard >= len(self.partitions):
            problem = f"there is no shard {shard}; the configuration has {len(self.partitions)}"
            raise ConfigError(f"{problem}, which count from 0")
        if not any(process.name in called for process in self.processes):
            self.process(name)  # Says which there are.
        known = ", ".join(site.process for site in self.partitions[shard])
        raise ConfigError(f"no process {name!r:.40} has a replica of shard {shard}; {known} have")


def load(paths: Sequence[str | PathLike[str]]) -> ClusterConfig:
    """Read and combine files, and check all of it. ConfigError: one line, what to correct."""
    if not paths:
        raise ConfigError("no configuration is given; add -f FILE, for example from config/")
    documents = [(str(path), read(Path(path))) for path in paths]
    merged, origins = combine(documents)
    return resolve(merged, origins, str(paths[0]))


def resolve(
    merged: Mapping[str, Any], origins: Origins | None = None, source: str = "configuration"
) -> ClusterConfig:
    """The cluster of a combined document. `origins` and `source` are for messages."""
    return _Resolver(merged, origins or {}, source).resolve()


def _error(origins: Origins, source: str, keys: Iterable[str], problem: str) -> ConfigError:
    path = tuple(keys)
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            source = origins[path[:length]]
            break
    where = f"{source}: {'.'.join(path)}" if path else source
    return ConfigError(f"{where}: {problem}")


def _is_address(host: str) -> bool:
    try:
        host.encode("idna")  # As whoever dials it will: a part may be empty, or too long.
    except UnicodeError:
        return False
    return bool(host) and not any(character.isspace() for character in host)


_LEARNERS: Final = ["learner"]


class _Resolver:
    def __init__(self, merged: Mapping[str, Any], origins: Origins, source: str) -> None:
        self._origins = origins
        self._source = source
        try:
            self._document = msgspec.convert(merged, Document)
        except msgspec.ValidationError as error:
            text, _, path = str(error).rpartition(" - at `$")
            if not text:
                text, path = path, ""
            keys = tuple(re.findall(r"[^.\[\]`]+", path))
            text = " ".join(text.split())
            if unknown := re.search(r"unknown field `(.*)`", text):
                keys = (*keys, unknown[1])
            problem = text[:1].lower() + text[1:]
            raise self._error(keys, f"{problem}; see docs/configuration.md") from None

    def _error(self, keys: Iterable[str], problem: str) -> ConfigError:
        return _error(self._origins, self._source, keys, problem)

    def resolve(self) -> ClusterConfig:
        document = self._document
        self._check_names()
        self._check_sizes()
        partitions = self._partitions()
        self._check_offset(partitions)
        processes = self._processes(partitions)
        self._check_ports(processes)
        cluster = document.cluster
        number = cluster.id
        if number is None:
            digest = hashlib.blake2b(cluster.name.encode(), digest_size=7).digest()
            number = int.from_bytes(digest, "little") or 1
        raft = document.raft
        if raft.election_ticks <= 2 * raft.heartbeat_ticks:
            problem = "must be more than twice raft.heartbeat_ticks"
            raise self._error(("raft", "election_ticks"), f"{raft.election_ticks} {problem}")
        return ClusterConfig(
            number,
            document,
            partitions,
            processes,
            self._size(("memory",), document.memory),
            shard_map(document.shards, len(partitions), self._error),
            self._origins,
            self._source,
        )

    def _size(self, keys: tuple[str, ...], value: str | int, *, least: int = MEMORY_MIN) -> int:
        try:
            size = parse_memory(value)
        except ConfigError as error:
            raise self._error(keys, str(error)) from None
        if not least <= size <= SIZE_MAX:
            problem = f"{value!r:.40} is out of range; give {least >> 20}MiB to 64TiB"
            raise self._error(keys, problem)
        return size

    def _check_sizes(self) -> None:
        document = self._document
        mib = 1 << 20
        self._size(("pretouch",), document.pretouch, least=0)
        self._size(("snapshot", "bytes"), document.snapshot.bytes, least=mib)
        self._size(("snapshot", "send_rate"), document.snapshot.send_rate, least=mib)
        self._size(("wal", "keep_bytes"), document.wal.keep_bytes, least=mib)
        self._size(("wal", "segment_bytes"), document.wal.segment_bytes, least=mib)
        if not document.procedure_seconds < 1e6:
            raise self._error(("procedure_seconds",), "give a number of seconds below a million")

    def _check_names(self) -> None:
        document = self._document
        for key, names in (("process", document.process), ("host", document.host)):
            for name in names:
                if not _NAME.fullmatch(name):
                    problem = f"{name!r} is no name; use letters, digits and . _ -"
                    raise self._error((key,), problem)
        for site, process in document.process.items():
            if process not in document.host:
                raise self._error(
                    ("process", site), f"process {process!r} has no address; add it to `host`"
                )
        for process, host in document.host.items():
            if not _is_address(host):
                raise self._error(("host", process), f"{host!r:.40} is no name and no IP address")
        if not _is_address(document.http_host):
            problem = f"{document.http_host!r:.40} is no name and no IP address"
            raise self._error(("http_host",), f"{problem}; 0.0.0.0 listens at all of this host's")
        if not document.cluster.name.strip():
            raise self._error(("cluster", "name"), "it is empty; give one, or leave it out")
        named = [("http", name) for name in document.http]
        # The default of `learner` need not be there.
        named += [("learner", name) for name in document.learner if document.learner != _LEARNERS]
        for key, name in named:
            if name not in document.host:
                problem = f"there is no process {name!r:.40} in `host`; correct the name"
                raise self._error((key, name) if key == "http" else (key,), problem)
        sites = [(("node", name), name) for name in document.node]
        for path, name in [*sites, *((("joined",), name) for name in document.joined)]:
            if name not in document.process:
                raise self._error(path, f"there is no site {name!r:.40}; correct the name")
        for text in (
            document.data,
            document.cluster.name,
            document.http_host,
            *document.host.values(),
        ):
            if not text.isprintable():
                raise self._error((), f"{text!r:.40} has characters that cannot be printed")

    def _partitions(self) -> tuple[tuple[Site, ...], ...]:
        lists = self._document.site.server
        keys = ("site", "server")
        if not lists:
            raise self._error(keys, "there is no partition; give one list of sites for each")
        if len(lists) > PARTITIONS_MAX:
            problem = f"{len(lists)} partitions, at most {PARTITIONS_MAX}; use fewer"
            raise self._error(keys, problem)
        seen: set[str] = set()
        partitions = []
        for partition, listed in enumerate(lists):
            sites = tuple(
                self._site(partition, place, text, seen)
                for place, text in enumerate(listed, 1)
                if text != TAKEN_OUT
            )
            self._check_voters(partition, sites)
            partitions.append(sites)
        for name in self._document.process:
            if name not in seen:
                problem = "there is no such site in site.server; add it there, or remove it here"
                raise self._error(("process", name), problem)
        for key in self._document.preferred:
            if not key.isdecimal() or int(key) >= len(partitions):
                raise self._error(
                    ("preferred", key), "there is no such partition; they count from 0"
                )
        return tuple(partitions)

    def _site(self, partition: int, place: int, text: str, seen: set[str]) -> Site:
        document = self._document
        keys = ("site", "server")
        name, _, port = text.rpartition(":")
        if not _NAME.fullmatch(name) or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
            raise self._error(keys, f"{text!r} is no site; write name:port, for example s101:7001")
        if name in seen:
            raise self._error(keys, f"site {name} is there twice; give each its own name")
        seen.add(name)
        process = document.process.get(name)
        if process is None:
            raise self._error(keys, f"site {name} has no process; add it to `process`")
        node = document.node.get(name, place)
        if node != place and node <= len(document.site.server[partition]):
            problem = f"node {node} was a first member of the partition; give one never used"
            raise self._error(("node", name), problem)
        return Site(
            name,
            partition,
            node,
            process,
            document.host[process],
            int(port),
            process in document.learner,
            0 if name in document.joined else place,
        )

    def _check_voters(self, partition: int, sites: tuple[Site, ...]) -> None:
        keys = ("site", "server")
        voters = [site for site in sites if not site.is_learner]
        if not sites:
            raise self._error(keys, f"partition {partition} has no site; list at least one")
        if not voters:
            raise self._error(keys, f"partition {partition} has no voter; not all can be learners")
        if not any(site.first_node for site in voters):
            problem = f"partition {partition} has no voter that it began with; leave one out here"
            raise self._error(("joined",), problem)
        if len(voters) % 2 == 0:
            raise self._error(
                keys,
                f"partition {partition} has {len(voters)} voters; use an odd number, as one more"
                " than an odd number tolerates no more failures",
            )
        processes = [site.process for site in sites]
        for process in processes:
            if processes.count(process) > 1:
                raise self._error(
                    keys,
                    f"partition {partition} has two replicas in process {process}; a failure would"
                    " take both, so put each in its own",
                )
        nodes = [site.node for site in sites]
        if len(set(nodes)) != len(nodes):
            problem = (
                f"partition {partition} has a node id twice; ids are used once and never again"
            )
            raise self._error(("node",), problem)
        wanted = self._document.preferred.get(str(partition))
        if wanted is not None and wanted not in [site.name for site in sites]:
            problem = f"{wanted!r:.40} is no site of partition {partition}; name one of its list"
            raise self._error(("preferred", str(partition)), problem)

    def _check_offset(self, partitions: tuple[tuple[Site, ...], ...]) -> None:
        """Timestamps count within a millisecond, in each partition on its own. So without an offset
        whoever follows an acknowledgement in another partition could get a lower timestamp, on one
        host, too (DESIGN §6)."""
        if self._document.max_clock_offset_ms == 0 and len(partitions) > 1:
            problem = (
                f"0 does not keep the order of {len(partitions)} partitions; give 1 if all are on"
                " one host, else the most that the clocks of the hosts differ"
            )
            raise self._error(("max_clock_offset_ms",), problem)

    def _processes(self, partitions: tuple[tuple[Site, ...], ...]) -> tuple[Process, ...]:
        document = self._document
        processes = []
        for number, (name, host) in enumerate(document.host.items(), 1):
            sites = tuple(site for sites in partitions for site in sites if site.process == name)
            http = document.http.get(name)
            if http is None and sites:
                http = min(site.port for site in sites) + HTTP_OFFSET
            if http is not None and http > 65535:
                raise self._error(("http", name), f"port {http} is over 65535; give one in `http`")
            processes.append(Process(number, name, host, sites, http or 0))
        return tuple(processes)

    def _check_ports(self, processes: tuple[Process, ...]) -> None:
        """A port belongs to one process of a host; the sites of a process may share one."""
        owners: dict[tuple[str, int], str] = {}
        for process in processes:
            ports = [*process.ports, *([process.http_port] if process.http_port else [])]
            for port in ports:
                owner = owners.setdefault((process.host, port), process.name)
                twice = port == process.http_port and port in process.ports
                if owner != process.name or twice:
                    other = "its HTTP server" if twice else owner
                    raise self._error(
                        ("site", "server"),
                        f"port {port} of {process.host} is used by {process.name} and by {other};"
                        " give each its own",
                    )
